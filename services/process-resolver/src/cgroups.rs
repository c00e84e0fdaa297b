//! From the id of a cgroup, as sockets have it, to its folder, its name and its processes.
//!
//! The id is the inode of the folder in the unified hierarchy (on 64 bits it is the whole file handle, and never reused).
//! Folders are found by walking the tree once when an id is new. The tree is the host's, seen through pid 1; it may be out
//! of reach (a container, another cgroup namespace, no cgroups at all): then nothing is known of a cgroup, and attribution
//! goes its other ways.
//!
//! Source: `cgroups(7)`, `Documentation/admin-guide/cgroup-v2.rst`. A threaded cgroup lists threads only.

use std::{
    fs, io,
    os::unix::fs::{DirEntryExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use moka::sync::Cache;
use verdict::Cgroup;

use crate::cgroup;

/// Folders that are remembered, and visited in one walk.
const FOLDERS: usize = 4096;
/// An id that was not found is not walked for again for so long.
const UNKNOWN: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    name: Arc<Cgroup>,
}

/// Bounded.
#[derive(Debug)]
pub struct Groups {
    folders: Cache<u64, Arc<Folder>>,
    unknown: Cache<u64, ()>,
    /// Where the tree is mounted; held while it is walked.
    tree: Mutex<Option<PathBuf>>,
}

impl Default for Groups {
    fn default() -> Self {
        Self::at(mounted())
    }
}

impl Groups {
    /// `tree`: where cgroup2 is mounted; `None`: to be looked for when it is needed.
    fn at(tree: Option<PathBuf>) -> Self {
        let most = u64::try_from(FOLDERS).unwrap_or(u64::MAX);
        Self {
            folders: Cache::new(most),
            unknown: Cache::builder().max_capacity(most).time_to_live(UNKNOWN).build(),
            tree: Mutex::new(tree),
        }
    }

    /// How many are known.
    pub fn count(&self) -> u64 {
        self.folders.entry_count()
    }

    /// What the cgroup is called, as far as that is known.
    pub fn name(&self, id: u64) -> Option<Arc<Cgroup>> {
        Some(Arc::clone(&self.folders.get(&id)?.name))
    }

    /// Nothing is known of it, and a walk may tell.
    pub fn is_new(&self, id: u64) -> bool {
        id != 0 && !self.folders.contains_key(&id) && !self.unknown.contains_key(&id)
    }

    /// Takes in that the cgroup may be the one of this name: that of a process that has a socket in it, as a rule.
    pub fn guess(&self, id: u64, name: &Cgroup) {
        let tree = self.tree.try_lock().ok().and_then(|tree| tree.clone());
        let Some((tree, below)) = tree.zip(name.path.strip_prefix('/')) else {
            return;
        };
        let path = tree.join(below);
        if inode(&path) == Some(id) {
            self.remember(id, path, name.clone());
        }
    }

    /// Walks the tree where the cgroup is new: milliseconds. Gives false where it is not there.
    pub fn learn(&self, id: u64) -> bool {
        let mut tree = self.tree.lock().unwrap_or_else(PoisonError::into_inner);
        // another may have walked meanwhile
        if self.is_new(id) {
            *tree = tree.take().filter(|tree| tree.is_dir()).or_else(mounted);
            if let Some(tree) = &*tree {
                self.walk(tree);
            }
            if !self.folders.contains_key(&id) {
                self.unknown.insert(id, ());
            }
        }
        self.folders.contains_key(&id)
    }

    /// Its processes at this moment, or its threads where it has only these. None where it is not known, or gone.
    pub fn processes(&self, id: u64) -> Vec<u32> {
        let Some(folder) = self.folders.get(&id) else {
            return Vec::new();
        };
        // another one may be there by now, under the same name
        if inode(&folder.path) != Some(id) {
            return Vec::new();
        }
        let list = |file: &str| fs::read_to_string(folder.path.join(file));
        let text = list("cgroup.procs").or_else(|_| list("cgroup.threads"));
        let ids = text.unwrap_or_default();
        // 0 stands for a process outside our pid namespace
        let ids = ids.lines().filter_map(|line| line.parse().ok());
        ids.filter(|id| *id != 0).collect()
    }

    fn walk(&self, tree: &Path) {
        let Some(root) = inode(tree) else { return };
        let mut found = vec![(root, tree.to_owned())];
        let mut at = 0;
        while let Some((id, path)) = found.get(at).cloned() {
            if let (Ok(below), true) = (folders(&path), found.len() < FOLDERS) {
                found.extend(below);
            }
            let below = path.strip_prefix(tree).unwrap_or(Path::new(""));
            let name = cgroup::parse(&format!("/{}", below.to_string_lossy()));
            self.remember(id, path, name);
            at += 1;
        }
    }

    fn remember(&self, id: u64, path: PathBuf, name: Cgroup) {
        let name = Arc::new(name);
        self.folders.insert(id, Arc::new(Folder { path, name }));
    }
}

fn folders(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = fs::read_dir(path)?.filter_map(Result::ok);
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(folders.map(|entry| (entry.ino(), entry.path())).collect())
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

/// As pid 1 sees it, else as this service does.
fn mounted() -> Option<PathBuf> {
    [
        ("/proc/1/mountinfo", "/proc/1/root"),
        ("/proc/self/mountinfo", ""),
    ]
    .into_iter()
    .find_map(|(mounts, root)| {
        let text = fs::read_to_string(mounts).ok()?;
        let path = PathBuf::from(format!("{root}{}", mount_point(&text)?));
        path.join("cgroup.procs").exists().then_some(path)
    })
}

/// `id parent device root mount-point options … - type source options`, of the first that is cgroup2.
fn mount_point(text: &str) -> Option<&str> {
    text.lines()
        .find(|line| line.contains(" - cgroup2 "))?
        .split(' ')
        .nth(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_unified_hierarchy_is_found_beside_others() {
        let text = "36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n\
                    41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(text), Some("/sys/fs/cgroup/unified"));
        assert_eq!(mount_point("22 27 0:21 / /proc rw - proc proc rw\n"), None);
    }

    /// The tree's shape is all that matters here: any file system has inodes.
    #[test]
    fn a_folder_is_known_by_its_inode_until_another_takes_its_place() {
        let tree = tempfile::tempdir().unwrap();
        let unit = tree.path().join("system.slice/ssh.service");
        fs::create_dir_all(&unit).unwrap();
        fs::write(unit.join("cgroup.procs"), "12\n0\n7\n").unwrap();
        let id = inode(&unit).unwrap();
        let groups = Groups::at(Some(tree.path().to_owned()));
        assert!(groups.is_new(id) && groups.name(id).is_none() && groups.processes(id).is_empty());
        assert!(groups.learn(id));
        assert_eq!(groups.name(id).unwrap().unit, "ssh.service");
        assert_eq!(groups.processes(id), [12, 7]);
        fs::remove_file(unit.join("cgroup.procs")).unwrap();
        fs::write(unit.join("cgroup.threads"), "9\n").unwrap();
        assert_eq!(groups.processes(id), [9], "a threaded one lists its threads");
        fs::rename(&unit, tree.path().join("gone")).unwrap();
        fs::create_dir(&unit).unwrap();
        fs::write(unit.join("cgroup.procs"), "13\n").unwrap();
        assert_eq!(groups.processes(id), Vec::<u32>::new());
    }

    #[test]
    fn what_is_not_there_is_looked_for_once() {
        let tree = tempfile::tempdir().unwrap();
        let groups = Groups::at(Some(tree.path().to_owned()));
        assert!(!groups.is_new(0) && groups.is_new(u64::MAX));
        assert!(!groups.learn(u64::MAX) && !groups.is_new(u64::MAX));
    }

    #[test]
    fn a_guess_counts_only_where_the_inode_agrees() {
        let tree = tempfile::tempdir().unwrap();
        let unit = tree.path().join("a.service");
        fs::create_dir(&unit).unwrap();
        let id = inode(&unit).unwrap();
        let groups = Groups::at(Some(tree.path().to_owned()));
        groups.guess(id, &cgroup::parse("/b.service"));
        assert!(groups.is_new(id));
        groups.guess(id, &cgroup::parse("/a.service"));
        assert_eq!(groups.name(id).unwrap().unit, "a.service");
    }

    proptest! {
        #[test]
        fn reading_mounts_is_total(text: String) {
            let _ = mount_point(&text);
        }
    }
}
