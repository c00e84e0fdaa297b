//! Looks at the host. Changes nothing: what is tried, is tried in a network namespace that ends with the trial.

mod process;
mod programs;
mod sockets;

use std::{fs, path::Path};

use netlink::queues::Statistics;
use serde::Deserialize;
use verdict::{
    mark::MarkScheme,
    ruleset::{Family, Local, Options, RuleSet, render},
};

use super::facts::{Backend, Facts, Reader, Saved, Settings, Taken, Trial};
use process::Holders;
use programs::{find, run};

/// Programs of the iptables package.
const PROGRAMS: [&str; 6] = [
    "iptables",
    "iptables-save",
    "iptables-restore",
    "ip6tables",
    "ip6tables-save",
    "ip6tables-restore",
];

/// `config`: the folder of `interceptor.toml`.
pub(super) async fn gather(config: &Path) -> Facts {
    let ours = options(&config.join("interceptor.toml"));
    let lines = Statistics::all();
    let ports: Vec<_> = lines.iter().flatten().map(|line| line.port).collect();
    let (queues, taken) = (sockets::netlink(&ports), sockets::bound(&wanted(&ours)));
    let inodes = queues.iter().map(|(_, inode)| *inode);
    let holders = Holders::of(&inodes.chain(taken.iter().map(|socket| socket.inode)).collect());
    let reader = |line: Statistics| {
        let inode = queues
            .iter()
            .find(|(port, _)| *port == line.port)
            .map(|(_, inode)| *inode);
        let process = inode
            .and_then(|inode| holders.of_socket(inode))
            .or_else(|| process::read(line.port));
        Reader { line, process }
    };
    Facts {
        readers: match lines {
            Ok(lines) => Ok(lines.into_iter().map(reader).collect()),
            // before the first use of a queue there is no table
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        },
        saved: saved().await,
        backend: backend().await,
        nft: match find("nft") {
            Some(program) => Some(run(&program, &["--json", "list", "ruleset"], "").await),
            None => None,
        },
        sockets: taken
            .into_iter()
            .map(|socket| Taken {
                tcp: socket.tcp,
                address: socket.address,
                port: socket.port,
                process: holders.of_socket(socket.inode),
            })
            .collect(),
        processes: process::all(),
        missing: PROGRAMS.into_iter().filter(|name| find(name).is_none()).collect(),
        trial: trial(ours.as_ref().copied().unwrap_or_default()).await,
        queues: has_queues(),
        settings: settings(),
        ours,
    }
}

/// What matters here of `interceptor.toml`; the rest is not looked at.
#[derive(Deserialize, Default)]
#[serde(default)]
struct File {
    firewall: Firewall,
    marks: Marks,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Firewall {
    keep_foreign_marks: Option<bool>,
    dns_v4: Option<std::net::SocketAddrV4>,
    dns_v6: Option<std::net::SocketAddrV6>,
    gate17_v4: Option<std::net::SocketAddrV4>,
    gate17_v6: Option<std::net::SocketAddrV6>,
    ipv6_route: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Marks {
    mask: Option<u32>,
    shift: Option<u8>,
}

fn options(path: &Path) -> Result<Options, String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Options::default()),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file: File = toml::from_str(&text).map_err(|error| wrong(&error.message()))?;
    let default = Options::default();
    let scheme = MarkScheme::new(file.marks.mask.unwrap_or(u32::MAX), file.marks.shift.unwrap_or(0));
    let File { firewall, .. } = file;
    Ok(Options {
        scheme: scheme.map_err(|error| wrong(&error))?,
        keep_foreign_marks: firewall.keep_foreign_marks.unwrap_or(default.keep_foreign_marks),
        dns: Local {
            v4: firewall.dns_v4.unwrap_or(default.dns.v4),
            v6: firewall.dns_v6.unwrap_or(default.dns.v6),
        },
        gate17: Local {
            v4: firewall.gate17_v4.unwrap_or(default.gate17.v4),
            v6: firewall.gate17_v6.unwrap_or(default.gate17.v6),
        },
        ipv6_route: firewall.ipv6_route,
        ..default
    })
}

fn wanted(ours: &Result<Options, String>) -> Vec<u16> {
    let ours = ours.as_ref().copied().unwrap_or_default();
    let Options { dns, gate17, .. } = ours;
    vec![
        dns.v4.port(),
        dns.v6.port(),
        gate17.v4.port(),
        gate17.v6.port(),
        817,
    ]
}

async fn backend() -> Option<Backend> {
    let said = run(&find("iptables")?, &["--version"], "").await.ok()?;
    Some(if said.contains("nf_tables") {
        Backend::Nft
    } else {
        Backend::Legacy
    })
}

async fn saved() -> Vec<Saved> {
    let mut all = Vec::new();
    for backend in Backend::ALL {
        for family in Family::ALL {
            // asking the old back end for a table makes it
            let Some(program) = find(&backend.program(family, "-save"))
                .filter(|_| backend == Backend::Nft || has_tables(family))
            else {
                continue;
            };
            all.push(Saved {
                backend,
                family,
                text: run(&program, &[], "").await,
            });
        }
    }
    all
}

/// The old back end has tables; whoever may not know is told so by its program.
fn has_tables(family: Family) -> bool {
    let names = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    match fs::read_to_string(names) {
        Ok(names) => !names.trim().is_empty(),
        Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
    }
}

/// Loads our rules in a network namespace of their own, which ends with the program that loads them.
async fn trial(options: Options) -> Vec<(Family, Trial)> {
    let rules = RuleSet::new(&options);
    let mut trials = Vec::new();
    for family in Family::ALL {
        let name = match family {
            Family::V4 => "iptables-restore",
            Family::V6 => "ip6tables-restore",
        };
        let trial = match (find("unshare"), find(name)) {
            _ if !rustix::process::geteuid().is_root() => Trial::Untried("only root may".to_owned()),
            (Some(unshare), Some(restore)) => {
                let restore = restore.display().to_string();
                // a namespace that may not be made is no fault of the rules
                match run(&unshare, &["--net", "true"], "").await {
                    Err(said) => Trial::Untried(said),
                    Ok(_) => match run(&unshare, &["--net", &restore], &render(&rules, family)).await {
                        Ok(_) => Trial::Taken,
                        Err(said) => Trial::Refused(said),
                    },
                }
            }
            (None, _) => Trial::Untried("unshare is not installed".to_owned()),
            // told as missing already
            (_, None) => continue,
        };
        trials.push((family, trial));
    }
    trials
}

/// `nfnetlink_queue` is in the kernel, or among the modules that it may load; `None` where that cannot be told.
fn has_queues() -> Option<bool> {
    const TABLE: &str = "/proc/net/netfilter/nfnetlink_queue";
    if Path::new(TABLE).exists() {
        return Some(true);
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let modules = Path::new("/lib/modules").join(release.trim());
    let lists = ["modules.builtin", "modules.dep"].map(|name| fs::read_to_string(modules.join(name)).ok());
    let known: Vec<_> = lists.into_iter().flatten().collect();
    (!known.is_empty()).then(|| known.iter().any(|list| list.contains("/nfnetlink_queue.ko")))
}

fn settings() -> Settings {
    let enabled = Path::new("/etc/systemd/system/sysinit.target.wants/nftables.service").exists();
    let read = |path: &str| fs::read_to_string(path).ok();
    Settings {
        nftables: read("/etc/nftables.conf").filter(|_| enabled),
        firewalld: read("/etc/firewalld/firewalld.conf"),
        ufw: read("/etc/default/ufw"),
    }
}
