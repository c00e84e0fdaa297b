//! The search through descriptors: of the socket's cgroup, of its user, of everybody.

use std::{cmp::Reverse, collections::HashSet, fs};

use netlink::diag::Found;

use super::{Holders, Place, Step, descriptors};
use crate::{cgroups::Groups, directory::Directory};

impl Holders {
    /// The holder's pid (a thread's, perhaps), its descriptor, and the step that found it.
    pub(super) fn search(&self, groups: &Groups, socket: &Found) -> Option<(u32, u32, Step)> {
        let mut search = Search {
            holders: self,
            socket,
            recent: self.recent.pids(),
            searched: HashSet::from([1]),
        };
        let group = groups.processes(socket.cgroup_id);
        if let Some(found) = search.among(group, Step::Cgroup) {
            return Some(found);
        }
        if let Some(found) = search.among(search.recent.clone(), Step::Recent) {
            return Some(found);
        }
        let is_owners = |pid: &u32| owner(*pid) == Some(socket.uid);
        let (owners, others) = everyone().into_iter().partition(is_owners);
        if let Some(found) = search.among(owners, Step::Owner) {
            return Some(found);
        }
        let found = search.among(others, Step::All);
        found.or_else(|| Some((1, search.one(1)?, Step::All)))
    }

    /// The socket's descriptor in this process, whose other sockets are then remembered.
    pub(super) fn search_one(&self, directory: &Directory, pid: u32, socket: &Found) -> Option<u32> {
        let (wanted, met) = descriptors::search(directory, socket.inode)?;
        for descriptors::Socket { inode, descriptor } in met {
            self.places.insert(inode, Place { pid, descriptor });
        }
        Some(wanted)
    }
}

/// One search; looks at nobody twice.
struct Search<'a> {
    holders: &'a Holders,
    socket: &'a Found,
    recent: Vec<u32>,
    searched: HashSet<u32>,
}

impl Search<'_> {
    fn among(&mut self, mut pids: Vec<u32>, step: Step) -> Option<(u32, u32, Step)> {
        pids.retain(|pid| self.searched.insert(*pid));
        if pids.len() > 1 {
            pids.sort_by_cached_key(|pid| self.rank(*pid));
        }
        pids.into_iter().find_map(|pid| Some((pid, self.one(pid)?, step)))
    }

    /// Who asked lately comes first, then the socket's user's, then others; of equals the youngest. Pids wrap: they tell
    /// no age.
    fn rank(&self, pid: u32) -> (usize, bool, Reverse<u64>) {
        if let Some(place) = self.recent.iter().position(|recent| *recent == pid) {
            return (place, false, Reverse(0));
        }
        let directory = Directory::open(pid).ok();
        let others = directory.as_ref().and_then(Directory::owner) != Some(self.socket.uid);
        let start = directory.and_then(|directory| directory.stat());
        (
            usize::MAX,
            others,
            Reverse(start.map_or(0, |stat| stat.start_time)),
        )
    }

    fn one(&self, pid: u32) -> Option<u32> {
        if self.holders.stop.is_cancelled() {
            return None;
        }
        let directory = Directory::of_process(pid).ok()?;
        self.holders.search_one(&directory, pid, self.socket)
    }
}

/// A process that is not dumpable shows as root's.
fn owner(pid: u32) -> Option<u32> {
    rustix::fs::stat(format!("/proc/{pid}"))
        .ok()
        .map(|stat| stat.st_uid)
}

fn everyone() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pid = |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    entries.filter_map(pid).collect()
}
