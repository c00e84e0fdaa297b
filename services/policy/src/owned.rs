//! The owner's files as they are written: read whole, named by their content, replaced in one step.
//!
//! Invariant: what was there is never lost: it is kept beside the new file, with a `~` behind its name.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

/// Of a file that was not there before: whoever reads /etc may read it.
const MODE: u32 = 0o644;

/// A file of `profiles.d`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owned {
    /// `None`: it is not there.
    pub(crate) text: Option<String>,
}

/// Why a file is not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("{} is a link; change the file that it leads to", .0.display())]
    Link(PathBuf),
    #[error("{} cannot be read: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error(
        "{} cannot be written: {error}; the folder must be writable for portmaster-policy: systemd-tmpfiles --create, and no full disk",
        path.display()
    )]
    Write { path: PathBuf, error: io::Error },
    #[error("{} was changed meanwhile; read it again", .0.display())]
    Changed(PathBuf),
}

impl Owned {
    /// As it is now.
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        let failed = |error| FileError::Read {
            path: path.to_owned(),
            error,
        };
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_symlink() => Err(FileError::Link(path.to_owned())),
            Ok(metadata) if !metadata.is_file() => Err(failed(io::ErrorKind::InvalidInput.into())),
            Ok(_) => fs::read_to_string(path)
                .map(|text| Self { text: Some(text) })
                .map_err(failed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self { text: None }),
            Err(error) => Err(failed(error)),
        }
    }

    /// Names the content; "" where there is none.
    pub(crate) fn revision(&self) -> String {
        let digits = |text: &String| {
            let hash = Sha256::digest(text);
            hash.iter().take(16).map(|octet| format!("{octet:02x}")).collect()
        };
        self.text.as_ref().map(digits).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    /// Puts `new` in its place, if it is still the same; gives the name under which the old content is kept.
    pub(crate) fn replace(&self, path: &Path, new: &Self) -> Result<Option<PathBuf>, FileError> {
        if Self::read(path)? != *self {
            return Err(FileError::Changed(path.to_owned()));
        }
        let failed = |error| FileError::Write {
            path: path.to_owned(),
            error,
        };
        let mode = fs::metadata(path).map_or(MODE, |metadata| metadata.permissions().mode() & 0o777);
        let backup = self.text.is_some().then(|| backup(path));
        if let (Some(backup), Some(text)) = (&backup, &self.text) {
            daemon::files::replace_with_mode(backup, text.as_bytes(), mode).map_err(failed)?;
        }
        match &new.text {
            Some(text) => daemon::files::replace_with_mode(path, text.as_bytes(), mode),
            None => remove(path),
        }
        .map_err(failed)?;
        Ok(backup)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// `curl.toml~`, as editors do: nobody reads it as a profile.
fn backup(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push("~");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Owned {
        Owned {
            text: Some(text.to_owned()),
        }
    }

    #[test]
    fn what_was_there_is_kept_and_a_change_of_others_stands() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("curl.toml");
        let nothing = Owned::read(&path).unwrap();
        assert_eq!((nothing.revision().as_str(), nothing.text()), ("", ""));
        assert_eq!(nothing.replace(&path, &of("one")).unwrap(), None);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let one = Owned::read(&path).unwrap();
        assert_eq!(one.revision().len(), 32);
        let kept = one.replace(&path, &of("two")).unwrap().unwrap();
        assert_eq!(fs::read_to_string(&kept).unwrap(), "one");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(matches!(
            one.replace(&path, &of("three")),
            Err(FileError::Changed(_))
        ));
        of("two").replace(&path, &Owned::default()).unwrap();
        assert!(!path.exists());
        assert_eq!(fs::read_to_string(&kept).unwrap(), "two");
    }

    #[test]
    fn a_link_and_a_folder_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link.toml");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert!(matches!(Owned::read(&link), Err(FileError::Link(_))));
        assert!(matches!(Owned::read(folder.path()), Err(FileError::Read { .. })));
    }
}
