//! A whole host: real systemd as pid 1, its own system bus and network namespace, with the product installed by
//! `scripts/install`. The REAL units run here.
//!
//! The tree is made once by debootstrap (about a minute) and kept below `target/booted`; the product is installed once for
//! each build. A host is an overlay over both that nobody else sees and that ends with it; it boots in about a second.

mod base;
mod builder;
mod machine;
mod product;

use std::{
    ffi::OsStr,
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use rustix::process::Pid;

use crate::{
    Link, Namespace,
    wait::eventually,
    world::{INTERNET_V4, INTERNET_V6},
};
pub use base::Suite;
pub use builder::Builder;
use machine::Machine;

/// What a login shell of root has.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// See the module's head. Dropped, all of it ends.
#[derive(Debug)]
pub struct Booted {
    // Order matters when dropped: the machine before the namespace that it stands in.
    machine: Machine,
    /// The network of the host.
    pub host: Namespace,
    /// Everybody else: addresses [`INTERNET_V4`] and [`INTERNET_V6`] on `lo`.
    pub internet: Namespace,
    /// `a` is the host, `b` the internet (a neighbour, and the default router).
    pub link: Link,
}

impl Booted {
    /// With the product installed and enabled; returns when all of the boot is done, successful or not.
    ///
    /// # Panics
    /// Where this machine cannot boot containers, with what it lacks.
    pub fn start(label: &str) -> Self {
        Self::builder(label).start()
    }

    /// The same with settings.
    pub fn builder(label: &str) -> Builder {
        Builder::new(label)
    }

    /// Runs a shell script as root; gives what it printed.
    ///
    /// # Panics
    /// If it fails, with all that it said.
    #[track_caller]
    pub fn run(&self, script: &str) -> String {
        self.run_as("root", script)
    }

    /// Runs a shell script as a user, with the groups of a login.
    ///
    /// # Panics
    /// If it fails, with all that it said.
    #[track_caller]
    pub fn run_as(&self, user: &str, script: &str) -> String {
        let output = self.attempt_as(user, script);
        let said = text(&output);
        assert!(
            output.status.success(),
            "{script:?} as {user} ended with {}: {said}",
            output.status
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a shell script as root that may fail.
    pub fn attempt(&self, script: &str) -> Output {
        self.attempt_as("root", script)
    }

    /// Runs a shell script as a user that may fail.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn attempt_as(&self, user: &str, script: &str) -> Output {
        let mut command = self.command_as(user, "sh");
        command.args(["-ec", script]).stdin(Stdio::null());
        command.output().expect("start nsenter")
    }

    /// A command inside, as root; killed when the thread that spawns it ends.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.inside();
        command.arg(program);
        command
    }

    /// A command inside, as a user; killed when the thread that spawns it ends.
    pub fn command_as(&self, user: &str, program: impl AsRef<OsStr>) -> Command {
        if user == "root" {
            return self.command(program);
        }
        let mut command = self.inside();
        command.args(["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--"]);
        command.arg(program);
        command
    }

    fn inside(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "nsenter", "--target"]);
        command.arg(self.leader().as_raw_nonzero().to_string());
        // all namespaces, the container's root and working directory; nothing of this process's environment
        command.args(["--all", "--root", "--wd", "--", "env", "-i", PATH, "LANG=C.UTF-8"]);
        command
    }

    /// `systemctl` with arguments; gives what it printed.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn systemctl(&self, arguments: &str) -> String {
        self.run(&format!("systemctl {arguments}"))
    }

    /// One property of a unit.
    ///
    /// # Panics
    /// If systemd does not answer.
    #[track_caller]
    pub fn property(&self, unit: &str, property: &str) -> String {
        let value = self.systemctl(&format!("show --property={property} --value {unit}"));
        value.trim().to_owned()
    }

    /// Waits until a unit is in a state of `ActiveState=`: `active`, `inactive`, `failed`.
    ///
    /// # Panics
    /// If it does not get there, with its journal.
    #[track_caller]
    pub fn wait_for(&self, unit: &str, state: &str) {
        eventually(&format!("{unit} is {state}"), || {
            (self.property(unit, "ActiveState") == state).then_some(())
        });
    }

    /// Everything in the journal of this boot about a unit (what it said, and what systemd said of it).
    ///
    /// # Panics
    /// If the journal cannot be read.
    #[track_caller]
    pub fn journal(&self, unit: &str) -> String {
        self.run(&format!(
            "journalctl --sync; journalctl --boot --no-pager --output=short-monotonic --unit={unit}"
        ))
    }

    /// The same, as objects with all fields.
    pub fn journal_fields(&self, unit: &str) -> String {
        self.run(&format!(
            "journalctl --sync; journalctl --boot --no-pager --output=json --unit={unit}"
        ))
    }

    /// What the host's console showed.
    pub fn console(&self) -> String {
        self.machine.console()
    }

    /// Process id of the container's pid 1, out here.
    pub const fn leader(&self) -> Pid {
        self.machine.leader()
    }

    /// The host's `/`, as it is seen from out here; for reading and writing files.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.leader().as_raw_nonzero()))
    }

    /// Writes a file, with its folders.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn file(&self, path: &str, content: &str) {
        let path = self.root().join(path.trim_start_matches('/'));
        write(&path, content.as_bytes());
    }

    /// Writes a profile.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn profile(&self, id: &str, toml: &str) {
        self.file(&format!("/etc/portmaster/profiles.d/{id}.toml"), toml);
    }

    /// Stops all of its processes at once, pid 1 among them, as when a host is suspended; but its clocks go on, all of them.
    ///
    /// # Panics
    /// Where there is no freezer (cgroup v2).
    #[track_caller]
    pub fn freeze(&self) {
        self.machine.freeze(true);
    }

    /// They go on.
    ///
    /// # Panics
    /// As [`Self::freeze`].
    #[track_caller]
    pub fn thaw(&self) {
        self.machine.freeze(false);
    }

    /// Shuts down as `systemctl poweroff` does, and waits for its end. Its network stays, until this is dropped.
    pub fn power_off(&mut self) {
        self.machine.power_off();
    }
}

impl Drop for Booted {
    /// A failing test shows what the units said.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let units =
                "systemctl --failed --no-pager; journalctl --boot --no-pager --lines=80 --unit='portmaster*'";
            eprintln!("──── console ────\n{}", self.console());
            eprintln!("──── units ────\n{}", text(&self.attempt(units)));
        }
    }
}

/// What a command printed on both streams.
pub fn text(output: &Output) -> String {
    let both = [&output.stdout, &output.stderr].map(|stream| String::from_utf8_lossy(stream));
    both.concat()
}

/// The tree of a plain Debian that hosts are made of, to be mounted below something: for what is put into an image.
///
/// # Panics
/// Where it cannot be made.
pub fn plain_tree() -> PathBuf {
    base::tree(Suite::default(), &[])
}

/// Addresses of an internet server, of both families.
pub const INTERNET: (Ipv4Addr, Ipv6Addr) = (INTERNET_V4, INTERNET_V6);

fn write(path: &std::path::Path, content: &[u8]) {
    let folder = path.parent().expect("a file has a folder");
    fs::create_dir_all(folder).unwrap_or_else(|error| panic!("make {}: {error}", folder.display()));
    fs::write(path, content).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
}
