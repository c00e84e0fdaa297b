//! Processes.
//!
//! A trusted path (what profiles match by) that is not UTF-8 is sent as none: written with replacement characters it
//! could be taken for another file's.

use std::path::{Path, PathBuf};

use verdict::{Cgroup, Executable, Parent, Process};

use super::{Error, each};
use crate::flow::v1;

impl From<&Process> for v1::Process {
    fn from(process: &Process) -> Self {
        Self {
            pid: process.pid,
            start_time: process.start_time,
            uid: process.uid,
            executable: Some((&process.executable).into()),
            script: trusted(process.script.as_deref()),
            comm: process.comm.clone(),
            cmdline: process.cmdline.clone(),
            parents: process.parents.iter().map(Into::into).collect(),
            cgroup: Some((&process.cgroup).into()),
            network_namespace: process.network_namespace,
            mount_namespace: process.mount_namespace,
        }
    }
}

impl TryFrom<v1::Process> for Process {
    type Error = Error;

    fn try_from(wire: v1::Process) -> Result<Self, Error> {
        let executable = wire.executable.unwrap_or_default();
        Ok(Self {
            pid: wire.pid,
            start_time: wire.start_time,
            uid: wire.uid,
            executable: executable
                .try_into()
                .map_err(|error: Error| error.within("executable"))?,
            script: path("script", wire.script)?,
            comm: wire.comm,
            cmdline: wire.cmdline,
            parents: each("parents", wire.parents)?,
            cgroup: wire.cgroup.unwrap_or_default().into(),
            network_namespace: wire.network_namespace,
            mount_namespace: wire.mount_namespace,
        })
    }
}

impl From<&Executable> for v1::Executable {
    fn from(executable: &Executable) -> Self {
        Self {
            path: trusted(executable.path.as_deref()),
            device: executable.device,
            inode: executable.inode,
            claimed_path: shown(&executable.claimed_path),
            deleted: executable.deleted,
            sha256: executable.sha256.map(Into::into).unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::Executable> for Executable {
    type Error = Error;

    fn try_from(wire: v1::Executable) -> Result<Self, Error> {
        Ok(Self {
            path: path("path", wire.path)?,
            device: wire.device,
            inode: wire.inode,
            claimed_path: wire.claimed_path.into(),
            deleted: wire.deleted,
            sha256: sha256(&wire.sha256)?,
        })
    }
}

impl From<&Parent> for v1::Parent {
    fn from(parent: &Parent) -> Self {
        Self {
            pid: parent.pid,
            start_time: parent.start_time,
            path: shown(&parent.path),
            comm: parent.comm.clone(),
        }
    }
}

impl TryFrom<v1::Parent> for Parent {
    type Error = Error;

    fn try_from(wire: v1::Parent) -> Result<Self, Error> {
        Ok(Self {
            pid: wire.pid,
            start_time: wire.start_time,
            path: wire.path.into(),
            comm: wire.comm,
        })
    }
}

impl From<&Cgroup> for v1::Cgroup {
    fn from(cgroup: &Cgroup) -> Self {
        let Cgroup {
            path,
            unit,
            user_unit,
            slice,
            container,
            flatpak,
            snap,
        } = cgroup.clone();
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

impl From<v1::Cgroup> for Cgroup {
    fn from(wire: v1::Cgroup) -> Self {
        let v1::Cgroup {
            path,
            unit,
            user_unit,
            slice,
            container,
            flatpak,
            snap,
        } = wire;
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

/// `None` where empty; absolute else.
pub(super) fn path(field: &str, text: String) -> Result<Option<PathBuf>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let path = PathBuf::from(text);
    if path.is_absolute() {
        return Ok(Some(path));
    }
    Err(Error::invalid(field, path.display(), "an absolute path"))
}

/// `None` where empty.
pub(super) fn sha256(octets: &[u8]) -> Result<Option<[u8; 32]>, Error> {
    if octets.is_empty() {
        return Ok(None);
    }
    let invalid = |_| Error::invalid("sha256", format_args!("{} octets", octets.len()), "32 octets");
    octets.try_into().map(Some).map_err(invalid)
}

/// A path that is decided by.
pub(super) fn trusted(path: Option<&Path>) -> String {
    path.and_then(Path::to_str).unwrap_or_default().to_owned()
}

/// A path for display.
fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
