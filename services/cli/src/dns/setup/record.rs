//! The record of what was there before: written before each change, on the disk before the change begins.
//!
//! Invariant: only root can write it, since whoever can decides what `disable` puts into files of the host's. It lies in a
//! folder of its own, not in that of the DNS service.

use std::{fs, io, net::IpAddr, os::unix::fs::MetadataExt as _, path::PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{
    kept::{Kept, sync_folder},
    place::{Place, Root},
    trouble::explain,
};

const STATE: &str = "/var/lib/portmaster";
const FOLDER: &str = "/var/lib/portmaster/resolver";
const RECORD: &str = "/var/lib/portmaster/resolver/record.json";
/// The servers that ours took the place of: the DNS service reads them here where nothing else names them any more.
const SERVERS: &str = "/var/lib/portmaster/resolver/resolv.conf";
const VERSION: u32 = 1;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    /// Where names are asked instead.
    pub(super) server: IpAddr,
    /// Whether programs ask our server themselves, and not systemd-resolved.
    #[serde(default)]
    pub(super) direct: bool,
    /// Whether all steps were done.
    pub(super) complete: bool,
    /// In the order in which they are done.
    pub(super) steps: Vec<Step>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Step {
    pub(super) place: Place,
    pub(super) before: Kept,
    /// What is written instead.
    pub(super) after: String,
    /// Folders that are made for it, outermost first.
    pub(super) folders: Vec<PathBuf>,
}

impl Record {
    pub(super) fn new(server: IpAddr, direct: bool) -> Self {
        Self {
            version: VERSION,
            server,
            direct,
            complete: false,
            steps: Vec::new(),
        }
    }

    /// Whether there is one; anybody may ask.
    pub(super) fn exists(root: &Root) -> bool {
        fs::symlink_metadata(root.at(RECORD)).is_ok()
    }

    /// The record of a host; `None` where nothing was changed.
    ///
    /// # Errors
    /// Where it cannot be read, is of a later version, or others than us could have written it.
    pub(super) fn load(root: &Root) -> Result<Option<Self>> {
        let path = root.at(RECORD);
        let what = || format!("read {}", path.display());
        let metadata = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found.with_context(what)?,
        };
        for (metadata, path) in [
            (metadata, &path),
            (
                fs::symlink_metadata(root.at(FOLDER)).with_context(what)?,
                &root.at(FOLDER),
            ),
        ] {
            let owner = metadata.uid();
            ensure!(
                (owner == 0 || owner == rustix::process::geteuid().as_raw()) && metadata.mode() & 0o022 == 0,
                "{} can be written by others than root: look at what it says, then chown root and chmod go-w it",
                path.display()
            );
        }
        let text = fs::read_to_string(&path).with_context(what)?;
        let record: Self = serde_json::from_str(&text).with_context(what)?;
        if record.version != VERSION {
            bail!(
                "{} is of version {}, and this program knows version {VERSION}: use the program that wrote it",
                path.display(),
                record.version
            );
        }
        Ok(Some(record))
    }

    /// # Errors
    /// Where it cannot be written; what was recorded is so still.
    pub(super) fn save(&self, root: &Root) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).context("write the record")?;
        text.push('\n');
        let path = root.at(RECORD);
        make_folder(root)?;
        // not everybody could read what is in it
        Kept::private(&text).put(&path)
    }

    /// Nothing is changed any more.
    pub(super) fn remove(root: &Root) -> Result<()> {
        for path in [SERVERS, RECORD] {
            Kept::Absent.put(&root.at(path))?;
        }
        let _holds_more = fs::remove_dir(root.at(FOLDER));
        Ok(())
    }
}

/// Keeps the servers that ours take the place of.
pub(super) fn keep_servers(root: &Root, text: &str) -> Result<()> {
    make_folder(root)?;
    Kept::ours(text).put(&root.at(SERVERS))
}

fn make_folder(root: &Root) -> Result<()> {
    let folder = root.at(FOLDER);
    let made = fs::create_dir_all(&folder).and_then(|()| sync_folder(&folder));
    made.map_err(|error| explain(&folder, error))
}

/// Puts aside what somebody made of a file; says where.
pub(super) fn put_aside(root: &Root, place: Place, edited: &Kept) -> Result<PathBuf> {
    let name = place.path().rsplit('/').next().unwrap_or_default();
    let mut path = root.at(STATE).join(format!("edited-{name}"));
    for number in 2_u32.. {
        if fs::symlink_metadata(&path).is_err() {
            break;
        }
        path.set_file_name(format!("edited-{name}.{number}"));
    }
    edited.put(&path)?;
    Ok(path)
}

/// Held while a host is changed.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held, not read")] fs::File);

impl Lock {
    /// # Errors
    /// Where somebody else is at it, or there can be no record.
    pub(super) fn take(root: &Root) -> Result<Self> {
        let folder = root.at(STATE);
        fs::create_dir_all(&folder).map_err(|error| explain(&folder, error))?;
        let file = fs::File::open(&folder).with_context(|| format!("open {}", folder.display()))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            anyhow::anyhow!(error)
                .context("another `portmaster dns enable` or `disable` runs: wait for its end")
        })?;
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        (folder, root)
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_leaves_nothing() {
        let (_folder, root) = root();
        assert_eq!(Record::load(&root).unwrap(), None);
        let mut record = Record::new([127, 0, 0, 17].into(), false);
        record.steps.push(Step {
            place: Place::ResolvConf,
            before: Kept::ours("nameserver 192.0.2.1\n"),
            after: "x".to_owned(),
            folders: vec!["/etc/systemd".into()],
        });
        record.save(&root).unwrap();
        assert_eq!(Record::load(&root).unwrap(), Some(record));
        keep_servers(&root, "nameserver 192.0.2.1\n").unwrap();
        let mode = |path: &str| fs::metadata(root.at(path)).unwrap().mode() & 0o777;
        assert_eq!((mode(RECORD), mode(SERVERS)), (0o600, 0o644));
        Record::remove(&root).unwrap();
        assert_eq!(Record::load(&root).unwrap(), None);
        assert!(!root.at(FOLDER).exists());
    }

    #[test]
    fn a_record_that_others_could_write_or_that_is_newer_is_refused() {
        let (_folder, root) = root();
        Record::new([127, 0, 0, 17].into(), false).save(&root).unwrap();
        fs::set_permissions(root.at(FOLDER), fs::Permissions::from_mode(0o775)).unwrap();
        let error = Record::load(&root).unwrap_err().to_string();
        assert!(error.contains("chmod go-w"), "{error}");
        fs::set_permissions(root.at(FOLDER), fs::Permissions::from_mode(0o755)).unwrap();
        let text = fs::read_to_string(root.at(RECORD)).unwrap();
        fs::write(root.at(RECORD), text.replace("\"version\": 1", "\"version\": 7")).unwrap();
        let error = Record::load(&root).unwrap_err().to_string();
        assert!(error.contains("version 7"), "{error}");
    }

    #[test]
    fn two_at_once_are_refused() {
        let (_folder, root) = root();
        let first = Lock::take(&root).unwrap();
        assert!(Lock::take(&root).is_err());
        drop(first);
        Lock::take(&root).unwrap();
    }
}
