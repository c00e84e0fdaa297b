//! Processes that end with the test.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::wait::eventually;

/// A started process, leader of its own group, with its output in a file. Killed with its group when dropped.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    log: Option<PathBuf>,
}

impl Running {
    /// Starts `command` with its standard output and error appended to `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_logged(name: &str, mut command: Command, log: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log);
        let out = out.unwrap_or_else(|error| panic!("open {}: {error}", log.display()));
        let err = out.try_clone().expect("duplicate a descriptor");
        command.stdout(out).stderr(err);
        let mut running = Self::start(name, command);
        running.log = Some(log.to_owned());
        running
    }

    /// Starts `command` with the output that it sets for itself.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(name: &str, mut command: Command) -> Self {
        use std::os::unix::process::CommandExt;
        command.stdin(Stdio::null()).process_group(0);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("start {name} ({command:?}): {error}"));
        Self {
            name: name.to_owned(),
            child,
            log: None,
        }
    }

    /// Takes over a child that leads its own process group.
    pub fn adopt(name: &str, child: Child) -> Self {
        Self {
            name: name.to_owned(),
            child,
            log: None,
        }
    }

    /// Process id.
    ///
    /// # Panics
    /// Never: process ids are positive.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The standard streams, where the command piped them.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal to the process (not to its group).
    pub fn signal(&self, signal: Signal) {
        let _gone = kill_process(self.pid(), signal);
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM, and waits until it is gone.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Its exit status, if it ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("ask for a child's status")
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let what = format!("{} (pid {}) ends", self.name, self.child.id());
        eventually(&what, || self.child.try_wait().expect("ask for a child's status"))
    }

    /// What it printed so far.
    pub fn output(&self) -> String {
        self.log
            .as_deref()
            .map(|log| fs::read_to_string(log).unwrap_or_default())
            .unwrap_or_default()
    }

    fn end(&mut self) {
        let _gone = kill_process_group(self.pid(), Signal::KILL);
        let _reaped = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs a command to its end and returns what it printed.
///
/// # Panics
/// If it cannot be started or fails.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?} ended with {}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}
