//! What a holder of maps keeps, and which others it takes.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Envelope, MAP_TYPE, Map, ROOT_TYPE, Root, Rotation,
    check::{self, Malformed},
};

/// Longest envelope, octets.
pub const MAX_LENGTH: usize = 8 << 20;
/// What a holder's clock may be off.
pub const TOLERANCE: SignedDuration = SignedDuration::from_hours(24);
const MAX_ROTATIONS: usize = 64;

/// Whom a holder trusts to begin with: it comes from the network's operator, by a way that the holder trusts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// The network's name.
    pub network: String,
    /// Its keys then.
    pub root: Root,
}

/// A map that was accepted, and by which keys the next one is judged.
#[derive(Clone, Debug)]
pub struct Held {
    trust: Trust,
    kept: Option<Kept>,
}

#[derive(Clone, Debug)]
struct Kept {
    map: Map,
    envelope: Vec<u8>,
    payload: Vec<u8>,
}

/// What became of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is the map now.
    New,
    /// It is the map that was there.
    Same,
}

/// Why not; the map that was there stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too long.
    #[error("the map has {0} octets, more than {MAX_LENGTH}: have its operator remove nodes")]
    TooLong(usize),
    /// Not an envelope, or not a map in it.
    #[error("the map cannot be read: {0}; fetch it again, or have its operator sign it anew")]
    Unreadable(String),
    /// From later than this program.
    #[error("the map has format {0}, and this program knows 1: upgrade it")]
    Format(u64),
    /// Of somebody else.
    #[error("the map is of the network {found:?}, not of {wanted:?}: check from where it is fetched")]
    Network {
        /// In the map.
        found: String,
        /// In the trust.
        wanted: String,
    },
    /// Nobody who counts signed it.
    #[error("the map has no signature of a root key: have its operator sign it")]
    Unsigned,
    /// Not enough who count did.
    #[error("the map is signed by {found} root keys of {needed} that are needed: have the others sign it")]
    TooFew {
        /// Different keys.
        found: usize,
        /// The threshold.
        needed: usize,
    },
    /// A rotation of the root is not in order.
    #[error("the map's rotation to root {version} is refused: {why}; ask its operator for the root keys")]
    Rotation {
        /// The new root's.
        version: u64,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// The map's root is not the one that its rotations lead to.
    #[error(
        "the map names root {found}, and its rotations lead to root {known}: ask its operator for the root keys"
    )]
    Root {
        /// In the map.
        found: u64,
        /// Known.
        known: u64,
    },
    /// An older one.
    #[error(
        "the map has serial {found}, and {held} is held already: an old map was offered, fetch it elsewhere"
    )]
    Rollback {
        /// Offered.
        found: u64,
        /// Held.
        held: u64,
    },
    /// Two maps of one serial.
    #[error(
        "a map with serial {0} is held already, and this one says other things: have its operator sign with a new serial"
    )]
    Differs(u64),
    /// Too old.
    #[error("the map expired on {0}: fetch a new one, or check this host's clock")]
    Expired(Timestamp),
    /// From the future.
    #[error("the map was issued on {0}, which is not yet: check this host's clock")]
    NotYet(Timestamp),
    /// Signed, but makes no sense.
    #[error("the map is malformed: {0}; have its operator mend and sign it")]
    Malformed(#[from] Malformed),
}

impl Held {
    /// Without a map.
    pub const fn new(trust: Trust) -> Self {
        Self { trust, kept: None }
    }

    /// With the map that was held before, whatever its age: so serials do not go back over a restart.
    ///
    /// # Errors
    /// As [`Held::accept`], but for the times.
    pub fn restore(trust: Trust, envelope: &[u8]) -> Result<Self, Refused> {
        let mut held = Self::new(trust);
        held.take(envelope, None)?;
        Ok(held)
    }

    /// Takes a map, if it is one for this holder.
    ///
    /// # Errors
    /// [`Refused`]; nothing changed then.
    pub fn accept(&mut self, envelope: &[u8], now: Timestamp) -> Result<Accepted, Refused> {
        self.take(envelope, Some(now))
    }

    /// The map, while it holds.
    ///
    /// # Errors
    /// [`Refused::Expired`]; None: there is none.
    pub fn map(&self, now: Timestamp) -> Result<Option<&Map>, Refused> {
        let map = self.latest();
        map.map(|map| in_time(map, now).map(|()| map)).transpose()
    }

    /// The map, whatever its age.
    pub fn latest(&self) -> Option<&Map> {
        self.kept.as_ref().map(|kept| &kept.map)
    }

    /// Its envelope, to be kept or served.
    pub fn envelope(&self) -> Option<&[u8]> {
        self.kept.as_ref().map(|kept| kept.envelope.as_slice())
    }

