//! What stands at a path, kept so that exactly that can be put there again: kind, content or target, owner, mode, time of
//! change, and what systems add to a file (SELinux labels, access lists, attributes of users).

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::{
    fs::{
        AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chownat, fchmod,
        lgetxattr, llistxattr, lsetxattr, utimensat,
    },
    io::Errno,
};
use serde::{Deserialize, Serialize};

use super::trouble::explain;

/// No resolver's file is larger.
const LARGEST: u64 = 1 << 20;
/// Of SELinux.
const LABEL: &str = "security.selinux";
/// Room for names, and for a value, of attributes.
const ATTRIBUTES: usize = 64 << 10;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum Kept {
    /// Nothing.
    Absent,
    /// A file.
    File {
        content: Content,
        /// Permissions, as chmod(1) has them.
        mode: u32,
        #[serde(flatten)]
        owner: Owner,
        /// By name.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        attributes: BTreeMap<String, Content>,
    },
    /// A symbolic link.
    Link {
        target: PathBuf,
        #[serde(flatten)]
        owner: Owner,
    },
}

/// Text where it is that: a record can be read by people then.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Content {
    Text(String),
    Octets(Vec<u8>),
}

impl std::fmt::Debug for Content {
    /// Names of servers are in there.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} octets", self.octets().len())
    }
}

impl Content {
    pub(super) fn octets(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Octets(octets) => octets,
        }
    }
}

impl From<Vec<u8>> for Content {
    fn from(octets: Vec<u8>) -> Self {
        String::from_utf8(octets).map_or_else(|error| Self::Octets(error.into_bytes()), Self::Text)
    }
}

/// Who owns it, and when it was changed last: seconds since 1970, and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    uid: u32,
    gid: u32,
    changed: (i64, i64),
}

impl Kept {
    /// What we write: root's, readable by everybody.
    pub(super) fn ours(text: &str) -> Self {
        Self::own(text, 0o644)
    }

    /// The same for root alone.
    pub(super) fn private(text: &str) -> Self {
        Self::own(text, 0o600)
    }

    fn own(text: &str, mode: u32) -> Self {
        Self::File {
            content: Content::Text(text.to_owned()),
            mode,
            owner: Owner {
                uid: rustix::process::geteuid().as_raw(),
                gid: rustix::process::getegid().as_raw(),
                changed: (0, UTIME_OMIT),
            },
            attributes: BTreeMap::new(),
        }
    }

    /// The same in the place of `before`: with its SELinux label, without which confined programs may not read it.
    pub(super) fn ours_for(before: &Self, text: &str) -> Self {
        let mut ours = Self::ours(text);
        if let (Self::File { attributes: old, .. }, Self::File { attributes, .. }) = (before, &mut ours) {
            attributes.extend(
                old.get_key_value(LABEL)
                    .map(|(name, value)| (name.clone(), value.clone())),
            );
        }
        ours
    }

    /// What stands there now.
    ///
    /// # Errors
    /// Where it cannot be read, or is something that no resolver reads.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let what = || format!("read {}", path.display());
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Absent),
            Err(error) => return Err(error).with_context(what),
        };
        let owner = Owner {
            uid: metadata.uid(),
            gid: metadata.gid(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
        };
        if metadata.is_symlink() {
            let target = fs::read_link(path).with_context(what)?;
            return Ok(Self::Link { target, owner });
        }
        if !metadata.is_file() || metadata.len() > LARGEST {
            bail!(
                "{} is no file that a resolver reads: look what it is, and put it away",
                path.display()
            );
        }
        Ok(Self::File {
            content: fs::read(path).with_context(what)?.into(),
            mode: metadata.mode() & 0o7777,
            owner,
            attributes: attributes(path).with_context(what)?,
        })
    }

    /// Whether a program that opens the path gets the same.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Absent, Self::Absent) => true,
            (Self::File { content: one, .. }, Self::File { content: other, .. }) => {
                one.octets() == other.octets()
            }
            (Self::Link { target: one, .. }, Self::Link { target: other, .. }) => one == other,
            _ => false,
        }
    }

    /// Puts it there in one step: whoever looks sees what was, or this.
    ///
    /// # Errors
    /// Names path, trouble and remedy; what was is there still.
    pub(super) fn put(&self, path: &Path) -> Result<()> {
        let new = beside(path)?;
        let what = |error| explain(path, error);
        remove(&new).map_err(what)?;
        match self {
            Self::Absent => remove(path).map_err(what)?,
            other => {
                let made = other
                    .make(&new)
                    .and_then(|()| fs::rename(&new, path))
                    .map_err(what);
                if made.is_err() {
                    let _error_is_told = remove(&new);
                }
                made?;
            }
        }
        sync_folder(path).map_err(what)
    }

    fn make(&self, new: &Path) -> io::Result<()> {
        match self {
            Self::Absent => Ok(()),
            Self::Link { target, owner } => {
                std::os::unix::fs::symlink(target, new)?;
                owner.give(new)
            }
            Self::File {
                content,
                mode,
                owner,
                attributes,
            } => {
                // never followed, never somebody else's
                let mut file = fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(new)?;
                file.write_all(content.octets())?;
                for (name, value) in attributes {
                    let name = CString::new(name.as_str()).map_err(io::Error::other)?;
                    lsetxattr(new, &name, value.octets(), XattrFlags::empty())?;
                }
                owner.give(new)?;
                // after the owner, whose change takes set-id bits away
                fchmod(&file, Mode::from_raw_mode(*mode))?;
                file.sync_all()
            }
        }
    }
}

