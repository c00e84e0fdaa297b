//! Files that are looked at often, and read only when they changed.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Longest file that is read.
const LONGEST: u64 = 9 << 20;

/// By this a file is known to be another than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Signature {
    device: u64,
    inode: u64,
    length: u64,
    /// Of its content and of its place: seconds and nanoseconds.
    changed: [(i64, i64); 2],
}

/// What was seen of them last.
#[derive(Debug, Default)]
pub(crate) struct Watched(HashMap<PathBuf, Option<Signature>>);

/// A file that is not the one of before.
#[derive(Debug)]
pub(crate) struct Changed {
    /// None: there is none any more.
    pub(crate) content: Option<Vec<u8>>,
    /// When it was put there.
    pub(crate) put: Option<SystemTime>,
}

impl Watched {
    /// What `path` is now; None: what it was at the last look.
    pub(crate) fn look(&mut self, path: &Path) -> Option<io::Result<Changed>> {
        let found = match fs::metadata(path) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Some(Err(error)),
        };
        let signature = found.as_ref().map(|found| Signature {
            device: found.dev(),
            inode: found.ino(),
            length: found.len(),
            changed: [
                (found.mtime(), found.mtime_nsec()),
                (found.ctime(), found.ctime_nsec()),
            ],
        });
        let known = self.0.insert(path.to_owned(), signature);
        // of one that was never there, nothing is to be told
        if known.unwrap_or_default() == signature {
            return None;
        }
        let Some(found) = found else {
            return Some(Ok(Changed {
                content: None,
                put: None,
            }));
        };
        if found.len() > LONGEST {
            return Some(Err(io::Error::other(format!(
                "{} octets are too many",
                found.len()
            ))));
        }
        Some(fs::read(path).map(|content| Changed {
            content: Some(content),
            put: found.modified().ok(),
        }))
    }

    /// It is read at the next look, whether it changes or not.
    pub(crate) fn forget(&mut self, path: &Path) {
        self.0.remove(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(changed: Option<io::Result<Changed>>) -> Option<Option<Vec<u8>>> {
        changed.map(|changed| changed.unwrap().content)
    }

    #[test]
    fn a_file_is_read_when_it_changed_and_not_again() {
        let folder = tempfile::tempdir().unwrap();
        let (file, mut watched) = (folder.path().join("map"), Watched::default());
        assert_eq!(content(watched.look(&file)), None, "there is none, and was none");
        for text in ["one", "two"] {
            daemon::files::replace(&file, text.as_bytes()).unwrap();
            assert_eq!(content(watched.look(&file)), Some(Some(text.into())));
            assert_eq!(content(watched.look(&file)), None);
        }
        watched.forget(&file);
        assert_eq!(content(watched.look(&file)), Some(Some("two".into())));
        fs::remove_file(&file).unwrap();
        assert_eq!(content(watched.look(&file)), Some(None));
        assert_eq!(content(watched.look(&file)), None);
    }

    #[test]
    fn a_folder_is_no_file_and_said_to_be_none_once() {
        let (folder, mut watched) = (tempfile::tempdir().unwrap(), Watched::default());
        assert!(watched.look(folder.path()).unwrap().is_err());
        assert!(watched.look(folder.path()).is_none());
    }
}