    /// The keys that the next map is judged by.
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    fn take(&mut self, octets: &[u8], now: Option<Timestamp>) -> Result<Accepted, Refused> {
        if octets.len() > MAX_LENGTH {
            return Err(Refused::TooLong(octets.len()));
        }
        let (envelope, payload) = open(octets, MAP_TYPE)?;
        let map = read(&payload)?;
        if map.network != self.trust.network {
            return Err(Refused::Network {
                found: map.network,
                wanted: self.trust.network.clone(),
            });
        }
        let root = rotated(&self.trust, &map.rotations)?;
        if map.root != root {
            return Err(Refused::Root {
                found: map.root.version,
                known: root.version,
            });
        }
        signed(&envelope, &root)?;
        // from here on the network's operator speaks
        if let Some(kept) = &self.kept {
            if map.serial < kept.map.serial {
                return Err(Refused::Rollback {
                    found: map.serial,
                    held: kept.map.serial,
                });
            }
            if map.serial == kept.map.serial && payload != kept.payload {
                return Err(Refused::Differs(map.serial));
            }
        }
        if let Some(now) = now {
            in_time(&map, now)?;
        }
        if self.kept.as_ref().is_some_and(|kept| kept.payload == payload) {
            return Ok(Accepted::Same);
        }
        check::nodes(&map)?;
        self.trust.root = root;
        let envelope = octets.to_vec();
        self.kept = Some(Kept {
            map,
            envelope,
            payload,
        });
        Ok(Accepted::New)
    }
}

fn in_time(map: &Map, now: Timestamp) -> Result<(), Refused> {
    if now.duration_since(map.expires) >= TOLERANCE {
        return Err(Refused::Expired(map.expires));
    }
    if map.issued.duration_since(now) > TOLERANCE {
        return Err(Refused::NotYet(map.issued));
    }
    Ok(())
}

fn open(octets: &[u8], kind: &str) -> Result<(Envelope, Vec<u8>), Refused> {
    let envelope: Envelope =
        serde_json::from_slice(octets).map_err(|error| Refused::Unreadable(error.to_string()))?;
    let payload = payload(&envelope, kind)?;
    Ok((envelope, payload))
}

fn payload(envelope: &Envelope, kind: &str) -> Result<Vec<u8>, Refused> {
    if envelope.payload_type != kind {
        return Err(Refused::Unreadable(format!(
            "its type is {:?}, not {kind}",
            envelope.payload_type
        )));
    }
    let unreadable = || Refused::Unreadable("its payload is no base64".to_owned());
    envelope.octets().ok_or_else(unreadable)
}

fn read(payload: &[u8]) -> Result<Map, Refused> {
    #[derive(Deserialize)]
    struct Format {
        format: u64,
    }
    let unreadable = |error: serde_json::Error| Refused::Unreadable(error.to_string());
    // first: another format may have other fields
    match serde_json::from_slice::<Format>(payload)
        .map_err(unreadable)?
        .format
    {
        1 => serde_json::from_slice(payload).map_err(unreadable),
        other => Err(Refused::Format(other)),
    }
}

fn signed(envelope: &Envelope, root: &Root) -> Result<(), Refused> {
    match envelope.signers(root) {
        0 => Err(Refused::Unsigned),
        found if found < root.threshold => Err(Refused::TooFew {
            found,
            needed: root.threshold,
        }),
        _ => Ok(()),
    }
}

/// The root that `rotations` lead to from the one that is trusted; those that led to it are passed over.
fn rotated(trust: &Trust, rotations: &[Envelope]) -> Result<Root, Refused> {
    let mut root = trust.root.clone();
    let refused = |version, why| Refused::Rotation { version, why };
    check::root(&root).map_err(|why| refused(root.version, why))?;
    if rotations.len() > MAX_ROTATIONS {
        return Err(refused(root.version, "there are too many"));
    }
    for envelope in rotations {
        let payload = payload(envelope, ROOT_TYPE)?;
        let next: Rotation =
            serde_json::from_slice(&payload).map_err(|error| Refused::Unreadable(error.to_string()))?;
        let version = next.root.version;
        if version <= root.version {
            continue;
        }
        if next.network != trust.network {
            return Err(refused(version, "it is of another network"));
        }
        if Some(version) != root.version.checked_add(1) {
            return Err(refused(version, "one before it is missing"));
        }
        check::root(&next.root).map_err(|why| refused(version, why))?;
        if envelope.signers(&root) < root.threshold {
            return Err(refused(version, "too few of the keys before it signed it"));
        }
        if envelope.signers(&next.root) < next.root.threshold {
            return Err(refused(version, "too few of its own keys signed it"));
        }
        root = next.root;
    }
    Ok(root)
}

#[cfg(test)]
mod tests;
