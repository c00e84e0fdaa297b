//! Services that not every host has: nobody calls them, and nothing is said, before they are there.

use std::{io, os::fd::OwnedFd, path::Path, time::Duration};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::{io::unix::AsyncFd, time::sleep};
use tracing::trace;

/// Between two looks where the kernel cannot tell: the folder is not there, or its owner has no inotify left.
const LOOK: Duration = Duration::from_secs(1);

/// Returns once there is something at `socket`. Costs nothing until then: the kernel tells of it (inotify(7)).
pub async fn appears(socket: &Path) {
    while !socket.exists() {
        if let Err(error) = changes_beside(socket).await {
            trace!(%error, socket = %socket.display(), "cannot be waited for: it is looked for every second");
            sleep(LOOK).await;
        }
    }
}

/// Returns once something came into the folder, or the folder went.
async fn changes_beside(socket: &Path) -> io::Result<()> {
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let coming = WatchFlags::CREATE | WatchFlags::MOVED_TO;
    let going = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
    let folder = socket.parent().unwrap_or(Path::new("/"));
    inotify::add_watch(&watch, folder, coming | going | WatchFlags::ONLYDIR)?;
    // it may have come before it was watched for
    if !socket.exists() {
        let _something = readable(watch)?.readable().await?;
    }
    Ok(())
}

#[expect(unsafe_code, reason = "AsyncFd has no safe constructor")]
fn readable(watch: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd gives always the same descriptor, and closes it only when it is dropped.
    Ok(unsafe { AsyncFd::register(watch) }?)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener};

    use super::*;

    async fn is_noticed(socket: &Path, come: impl FnOnce()) {
        let waiting = appears(socket);
        tokio::pin!(waiting);
        let early = tokio::time::timeout(Duration::from_millis(50), &mut waiting).await;
        assert!(early.is_err(), "it is not there yet");
        come();
        tokio::time::timeout(Duration::from_secs(30), waiting)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn what_is_bound_renamed_or_comes_with_its_folder_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        is_noticed(&at("bound"), || {
            fs::write(at("another"), "").unwrap();
            UnixListener::bind(at("bound")).unwrap();
        })
        .await;
        is_noticed(&at("renamed"), || fs::rename(at("bound"), at("renamed")).unwrap()).await;
        is_noticed(&at("later/bound"), || {
            fs::create_dir(at("later")).unwrap();
            UnixListener::bind(at("later/bound")).unwrap();
        })
        .await;
        appears(&at("renamed")).await;
    }
}
