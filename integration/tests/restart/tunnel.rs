//! The tunnel over restarts: of its entry, which carries what is new and cuts what is open, and of the others, which nothing in
//! it notices. Nothing of it is ever in the clear.

use std::{
    fs,
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use integration::{Booted, Capture, Namespace, Running, binary, booted, eventually};
use serde::Deserialize;
use tempfile::TempDir;

use crate::{
    SERVICES, kill, load, meanwhile,
    script::{Asked, Counts, PYTHON, Started},
    times,
};

pub(crate) const UNIT: &str = "portmaster-gate17-entry.service";
/// Its programs are the tunnelled ones: the same, under a path of its own.
const TUNNELLED: &str = "/usr/bin/python3.tunnelled";
/// Only what is tunnelled goes there.
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 17, 11);
/// For the network to carry.
const PATIENCE: Duration = Duration::from_secs(20);
const NODE: Ipv4Addr = Ipv4Addr::new(5, 17, 0, 1);

/// A network of one node, and the load that goes through it. Dropped, it ends.
pub(crate) struct Tunnel {
    load: Started,
    _server: Started,
    wire: Capture,
    _node: Running,
    _place: Namespace,
    _folder: TempDir,
}

/// What became of it.
#[derive(Debug, Deserialize)]
struct Told {
    counts: Counts,
    flow: Flow,
}

/// Datagrams of one flow, and what the connection that stays carried.
#[derive(Debug, Deserialize)]
pub(crate) struct Flow {
    sent: u64,
    answered: u64,
    /// At the end.
    silence_ms: f64,
    longest_silence_ms: f64,
    errors: Vec<String>,
    /// Each way.
    octets: u64,
}

impl Tunnel {
    /// Returns when it carries.
    pub(crate) fn start(host: &Booted) -> Self {
        let folder = tempfile::tempdir().unwrap();
        host.internet.add_address(SERVER);
        let place = place_of_node(host);
        let node = node(host, &place, &folder);
        host.run(&format!("cp {PYTHON} {TUNNELLED}"));
        let profile = format!(
            "[[match]]\npath = \"{TUNNELLED}\"\n[settings]\ndefault_action = \"tunnel\"\n[tunnel]\nhops = 1\n"
        );
        host.profile("tunnelled", &profile);
        let server = SERVER.to_string();
        let serving = Started::outside(host, "tunnel.py", &["serve", &server]);
        carries(host);
        let wire = host.internet.capture();
        Self {
            load: Started::inside(host, TUNNELLED, "tunnel.py", &["load", &server]),
            _server: serving,
            wire,
            _node: node,
            _place: place,
            _folder: folder,
        }
    }

    /// Ends it, and sees that none of it was in the clear, that none hung or was refused, that at most `cut` connections of each
    /// kind ended, each by a reset, and that the datagrams go on.
    ///
    /// # Panics
    /// Where that is not so.
    #[track_caller]
    pub(crate) fn stop(self, host: &Booted, cut: usize) {
        carries(host);
        let Told { counts, flow } = self.load.told();
        let asked = Asked { counts };
        println!(
            "tunnelled:\n{asked}\nthe one that stays: {} octets each way\ndatagrams: {} sent, {} answered, longest silence {:.0} ms {:?}\n",
            flow.octets, flow.sent, flow.answered, flow.longest_silence_ms, flow.errors
        );
        let own = host.link.a.v4;
        let clear = self.wire.seen(|packet| packet.from == own && packet.to == SERVER);
        assert!(clear.is_empty(), "{} packets in the clear", clear.len());
        for (what, count) in &asked.counts {
            assert_eq!((count.refused, count.lost), (0, 0), "{what}: {asked}");
            assert!(count.failed <= u64::try_from(cut).unwrap(), "{what}: {asked}");
            let is_reset = |error: &String| error.contains("reset");
            assert!(count.errors.iter().all(is_reset), "{what}: {asked}");
            assert!(count.done > 0, "{what}: {asked}");
        }
        assert!(flow.octets > 0, "{flow:?}");
        assert!(flow.answered > 0 && flow.silence_ms < 2000.0, "{flow:?}");
        assert!(flow.errors.is_empty(), "{flow:?}");
    }
}

