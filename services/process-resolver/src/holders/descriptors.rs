//! A process's open sockets, read as the links in its `fd` folder.

use rustix::{
    fd::{AsFd, BorrowedFd},
    fs::{AtFlags, Dir, Mode, OFlags, openat, readlinkat_raw, statat},
    path::{Arg, DecInt},
};

use crate::directory::Directory;

/// Of a process in which the wanted socket was found, so many more descriptors are looked at for later.
const MORE: usize = 512;

/// An open socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) inode: u64,
    pub(super) descriptor: u32,
}

/// The socket is behind this descriptor, at this moment.
pub(super) fn holds(directory: &Directory, descriptor: u32, inode: u64) -> bool {
    socket(directory.as_fd(), format!("fd/{descriptor}")) == Some(inode)
}

/// Behind which of these descriptors the socket is.
pub(super) fn find(
    directory: &Directory,
    mut descriptors: impl Iterator<Item = u32>,
    inode: u64,
) -> Option<u32> {
    descriptors.find(|descriptor| holds(directory, *descriptor, inode))
}

/// The first of these descriptors that the socket is behind, and no further than the second that is closed: a process
/// that just began has no gaps.
pub(super) fn find_in_row(
    directory: &Directory,
    descriptors: impl Iterator<Item = u32>,
    inode: u64,
) -> Option<u32> {
    const GAPS: u32 = 2;
    let mut gaps = 0;
    for descriptor in descriptors {
        let mut buffer = [0; LINK];
        match link(directory.as_fd(), format!("fd/{descriptor}"), &mut buffer) {
            Some(link) if parse(link) == Some(inode) => return Some(descriptor),
            Some(_) => {}
            None => gaps += 1,
        }
        if gaps > GAPS {
            return None;
        }
    }
    None
}

/// How many it has open, where the kernel says so (since Linux 6.2 it is the size of the folder, before that 0).
pub(super) fn count(directory: &Directory) -> Option<i64> {
    statat(directory.as_fd(), "fd", AtFlags::empty())
        .ok()
        .map(|stat| stat.st_size)
}

/// Looks behind all descriptors, the highest first: that is where a new one is, as a rule. Gives the wanted one, and other
/// sockets that were met.
pub(super) fn search(directory: &Directory, inode: u64) -> Option<(u32, Vec<Socket>)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(directory.as_fd(), "fd", flags, Mode::empty()).ok()?;
    let mut all = list(folder.as_fd())?;
    all.sort_unstable_by(|one, other| other.cmp(one));
    let mut sockets = Vec::new();
    let mut rest = all.into_iter();
    let mut met = |descriptor: u32| {
        let inode = socket(folder.as_fd(), DecInt::new(descriptor).as_c_str())?;
        sockets.push(Socket { inode, descriptor });
        Some(inode)
    };
    let wanted = rest.find(|descriptor| met(*descriptor) == Some(inode))?;
    for descriptor in rest.take(MORE) {
        met(descriptor);
    }
    Some((wanted, sockets))
}

fn list(folder: BorrowedFd<'_>) -> Option<Vec<u32>> {
    let entries = Dir::read_from(folder).ok()?;
    let number =
        |entry: rustix::io::Result<rustix::fs::DirEntry>| entry.ok()?.file_name().to_str().ok()?.parse().ok();
    Some(entries.filter_map(number).collect())
}

/// A socket's link is not longer: `socket:[18446744073709551615]`.
const LINK: usize = 32;

fn socket(folder: BorrowedFd<'_>, name: impl Arg) -> Option<u64> {
    parse(link(folder, name, &mut [0; LINK])?)
}

/// What a descriptor is, as the kernel writes it; cut, where it is no socket.
fn link<'a>(folder: BorrowedFd<'_>, name: impl Arg, buffer: &'a mut [u8; LINK]) -> Option<&'a [u8]> {
    let length = readlinkat_raw(folder, name, &mut buffer[..]).ok()?;
    buffer.get(..length)
}

/// `socket:[4711]`.
fn parse(link: &[u8]) -> Option<u64> {
    let number = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{fs::File, net::UdpSocket, os::fd::AsRawFd as _};

    use super::*;

    #[test]
    fn links_of_sockets_only() {
        assert_eq!(parse(b"socket:[18446744073709551615]"), Some(u64::MAX));
        for other in [&b"pipe:[7]"[..], b"/socket:[7]", b"socket:[7", b"socket:[]", b""] {
            assert_eq!(parse(other), None);
        }
    }

    #[test]
    fn a_socket_is_found_among_files_with_its_neighbours() {
        let _files: Vec<_> = (0..40).map(|_| File::open("/dev/null").unwrap()).collect();
        let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let directory = Directory::open(std::process::id()).unwrap();
        let [one, other] = sockets.map(|socket| {
            let descriptor = u32::try_from(socket.as_raw_fd()).unwrap();
            let name = format!("fd/{descriptor}");
            let inode = super::socket(directory.as_fd(), name).unwrap();
            (Socket { inode, descriptor }, socket)
        });
        let (found, met) = search(&directory, one.0.inode).unwrap();
        assert_eq!(found, one.0.descriptor);
        assert!(met.contains(&other.0), "{met:?}");
        assert!(holds(&directory, found, one.0.inode) && !holds(&directory, found, other.0.inode));
        assert_eq!(search(&directory, u64::MAX), None);
    }
}
