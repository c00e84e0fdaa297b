//! A file with the time of its writing, and proof that it is whole.
//!
//! Layout, numbers most significant octet first: magic, boot (16 octets, 0 where not known), milliseconds since that boot
//! (u64), milliseconds since 1970 (u64), the content, SHA-256 of all before it.

use std::time::Duration;

use daemon::clock;
use sha2::{Digest as _, Sha256};

use crate::server;

const MAGIC: &[u8; 8] = b"PMDNSK01";

/// Why a file is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    /// Not ours, or of another version.
    #[error("it is no file of this version")]
    Magic,
    /// Cut, or damaged.
    #[error("its checksum does not fit: it was cut or damaged")]
    Checksum,
}

/// A moment by all clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// Which boot; zeros where that is not known.
    boot: [u8; 16],
    since_boot: Duration,
    /// Since 1970.
    pub(super) wall: Duration,
}

impl Moment {
    pub(super) fn now() -> Self {
        let boot = clock::now().boot;
        Self {
            boot: boot.map(|boot| boot.boot).unwrap_or_default(),
            since_boot: server::now(),
            wall: server::wall(),
        }
    }

    /// How long ago this was; none where the host was started since.
    pub(super) fn passed(&self, now: &Self) -> Option<Duration> {
        let same = self.boot == now.boot && self.boot != [0; 16];
        same.then(|| now.since_boot.checked_sub(self.since_boot))
            .flatten()
    }
}

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) written: Moment,
    pub(super) content: Vec<u8>,
}

impl Sealed {
    pub(super) fn into_octets(self) -> Vec<u8> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).to_be_bytes();
        let Moment {
            boot,
            since_boot,
            wall,
        } = self.written;
        let mut octets = MAGIC.to_vec();
        octets.extend(boot);
        octets.extend(millis(since_boot));
        octets.extend(millis(wall));
        octets.extend(self.content);
        let sum = Sha256::digest(&octets);
        octets.extend_from_slice(&sum);
        octets
    }

    pub(super) fn read(octets: &[u8]) -> Result<Self, Broken> {
        let rest = octets.strip_prefix(MAGIC).ok_or(Broken::Magic)?;
        let sealed = octets.split_last_chunk::<32>();
        if sealed.is_none_or(|(before, sum)| Sha256::digest(before).as_slice() != sum) {
            return Err(Broken::Checksum);
        }
        read(rest).ok_or(Broken::Checksum)
    }
}

fn read(rest: &[u8]) -> Option<Sealed> {
    let millis = |octets: &[u8; 8]| Duration::from_millis(u64::from_be_bytes(*octets));
    let (boot, rest) = rest.split_first_chunk::<16>()?;
    let (since_boot, rest) = rest.split_first_chunk::<8>()?;
    let (wall, rest) = rest.split_first_chunk::<8>()?;
    let (content, _) = rest.split_last_chunk::<32>()?;
    Some(Sealed {
        written: Moment {
            boot: *boot,
            since_boot: millis(since_boot),
            wall: millis(wall),
        },
        content: content.to_vec(),
    })
}

#[cfg(test)]
impl Moment {
    /// Another one of this host.
    pub(super) fn at(boot: u8, since_boot: u64, wall: u64) -> Self {
        Self {
            boot: [boot; 16],
            since_boot: Duration::from_secs(since_boot),
            wall: Duration::from_secs(wall),
        }
    }

    pub(super) fn later(self, seconds: u64) -> Self {
        Self {
            since_boot: self.since_boot + Duration::from_secs(seconds),
            ..self
        }
    }

    pub(super) fn of_another_boot(self) -> Self {
        Self {
            boot: self.boot.map(|octet| !octet),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn time_passes_by_the_clock_that_nobody_sets_and_within_one_boot() {
        let written = Moment::at(1, 100, 5_000);
        for (now, passed) in [
            (Moment::at(1, 160, 5_060), Some(60)),
            (Moment::at(1, 160, 91_460), Some(60)),
            (Moment::at(1, 160, 0), Some(60)),
            (Moment::at(1, 99, 5_060), None),
            (Moment::at(2, 160, 5_060), None),
        ] {
            assert_eq!(written.passed(&now), passed.map(Duration::from_secs), "{now:?}");
        }
        let unknown = Moment::at(0, 100, 5_000);
        assert_eq!(unknown.passed(&unknown), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_nothing_else(content: Vec<u8>, at: prop::sample::Index, bit in 0..8_u8) {
            let sealed = Sealed { written: Moment::at(3, 17, 1_700_000_000), content };
            let octets = sealed.clone().into_octets();
            prop_assert_eq!(Sealed::read(&octets), Ok(sealed));
            let mut changed = octets.clone();
            let at = at.index(octets.len());
            changed[at] ^= 1 << bit;
            prop_assert!(Sealed::read(&changed).is_err());
            prop_assert!(Sealed::read(&octets[..at]).is_err());
        }

        #[test]
        fn garbage_is_named(octets: Vec<u8>) {
            prop_assert!(Sealed::read(&octets).is_err());
        }
    }
}
