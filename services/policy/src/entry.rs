//! One file: its last good content, and what is wrong with it now.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    time::{Duration, SystemTime},
};

/// A profile of this size has some 10,000 rules.
const LARGEST: u64 = 1 << 20;

/// Two writes within this time may leave the same stamp.
const RACY: Duration = Duration::from_secs(2);

/// What is wrong with a file, since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// `path:line: problem; remedy`.
    pub(crate) error: String,
    pub(crate) since: SystemTime,
}

/// What one file says, or last said.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    good: Option<T>,
    refused: Option<Refused>,
    stamp: Option<Stamp>,
}

/// A file that has the same stamp has the same content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl<T> Default for Entry<T> {
    fn default() -> Self {
        Self {
            good: None,
            refused: None,
            stamp: None,
        }
    }
}

impl<T> Entry<T> {
    /// Out of the kept snapshot: good, but not compared with its file yet.
    pub(crate) fn kept(good: T) -> Self {
        Self {
            good: Some(good),
            ..Self::default()
        }
    }

    pub(crate) const fn good(&self) -> Option<&T> {
        self.good.as_ref()
    }

    pub(crate) const fn refused(&self) -> Option<&Refused> {
        self.refused.as_ref()
    }

    /// Looks at the file again, where it may have changed. False: it is gone.
    pub(crate) fn look<E: std::fmt::Display>(
        &mut self,
        path: &Path,
        again: bool,
        now: SystemTime,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> bool {
        let stamp = fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata));
        // What was refused may be right by now without a change of the file: a user, a permission.
        let unchanged = stamp.is_some() && stamp == self.stamp && self.refused.is_none();
        if unchanged && !again {
            return true;
        }
        self.stamp = stamp.filter(|stamp| stamp.is_settled(now));
        match read(path) {
            Ok(Some(text)) => match parse(&text) {
                Ok(good) => (self.good, self.refused) = (Some(good), None),
                Err(error) => self.refuse(error.to_string(), now),
            },
            Ok(None) => return false,
            Err(error) => self.refuse(error, now),
        }
        true
    }

    pub(crate) fn refuse(&mut self, error: String, now: SystemTime) {
        match &mut self.refused {
            Some(refused) => refused.error = error,
            None => self.refused = Some(Refused { error, since: now }),
        }
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        let seconds = u64::try_from(self.changed.0).unwrap_or(0);
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        now.duration_since(changed).is_ok_and(|age| age > RACY)
    }
}

/// The file's text; `None` if it is gone. The error says what was tried, and the remedy.
fn read(path: &Path) -> Result<Option<String>, String> {
    let shown = path.display();
    let said = |error: &io::Error| format!("{shown}: cannot be read: {error}; {}", remedy(error));
    // Without O_NONBLOCK a pipe that somebody put there would hold us for ever.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut file = match File::options().read(true).custom_flags(nonblocking).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match fs::symlink_metadata(path) {
                Ok(_) => Err(format!(
                    "{shown}: the link leads nowhere; remove it or what it names must be there"
                )),
                Err(_) => Ok(None),
            };
        }
        Err(error) => return Err(said(&error)),
    };
    let metadata = file.metadata().map_err(|error| said(&error))?;
    if !metadata.is_file() {
        return Err(format!(
            "{shown}: this is no file; only files are called .toml here"
        ));
    }
    let mut octets = Vec::new();
    let mut limited = io::Read::by_ref(&mut file).take(LARGEST + 1);
    limited.read_to_end(&mut octets).map_err(|error| said(&error))?;
    if u64::try_from(octets.len()).is_ok_and(|length| length > LARGEST) {
        return Err(format!(
            "{shown}: larger than {} KiB; split it into several profiles",
            LARGEST >> 10
        ));
    }
    let text = String::from_utf8(octets).map_err(|error| {
        let before = error
            .as_bytes()
            .get(..error.utf8_error().valid_up_to())
            .unwrap_or_default();
        let line = 1 + before.iter().filter(|octet| **octet == b'\n').count();
        format!("{shown}:{line}: not UTF-8; save the file in that encoding")
    });
    text.map(Some)
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "make it readable for the user that portmaster-policy runs as",
        _ => "see the disk that it is on",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(entry: &mut Entry<String>, path: &Path, again: bool, now: SystemTime) -> bool {
        entry.look(path, again, now, |text| {
            if text == "bad" {
                Err("it is bad")
            } else {
                Ok(text.to_owned())
            }
        })
    }

    #[test]
    fn the_last_good_content_outlives_a_bad_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        let (mut entry, now) = (Entry::default(), SystemTime::now());
        assert!(!look(&mut entry, &path, false, now));
        fs::write(&path, "one").unwrap();
        assert!(look(&mut entry, &path, false, now));
        fs::write(&path, "bad").unwrap();
        assert!(look(&mut entry, &path, false, now));
        assert_eq!(
            (
                entry.good().unwrap().as_str(),
                entry.refused().unwrap().error.as_str()
            ),
            ("one", "it is bad")
        );
        assert!(look(&mut entry, &path, false, now + Duration::from_secs(9)));
        assert_eq!(entry.refused().unwrap().since, now);
        fs::write(&path, "two").unwrap();
        assert!(look(&mut entry, &path, false, now));
        assert_eq!((entry.good().unwrap().as_str(), entry.refused()), ("two", None));
    }

    #[test]
    fn a_change_within_the_clocks_grain_is_not_missed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        let mut entry = Entry::default();
        for number in 0..100 {
            let text = format!("{number:03}");
            fs::write(&path, &text).unwrap();
            assert!(look(&mut entry, &path, false, SystemTime::now()));
            assert_eq!(entry.good(), Some(&text));
        }
    }

    #[test]
    fn what_is_no_text_file_is_refused_and_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |name: &str| {
            let mut entry = Entry::default();
            assert!(look(
                &mut entry,
                &folder.path().join(name),
                false,
                SystemTime::now()
            ));
            entry.refused().unwrap().error.clone()
        };
        fs::create_dir(folder.path().join("folder.toml")).unwrap();
        assert!(refused("folder.toml").contains("no file"));
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("pipe.toml"), mode).unwrap();
        assert!(refused("pipe.toml").contains("no file"));
        std::os::unix::fs::symlink("nowhere", folder.path().join("link.toml")).unwrap();
        assert!(refused("link.toml").contains("leads nowhere"));
        fs::write(folder.path().join("latin.toml"), b"a = 1\nb = \"\xe4\"\n").unwrap();
        assert!(refused("latin.toml").contains("latin.toml:2: not UTF-8"));
        let large = usize::try_from(LARGEST).unwrap() + 1;
        fs::write(folder.path().join("large.toml"), "#".repeat(large)).unwrap();
        assert!(refused("large.toml").contains("larger than 1024 KiB"));
    }
}
