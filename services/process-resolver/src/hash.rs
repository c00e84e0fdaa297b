//! SHA-256 of executables, each file once.

use std::{fs::File, io, path::PathBuf};

use moka::sync::Cache;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

/// What tells a file's content apart from its earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Bounded.
#[derive(Debug)]
pub struct Hashes {
    known: Cache<Version, [u8; 32]>,
    stop: CancellationToken,
}

impl Hashes {
    /// Remembers at most `capacity` files. Gives up once `stop` is cancelled: a large file takes seconds.
    pub fn new(capacity: u64, stop: CancellationToken) -> Self {
        Self {
            known: Cache::new(capacity),
            stop,
        }
    }

    /// Of what the process executes, through `/proc`: the very file, whatever its path says. Reads the whole file when it
    /// is new: not for the thread that answers others.
    pub fn of(&self, pid: u32) -> io::Result<[u8; 32]> {
        use std::os::unix::fs::MetadataExt as _;
        let mut file = File::open(PathBuf::from(format!("/proc/{pid}/exe")))?;
        let metadata = file.metadata()?;
        let version = Version {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        if let Some(hash) = self.known.get(&version) {
            return Ok(hash);
        }
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            if self.stop.is_cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let read = io::Read::read(&mut file, &mut buffer)?;
            if read == 0 {
                break;
            }
            hasher.update(buffer.get(..read).unwrap_or_default());
        }
        let hash: [u8; 32] = hasher.finalize().into();
        self.known.insert(version, hash);
        Ok(hash)
    }
}
