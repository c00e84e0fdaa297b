//! A service that was passed a socket whose file then went is deaf, and does not know it: systemd removes the file of a socket
//! unit that failed (`RemoveOnStop=`), as it does when those who follow a service knock too often at one that cannot start
//! (`TriggerLimitBurst=`), and may do so at the very moment at which the owner has repaired the service and starts it.

use std::{
    fs, future, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::net::UnixListener;

use crate::{About, ready, status::Status, systemd};

/// A look is one call of the kernel; whoever knocks meanwhile tries again.
const LOOKED_EVERY: Duration = Duration::from_secs(2);
const PROBLEM: &str = "socket-gone";

/// The socket's unit failed, and its file is gone: a new start brings both back.
#[derive(Debug, thiserror::Error)]
#[error("{} is gone and its unit failed: ending, since a new start makes another", path.display())]
pub struct Lost {
    path: PathBuf,
}

/// The file of a socket that this process listens on.
pub(super) struct Kept {
    /// None where the socket has no file, or where nobody would start the service again.
    path: Option<PathBuf>,
    /// Device and inode at the start; none where it was gone already.
    file: Option<(u64, u64)>,
    unit: String,
}

impl Kept {
    pub(super) fn of(listener: &UnixListener, about: &About) -> Self {
        let address = listener.local_addr().ok();
        let path = address.as_ref().and_then(|address| address.as_pathname());
        Self::at(path.filter(|_| ready::is_supervised()), about)
    }

    fn at(path: Option<&Path>, about: &About) -> Self {
        Self {
            path: path.map(Path::to_owned),
            file: path.and_then(|path| identity(path).ok()),
            unit: format!("portmaster-{}.socket", about.name),
        }
    }

    /// Resolves when the file is gone and a new start would help. Where it would not (somebody removed the file of a unit that
    /// stands) it is a problem, told once, with its remedy.
    pub(super) async fn lost(&self, status: &Status) -> Lost {
        let Some(path) = &self.path else {
            return future::pending().await;
        };
        loop {
            if self.is_lost(path) {
                status.raise(PROBLEM, self.told(path));
                if systemd::active_state(&self.unit)
                    .await
                    .is_ok_and(|state| is_over(&state))
                {
                    return Lost { path: path.clone() };
                }
            } else {
                status.clear(PROBLEM);
            }
            tokio::time::sleep(LOOKED_EVERY).await;
        }
    }

    fn told(&self, path: &Path) -> String {
        let (path, unit) = (path.display(), &self.unit);
        format!("{path} is gone: nobody new can call; remedy: systemctl restart {unit}")
    }

    fn is_lost(&self, path: &Path) -> bool {
        match identity(path) {
            Ok(file) => self.file != Some(file),
            // what cannot be seen may well be there
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

/// Of the words of `ActiveState=`, those of a unit that is started anew together with its service.
fn is_over(state: &str) -> bool {
    matches!(state, "failed" | "inactive")
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_file_that_is_removed_or_replaced_is_lost() {
        let about = About {
            name: "x",
            version: "1",
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let _first = UnixListener::bind(&path).unwrap();
        let kept = Kept::at(Some(&path), &about);
        assert!(!kept.is_lost(&path));
        assert!(
            kept.told(&path)
                .ends_with("systemctl restart portmaster-x.socket")
        );
        fs::remove_file(&path).unwrap();
        assert!(kept.is_lost(&path));
        let late = Kept::at(Some(&path), &about);
        assert!(late.is_lost(&path), "gone before the start");
        let _second = UnixListener::bind(&path).unwrap();
        assert!(late.is_lost(&path), "another's");
    }
}
