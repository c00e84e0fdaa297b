//! Network namespaces of a test's own.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::{process::run, require_root};

const FOLDER: &str = "/run/netns";

/// `pm-<label>-<pid>-<n>`, with `lo` up. Dropping it kills what still runs inside, and deletes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one. `label` is a few letters that say what it plays: `host`, `internet`.
    ///
    /// # Panics
    /// Without root, or if `ip netns add` fails.
    pub fn new(label: &str) -> Self {
        static SWEEP: Once = Once::new();
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        require_root();
        SWEEP.call_once(sweep);
        let name = format!(
            "pm-{label}-{}-{}",
            process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        run(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Self { name };
        // Without duplicate address detection IPv6 works at once, not after two seconds.
        namespace.sh("ip link set lo up; echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad");
        namespace
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    /// A command that will run inside, in this process's mount namespace, and that is killed when the *thread* that
    /// spawns it ends (so: spawn from the test itself, not from a short-lived thread).
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display()));
        command
            .args(["setpriv", "--pdeathsig", "KILL", "--"])
            .arg(program);
        command
    }

    /// Runs a shell script inside; fails the test if the script fails.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        run(self.command("sh").args(["-ec", script]))
    }

    /// Runs `act` on a thread that stands inside. Sockets that it makes belong to this namespace for ever.
    ///
    /// # Panics
    /// If the namespace cannot be entered, or `act` panics.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        enter(&self.path(), act)
    }
}

/// [`Namespace::enter`], for threads that outlive the borrow of a namespace. `path`: [`Namespace::path`].
///
/// # Panics
/// If the namespace cannot be entered, or `act` panics.
pub fn enter<T: Send>(path: &Path, act: impl FnOnce() -> T + Send) -> T {
    let file = File::open(path).unwrap_or_else(|error| panic!("open {}: {error}", path.display()));
    let act = move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .unwrap_or_else(|error| panic!("enter a network namespace: {error}"));
        act()
    };
    thread::scope(|scope| {
        scope
            .spawn(act)
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl Drop for Namespace {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

/// Removes the namespaces of tests that were killed.
fn sweep() {
    for name in left_behind(Path::new(FOLDER), maker) {
        delete(&name);
    }
}

/// Names in `folder` of what a process made that has ended; `maker` tells which one, of what is ours.
pub(crate) fn left_behind(folder: &Path, maker: impl Fn(&str) -> Option<u32>) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let is_gone = |name: &String| maker(name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists());
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(is_gone)
        .collect()
}

/// The process that made `pm-<label>-<pid>-<n>`.
pub(crate) fn maker(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix("pm-")?.rsplit('-');
    parts.next()?.parse::<u32>().ok()?;
    parts.next()?.parse().ok()
}

/// Best effort: a failing teardown must not hide the test's own failure.
fn delete(name: &str) {
    for _ in 0..50 {
        let inside = pids(name);
        if inside.is_empty() {
            break;
        }
        for pid in inside {
            let _gone = kill_process(pid, Signal::KILL);
        }
        thread::sleep(Duration::from_millis(10));
    }
    let _ = Command::new("ip").args(["netns", "del", name]).output();
}

fn pids(name: &str) -> Vec<Pid> {
    let Ok(output) = Command::new("ip").args(["netns", "pids", name]).output() else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
    // A test thread inside would show as this process: never kill that.
    numbers
        .filter(|pid| u32::try_from(*pid) != Ok(process::id()))
        .filter_map(Pid::from_raw)
        .collect()
}
