//! The mounts of a process's mount namespace.
//!
//! Source: `proc_pid_mountinfo(5)`: the first word is the mount's id, unique among all namespaces as long as it is mounted;
//! `poll(2)` tells of changes.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
    os::fd::BorrowedFd,
    sync::{Mutex, PoisonError},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{AtFlags, StatxFlags, statx},
};

/// Kept up to date.
#[derive(Debug, Default)]
pub struct Mounts(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    file: Option<File>,
    /// Sorted.
    ids: Vec<u64>,
}

impl Mounts {
    /// Of the process with this name under `/proc`.
    pub fn of(process: &str) -> io::Result<Self> {
        let mut table = Table {
            file: Some(File::open(format!("/proc/{process}/mountinfo"))?),
            ids: Vec::new(),
        };
        table.read();
        Ok(Self(Mutex::new(table)))
    }

    /// It has this mount, at this moment.
    pub fn has(&self, id: u64) -> bool {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.changed() {
            table.read();
        }
        table.ids.binary_search(&id).is_ok()
    }
}

impl Table {
    fn changed(&self) -> bool {
        let Some(file) = &self.file else { return false };
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // an error to ask is no reason to trust what was read before
        poll(&mut [PollFd::new(file, PollFlags::PRI)], Some(&at_once)) != Ok(0)
    }

    fn read(&mut self) {
        self.ids.clear();
        let Some(file) = &mut self.file else { return };
        let mut text = Vec::new();
        // what cannot be read is nobody's mount
        if file.rewind().and_then(|()| file.read_to_end(&mut text)).is_err() {
            return;
        }
        self.ids.extend(ids(&String::from_utf8_lossy(&text)));
        self.ids.sort_unstable();
    }
}

fn ids(text: &str) -> impl Iterator<Item = u64> {
    text.lines()
        .filter_map(|line| line.split_once(' ')?.0.parse().ok())
}

/// The mount that the file `name` in `directory` is on. `None`: no such file, or a kernel before 5.8.
pub fn of(directory: BorrowedFd<'_>, name: &str) -> Option<u64> {
    let answer = statx(directory, name, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    let known = StatxFlags::from_bits_retain(answer.stx_mask).contains(StatxFlags::MNT_ID);
    known.then_some(answer.stx_mnt_id)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn lines_begin_with_the_id() {
        let text = "22 27 0:21 / /proc rw - proc proc rw\nx\n\n27 1 0:2 / / rw - ext4 /dev/vda rw\n";
        assert_eq!(ids(text).collect::<Vec<_>>(), [22, 27]);
    }

    #[test]
    fn our_own_program_is_on_a_mount_of_ours_and_a_file_without_a_place_is_on_none() {
        let mounts = Mounts::of("1").unwrap();
        let own = File::open("/proc/self").unwrap();
        assert!(mounts.has(of(own.as_fd(), "exe").unwrap()));
        let nowhere = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::empty()).unwrap();
        let link = format!("fd/{}", std::os::fd::AsRawFd::as_raw_fd(&nowhere));
        assert!(!mounts.has(of(own.as_fd(), &link).unwrap()));
    }
}
