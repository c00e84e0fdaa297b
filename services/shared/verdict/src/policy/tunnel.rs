//! How a profile's connections travel through Gate17: how many nodes, which exits, and what may share a circuit.

use std::fmt;

/// How many nodes a circuit has: 1 to 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hops(u8);

impl Hops {
    /// As shipped: no node knows both the program's host and where it goes, and none of the two beside it is the same.
    pub const SHIPPED: Self = Self(3);
    /// The fewest.
    pub const LEAST: u8 = 1;
    /// The most.
    pub const MOST: u8 = 5;

    /// `None`: not from [`Self::LEAST`] to [`Self::MOST`].
    pub fn new(hops: u32) -> Option<Self> {
        let hops = u8::try_from(hops).ok()?;
        (Self::LEAST..=Self::MOST).contains(&hops).then_some(Self(hops))
    }

    /// As a number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// Which nodes may be the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum ExitChoice {
    /// All that carry to the destination.
    #[default]
    Any,
    /// Those from where the destination answers soonest, as measured.
    Near,
    /// Those in one of these regions, and these nodes.
    Among {
        /// Two letters of ISO 3166, lower case.
        regions: Vec<String>,
        /// Ids of nodes in the map.
        nodes: Vec<String>,
    },
}

impl ExitChoice {
    /// Whether a node may be the exit. [`Self::Near`] admits all: it is an order among them.
    pub fn admits(&self, node: &str, region: &str) -> bool {
        match self {
            Self::Any | Self::Near => true,
            Self::Among { regions, nodes } => {
                regions.iter().any(|admitted| admitted == region)
                    || nodes.iter().any(|admitted| admitted == node)
            }
        }
    }
}

/// As in files: `any`, `near`, or regions and `node:…`, separated by commas.
impl fmt::Display for ExitChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => formatter.write_str("any"),
            Self::Near => formatter.write_str("near"),
            Self::Among { regions, nodes } => {
                let nodes = nodes.iter().map(|node| format!("node:{node}"));
                let all: Vec<String> = regions.iter().cloned().chain(nodes).collect();
                formatter.write_str(&all.join(", "))
            }
        }
    }
}

/// What never shares a circuit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// Streams of different programs.
    #[default]
    App,
    /// Streams of different programs, and those of one program to different sites.
    Site,
    /// Nothing: programs of this profile share circuits with others that are not isolated.
    None,
}

impl Isolation {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::App, Self::Site, Self::None];

    /// Stable text, as in files.
    pub const fn text(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Site => "site",
            Self::None => "none",
        }
    }

    /// By its stable text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|isolation| isolation.text() == text)
    }
}

/// The settings in `[tunnel]`; `None`: inherited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunnel {
    /// As shipped: 3.
    pub hops: Option<Hops>,
    /// As shipped: any.
    pub exit: Option<ExitChoice>,
    /// As shipped: by program.
    pub isolate: Option<Isolation>,
}

/// [`Tunnel`] with everything inherited filled in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TunnelOptions {
    /// How many nodes.
    pub hops: Hops,
    /// Which exits.
    pub exit: ExitChoice,
    /// What never shares a circuit.
    pub isolate: Isolation,
}

/// What is shipped.
impl Default for TunnelOptions {
    fn default() -> Self {
        Self {
            hops: Hops::SHIPPED,
            exit: ExitChoice::default(),
            isolate: Isolation::default(),
        }
    }
}

impl TunnelOptions {
    /// What `tunnel` sets replaces what is here.
    #[must_use]
    pub fn overridden(&self, tunnel: &Tunnel) -> Self {
        Self {
            hops: tunnel.hops.unwrap_or(self.hops),
            exit: tunnel.exit.clone().unwrap_or_else(|| self.exit.clone()),
            isolate: tunnel.isolate.unwrap_or(self.isolate),
        }
    }
}

/// Two letters of ISO 3166, lower case.
pub fn is_region(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|octet| octet.is_ascii_lowercase())
}

/// A node's id in a map: 1 to 32 of `a-z`, `0-9`, `-`.
pub fn is_node(text: &str) -> bool {
    let fits = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
    (1..=32).contains(&text.len()) && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_are_from_one_to_five() {
        let accepted: Vec<u8> = (0..300).filter_map(Hops::new).map(Hops::get).collect();
        assert_eq!(accepted, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn exits_are_admitted_by_region_or_id() {
        let among = ExitChoice::Among {
            regions: vec!["de".into()],
            nodes: vec!["alpha".into()],
        };
        assert!(among.admits("beta", "de") && among.admits("alpha", "fr"));
        assert!(!among.admits("beta", "fr") && !among.admits("de", "alpha"));
        assert!(ExitChoice::Any.admits("beta", "fr") && ExitChoice::Near.admits("beta", "fr"));
        assert_eq!(among.to_string(), "de, node:alpha");
    }
}
