//! OpenSnitch as Debian packages it, unpacked below target/: nothing of it is installed, and it never runs in the machine's
//! own namespace.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use integration::{Running, eventually};

use crate::arena::Arena;

const CONFIG: &str = r#"{
    "Server": { "Address": "unix:///nonexistent/osui.sock", "LogFile": "/dev/null" },
    "DefaultAction": "allow", "DefaultDuration": "once", "InterceptUnknown": false,
    "ProcMonitorMethod": "proc", "LogLevel": 3, "Firewall": "iptables",
    "Stats": { "MaxEvents": 150, "MaxStats": 25 }
}"#;

/// In a mount namespace of its own, /etc also has OpenSnitch's files.
const START: &str = r#"
mount -t overlay overlay -o "lowerdir=$1/etc:/etc" /etc
exec "$1/usr/bin/opensnitchd" -rules-path "$1/rules" -process-monitor-method proc -queue-num 0
"#;

/// Where `make bench` unpacked it, if it did.
pub(super) fn unpacked() -> Option<PathBuf> {
    let folder = crate::arena::own().parent()?.parent()?.join("opensnitch");
    folder.join("usr/bin/opensnitchd").exists().then_some(folder)
}

/// Starts it in the arena's host namespace, and returns when its rules are there.
pub(super) fn start(arena: &Arena, folder: &Path) -> Running {
    fs::create_dir_all(folder.join("rules")).expect("make the rules folder");
    fs::create_dir_all(folder.join("etc/opensnitchd")).expect("make the configuration folder");
    fs::write(folder.join("etc/opensnitchd/default-config.json"), CONFIG).expect("write the configuration");
    let mut command: Command = arena.world.host.command("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-ec", START, "sh"])
        .arg(folder);
    let log = arena.world.root().join("opensnitch.log");
    let mut daemon = Running::start_logged("opensnitchd", command, &log);
    eventually("OpenSnitch has put its rules in", || {
        assert!(daemon.ended().is_none(), "opensnitchd ended: {}", daemon.output());
        let rules = arena
            .world
            .host
            .sh("iptables-save; ip6tables-save; nft list ruleset 2>/dev/null || true");
        rules.contains("NFQUEUE").then_some(())
    });
    daemon
}
