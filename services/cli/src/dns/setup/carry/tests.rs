//! Whole hosts of files, below a temporary root.

use std::{collections::BTreeMap, net::IpAddr, os::unix::fs::symlink};

use super::*;
use crate::dns::setup::{
    facts::Facts,
    plan::{Wishes, plan},
};

const OURS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 17));
const RESOLV_CONF: &str = "/etc/resolv.conf";
const DROP_IN: &str = "/etc/systemd/resolved.conf.d/zz-portmaster.conf";

struct Tree {
    _folder: tempfile::TempDir,
    root: Root,
}

impl Tree {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let tree = Self {
            _folder: folder,
            root,
        };
        tree.folder("/etc");
        // where the lock is; it may stay
        tree.folder("/var/lib/portmaster");
        tree
    }

    fn folder(&self, path: &str) {
        fs::create_dir_all(self.root.at(path)).unwrap();
    }

    fn write(&self, path: &str, text: &str) {
        self.folder(Path::new(path).parent().unwrap().to_str().unwrap());
        fs::write(self.root.at(path), text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.at(path)).unwrap()
    }

    fn link(&self, path: &str, target: &str) {
        symlink(target, self.root.at(path)).unwrap();
    }

    /// Everything in it, to the last bit that is kept.
    fn all(&self) -> BTreeMap<PathBuf, String> {
        let mut all = BTreeMap::new();
        let mut waiting = vec![self.root.at("/")];
        while let Some(folder) = waiting.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.symlink_metadata().unwrap().is_dir() {
                    waiting.push(path.clone());
                    all.insert(path, String::new());
                } else {
                    let kept = Kept::read(&path).unwrap();
                    all.insert(path, serde_json::to_string(&kept).unwrap());
                }
            }
        }
        all
    }

    fn plan(&self) -> Plan {
        plan(&Facts::of_files(&self.root), OURS, false, Wishes::default()).unwrap()
    }

    async fn enable(&self) -> Result<()> {
        enable(&self.root, &Host::files(), &self.plan(), Record::new(OURS, false)).await
    }

    async fn disable(&self, force: bool) -> Result<Vec<(Place, Outcome)>> {
        put_back(&self.root, &Host::files(), force).await
    }
}

/// A plain file, a link of another program's, a dangling one, nothing, and the stub of systemd-resolved.
fn trees() -> Vec<Tree> {
    let plain = Tree::new();
    plain.write(RESOLV_CONF, "search lan\nnameserver 192.0.2.1\n");
    let managed = Tree::new();
    managed.write("/run/NetworkManager/resolv.conf", "nameserver 192.0.2.1\n");
    managed.folder("/etc/NetworkManager/conf.d");
    managed.link(RESOLV_CONF, "/run/NetworkManager/resolv.conf");
    let dangling = Tree::new();
    dangling.link(RESOLV_CONF, "../run/nowhere");
    let nothing = Tree::new();
    let stub = Tree::new();
    stub.write("/run/systemd/resolve/stub-resolv.conf", "nameserver 127.0.0.53\n");
    stub.folder("/etc/systemd");
    stub.link(RESOLV_CONF, "../run/systemd/resolve/stub-resolv.conf");
    let beside = Tree::new();
    beside.folder("/run/systemd/resolve");
    beside.write(DROP_IN, "# the owner's own by this name\n");
    beside.write(RESOLV_CONF, "nameserver 192.0.2.1\n");
    vec![plain, managed, dangling, nothing, stub, beside]
}

#[tokio::test]
async fn every_kind_of_host_is_put_back_to_the_last_bit() {
    for tree in trees() {
        let before = tree.all();
        tree.enable().await.unwrap();
        let record = Record::load(&tree.root).unwrap().unwrap();
        assert_eq!(state(&tree.root, &record).unwrap(), State::Enabled);
        let facts = Facts::of_files(&tree.root);
        let asked = crate::dns::setup::place::name_servers(&facts.resolv_conf);
        assert!(asked == [OURS] || facts.asks_stub(), "{facts:?}");
        assert_ne!(tree.all(), before);
        for (_, outcome) in tree.disable(false).await.unwrap() {
            assert_eq!(outcome, Outcome::PutBack);
        }
        assert_eq!(tree.all(), before);
        assert_eq!(tree.disable(false).await.unwrap(), [], "twice is no error");
    }
}

