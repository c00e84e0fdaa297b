//! Who it is: a process as the firewall knows it.
//!
//! Identity is what the process cannot choose: executable (device, inode, verified path, hash), uid, start time, cgroup,
//! namespaces. Names and arguments are hints for display and match nothing.

use std::path::PathBuf;

/// A program file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Executable {
    /// Path in the host's mount namespace; `None` where that path is not verified to be this very file (a bind mount in
    /// the process's own namespace, a container): profiles by path do not match then.
    pub path: Option<PathBuf>,
    /// Device (`st_dev`) of the file that is executed.
    pub device: u64,
    /// Inode of the file that is executed.
    pub inode: u64,
    /// As the process's own mount namespace shows it. For display only.
    pub claimed_path: PathBuf,
    /// Unlinked or replaced since it was started.
    pub deleted: bool,
    /// SHA-256, where it was computed.
    pub sha256: Option<[u8; 32]>,
}

/// An ancestor of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Parent {
    /// Process id.
    pub pid: u32,
    /// Clock ticks after boot.
    pub start_time: u64,
    /// Executable's path, for display.
    pub path: PathBuf,
    /// Command name, for display.
    pub comm: String,
}

/// Where the service manager put it. Empty strings: not in such a thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cgroup {
    /// `/system.slice/ssh.service`
    pub path: String,
    /// System unit (`ssh.service`).
    pub unit: String,
    /// Unit of a user's manager (`app-firefox-1234.scope`).
    pub user_unit: String,
    /// Innermost slice.
    pub slice: String,
    /// Container id.
    pub container: String,
    /// Flatpak application id.
    pub flatpak: String,
    /// Snap name.
    pub snap: String,
}

/// A process. `(pid, start_time)` names it as long as the host runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Process {
    /// Process id in the resolver's pid namespace.
    pub pid: u32,
    /// Clock ticks after boot (`/proc/PID/stat` field 22).
    pub start_time: u64,
    /// Effective user id.
    pub uid: u32,
    /// What it executes.
    pub executable: Executable,
    /// Script that its interpreter runs, under the same trust rule as [`Executable::path`].
    pub script: Option<PathBuf>,
    /// Command name, for display.
    pub comm: String,
    /// Arguments, for display.
    pub cmdline: Vec<String>,
    /// Nearest first.
    pub parents: Vec<Parent>,
    /// Where the service manager put it.
    pub cgroup: Cgroup,
    /// Inode number of its network namespace.
    pub network_namespace: u64,
    /// Inode number of its mount namespace.
    pub mount_namespace: u64,
}

impl Process {
    /// What to call it in one word: the script or executable's file name, else the command name.
    pub fn label(&self) -> String {
        let file = self
            .script
            .as_ref()
            .or(self.executable.path.as_ref())
            .and_then(|path| path.file_name());
        file.map_or_else(|| self.comm.clone(), |name| name.to_string_lossy().into_owned())
    }
}
