//! Processes, and which of them holds a socket.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use super::super::facts::Process;

/// All that can be seen.
pub(super) fn all() -> Vec<Process> {
    pids().filter_map(read).collect()
}

/// `None`: there is none.
pub(super) fn read(pid: u32) -> Option<Process> {
    // names of files are longer than what `comm` holds; kernel threads and others' processes have only that
    let file = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let file = file.as_deref().and_then(|path| path.file_name());
    let name = match file.map(|name| name.to_string_lossy().into_owned()) {
        // scripts are known by what they call themselves
        Some(name) if !name.starts_with("python") => name.trim_end_matches(" (deleted)").to_owned(),
        _ => fs::read_to_string(format!("/proc/{pid}/comm"))
            .ok()?
            .trim()
            .to_owned(),
    };
    Some(Process { pid, name })
}

/// Who has which socket.
pub(super) struct Holders(BTreeMap<u64, Vec<u32>>);

impl Holders {
    /// Looks at the descriptors of all processes that let us.
    pub(super) fn of(sockets: &BTreeSet<u64>) -> Self {
        let mut found: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for pid in pids().filter(|_| !sockets.is_empty()) {
            let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten()
                .flatten();
            for link in descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()) {
                let inode = link
                    .to_str()
                    .and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
                if let Some(inode) = inode.filter(|inode| sockets.contains(inode)) {
                    found.entry(inode).or_default().push(pid);
                }
            }
        }
        Self(found)
    }

    /// Of several that share it, rather not the service manager, which keeps it for one of them, and rather one of ours.
    pub(super) fn of_socket(&self, inode: u64) -> Option<Process> {
        let mut processes: Vec<_> = self.0.get(&inode)?.iter().filter_map(|pid| read(*pid)).collect();
        processes.sort_by_key(|process| (!process.is_ours(), process.pid == 1, process.pid));
        processes.into_iter().next()
    }
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
