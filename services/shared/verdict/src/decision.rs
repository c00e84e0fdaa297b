//! What was decided, and why: a verdict never travels without its reason.

use std::fmt;

/// The fate of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Let it pass.
    Allow,
    /// Refuse it with an error to the program.
    Block,
    /// Refuse it without a word.
    Drop,
    /// Into Gate17.
    Tunnel,
    /// To the local DNS server.
    RedirectDns,
}

impl Verdict {
    /// Stable text, as in events and logs.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
            Self::Drop => "drop",
            Self::Tunnel => "tunnel",
            Self::RedirectDns => "redirect-dns",
        }
    }

    /// The flow's packets leave or reach the host, directly or not.
    pub const fn passes(self) -> bool {
        matches!(self, Self::Allow | Self::Tunnel | Self::RedirectDns)
    }
}

/// Why a verdict is what it is. The same words stand in the log, the D-Bus event, the metric and the user interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// A rule of the program's profile.
    Rule,
    /// A rule of the global defaults.
    GlobalRule,
    /// Switch: no connections from other hosts.
    BlockIncoming,
    /// Switch: nothing to or from the local network.
    BlockLan,
    /// Switch: nothing to or from the internet.
    BlockInternet,
    /// Switch: no connections to addresses that no name was asked for.
    BlockDirect,
    /// No rule matched: the profile's or the global default action.
    DefaultAction,
    /// The owner was to be asked and nobody answered.
    AskTimeout,
    /// It was to be tunnelled, and cannot be (neither TCP nor UDP, or a socket bound to a device): refused, never sent in the
    /// clear.
    TunnelUnsupported,
    /// The packet is malformed.
    Unparsable,
    /// Too many packets wait for a decision.
    Overload,
    /// Let through for now, to see the name that it asks for.
    NameWanted,
    /// A DNS query that strayed past the local server.
    DnsRedirect,
    /// Portmaster's own traffic.
    Mesh,
    /// It would be refused, and the owner paused the firewall for a while.
    Paused,
    /// The name is on a list that the profile filters by.
    DnsList,
    /// A name of the internet was answered with an address of this host or its network.
    DnsRebinding,
    /// A registry or the owner's settings say what this name means.
    DnsSpecial,
    /// Switch: no DNS over TLS, HTTPS or QUIC to resolvers of others.
    EncryptedDns,
    /// It was to be tunnelled: the destination or the exit refused it, or did not answer.
    TunnelRefused,
    /// It was to be tunnelled, and there is no way: no entry, no map, no nodes. Refused, never sent in the clear.
    TunnelUnavailable,
    /// It was open directly before it was to be tunnelled: refused, never carried on in the clear.
    TunnelLate,
    /// It could not be found out whose it is, and some program's that is tunnelled would not leave like this: refused, never
    /// sent in the clear.
    TunnelUnsure,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::Rule,
        Self::GlobalRule,
        Self::BlockIncoming,
        Self::BlockLan,
        Self::BlockInternet,
        Self::BlockDirect,
        Self::DefaultAction,
        Self::AskTimeout,
        Self::TunnelUnsupported,
        Self::Unparsable,
        Self::Overload,
        Self::NameWanted,
        Self::DnsRedirect,
        Self::Mesh,
        Self::Paused,
        Self::DnsList,
        Self::DnsRebinding,
        Self::DnsSpecial,
        Self::EncryptedDns,
        Self::TunnelRefused,
        Self::TunnelUnavailable,
        Self::TunnelLate,
        Self::TunnelUnsure,
    ];

    /// Stable text.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::GlobalRule => "global-rule",
            Self::BlockIncoming => "block-incoming",
            Self::BlockLan => "block-lan",
            Self::BlockInternet => "block-internet",
            Self::BlockDirect => "block-direct",
            Self::DefaultAction => "default-action",
            Self::AskTimeout => "ask-timeout",
            Self::TunnelUnsupported => "tunnel-unsupported",
            Self::Unparsable => "unparsable-packet",
            Self::Overload => "overload",
            Self::NameWanted => "name-wanted",
            Self::DnsRedirect => "dns-redirect",
            Self::Mesh => "portmaster-itself",
            Self::Paused => "paused",
            Self::DnsList => "dns-list",
            Self::DnsRebinding => "dns-rebinding",
            Self::DnsSpecial => "dns-special",
            Self::EncryptedDns => "encrypted-dns",
            Self::TunnelRefused => "tunnel-refused",
            Self::TunnelUnavailable => "tunnel-unavailable",
            Self::TunnelLate => "tunnel-late",
            Self::TunnelUnsure => "tunnel-unsure",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Which rule or setting: `file#number` (`curl#2`, `global#1`) or `file#setting` (`curl#default_action`). Empty where no
/// rule or setting is behind it.
pub type Source = std::sync::Arc<str>;

/// A verdict with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// The fate of the flow.
    pub verdict: Verdict,
    /// The reason.
    pub why: Why,
    /// The rule or setting behind it.
    pub source: Source,
    /// Id of the profile that was applied; empty for the global defaults alone.
    pub profile: Source,
    /// Saved on the connection: no further packet is wanted.
    pub permanent: bool,
}
