//! A pair of namespaces with other processes around, servers on one side and loads on the other.

use std::{
    io::{BufRead, BufReader},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
};

use integration::{Running, World};

use crate::{collector::Collector, servers::Servers};

const NEIGHBOURS: usize = 300;
const DESCRIPTORS: &str = "50";

/// See the module.
pub(super) struct Arena {
    pub(super) world: World,
    pub(super) servers: Servers,
    /// Where telemetry goes, where a subject exports it.
    pub(super) collector: Option<Collector>,
    _neighbours: Vec<Running>,
}

impl Arena {
    /// Without any firewall yet.
    pub(super) fn new() -> Self {
        let world = World::builder("bench").without_services().start();
        let servers = Servers::listen(&world.internet, world.link.b.v4.into());
        let mut arena = Self {
            world,
            servers,
            collector: None,
            _neighbours: Vec::new(),
        };
        arena._neighbours = (0..NEIGHBOURS)
            .map(|_| arena.start(&["idle", DESCRIPTORS]).0)
            .collect();
        arena
    }

    /// A server's address.
    pub(super) fn address(&self, port: u16) -> String {
        SocketAddr::new(IpAddr::from(self.world.link.b.v4), port).to_string()
    }

    /// Runs a load to its end, and returns what it printed.
    pub(super) fn load(&self, words: &[&str]) -> String {
        let output = self
            .world
            .host
            .command(own())
            .arg("load")
            .args(words)
            .output()
            .expect("start a load");
        assert!(
            output.status.success(),
            "load {words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("a load prints text")
    }

    /// Starts a load that stays, and returns its first line.
    pub(super) fn start(&self, words: &[&str]) -> (Running, String) {
        let mut command = self.world.host.command(own());
        command.arg("load").args(words).stdout(Stdio::piped());
        started(command)
    }
}

/// Starts a program, and waits for the first line that it prints.
pub(super) fn started(command: std::process::Command) -> (Running, String) {
    let mut running = Running::start("load", command);
    let mut line = String::new();
    let stdout = running.child().stdout.take().expect("standard output is piped");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("read a load's first line");
    assert!(!line.is_empty(), "a load ended before it was ready");
    (running, line)
}

/// This program.
pub(super) fn own() -> PathBuf {
    std::env::current_exe().expect("read /proc/self/exe")
}

/// Copies of this program: other files, so other applications.
pub(super) fn copies(folder: &Path, count: usize) -> Vec<PathBuf> {
    (0..count)
        .map(|number| {
            let copy = folder.join(format!("app-{number}"));
            std::fs::copy(own(), &copy).expect("copy this program");
            copy
        })
        .collect()
}
