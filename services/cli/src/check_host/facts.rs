//! What is known of a host before anything is judged.

use std::{fmt, net::IpAddr};

use netlink::queues::Statistics;
use verdict::ruleset::{Family, Local, Options};

/// Everything that is judged. What could not be found out says why, for people.
#[derive(Debug)]
pub(super) struct Facts {
    /// What `interceptor.toml` says about the rules, or why it says nothing.
    pub(super) ours: Result<Options, String>,
    /// Who reads which queue.
    pub(super) readers: Result<Vec<Reader>, String>,
    /// Rules, as `iptables-save` and its relatives say them; only of back ends that have tables.
    pub(super) saved: Vec<Saved>,
    /// The back end that `iptables` stands for.
    pub(super) backend: Option<Backend>,
    /// What `nft --json list ruleset` says; `None` where there is no such program.
    pub(super) nft: Option<Result<String, String>>,
    /// Sockets on ports that are to be ours.
    pub(super) sockets: Vec<Taken>,
    /// Processes, by name.
    pub(super) processes: Vec<Process>,
    /// Programs that we call and that are not there.
    pub(super) missing: Vec<&'static str>,
    /// Whether the kernel takes our rules, tried in a network namespace made for that; with an error, what was said.
    pub(super) trial: Vec<(Family, Trial)>,
    /// The kernel has packet queues, as far as that can be told.
    pub(super) queues: Option<bool>,
    /// Settings of others that matter.
    pub(super) settings: Settings,
}

/// How the trial ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// It took them.
    Taken,
    /// It did not.
    Refused(String),
    /// It could not be tried.
    Untried(String),
}

/// Files of others, where they are there and in use.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    /// `/etc/nftables.conf`, where nftables.service is enabled.
    pub(super) nftables: Option<String>,
    /// `/etc/firewalld/firewalld.conf`.
    pub(super) firewalld: Option<String>,
    /// `/etc/default/ufw`.
    pub(super) ufw: Option<String>,
}

/// A reader of a packet queue.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    pub(super) line: Statistics,
    pub(super) process: Option<Process>,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// File name of what it executes, else what it calls itself.
    pub(super) name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

impl Process {
    /// One of the mesh.
    pub(super) fn is_ours(&self) -> bool {
        const OURS: [&str; 6] = [
            "portmaster-interceptor",
            "portmaster-process-resolver",
            "portmaster-policy",
            "portmaster-dns",
            "portmaster-gate17-entry",
            "portmaster-api-gateway",
        ];
        OURS.contains(&self.name.as_str())
    }
}

/// The output of one `iptables-save`.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    pub(super) backend: Backend,
    pub(super) family: Family,
    pub(super) text: Result<String, String>,
}

/// Which of the kernel's two packet filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    Nft,
    Legacy,
}

impl Backend {
    pub(super) const ALL: [Self; 2] = [Self::Nft, Self::Legacy];

    /// Of a program of the iptables package: `iptables-nft-save`.
    pub(super) fn program(self, family: Family, what: &str) -> String {
        let family = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        format!("{family}-{self}{what}")
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        })
    }
}

/// A socket on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) tcp: bool,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) process: Option<Process>,
}

/// Addresses that the rules lead to.
pub(super) fn addresses(local: Local) -> [(IpAddr, u16); 2] {
    [
        (IpAddr::V4(*local.v4.ip()), local.v4.port()),
        (IpAddr::V6(*local.v6.ip()), local.v6.port()),
    ]
}
