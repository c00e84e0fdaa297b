//! Takes away what a world consists of, whatever happened to the process that made it.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// The process that waits for our end. Dropped, it does its work while we wait; if we are killed, it does it all the same.
pub(super) struct Janitor {
    child: Child,
}

impl Janitor {
    /// Starts it, in a session of its own: neither Ctrl-C nor a closed terminal reaches it. It holds the world's lock as
    /// well, as its standard output: nobody takes the name before everything is gone.
    pub(super) fn hire(name: &str, lock: &File) -> Result<Self> {
        let own = std::env::current_exe().context("find our own program")?;
        let mut command = Command::new("setsid");
        command.arg(own).args(["try", "--janitor", name]);
        command
            .stdin(Stdio::piped())
            .stdout(lock.try_clone().context("share the lock")?)
            .stderr(Stdio::null())
            .current_dir("/");
        Ok(Self {
            child: command.spawn().context("start setsid")?,
        })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ended = self.child.wait();
    }
}

/// The janitor's own main: waits until the other end of its standard input is closed, which the kernel does for the dead.
pub(super) fn sweep_when_alone(name: &str) {
    let mut nothing = [0; 16];
    while std::io::stdin().read(&mut nothing).is_ok_and(|length| length > 0) {}
    sweep(name);
    let _was_not_there = fs::remove_file(lock_path(name));
}

/// Of a network in a box.
pub(super) const NODES: [&str; 5] = ["alpha", "beta", "gamma", "delta", "epsilon"];

/// Names of a world's two namespaces.
pub(super) fn namespaces(name: &str) -> [String; 2] {
    [
        format!("portmaster-{name}"),
        format!("portmaster-{name}-internet"),
    ]
}

/// All that a world may have.
fn all_namespaces(name: &str) -> impl Iterator<Item = String> {
    let nodes = NODES.map(|node| format!("portmaster-{name}-{node}"));
    namespaces(name).into_iter().chain(nodes)
}

/// Folder of a world: sockets, state, logs.
pub(super) fn folder(name: &str) -> PathBuf {
    PathBuf::from("/run").join(format!("portmaster-{name}"))
}

/// Held as long as a world of this name is there.
pub(super) fn lock_path(name: &str) -> PathBuf {
    PathBuf::from("/run").join(format!("portmaster-{name}.lock"))
}

/// Ends all that runs in a world, and removes it. Goes on whatever fails.
pub(super) fn sweep(name: &str) {
    for namespace in all_namespaces(name).filter(|name| Path::new("/run/netns").join(name).exists()) {
        for _ in 0..100 {
            let inside = inhabitants(&namespace);
            if inside.is_empty() {
                break;
            }
            for pid in inside {
                let _gone = kill_process(pid, Signal::KILL);
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _was_not_there = Command::new("ip")
            .args(["netns", "del", &namespace])
            .stderr(Stdio::null())
            .status();
    }
    let _was_not_there = fs::remove_dir_all(folder(name));
}

fn inhabitants(namespace: &str) -> Vec<Pid> {
    let output = Command::new("ip").args(["netns", "pids", namespace]).output();
    let text = output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let ours = std::process::id();
    let pids = text
        .split_whitespace()
        .filter_map(|word| word.parse::<i32>().ok());
    pids.filter(|pid| u32::try_from(*pid) != Ok(ours))
        .filter_map(Pid::from_raw)
        .collect()
}
