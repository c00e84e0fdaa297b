//! The process of an event.

use std::fmt::Write as _;

use proto::flow::v1::{Cgroup, Parent, Process};
use serde::{Deserialize, Serialize};

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessJson {
    /// Process id.
    pub pid: u32,
    /// Clock ticks after boot: with `pid` the identity of a process.
    pub start_time: u64,
    /// Effective user id.
    pub uid: u32,
    /// Executable as the host sees it, verified to be this very file; else "".
    pub path: String,
    /// Executable as the process's own mount namespace shows it; the process may have chosen it.
    pub claimed_path: String,
    /// Device of the executable (`st_dev`).
    pub device: u64,
    /// Inode of the executable.
    pub inode: u64,
    /// The executable was removed or replaced since it was started.
    pub deleted: bool,
    /// Hexadecimal; "" where no profile asks for hashes.
    pub sha256: String,
    /// Script that its interpreter runs.
    pub script: String,
    /// Command name; the process chooses it.
    pub comm: String,
    /// Arguments; the process chooses them.
    pub cmdline: Vec<String>,
    /// Nearest first.
    pub parents: Vec<ParentJson>,
    /// Where the service manager put it.
    pub cgroup: CgroupJson,
    /// Inode number of its network namespace.
    pub network_namespace: u64,
    /// Inode number of its mount namespace.
    pub mount_namespace: u64,
}

/// An ancestor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentJson {
    /// Process id.
    pub pid: u32,
    /// Clock ticks after boot.
    pub start_time: u64,
    /// Executable.
    pub path: String,
    /// Command name.
    pub comm: String,
}

/// A place in the tree of control groups; "" for what it is not in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupJson {
    /// `/system.slice/ssh.service`
    pub path: String,
    /// System unit.
    pub unit: String,
    /// Unit of a user's manager.
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

impl ProcessJson {
    /// What to call it in one word: the file name of script or executable, else the command name.
    pub fn label(&self) -> &str {
        let file = [&self.script, &self.path]
            .into_iter()
            .find(|path| !path.is_empty());
        let name = file
            .and_then(|path| path.rsplit('/').next())
            .filter(|name| !name.is_empty());
        name.unwrap_or(&self.comm)
    }
}

impl From<Process> for ProcessJson {
    fn from(process: Process) -> Self {
        let executable = process.executable.unwrap_or_default();
        Self {
            pid: process.pid,
            start_time: process.start_time,
            uid: process.uid,
            path: executable.path,
            claimed_path: executable.claimed_path,
            device: executable.device,
            inode: executable.inode,
            deleted: executable.deleted,
            sha256: hexadecimal(&executable.sha256),
            script: process.script,
            comm: process.comm,
            cmdline: process.cmdline,
            parents: process.parents.into_iter().map(ParentJson::from).collect(),
            cgroup: process.cgroup.unwrap_or_default().into(),
            network_namespace: process.network_namespace,
            mount_namespace: process.mount_namespace,
        }
    }
}

impl From<Parent> for ParentJson {
    fn from(parent: Parent) -> Self {
        Self {
            pid: parent.pid,
            start_time: parent.start_time,
            path: parent.path,
            comm: parent.comm,
        }
    }
}

impl From<Cgroup> for CgroupJson {
    fn from(cgroup: Cgroup) -> Self {
        let Cgroup {
            path,
            unit,
            user_unit,
            slice,
            container,
            flatpak,
            snap,
        } = cgroup;
        Self {
            path,
            unit,
            user_unit,
            slice,
            container,
            flatpak,
            snap,
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
