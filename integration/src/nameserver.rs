//! A name server of the internet: dnsmasq, for names that a test makes up.

use std::{net::IpAddr, path::Path, process::Command};

use crate::{Namespace, Running, eventually};

/// Ends with the test.
#[derive(Debug)]
pub struct NameServer {
    running: Running,
    log: std::path::PathBuf,
}

impl NameServer {
    /// Answers on port 53 of these addresses, inside of the namespace. `records` are dnsmasq's options without their dashes
    /// (`address=/a.example/192.0.2.1`, `cname=…`); all other names of `.example` do not exist. Answers hold an hour.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(place: &Namespace, addresses: &[IpAddr], records: &[String], folder: &Path) -> Self {
        let mut command: Command = place.command("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
        ]);
        command.args([
            "--log-facility=-",
            "--log-queries",
            "--user=root",
            "--pid-file=",
            "--bind-interfaces",
        ]);
        command.args(["--local=/example/", "--cache-size=0", "--local-ttl=3600"]);
        for address in addresses {
            command.arg(format!("--listen-address={address}"));
        }
        for record in records {
            command.arg(format!("--{record}"));
        }
        let log = folder.join("nameserver.log");
        let mut running = Running::start_logged("dnsmasq", command, &log);
        eventually("the name server answers", || {
            if let Some(status) = running.ended() {
                panic!("dnsmasq ended with {status}: {}", running.output());
            }
            let sockets = place.command("ss").arg("-Hlun").output().expect("run ss");
            String::from_utf8_lossy(&sockets.stdout)
                .contains(":53 ")
                .then_some(())
        });
        Self { running, log }
    }

    /// How often it was asked for this name.
    pub fn asked(&self, name: &str) -> usize {
        // whoever asks may mix large and small letters (0x20)
        let log = std::fs::read_to_string(&self.log)
            .unwrap_or_default()
            .to_lowercase();
        log.lines()
            .filter(|line| line.contains("query[") && line.contains(&format!(" {name} from")))
            .count()
    }

    /// Stops answering.
    pub fn stop(self) {
        self.running.stop();
    }
}