/// Waits until a connection goes through.
#[track_caller]
fn carries(host: &Booted) {
    let connect =
        format!("{TUNNELLED} -c \"import socket; socket.create_connection(('{SERVER}', 7011), 5)\"");
    let patience = Instant::now() + PATIENCE;
    loop {
        let output = host.attempt(&connect);
        if output.status.success() {
            return;
        }
        if Instant::now() > patience {
            let told = "portmaster status; portmaster gate17 status; portmaster gate17 circuits; timeout 3 portmaster monitor";
            panic!("{}\n{}", booted::text(&output), booted::text(&host.attempt(told)));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Behind the internet: a node carries to no address of its own host.
fn place_of_node(host: &Booted) -> Namespace {
    let place = Namespace::new("alpha");
    let link = Namespace::connect(&host.internet, &place);
    place.add_address(NODE);
    place.default_route(link.a);
    host.internet.sh(&format!(
        "echo 1 >/proc/sys/net/ipv4/ip_forward; ip route add {NODE} via {}",
        link.b.v4
    ));
    place
}

fn node(host: &Booted, place: &Namespace, folder: &TempDir) -> Running {
    let settings = folder.path().join("etc/portmaster");
    fs::create_dir_all(&settings).unwrap();
    let exit = "[{ allow = true, to = \"198.18.0.0/15\", ports = \"*\" }]";
    let text = format!("listen = [\"{NODE}:443\"]\naccess = \"none\"\nexit = {exit}\n");
    fs::write(settings.join("gate17-node.toml"), text).unwrap();
    let command = || {
        let mut command = place.command(binary("portmaster-gate17-node"));
        command.arg("--root").arg(folder.path());
        command
    };
    let node = Running::start_logged("node", command(), &folder.path().join("log"));
    eventually("the node is ready", || {
        node.output().contains("ready").then_some(())
    });
    let said = command().arg("--print-descriptor").output().unwrap();
    host.file("/root/alpha.toml", &String::from_utf8(said.stdout).unwrap());
    host.run(&format!(
        "cd /root; portmaster gate17 network init mine --access none; \
         portmaster gate17 node add mine --id alpha --descriptor alpha.toml --address {NODE}:443 --region de --relay --exit; \
         portmaster gate17 map sign mine; \
         install -m 644 mine/trust.json /etc/portmaster/gate17-trust.json; \
         install -g portmaster-gate17-entry -m 640 mine/map.json /etc/portmaster/gate17-map.json"
    ));
    node
}

fn tunnelled_meanwhile(label: &str, what: &str, cut: usize, act: impl FnMut(&Booted)) {
    let host = load::host(label);
    host.wait_for(UNIT, "active");
    let tunnel = Tunnel::start(&host);
    let outcome = meanwhile(&host, what, act);
    tunnel.stop(&host, cut);
    outcome.assert_nothing_lost();
}

#[test]
fn a_restart_of_the_entry_cuts_what_is_in_the_tunnel_and_refuses_nobody() {
    tunnelled_meanwhile("r-ent", &format!("systemctl restart {UNIT}"), times(), |host| {
        host.systemctl(&format!("restart {UNIT}"));
    });
}

#[test]
fn a_killed_entry_cuts_what_is_in_the_tunnel_and_refuses_nobody() {
    tunnelled_meanwhile("k-ent", &format!("kill -9 {UNIT}"), times(), |host| {
        kill(host, UNIT);
    });
}

/// All but the entry itself.
fn others() -> impl Iterator<Item = &'static str> {
    SERVICES.into_iter().filter(|unit| *unit != UNIT)
}

#[test]
fn nothing_in_the_tunnel_notices_a_restart_of_the_others() {
    tunnelled_meanwhile("r-others", "systemctl restart, each but the entry", 0, |host| {
        others().for_each(|unit| drop(host.systemctl(&format!("restart {unit}"))));
    });
}

#[test]
fn nothing_in_the_tunnel_notices_a_kill_of_the_others() {
    tunnelled_meanwhile("k-others", "kill -9, each but the entry", 0, |host| {
        others().for_each(|unit| kill(host, unit));
    });
}
