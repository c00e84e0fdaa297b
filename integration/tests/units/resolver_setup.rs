//! `portmaster dns enable` and `disable` on whole hosts: with systemd-resolved, with NetworkManager, and with a plain file.

mod file;
mod network_manager;
mod openresolv;
mod resolved;

use std::net::IpAddr;

use integration::{
    Booted, NameServer,
    booted::{Builder, INTERNET, text},
    eventually,
};

/// In one tree; each test leaves out what it does without.
const MANAGERS: &[&str] = &["systemd-resolved", "libnss-resolve", "network-manager"];
/// A unit of this content is as good as masked.
const NONE: &str = "";
/// Queries are not redirected: what comes to the service comes by the host's own set-up.
const NO_REDIRECT: &str = "redirect_dns = false\n";

/// What the service remembers; the command goes on for new ones until it is ended.
const LOG: &str = "{ timeout 2 portmaster dns log --recent --json || true; }";

/// The host, and the name server of its network.
struct Stage {
    host: Booted,
    server: NameServer,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn new(builder: Builder) -> Self {
        let host = builder
            .file("/etc/portmaster/profiles.d/global.toml", NO_REDIRECT)
            .start();
        let folder = tempfile::tempdir().unwrap();
        let (v4, v6) = INTERNET;
        let records = ["one", "two", "three", "four", "five", "six"]
            .map(|name| format!("host-record={name}.example,{v4}"));
        let server = NameServer::start(
            &host.internet,
            &[IpAddr::from(v4), IpAddr::from(v6)],
            &records,
            folder.path(),
        );
        Self {
            host,
            server,
            _folder: folder,
        }
    }

    /// Everything that decides who is asked, to the last bit.
    fn state(&self) -> String {
        let files = "find /etc/resolv.conf /etc/resolv.conf.* /etc/.resolv* /etc/systemd/resolved.conf* /etc/NetworkManager \
             ! -type d -printf '%p %y %m %u %g %s %T@ %l\\n' 2>/dev/null | sort || true
             find /etc/systemd/resolved.conf* /etc/NetworkManager -type d 2>/dev/null | sort || true
             find /etc/resolv.conf /etc/systemd/resolved.conf* /etc/NetworkManager -type f -exec sha256sum {} + 2>/dev/null || true
             resolvectl dns 2>/dev/null || true; resolvectl domain 2>/dev/null || true";
        self.host.run(files)
    }

    /// The address of a name, as any program asks for it.
    fn getent(&self, name: &str) -> String {
        let said = text(&self.host.attempt(&format!("getent ahostsv4 {name}")));
        said.split_whitespace().next().unwrap_or_default().to_owned()
    }

    /// Whether the service was asked for a name, and that not by redirection.
    fn came_to_us(&self, name: &str) -> bool {
        let log = format!("{LOG} | grep '\"name\":\"{name}\"' || true");
        let said = self.host.run(&log);
        let redirected = said.lines().find(|line| line.contains("\"redirected\":true"));
        assert_eq!(redirected, None);
        !said.is_empty()
    }

    /// A name that was not asked for before is found, and whether the service found it.
    #[track_caller]
    fn found(&self, name: &str) -> bool {
        let name = format!("{name}.example");
        // it looks at the system's servers when they change, and a failure is remembered for seconds
        let known = "portmaster dns upstreams --json || true";
        eventually("the service knows a server", || {
            (!self.host.run(known).is_empty()).then_some(())
        });
        let address = eventually("the name is found", || {
            Some(self.getent(&name)).filter(|said| !said.is_empty())
        });
        assert_eq!(address, INTERNET.0.to_string(), "{name}");
        assert!(self.server.asked(&name) > 0, "the network's server was asked");
        self.came_to_us(&name)
    }

    #[track_caller]
    fn refused(&self, command: &str) -> String {
        let output = self.host.attempt(command);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    }
}
