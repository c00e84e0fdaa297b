//! One host, one internet, three nodes of ours and three hosts of others: every path is measured on the same cables, by turns.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use integration::{Namespace, Service, World, eventually, profile, world::INTERNET_V4};

use super::{
    network::{ENTRY, ENTRY_TOKEN, Network},
    ours::Entry,
    peers::{self, Peer, SHADOWSOCKS_SOCKS, TLS_ONE, TLS_THREE},
    tor,
    traffic::{self, ECHO, SINK, Way},
};
use crate::{
    arena::own,
    processes::{self, processor_seconds},
};

/// A way from the host to the internet's servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Path {
    Direct,
    One,
    Three,
    Tor,
    Shadowsocks,
    TlsOne,
    TlsThree,
}

impl Path {
    pub(crate) const ALL: [Self; 7] = [
        Self::Direct,
        Self::One,
        Self::Three,
        Self::Tor,
        Self::Shadowsocks,
        Self::TlsOne,
        Self::TlsThree,
    ];

    /// For people.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::One => "Gate17, one hop",
            Self::Three => "Gate17, three hops",
            Self::Tor => "Tor, three relays",
            Self::Shadowsocks => "shadowsocks-rust, one hop",
            Self::TlsOne => "TLS (stunnel), one hop",
            Self::TlsThree => "TLS (stunnel), three hops",
        }
    }

    /// For command lines.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::One => "one",
            Self::Three => "three",
            Self::Tor => "tor",
            Self::Shadowsocks => "shadowsocks",
            Self::TlsOne => "tls-one",
            Self::TlsThree => "tls-three",
        }
    }

    /// Whether it is ours to make.
    const fn is_own(self) -> bool {
        matches!(self, Self::Direct | Self::One | Self::Three)
    }

    fn way(self, port: u16) -> Way {
        let end = std::net::SocketAddrV4::new(INTERNET_V4, port);
        let local = |ports: [u16; 2]| {
            let port = ports[usize::from(port == ECHO)];
            Way::Straight(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, port))
        };
        match self {
            Self::Direct | Self::One | Self::Three => Way::Straight(end),
            Self::Tor => Way::Socks(tor::SOCKS, end),
            Self::Shadowsocks => Way::Socks(SHADOWSOCKS_SOCKS, end),
            Self::TlsOne => local(TLS_ONE),
            Self::TlsThree => local(TLS_THREE),
        }
    }
}

/// See the module.
pub(super) struct Stage {
    pub(super) world: World,
    pub(super) entry: Entry,
    paths: Vec<Path>,
    _network: Network,
    sunk: Arc<AtomicU64>,
    tor: Option<Peer>,
    shadowsocks: Option<Peer>,
    tls: Option<Peer>,
    _hosts: Vec<Namespace>,
    tunnelled: [PathBuf; 2],
}

/// What one direction of one path carried.
pub(super) struct Carried {
    pub(super) gigabits: f64,
    /// Seconds of processor time for a gigabyte.
    pub(super) client: f64,
    /// The same, of all relays together.
    pub(super) relays: f64,
}

/// Octets that are on their way while the sender has begun, and the sender's end.
const RAMP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(4);
/// For what a slow path has taken in to come out.
const SETTLES: Duration = Duration::from_secs(60);
/// For Tor to carry, when its client says that it does.
const OPENS: Duration = Duration::from_secs(60);

impl Stage {
    /// With what these paths need.
    pub(super) fn new(paths: &[Path]) -> Self {
        let mut world = World::builder("bench-g17")
            .without_services()
            .config_file(ENTRY.0, ENTRY.1)
            .config_file(ENTRY_TOKEN.0, ENTRY_TOKEN.1)
            .start();
        let network = Network::start(&world);
        for service in Service::ALL.into_iter().chain([Service::Gate17Entry]) {
            let mut command = world.service_command(service);
            command.env("PORTMASTER_LOG", "info");
            world.start_as(service, command);
        }
        let tunnelled = [1, 3].map(|hops| {
            let copy = world.root().join(format!("through-{hops}"));
            std::fs::copy(own(), &copy).expect("copy this program");
            let text = profile(&copy, "tunnel", &format!("[tunnel]\nhops = {hops}\n"));
            world.profile(&format!("through-{hops}"), &text);
            copy
        });
        let sunk = traffic::serve(&world.internet);
        let hosts = peers::hosts(&world);
        let entry = Entry::new(&world);
        let are_asked = |some: &[Path]| some.iter().any(|path| paths.contains(path));
        let peer = |some: &[Path], start: fn(&World, &[Namespace]) -> Option<Peer>| {
            are_asked(some).then(|| start(&world, &hosts)).flatten()
        };
        let mut stage = Self {
            shadowsocks: peer(&[Path::Shadowsocks], peers::shadowsocks),
            tls: peer(&[Path::TlsOne, Path::TlsThree], peers::tls),
            tor: peer(&[Path::Tor], tor::start),
            paths: paths.to_vec(),
            world,
            entry,
            _network: network,
            sunk,
            _hosts: hosts,
            tunnelled,
        };
        if stage.tor.is_some() && !stage.opens(Path::Tor, OPENS) {
            eprintln!("Tor carries nothing");
            stage.tor = None;
        }
        for (path, hops) in [(Path::One, 1), (Path::Three, 3)] {
            eventually("a tunnelled program is tunnelled", || {
                stage.open(path, 1)?;
                let circuits = stage.entry.circuits();
                let is =
                    |circuit: &&proto::gate17::v1::Circuit| circuit.hops.len() == hops && circuit.streams > 0;
                circuits.iter().find(is).map(drop)
            });
        }
        stage
    }

