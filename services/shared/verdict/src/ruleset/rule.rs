//! One rule: tests on a packet, what happens to it, and why the rule stands there.

use std::{fmt, net::SocketAddr};

use crate::mark::{Mark, MarkScheme};

/// The tables that hold rules of ours, in the order in which they are loaded: whatever fails between two of them leaves
/// packets dropped or undecided, never let out unseen. `nat` before any packet can carry a mark, `filter` (which drops
/// what has no mark) before `mangle` (which asks).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TableName {
    /// Redirects.
    Nat,
    /// Turns marks into fates.
    Filter,
    /// Restores and asks for marks.
    Mangle,
}

impl TableName {
    /// In the order in which they are loaded.
    pub const ALL: [Self; 3] = [Self::Nat, Self::Filter, Self::Mangle];

    /// As `iptables` calls it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::Filter => "filter",
            Self::Mangle => "mangle",
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// The chains that hold rules of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChainName {
    /// The kernel's, for packets that leave.
    Output,
    /// The kernel's, for packets that come in.
    Input,
    /// The kernel's, the last that a leaving packet passes, with its route final.
    Postrouting,
    /// `mangle`, output: restore the mark or ask.
    C170,
    /// `mangle`, input: restore the mark or ask.
    C171,
    /// `filter`, both directions: mark → fate.
    C17,
}

impl ChainName {
    /// The chains that nobody else has.
    pub const OWN: [Self; 3] = [Self::C170, Self::C171, Self::C17];

    /// As `iptables` calls it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Output => "OUTPUT",
            Self::Input => "INPUT",
            Self::Postrouting => "POSTROUTING",
            Self::C170 => "C170",
            Self::C171 => "C171",
            Self::C17 => "C17",
        }
    }

    /// Made by us, all of it ours; else the kernel's, and ours are the rules at its head.
    pub const fn is_own(self) -> bool {
        matches!(self, Self::C170 | Self::C171 | Self::C17)
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A table's chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: TableName,
    /// Own chains first, so that they exist when something jumps there.
    pub chains: Vec<Chain>,
}

/// A chain's rules, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: ChainName,
    /// For an own chain: all of it. For a kernel's chain: what stands at its head.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All of these hold.
    pub matches: Vec<Match>,
    /// Then this happens.
    pub target: Target,
    /// Why it stands there; empty for the specification's own listing.
    pub why: &'static str,
}

impl Rule {
    pub(super) const fn new(matches: Vec<Match>, target: Target) -> Self {
        Self {
            matches,
            target,
            why: "",
        }
    }

    pub(super) fn because(self, why: &'static str) -> Self {
        Self { why, ..self }
    }
}

/// Protocols that the rules tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// 6.
    Tcp,
    /// 17.
    Udp,
    /// 1.
    Icmp,
    /// 58.
    Icmp6,
}

/// `value` under `mask`, equal or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkTest {
    /// On the wire: shifted.
    pub value: u32,
    /// The bits that are compared.
    pub mask: u32,
    /// Holds where they are equal; else where they differ.
    pub equal: bool,
}

impl MarkTest {
    pub(super) const fn is(mark: Mark, scheme: MarkScheme) -> Self {
        Self {
            value: scheme.apply(mark, 0),
            mask: scheme.mask(),
            equal: true,
        }
    }

    pub(super) const fn is_not(mark: Mark, scheme: MarkScheme) -> Self {
        Self {
            equal: false,
            ..Self::is(mark, scheme)
        }
    }
}

/// A test on a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The protocol.
    Protocol(Transport),
    /// TCP's or UDP's destination port; needs [`Match::Protocol`] before it.
    DestinationPort(Transport, u16),
    /// A TCP reset.
    TcpReset,
    /// An ICMPv6 type.
    Icmp6Type(u8),
    /// IPv6 hop limit.
    HopLimit(u8),
    /// Conntrack: belongs to another connection, as an error does to what it answers.
    Related,
    /// The packet's mark.
    PacketMark(MarkTest),
    /// The connection's mark.
    ConnectionMark(MarkTest),
    /// Leaves by another device than loopback.
    NotOutLoopback,
    /// Leaves by loopback.
    OutLoopback,
    /// Its destination is no address of this host.
    NotLocal,
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Out of this table, onward.
    Accept,
    /// Gone, without a word.
    Drop,
    /// Back to where the chain was called.
    Return,
    /// Through a chain of ours.
    Jump(ChainName),
    /// Gone, with an error to its sender.
    Reject(RejectWith),
    /// To the interceptor; past it, unmarked, where nobody listens.
    Queue(u16),
    /// Connection's mark → packet's mark, these bits.
    RestoreMark(u32),
    /// Packet's mark → connection's mark, these bits.
    SaveMark(u32),
    /// New destination.
    Redirect(SocketAddr),
}

/// The error that a rejected packet's sender gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectWith {
    /// ICMP host prohibited: `EHOSTUNREACH`.
    HostProhibited,
    /// ICMPv6 administratively prohibited: `EACCES`.
    AdminProhibited,
    /// TCP reset: `ECONNREFUSED`.
    TcpReset,
}