/// As if power failed: the record says more than was done, or exactly that, or the taking back was interrupted.
#[tokio::test]
async fn wherever_it_was_interrupted_disable_takes_it_back() {
    for tree in trees() {
        let before = tree.all();
        let plan = tree.plan();
        let mut record = Record::new(OURS, false);
        for done in 0..=plan.changes.len() {
            for begun in 0..=1 {
                record.steps.clear();
                for (number, (place, text)) in plan.changes.iter().enumerate().take(done + begun) {
                    let path = tree.root.place(*place);
                    record.steps.push(Step {
                        place: *place,
                        before: Kept::read(&path).unwrap(),
                        after: text.clone(),
                        folders: missing_folders(&tree.root, Path::new(place.path())),
                    });
                    record.save(&tree.root).unwrap();
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    if number < done {
                        Kept::ours(text).put(&path).unwrap();
                    }
                }
                record.save(&tree.root).unwrap();
                assert_eq!(state(&tree.root, &record).unwrap(), State::Interrupted);
                tree.disable(false).await.unwrap();
                assert_eq!(tree.all(), before, "{done} of {} done", plan.changes.len());
            }
        }
        // half taken back already
        tree.enable().await.unwrap();
        let record = Record::load(&tree.root).unwrap().unwrap();
        let last = record.steps.last().unwrap();
        last.before.put(&tree.root.place(last.place)).unwrap();
        tree.disable(false).await.unwrap();
        assert_eq!(tree.all(), before);
    }
}

#[tokio::test]
async fn what_was_edited_since_is_named_and_never_lost() {
    let tree = Tree::new();
    tree.write(RESOLV_CONF, "nameserver 192.0.2.1\n");
    let before = tree.all();
    tree.enable().await.unwrap();
    let edited = tree.read(RESOLV_CONF) + "options timeout:1\n";
    tree.write(RESOLV_CONF, &edited);
    let record = Record::load(&tree.root).unwrap().unwrap();
    assert_eq!(state(&tree.root, &record).unwrap(), State::Edited);
    let error = tree.disable(false).await.unwrap_err().to_string();
    assert!(
        error.contains(RESOLV_CONF) && error.contains("--force"),
        "{error}"
    );
    assert_eq!(tree.read(RESOLV_CONF), edited, "nothing was touched");
    let aside = tree.root.at("/var/lib/portmaster/edited-resolv.conf");
    assert_eq!(
        tree.disable(true).await.unwrap(),
        [(Place::ResolvConf, Outcome::Aside(aside.clone()))]
    );
    assert_eq!(fs::read_to_string(&aside).unwrap(), edited);
    fs::remove_file(aside).unwrap();
    assert_eq!(tree.all(), before);
}

#[tokio::test]
async fn a_file_that_another_program_wrote_over_ours_stays() {
    let tree = Tree::new();
    tree.write(RESOLV_CONF, "nameserver 192.0.2.1\n");
    tree.enable().await.unwrap();
    let newer = "# Generated by dhcpcd\nnameserver 198.51.100.1\n";
    tree.write(RESOLV_CONF, newer);
    tree.disable(false).await.unwrap_err();
    assert_eq!(
        tree.disable(true).await.unwrap(),
        [(Place::ResolvConf, Outcome::Left)]
    );
    assert_eq!(tree.read(RESOLV_CONF), newer);
    assert_eq!(Record::load(&tree.root).unwrap(), None);
}

#[tokio::test]
async fn a_drop_in_that_was_edited_goes_and_lies_aside() {
    let tree = trees().swap_remove(4);
    tree.enable().await.unwrap();
    tree.write(DROP_IN, "[Resolve]\nDNS=127.0.0.17 192.0.2.7\n");
    tree.disable(false).await.unwrap_err();
    tree.disable(true).await.unwrap();
    assert!(!tree.root.at(DROP_IN).exists());
    assert!(!tree.root.at("/etc/systemd/resolved.conf.d").exists());
    let aside = tree.read("/var/lib/portmaster/edited-zz-portmaster.conf");
    assert!(aside.contains("192.0.2.7"));
}

#[tokio::test]
async fn a_file_that_is_gone_comes_back() {
    let tree = Tree::new();
    tree.write(RESOLV_CONF, "nameserver 192.0.2.1\n");
    let before = tree.all();
    tree.enable().await.unwrap();
    fs::remove_file(tree.root.at(RESOLV_CONF)).unwrap();
    tree.disable(false).await.unwrap_err();
    tree.disable(true).await.unwrap();
    assert_eq!(tree.all(), before);
}

#[tokio::test]
async fn a_folder_that_others_use_now_stays() {
    let tree = trees().swap_remove(4);
    tree.enable().await.unwrap();
    let other = "/etc/systemd/resolved.conf.d/other.conf";
    tree.write(other, "[Resolve]\nLLMNR=no\n");
    tree.disable(false).await.unwrap();
    assert_eq!(tree.read(other), "[Resolve]\nLLMNR=no\n");
}

/// The second change cannot be made: the first is taken back.
#[tokio::test]
async fn what_fails_in_the_middle_is_taken_back_at_once() {
    let tree = trees().swap_remove(1);
    let plan = tree.plan();
    fs::remove_file(tree.root.at(RESOLV_CONF)).unwrap();
    tree.folder(RESOLV_CONF);
    let before = tree.all();
    let error = enable(&tree.root, &Host::files(), &plan, Record::new(OURS, false)).await;
    let text = format!("{:#}", error.unwrap_err());
    assert!(
        text.starts_with("nothing was changed") && text.contains("put it away"),
        "{text}"
    );
    assert_eq!(tree.all(), before);
}
