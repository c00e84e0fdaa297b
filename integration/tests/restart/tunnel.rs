//! The tunnel's entry: what was in the tunnel ends, what is to be in it is refused or carried and never in the clear, and
//! nobody else notices.

use std::{fs, net::Ipv4Addr};

use integration::{Booted, Capture, Running, binary, eventually};
use serde::Deserialize;
use tempfile::TempDir;

use crate::{
    kill, load, meanwhile,
    script::{Asked, Counts, PYTHON, Started},
};

pub(crate) const UNIT: &str = "portmaster-gate17-entry.service";
/// Its programs are the tunnelled ones: the same, under a path of its own.
const TUNNELLED: &str = "/usr/bin/python3.tunnelled";
/// Only what is tunnelled goes there.
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 17, 11);
const NODE: Ipv4Addr = Ipv4Addr::new(5, 17, 0, 1);

/// A network of one node, and the load that goes through it. Dropped, it ends.
pub(crate) struct Tunnel {
    load: Started,
    _server: Started,
    wire: Capture,
    _node: Running,
    _folder: TempDir,
}

/// What became of it.
#[derive(Debug, Deserialize)]
struct Told {
    counts: Counts,
    flow: Flow,
}

/// Datagrams of one flow.
#[derive(Debug, Deserialize)]
pub(crate) struct Flow {
    sent: u64,
    answered: u64,
    /// At the end.
    silence_ms: f64,
    longest_silence_ms: f64,
    errors: Vec<String>,
}

impl Tunnel {
    /// Returns when it carries.
    pub(crate) fn start(host: &Booted) -> Self {
        let folder = tempfile::tempdir().unwrap();
        host.internet.add_address(NODE);
        host.internet.add_address(SERVER);
        let node = node(host, &folder);
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
            _folder: folder,
        }
    }

    /// Ends it, and sees that nothing hung, nothing was in the clear, and all of it goes on.
    ///
    /// # Panics
    /// Where that is not so.
    #[track_caller]
    pub(crate) fn stop(self, host: &Booted) {
        carries(host);
        let Told { counts, flow } = self.load.told();
        let asked = Asked { counts };
        println!(
            "tunnelled:\n{asked}\ndatagrams: {} sent, {} answered, longest silence {:.0} ms {:?}\n",
            flow.sent, flow.answered, flow.longest_silence_ms, flow.errors
        );
        let own = host.link.a.v4;
        let clear = self.wire.seen(|packet| packet.from == own && packet.to == SERVER);
        assert!(clear.is_empty(), "{} packets in the clear", clear.len());
        for (what, count) in &asked.counts {
            assert_eq!(count.lost, 0, "{what} hung: {asked}");
        }
        let connections = asked.counts.get("connections").unwrap();
        assert!(connections.done > 0, "{asked}");
        assert!(flow.answered > 0 && flow.silence_ms < 2000.0, "{flow:?}");
    }
}

/// Waits until a connection goes through.
#[track_caller]
fn carries(host: &Booted) {
    let connect =
        format!("{TUNNELLED} -c \"import socket; socket.create_connection(('{SERVER}', 7011), 5)\"");
    eventually("the tunnel carries", || {
        host.attempt(&connect).status.success().then_some(())
    });
}

fn node(host: &Booted, folder: &TempDir) -> Running {
    let settings = folder.path().join("etc/portmaster");
    fs::create_dir_all(&settings).unwrap();
    let exit = "[{ allow = true, to = \"198.18.0.0/15\", ports = \"*\" }]";
    let text = format!("listen = [\"{NODE}:443\"]\naccess = \"none\"\nexit = {exit}\n");
    fs::write(settings.join("gate17-node.toml"), text).unwrap();
    let command = || {
        let mut command = host.internet.command(binary("portmaster-gate17-node"));
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

fn tunnelled_meanwhile(label: &str, what: &str, act: impl FnMut(&Booted)) {
    let host = load::host(label);
    host.wait_for(UNIT, "active");
    let tunnel = Tunnel::start(&host);
    let outcome = meanwhile(&host, what, act);
    tunnel.stop(&host);
    outcome.assert_nothing_lost();
}

#[test]
fn a_restart_of_the_entry_ends_what_is_in_the_tunnel_and_nothing_else() {
    tunnelled_meanwhile("r-ent", &format!("systemctl restart {UNIT}"), |host| {
        host.systemctl(&format!("restart {UNIT}"));
    });
}

#[test]
fn a_killed_entry_ends_what_is_in_the_tunnel_and_nothing_else() {
    tunnelled_meanwhile("k-ent", &format!("kill -9 {UNIT}"), |host| kill(host, UNIT));
}
