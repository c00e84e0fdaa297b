//! A network's folder: what its operator wrote down, and what was signed.
//!
//! Whatever changes is written beside and then renamed: a command that fails leaves the folder as it was.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use gate17_proto::map::{
    Access, Digest, Envelope, Held, Map, Node, PublicKey, Root, Rotation, Secret, Trust,
};
use jiff::Timestamp;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use super::member::Member;

pub(super) const NETWORK: &str = "network.toml";
pub(super) const TRUST: &str = "trust.json";
pub(super) const MAP: &str = "map.json";
/// A map that waits for signatures.
pub(super) const PENDING_MAP: &str = "map-pending.json";
/// A rotation that does.
pub(super) const PENDING_ROTATION: &str = "rotation-pending.json";
const ROTATIONS: &str = "rotations.json";
/// As many as a map may have (docs/gate17.md).
const MOST_ROTATIONS: usize = 64;
/// Looks until another command has ended.
const LOCKED: u32 = 250;
const LOOK: Duration = Duration::from_millis(20);
const HEAD: &str = "# Of `portmaster gate17`. Values can be edited; comments are not kept. `portmaster gate17 map sign` makes the next map of it.\n";

/// `network.toml`
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Network {
    pub(super) network: String,
    /// Of the last map.
    pub(super) serial: u64,
    pub(super) access: Access,
    pub(super) knock: Secret,
    #[serde(default)]
    pub(super) tokens: Vec<Member<Digest>>,
    #[serde(default)]
    pub(super) client_keys: Vec<Member<PublicKey>>,
    #[serde(default)]
    pub(super) nodes: Vec<Node>,
    /// While it lives, no other command works in the folder.
    #[serde(skip)]
    lock: Option<File>,
}

impl Network {
    /// Of a folder.
    pub(super) fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(NETWORK);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
                "{} is no network's folder: `portmaster gate17 network init {}` makes one",
                dir.display(),
                dir.display()
            ),
            other => other.with_context(|| format!("read {}", path.display()))?,
        };
        toml::from_str(&text).with_context(|| format!("{} cannot be read", path.display()))
    }

    /// To change it: nobody else does meanwhile.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let lock = lock(dir)?;
        let mut network = Self::load(dir)?;
        network.lock = lock;
        Ok(network)
    }

    /// Of a network that is founded.
    pub(super) fn new(network: String, access: Access, knock: Secret) -> Self {
        Self {
            network,
            serial: 0,
            access,
            knock,
            tokens: Vec::new(),
            client_keys: Vec::new(),
            nodes: Vec::new(),
            lock: None,
        }
    }

    pub(super) fn store(&self, dir: &Path) -> Result<()> {
        write(
            &dir.join(NETWORK),
            (HEAD.to_owned() + &toml::to_string(self)?).as_bytes(),
        )
    }
}

/// None where there is no such folder, or no lock to be had.
fn lock(dir: &Path) -> Result<Option<File>> {
    let Ok(folder) = File::open(dir) else {
        return Ok(None);
    };
    for _ in 0..LOCKED {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(folder)),
            Err(Errno::WOULDBLOCK) => thread::sleep(LOOK),
            // of a file system that has no locks
            Err(_) => return Ok(None),
        }
    }
    bail!(
        "another command works in {}: try again when it has ended",
        dir.display()
    )
}

/// The keys that sign the next map: those of `trust.json`, or what rotations made of them since.
pub(super) fn root(dir: &Path) -> Result<(Trust, Root)> {
    let trust = read_trust(&dir.join(TRUST))?;
    let mut root = trust.root.clone();
    for envelope in rotations(dir)? {
        let next = rotation(&envelope)?.root;
        if Some(next.version) == root.version.checked_add(1) {
            root = next;
        }
    }
    Ok((trust, root))
}

/// All that ever were, oldest first.
pub(super) fn rotations(dir: &Path) -> Result<Vec<Envelope>> {
    let path = dir.join(ROTATIONS);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("read {}", path.display()))?,
    };
    serde_json::from_slice(&text).with_context(|| format!("{} is no list of rotations", path.display()))
}

/// One more. Trust of before is kept beside the new one: holders that have it follow the rotations.
pub(super) fn add_rotation(dir: &Path, envelope: Envelope) -> Result<()> {
    let trust = read_trust(&dir.join(TRUST))?;
    let next = rotation(&envelope)?;
    let mut all = rotations(dir)?;
    all.push(envelope);
    // members whose trust is older than that need a new one
    all.drain(..all.len().saturating_sub(MOST_ROTATIONS));
    let before = dir.join(format!("trust-{}.json", trust.root.version));
    write(&before, serde_json::to_string_pretty(&trust)?.as_bytes())?;
    write(
        &dir.join(ROTATIONS),
        serde_json::to_string_pretty(&all)?.as_bytes(),
    )?;
    let trust = Trust {
        network: next.network,
        root: next.root,
    };
    write(&dir.join(TRUST), serde_json::to_string_pretty(&trust)?.as_bytes())
}

/// What a rotation's envelope says.
pub(super) fn rotation(envelope: &Envelope) -> Result<Rotation> {
    let octets = envelope.octets().context("the rotation's payload is no base64")?;
    serde_json::from_slice(&octets).context("the rotation cannot be read")
}

pub(super) fn read_trust(path: &Path) -> Result<Trust> {
    let text = fs::read(path).with_context(|| format!("read whom to believe: {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} does not say whom to believe", path.display()))
}

/// `given`, else the file beside `document`.
pub(super) fn trust_for(given: Option<&PathBuf>, document: &Path) -> Result<Trust> {
    let beside = document.parent().unwrap_or(Path::new(".")).join(TRUST);
    let path = given.unwrap_or(&beside);
    read_trust(path).context("name the network's trust.json with --trust")
}

/// A map as any holder will judge it: one that nobody can use is not given out.
pub(super) fn verified(octets: &[u8], trust: &Trust) -> Result<Map> {
    let mut held = Held::new(trust.clone());
    held.accept(octets, now()?)?;
    held.latest().cloned().context("the map is gone")
}

pub(super) fn now() -> Result<Timestamp> {
    Timestamp::try_from(SystemTime::now()).context("this host's clock")
}

pub(super) fn write(path: &Path, content: &[u8]) -> Result<()> {
    daemon::files::replace(path, content).with_context(|| format!("write {}", path.display()))
}

/// Takes away what is done with; that it was not there is no matter.
pub(super) fn discard(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
