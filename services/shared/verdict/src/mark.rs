//! Packet marks: how a decision reaches the kernel's rules. The values are the product's specification.

use crate::{Decision, Verdict};

/// A packet or connection mark, before mask and shift are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark(pub u32);

impl Mark {
    /// Not decided.
    pub const NONE: Self = Self(0);
    /// Accept this packet only: the next one is queued again.
    pub const ACCEPT_ONCE: Self = Self(1700);
    /// Refuse this packet only.
    pub const BLOCK_ONCE: Self = Self(1701);
    /// Drop this packet only.
    pub const DROP_ONCE: Self = Self(1702);
    /// Accept the connection.
    pub const ACCEPT: Self = Self(1710);
    /// Refuse the connection.
    pub const BLOCK: Self = Self(1711);
    /// Drop the connection.
    pub const DROP: Self = Self(1712);
    /// Reroute the connection into Gate17.
    pub const TUNNEL: Self = Self(1717);
    /// Reroute the connection to the local DNS server.
    pub const DNS: Self = Self(1799);

    /// Every mark that the rules know.
    pub const ALL: [Self; 8] = [
        Self::ACCEPT_ONCE,
        Self::BLOCK_ONCE,
        Self::DROP_ONCE,
        Self::ACCEPT,
        Self::BLOCK,
        Self::DROP,
        Self::TUNNEL,
        Self::DNS,
    ];

    /// The mark that carries `decision` out. Rerouting is permanent by nature.
    pub const fn of(decision: &Decision) -> Self {
        match (decision.verdict, decision.permanent) {
            (Verdict::Allow, true) => Self::ACCEPT,
            (Verdict::Allow, false) => Self::ACCEPT_ONCE,
            (Verdict::Block, true) => Self::BLOCK,
            (Verdict::Block, false) => Self::BLOCK_ONCE,
            (Verdict::Drop, true) => Self::DROP,
            (Verdict::Drop, false) => Self::DROP_ONCE,
            (Verdict::Tunnel, _) => Self::TUNNEL,
            (Verdict::RedirectDns, _) => Self::DNS,
        }
    }
}

/// Which bits of the mark are ours: `(mark << shift) & mask`. The default is the whole mark, as the specification lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MarkScheme {
    mask: u32,
    shift: u8,
}

/// A mask and shift under which the marks do not fit or are not distinct.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "mark mask {mask:#x} with shift {shift} cannot hold the marks 1700 to 1799; it needs 11 consecutive bits from bit {shift} on"
)]
pub struct UnfitScheme {
    mask: u32,
    shift: u8,
}

impl Default for MarkScheme {
    fn default() -> Self {
        Self {
            mask: u32::MAX,
            shift: 0,
        }
    }
}

impl MarkScheme {
    /// Errors where a mark would lose bits.
    pub const fn new(mask: u32, shift: u8) -> Result<Self, UnfitScheme> {
        let bits = 0x7ff_u32; // 1799 needs eleven bits
        if shift > 21 || (bits << shift) & mask != bits << shift || mask & ((1 << shift) - 1) != 0 {
            return Err(UnfitScheme { mask, shift });
        }
        Ok(Self { mask, shift })
    }

    /// The bits that are ours.
    pub const fn mask(self) -> u32 {
        self.mask
    }

    /// The whole mark is ours, as the specification lists it.
    pub const fn is_whole(self) -> bool {
        self.mask == u32::MAX
    }

    /// `mark` on the wire, leaving the other bits of `current` as they are.
    pub const fn apply(self, mark: Mark, current: u32) -> u32 {
        (current & !self.mask) | ((mark.0 << self.shift) & self.mask)
    }

    /// Our part of a mark on the wire.
    pub const fn read(self, wire: u32) -> Mark {
        Mark((wire & self.mask) >> self.shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_scheme_is_the_listing() {
        for mark in Mark::ALL {
            assert_eq!(MarkScheme::default().apply(mark, 0xca6c), mark.0);
        }
    }

    #[test]
    fn a_scheme_too_narrow_is_refused() {
        assert!(MarkScheme::new(0xff, 0).is_err());
        assert!(MarkScheme::new(0xffff_0000, 22).is_err());
        assert!(MarkScheme::new(0xffff_0000, 8).is_err());
        assert!(MarkScheme::new(0x07ff_0000, 16).is_ok());
        assert!(MarkScheme::new(u32::MAX, 40).is_err());
    }

    proptest! {
        #[test]
        fn a_masked_scheme_keeps_foreign_bits(current: u32, index in 0..8_usize) {
            let scheme = MarkScheme::new(0x07ff_0000, 16).unwrap();
            let wire = scheme.apply(Mark::ALL[index], current);
            prop_assert_eq!(wire & !scheme.mask(), current & !scheme.mask());
            prop_assert_eq!(scheme.read(wire), Mark::ALL[index]);
        }
    }
}
