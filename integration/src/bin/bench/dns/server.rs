//! Who answers: ours, and others.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use integration::{Running, Service, World, process::run, world::INTERNET_V4};

use super::names;

/// Where the upstream answers: no rule of a firewall is for this port.
pub(super) const UPSTREAM: u16 = 5354;
/// For a server to read a million names.
const PATIENCE: Duration = Duration::from_secs(90);

/// A name server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Server {
    Unbound,
    Dnsmasq,
    Hickory,
    /// Nobody is asked who asks, and what he may: the front of ours, with its cache and lists, in a program of its own.
    Front,
    /// With the firewall: who asks is found out, and policy decides.
    Whole,
}

impl Server {
    pub(super) const ALL: [Self; 5] = [
        Self::Unbound,
        Self::Dnsmasq,
        Self::Hickory,
        Self::Front,
        Self::Whole,
    ];

    /// For people.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Unbound => "unbound",
            Self::Dnsmasq => "dnsmasq",
            Self::Hickory => "hickory-dns",
            Self::Front => "Portmaster's front, no attribution",
            Self::Whole => "Portmaster",
        }
    }

    /// Whether one of these words begins its name; also where there is none.
    pub(super) fn is_named(self, words: &[&str]) -> bool {
        let name = self.name().to_lowercase();
        words.is_empty() || words.iter().any(|word| name.starts_with(&word.to_lowercase()))
    }

    /// Where it listens, on the host's 127.0.0.1.
    pub(super) const fn port(self) -> u16 {
        match self {
            Self::Unbound => 5301,
            Self::Dnsmasq => 5302,
            Self::Hickory => 5303,
            Self::Front => 5304,
            Self::Whole => 53,
        }
    }

    /// Its address.
    pub(super) fn address(self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    fn hickory() -> PathBuf {
        let own = crate::arena::own();
        let target = own.ancestors().nth(2).expect("a program has a folder");
        target.join("peers/bin/hickory-dns")
    }

    fn front() -> PathBuf {
        let own = crate::arena::own();
        own.with_file_name("examples").join("serve")
    }

    /// Whether it can be measured here.
    pub(super) fn is_there(self) -> bool {
        match self {
            Self::Unbound => Path::new("/usr/sbin/unbound").exists(),
            Self::Hickory => Self::hickory().exists(),
            Self::Front => Self::front().exists(),
            _ => true,
        }
    }

    /// Its list, as it wants to read it; each form once for all rounds.
    fn list(self, folder: &Path) -> PathBuf {
        let file = folder.join(format!("list-of-{self:?}").to_lowercase());
        if !file.exists() {
            match self {
                Self::Unbound => names::write_list(&file, "local-zone: \"", "\" always_nxdomain"),
                Self::Dnsmasq => names::write_list(&file, "local=/", "/"),
                _ => names::write_list(&file, "", ""),
            }
        }
        file
    }

    /// Starts it on the first processor, in a world without services; with the list where `listed`.
    pub(super) fn start(self, world: &mut World, lists: &Path, listed: bool) -> Started {
        let list = listed.then(|| self.list(lists));
        let list = list.as_deref();
        let begun = Instant::now();
        let mut started = Started {
            server: self,
            running: None,
            pids: Vec::new(),
            ready: Duration::ZERO,
        };
        match self {
            Self::Whole => started.pids = ours(world, list),
            _ => {
                let command = match self {
                    Self::Unbound => unbound(world, list),
                    Self::Dnsmasq => dnsmasq(world, list),
                    Self::Front => front(world, list),
                    _ => hickory(world, list),
                };
                let log = world.root().join(format!("{self:?}.log"));
                let running = Running::start_logged(self.name(), command, &log);
                started.pids = vec![running.pid().as_raw_nonzero().get()];
                started.running = Some(running);
            }
        }
        // one thread of it works: the load has the other processor
        let pid = started.pids[0].to_string();
        run(Command::new("taskset").args(["-a", "-cp", "0", &pid]));
        started.wait(world, listed);
        started.ready = begun.elapsed();
        started
    }
}

/// A running one.
pub(super) struct Started {
    server: Server,
    running: Option<Running>,
    /// The server's first, then what works for it.
    pub(super) pids: Vec<i32>,
    /// From its start to its first right answer.
    pub(super) ready: Duration,
}