    /// Whether a stream by it opens in time.
    fn opens(&self, path: Path, patience: Duration) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if self.open(path, 1).is_some() {
                return true;
            }
            thread::sleep(Duration::from_secs(1));
        }
        false
    }

    /// Whether there is such a path here, and it is asked for.
    pub(super) fn has(&self, path: Path) -> bool {
        self.paths.contains(&path) && self.is_there(path)
    }

    const fn is_there(&self, path: Path) -> bool {
        match path {
            Path::Direct | Path::One | Path::Three => true,
            Path::Tor => self.tor.is_some(),
            Path::Shadowsocks => self.shadowsocks.is_some(),
            Path::TlsOne | Path::TlsThree => self.tls.is_some(),
        }
    }

    fn load(&self, path: Path, act: &str, port: u16, more: &[&str]) -> Command {
        let program = match path {
            Path::One => self.tunnelled[0].clone(),
            Path::Three => self.tunnelled[1].clone(),
            _ => own(),
        };
        let mut command = self.world.host.command(program);
        command
            .args(["load", "tunnel", act])
            .args(path.way(port).words())
            .args(more);
        command
    }

    /// Clients, then relays.
    fn pids(&self, path: Path) -> (Vec<i32>, Vec<i32>) {
        let peer = match path {
            Path::Direct => return (Vec::new(), Vec::new()),
            Path::One | Path::Three => {
                let entry = self.world.service(Service::Gate17Entry);
                return (vec![entry.pid().as_raw_nonzero().get()], nodes());
            }
            Path::Tor => &self.tor,
            Path::Shadowsocks => &self.shadowsocks,
            Path::TlsOne | Path::TlsThree => &self.tls,
        };
        peer.as_ref()
            .map(|peer| (peer.client.clone(), peer.relays.clone()))
            .unwrap_or_default()
    }

    /// As fast as it goes, on so many streams; None where another's path breaks.
    pub(super) fn carry(&self, path: Path, streams: usize) -> Option<Carried> {
        let (client, relays) = self.pids(path);
        let seconds = (RAMP + MEASURED).as_secs() + 1;
        let mut command = self.load(path, "carry", SINK, &[&streams.to_string(), &seconds.to_string()]);
        let mut sender: Child = command.stdin(Stdio::null()).spawn().expect("start a load");
        thread::sleep(RAMP);
        let now = || {
            (
                Instant::now(),
                self.sunk.load(Ordering::Relaxed),
                processor_seconds(&client),
                processor_seconds(&relays),
            )
        };
        let begin = now();
        thread::sleep(MEASURED);
        let end = now();
        let is_whole = sender.wait().expect("wait for a load").success();
        self.settle();
        if !is_whole {
            assert!(!path.is_own(), "{path:?} broke");
            eprintln!("{} broke", path.name());
            return None;
        }
        let octets = (end.1 - begin.1) as f64;
        Some(Carried {
            gigabits: octets * 8.0 / 1e9 / (end.0 - begin.0).as_secs_f64(),
            client: (end.2 - begin.2) / octets * 1e9,
            relays: (end.3 - begin.3) / octets * 1e9,
        })
    }

    /// What is still on its way is not the next one's.
    fn settle(&self) {
        let begun = Instant::now();
        let mut before = self.sunk.load(Ordering::Relaxed);
        while begun.elapsed() < SETTLES {
            thread::sleep(RAMP);
            let now = self.sunk.load(Ordering::Relaxed);
            if now == before {
                return;
            }
            before = now;
        }
    }

    /// Microseconds: first octet there and back on a new stream, its 99th percentile, and a round trip on an open stream.
    pub(super) fn open(&self, path: Path, count: usize) -> Option<[f64; 3]> {
        let mut command = self.load(path, "open", ECHO, &[&count.to_string()]);
        let output = command.output().expect("start a load");
        if !output.status.success() {
            return None;
        }
        let text = String::from_utf8(output.stdout).ok()?;
        let mut words = text
            .split_whitespace()
            .map(|word| word.parse::<f64>().map(|it| it / 1e3));
        Some([words.next()?.ok()?, words.next()?.ok()?, words.next()?.ok()?])
    }

    /// How many of so many streams were open at once, and the seconds that it took.
    pub(super) fn many(&self, path: Path, count: usize) -> (f64, f64) {
        let mut command = self.load(path, "many", ECHO, &[&count.to_string()]);
        let output = command.stderr(Stdio::null()).output().expect("start a load");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut words = text
            .split_whitespace()
            .filter_map(|word| word.parse::<f64>().ok());
        (words.next().unwrap_or(0.0), words.next().unwrap_or(0.0) / 1e3)
    }
}

/// The network's processes, found by their namespaces.
fn nodes() -> Vec<i32> {
    let own = format!("-{}-", std::process::id());
    let names = std::fs::read_dir("/run/netns")
        .expect("list namespaces")
        .flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let is_node = |name: &String| {
        name.contains(&own)
            && ["pm-alpha-", "pm-beta-", "pm-gamma-"]
                .iter()
                .any(|node| name.starts_with(node))
    };
    names
        .filter(is_node)
        .flat_map(|name| processes::inside(&name))
        .collect()
}
