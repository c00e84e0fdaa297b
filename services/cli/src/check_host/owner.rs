//! Whose rules are these? Told by the names of tables and chains that programs give them. Pure.

use std::fmt;

/// Who made a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// A program that is known by its names.
    Known(&'static str),
    /// Somebody: where the rules are.
    Somebody(String),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(name) => f.write_str(name),
            Self::Somebody(place) => write!(f, "somebody ({place})"),
        }
    }
}

/// How names of chains and tables begin, and whose they are.
const NAMES: [(&str, &str); 21] = [
    ("DOCKER", "docker"),
    ("docker", "docker"),
    ("LIBVIRT", "libvirt"),
    ("libvirt", "libvirt"),
    ("ufw-", "ufw"),
    ("ufw6-", "ufw"),
    ("firewalld", "firewalld"),
    ("INPUT_ZONES", "firewalld"),
    ("FORWARD_ZONES", "firewalld"),
    ("PREROUTING_ZONES", "firewalld"),
    ("POSTROUTING_ZONES", "firewalld"),
    ("PORTMASTER-", "Safing Portmaster"),
    ("opensnitch", "OpenSnitch"),
    ("f2b-", "fail2ban"),
    ("KUBE-", "kubernetes"),
    ("CNI-", "container networking (CNI)"),
    ("cali-", "calico"),
    ("ts-", "tailscale"),
    ("wg-quick", "wg-quick"),
    ("mullvad", "Mullvad"),
    ("nordvpn", "NordVPN"),
];

impl Owner {
    /// By the names that a rule has to do with: its chain, its table, where it jumps.
    pub(super) fn of<'a>(names: impl IntoIterator<Item = &'a str>, place: &str) -> Self {
        names
            .into_iter()
            .find_map(known)
            .map_or_else(|| Self::Somebody(place.to_owned()), Self::Known)
    }

    /// The name of a chain or table that belongs to a known program.
    pub(super) fn is_known(name: &str) -> bool {
        known(name).is_some()
    }

    /// Why the two get along, as far as rules go that filter.
    pub(super) fn beside(&self) -> &'static str {
        match self {
            Self::Known("docker" | "container networking (CNI)" | "kubernetes" | "calico") => {
                "works beside: containers with networks of their own are forwarded, which these rules decide and Portmaster does not see"
            }
            Self::Known("libvirt") => {
                "works beside: virtual machines are forwarded, which these rules decide and Portmaster does not see"
            }
            _ => {
                "works beside: a packet has to pass both, so what these refuse stays refused, and what they let pass is still asked about"
            }
        }
    }
}

fn known(name: &str) -> Option<&'static str> {
    let mut all = NAMES.iter();
    all.find(|(begins, _)| name.starts_with(begins))
        .map(|(_, owner)| *owner)
}
