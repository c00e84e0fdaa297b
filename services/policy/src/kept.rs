//! The last good snapshot on disk: a restart begins with it, and its version is where the next one counts on from.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use prost::Message as _;
use proto::policy::v1;
use verdict::policy::model::Snapshot;

/// `<state>/snapshot.bin`.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    path: PathBuf,
}

impl Kept {
    pub(crate) fn new(state: &Path) -> Self {
        Self {
            path: state.join("snapshot.bin"),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// `None` where nothing was ever kept.
    pub(crate) fn load(&self) -> anyhow::Result<Option<Snapshot>> {
        let what = || format!("kept policy {}", self.path.display());
        let bytes = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.with_context(what)?,
        };
        let wire = v1::Snapshot::decode(&*bytes).with_context(what)?;
        Snapshot::try_from(wire).map(Some).with_context(what)
    }

    pub(crate) fn store(&self, snapshot: &v1::Snapshot) -> io::Result<()> {
        daemon::files::replace(&self.path, &snapshot.encode_to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_loaded_and_damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::new(&folder.path().join("not/there/yet"));
        assert_eq!(kept.load().unwrap(), None);
        let snapshot = Snapshot {
            version: 17,
            ..verdict::policy::shipped().unwrap()
        };
        kept.store(&(&snapshot).into()).unwrap();
        assert_eq!(kept.load().unwrap(), Some(snapshot));
        fs::write(kept.path(), b"\xff\xff\xff").unwrap();
        assert!(format!("{:#}", kept.load().unwrap_err()).contains("snapshot.bin"));
    }
}