impl Started {
    fn wait(&mut self, world: &World, listed: bool) {
        let begun = Instant::now();
        let kind = if listed {
            names::Kind::Blocked
        } else {
            names::Kind::Cached
        };
        while begun.elapsed() < PATIENCE {
            if let Some(running) = &mut self.running {
                assert!(
                    running.ended().is_none(),
                    "{:?} ended: {}",
                    self.server,
                    running.output()
                );
            }
            let mut command = world.host.command(crate::arena::own());
            let output = command
                .args(names::words(&self.server.address(), kind, 1))
                .output();
            let text = String::from_utf8_lossy(&output.expect("ask").stdout).into_owned();
            let words: Vec<&str> = text.split_whitespace().collect();
            // hickory-dns answers a blocked name with an address that leads nowhere
            let code = usize::from(listed && self.server != Server::Hickory);
            if words.get(2 + code) == Some(&"1") {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("{:?} does not answer as it should", self.server);
    }

    /// Ends it.
    pub(super) fn stop(self, world: &mut World) {
        match self.running {
            Some(running) => running.kill(),
            None => {
                for service in [
                    Service::Dns,
                    Service::Interceptor,
                    Service::Policy,
                    Service::Resolver,
                ] {
                    world.stop(service);
                }
            }
        }
    }
}

/// Process ids of ours, the server first.
fn ours(world: &mut World, list: Option<&Path>) -> Vec<i32> {
    let lists = list.map_or_else(String::new, |list| {
        format!(
            "[[list]]\nname = \"million\"\ncategories = [\"ads\"]\nfile = \"{}\"\n",
            list.display()
        )
    });
    let text = format!("{lists}[resolve.upstreams]\nservers = [\"udp://{INTERNET_V4}:{UPSTREAM}\"]\n");
    world.config_file("dns.toml", &text);
    // nothing is kept from the run before
    let _none = fs::remove_dir_all(world.state_dir(Service::Dns));
    let mut pids = Vec::new();
    for service in Service::ALL.iter().chain([&Service::Dns]) {
        let mut command = world.service_command(*service);
        command.env("PORTMASTER_LOG", "info");
        world.start_as(*service, command);
        pids.push(world.service(*service).pid().as_raw_nonzero().get());
    }
    pids.reverse();
    pids
}

/// Its list is its fourth word.
fn front(world: &World, list: Option<&Path>) -> Command {
    let mut command = world.host.command(Server::front());
    command
        .arg(Server::Front.address())
        .arg(format!("{INTERNET_V4}:{UPSTREAM}"))
        .arg("1")
        .args(list);
    command
}

fn unbound(world: &World, list: Option<&Path>) -> Command {
    let file = world.root().join("unbound.conf");
    let lists = list.map_or_else(String::new, |list| format!(" include: \"{}\"\n", list.display()));
    let text = format!(
        "server:\n interface: 127.0.0.1@{}\n num-threads: 1\n do-daemonize: no\n username: \"\"\n chroot: \"\"\n pidfile: \"\"\n \
         directory: \"{}\"\n use-syslog: no\n verbosity: 0\n module-config: \"iterator\"\n msg-cache-size: 64m\n \
         rrset-cache-size: 128m\n{lists}forward-zone:\n name: \".\"\n forward-addr: {INTERNET_V4}@{UPSTREAM}\nremote-control:\n \
         control-enable: no\n",
        Server::Unbound.port(),
        world.root().display(),
    );
    fs::write(&file, text).expect("write unbound's configuration");
    let mut command = world.host.command("/usr/sbin/unbound");
    command.arg("-d").arg("-c").arg(file);
    command
}

fn dnsmasq(world: &World, list: Option<&Path>) -> Command {
    let mut command = world.host.command("dnsmasq");
    command
        .args([
            "--keep-in-foreground",
            "--no-resolv",
            "--no-hosts",
            "--user=root",
            "--pid-file=",
        ])
        .args([
            "--bind-interfaces",
            "--listen-address=127.0.0.1",
            "--cache-size=20000",
        ])
        .args(["--dns-forward-max=1000", "--log-facility=-"])
        .arg(format!("--port={}", Server::Dnsmasq.port()))
        .arg(format!("--server={INTERNET_V4}#{UPSTREAM}"))
        .arg(format!(
            "--conf-file={}",
            list.unwrap_or(Path::new("/dev/null")).display()
        ));
    command
}

fn hickory(world: &World, list: Option<&Path>) -> Command {
    let file = world.root().join("hickory.toml");
    let lists = list.map_or_else(String::new, |list| {
        format!(
            "[[zones.stores]]\ntype = \"blocklist\"\nlists = [\"{}\"]\n",
            list.display()
        )
    });
    let text = format!(
        "listen_addrs_ipv4 = [\"127.0.0.1\"]\nlisten_port = {}\ndrop_privileges = false\n[[zones]]\nzone = \".\"\nzone_type = \"External\"\n{lists}\
         [[zones.stores]]\ntype = \"forward\"\n[[zones.stores.name_servers]]\nip = \"{INTERNET_V4}\"\n\
         connections = [{{ port = {UPSTREAM}, protocol = {{ type = \"udp\" }} }}]\n\
         [zones.stores.options]\ncache_size = 100000\n",
        Server::Hickory.port(),
    );
    fs::write(&file, text).expect("write hickory's configuration");
    let mut command = world.host.command(Server::hickory());
    command.args(["--quiet", "--workers", "1", "--config"]).arg(file);
    command
}
