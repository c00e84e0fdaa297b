//! A D-Bus daemon of the test's own, with the policy that we ship.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{process::Running, wait::eventually};

const CONFIG: &str = include_str!("../../dbus/private-bus.conf");

/// A private bus below a folder. Ends when dropped; can be stopped and started again at the same address.
#[derive(Debug)]
pub struct PrivateBus {
    folder: PathBuf,
    daemon: Option<Running>,
}

impl PrivateBus {
    /// Starts a bus whose files are in `folder`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap_or_else(|error| panic!("make {}: {error}", folder.display()));
        let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dbus/org.portmaster.conf");
        let mut bus = Self {
            folder: folder.to_owned(),
            daemon: None,
        };
        let config = CONFIG.replace("@SOCKET@", &bus.socket().to_string_lossy());
        let config = config.replace("@POLICY@", &policy.to_string_lossy());
        fs::write(bus.config(), config).expect("write the bus's configuration");
        bus.restart();
        bus
    }

    /// What `DBUS_SYSTEM_BUS_ADDRESS` has to be.
    pub fn address(&self) -> String {
        format!("unix:path={}", self.socket().display())
    }

    /// Kills the daemon; whoever was connected is not any more.
    pub fn kill(&mut self) {
        self.daemon = None;
        let _gone = fs::remove_file(self.socket());
    }

    /// Kills the daemon, if it runs, and starts it at the same address.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn restart(&mut self) {
        self.kill();
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "--",
            "dbus-daemon",
            "--nofork",
            "--nopidfile",
            "--nosyslog",
        ]);
        command.arg(format!("--config-file={}", self.config().display()));
        let mut daemon = Running::start_logged("dbus-daemon", command, &self.folder.join("bus.log"));
        let what = format!("{} exists", self.socket().display());
        eventually(&what, || {
            assert!(daemon.ended().is_none(), "dbus-daemon ended: {}", daemon.output());
            self.socket().exists().then_some(())
        });
        self.daemon = Some(daemon);
    }

    /// Its process, to be stopped or measured.
    pub fn daemon(&self) -> Option<&Running> {
        self.daemon.as_ref()
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("bus.sock")
    }

    fn config(&self) -> PathBuf {
        self.folder.join("bus.conf")
    }
}