impl Owner {
    fn give(self, path: &Path) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        let untouched = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        };
        let times = Timestamps {
            last_access: untouched,
            last_modification: Timespec {
                tv_sec: self.changed.0,
                tv_nsec: self.changed.1,
            },
        };
        Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

/// Those that a file's owner, an administrator or SELinux gave it; others are the kernel's own to make.
fn attributes(path: &Path) -> io::Result<BTreeMap<String, Content>> {
    let mut names = vec![0; ATTRIBUTES];
    let length = match llistxattr(path, &mut *names) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    names.truncate(length);
    let mut all = BTreeMap::new();
    for name in names.split_inclusive(|octet| *octet == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        let Some(text) = name.to_str().ok().filter(|name| is_given(name)) else {
            continue;
        };
        let mut value = vec![0; ATTRIBUTES];
        let length = lgetxattr(path, name, &mut *value)?;
        value.truncate(length);
        all.insert(text.to_owned(), value.into());
    }
    Ok(all)
}

fn is_given(attribute: &str) -> bool {
    matches!(attribute, LABEL | "system.posix_acl_access") || attribute.starts_with("user.")
}

/// Where the next content of a path is made: in its folder, by one name, so that a crash leaves at most one.
fn beside(path: &Path) -> Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| anyhow!("{} is no path of a file", path.display()))?;
    Ok(path.with_file_name(format!(".{}.portmaster-new", name.to_string_lossy())))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What is new in a folder is only on the disk once the folder is.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent().map(fs::File::open) {
        Some(Ok(folder)) => folder.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn again(kept: &Kept) -> Kept {
        serde_json::from_str(&serde_json::to_string(kept).unwrap()).unwrap()
    }

    #[test]
    fn what_was_kept_is_put_back_to_the_last_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let set = |content: &[u8], mode| {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            if rustix::process::geteuid().is_root() {
                std::os::unix::fs::lchown(&path, Some(12), Some(34)).unwrap();
            }
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(1_234_567_890_123_456_789);
            fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(time)
                .unwrap();
        };
        for (content, mode) in [
            (&b"nameserver 192.0.2.1\n"[..], 0o640),
            (b"\xff\0no text", 0o444),
            (b"", 0o4755),
        ] {
            set(content, mode);
            // not every file system has them
            let value = lsetxattr(&path, c"user.note", b"mine", XattrFlags::empty());
            let kept = Kept::read(&path).unwrap();
            assert_eq!(value.is_ok(), format!("{kept:?}").contains("user.note"));
            Kept::ours("other").put(&path).unwrap();
            assert_ne!(Kept::read(&path).unwrap(), kept);
            again(&kept).put(&path).unwrap();
            assert_eq!(Kept::read(&path).unwrap(), kept);
            assert_eq!(fs::read(&path).unwrap(), content);
            fs::remove_file(&path).unwrap();
        }
        symlink("../run/dangling", &path).unwrap();
        let kept = Kept::read(&path).unwrap();
        Kept::ours("other").put(&path).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        again(&kept).put(&path).unwrap();
        assert_eq!(Kept::read(&path).unwrap(), kept);
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("../run/dangling"));
        Kept::Absent.put(&path).unwrap();
        Kept::Absent.put(&path).unwrap();
        assert_eq!(Kept::read(&path).unwrap(), Kept::Absent);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            0,
            "nothing is left beside"
        );
    }

    #[test]
    fn what_a_crash_left_beside_is_in_nobodys_way_and_never_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, victim) = (folder.path().join("x"), folder.path().join("victim"));
        fs::write(&victim, "safe").unwrap();
        symlink(&victim, folder.path().join(".x.portmaster-new")).unwrap();
        Kept::ours("new").put(&path).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "safe");
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = Kept::read(folder.path()).unwrap_err();
        assert!(error.to_string().contains("put it away"), "{error}");
    }
}
