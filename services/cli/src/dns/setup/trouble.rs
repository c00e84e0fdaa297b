//! Why a file of the host's could not be changed, and what helps.

use std::{fs::File, io, path::Path};

use anyhow::{Error, anyhow};
use rustix::{
    fs::{IFlags, ioctl_getflags},
    io::Errno,
};

/// Trouble with `path`, for people.
pub(super) fn explain(path: &Path, error: io::Error) -> Error {
    let remedy = remedy(path, &error);
    let what = format!("change {}", path.display());
    anyhow!(error).context(remedy.map_or_else(|| what.clone(), |remedy| format!("{what} ({remedy})")))
}

fn remedy(path: &Path, error: &io::Error) -> Option<String> {
    let shown = path.display();
    Some(match Errno::from_io_error(error)? {
        Errno::ROFS => {
            "it is on a read-only file system: mount it writable, or set it in what this system is made from: name server \
             127.0.0.17".to_owned()
        }
        Errno::BUSY => {
            "something is mounted on it, as container managers do: give its manager the name server 127.0.0.17".to_owned()
        }
        Errno::PERM => match immutable(path) {
            Some(locked) => format!("it is locked: chattr -i {locked}, then again"),
            None => "the system refuses it even to root: look with lsattr, and for what guards it".to_owned(),
        },
        Errno::ACCESS => format!("may not: run it as root; if it was, something guards {shown}"),
        Errno::NOSPC | Errno::DQUOT => "there is no room: make some, then again".to_owned(),
        _ => return None,
    })
}

/// The file, or its folder, that is locked (chattr(1), i and a).
fn immutable(path: &Path) -> Option<String> {
    let locked = |path: &&Path| {
        let flags = File::open(path).ok().and_then(|file| ioctl_getflags(file).ok());
        flags.is_some_and(|flags| flags.intersects(IFlags::IMMUTABLE | IFlags::APPEND))
    };
    let places = [Some(path), path.parent()];
    let found = places.into_iter().flatten().find(locked)?;
    Some(found.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_has_its_remedy() {
        let said = |errno: Errno| format!("{:#}", explain(Path::new("/etc/resolv.conf"), errno.into()));
        for (errno, remedy) in [
            (Errno::ROFS, "mount it writable"),
            (Errno::BUSY, "container"),
            (Errno::PERM, "lsattr"),
            (Errno::ACCESS, "as root"),
            (Errno::NOSPC, "no room"),
        ] {
            let text = said(errno);
            assert!(
                text.starts_with("change /etc/resolv.conf (") && text.contains(remedy),
                "{text}"
            );
        }
        assert!(said(Errno::IO).starts_with("change /etc/resolv.conf: "));
    }

    #[test]
    fn a_locked_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        std::fs::write(&path, "x").unwrap();
        let chattr = |flag: &str| {
            let mut command = std::process::Command::new("chattr");
            command.arg(flag).arg(&path).stderr(std::process::Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        if !chattr("+i") {
            return; // no such attribute on this file system, or no right to set it
        }
        let error = super::super::kept::Kept::ours("y").put(&path).unwrap_err();
        assert!(chattr("-i"));
        let text = format!("{error:#}");
        assert!(text.contains(&format!("chattr -i {}", path.display())), "{text}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "x");
    }
}
