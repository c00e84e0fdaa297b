//! The places of a host where its name servers are set. No other path is ever written or put back.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Deepest link that is followed, as the kernel has it for nested ones.
const DEEPEST: usize = 40;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Place {
    /// A drop-in of systemd-resolved's: its stub, its C library module and its bus interface all end at our server.
    Resolved,
    /// A drop-in of NetworkManager's: it leaves `/etc/resolv.conf` alone.
    NetworkManager,
    /// openresolv's settings: it writes our server into `/etc/resolv.conf`, whatever networks tell it.
    Openresolv,
    /// The C library's own file.
    ResolvConf,
}

impl Place {
    /// Absolute. Drop-ins are read by name, and what is read later counts: ours is last.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Resolved => "/etc/systemd/resolved.conf.d/zz-portmaster.conf",
            Self::NetworkManager => "/etc/NetworkManager/conf.d/zz-portmaster.conf",
            Self::Openresolv => "/etc/resolvconf.conf",
            Self::ResolvConf => "/etc/resolv.conf",
        }
    }

    /// Whether the file would not be there without us.
    pub(super) const fn is_drop_in(self) -> bool {
        matches!(self, Self::Resolved | Self::NetworkManager)
    }
}

const HEAD: &str =
    "# Written by `portmaster dns enable`; `portmaster dns disable` puts back what was here.\n";

/// For [`Place::Resolved`]: our server for all names, none of those set elsewhere; search domains stay. No TLS to our own
/// host, whatever is set elsewhere.
pub(super) fn resolved(server: IpAddr) -> String {
    format!("{HEAD}[Resolve]\nDNS=\nDNS={server}\nDomains=~.\nDNSOverTLS=no\n")
}

/// For [`Place::NetworkManager`] (NetworkManager.conf(5)).
pub(super) fn network_manager() -> String {
    format!("{HEAD}[main]\ndns=none\n")
}

/// For [`Place::Openresolv`] (resolvconf.conf(5)): the settings that were there, and ours behind them, which counts.
pub(super) fn openresolv(server: IpAddr, was: &str) -> String {
    let end = if was.is_empty() || was.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    format!("{was}{end}{HEAD}name_servers={server}\n")
}

/// Whether openresolv's settings name a server.
pub(super) fn openresolv_names(text: &str, server: IpAddr) -> bool {
    let value = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("name_servers="))
        .next_back();
    let unquoted = value.unwrap_or_default().trim_matches(['"', '\'']);
    unquoted.split_whitespace().any(|word| word.parse() == Ok(server))
}

/// For [`Place::ResolvConf`]: search domains and options stay as in the text that was.
pub(super) fn resolv_conf(server: IpAddr, was: &str) -> String {
    let mut text = format!("{HEAD}nameserver {server}\n");
    let kept = ["search", "domain", "options", "sortlist"];
    for line in was.lines().map(str::trim) {
        if line
            .split_whitespace()
            .next()
            .is_some_and(|word| kept.contains(&word))
        {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// The name servers of a resolv.conf(5).
pub(super) fn name_servers(text: &str) -> Vec<IpAddr> {
    let server = |line| {
        let mut words = str::split_whitespace(line);
        (words.next() == Some("nameserver")).then(|| words.next())?
    };
    let address = |word: &str| word.split('%').next()?.parse().ok();
    text.lines().filter_map(server).filter_map(address).collect()
}

/// A folder that everything is below.
#[derive(Clone, Debug)]
pub(super) struct Root(PathBuf);

impl Root {
    pub(super) fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// An absolute path of the host, below it.
    pub(super) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub(super) fn place(&self, place: Place) -> PathBuf {
        self.at(place.path())
    }

    /// The absolute path, as the host sees it, that a path leads to in the end when its last part is a link; itself else.
    pub(super) fn follow(&self, path: &Path) -> PathBuf {
        let mut path = path.to_owned();
        for _ in 0..DEEPEST {
            let Ok(target) = std::fs::read_link(self.at(&path)) else {
                break;
            };
            path = normal(&path.parent().unwrap_or(Path::new("/")).join(target));
        }
        path
    }
}

/// Without `.` and `..`; a path cannot leave its root.
fn normal(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut normal = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::Normal(name) => normal.push(name),
            _ => {}
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use std::{fs, net::Ipv4Addr, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn search_domains_and_options_stay() {
        let was = "# by hand\nsearch lan corp.example\nnameserver 192.0.2.1\n  options edns0 trust-ad\nnameserver fe80::1%eth0\n";
        let text = resolv_conf(Ipv4Addr::new(127, 0, 0, 17).into(), was);
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "nameserver 127.0.0.17",
                "search lan corp.example",
                "options edns0 trust-ad"
            ]
        );
        assert_eq!(name_servers(was).len(), 2);
        assert_eq!(name_servers(&text), [IpAddr::from(Ipv4Addr::new(127, 0, 0, 17))]);
    }

    #[test]
    fn settings_of_openresolv_stay() {
        let server = Ipv4Addr::new(127, 0, 0, 17).into();
        for was in [
            "",
            "resolv_conf=/etc/resolv.conf\nname_servers='192.0.2.1 127.0.0.1'",
            "# mine\n",
        ] {
            let text = openresolv(server, was);
            assert!(
                text.starts_with(was) && text.ends_with("\nname_servers=127.0.0.17\n"),
                "{text}"
            );
            assert!(openresolv_names(&text, server) && !openresolv_names(was, server));
        }
        assert!(openresolv_names(
            "name_servers=\"192.0.2.1 127.0.0.17\"\n",
            server
        ));
        assert!(!openresolv_names("#name_servers=127.0.0.17\n", server));
    }

    #[test]
    fn links_are_followed_below_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        fs::create_dir_all(root.at("/etc")).unwrap();
        fs::create_dir_all(root.at("/run/x")).unwrap();
        symlink("../run/x/one", root.at("/etc/resolv.conf")).unwrap();
        symlink("/run/x/../../../../run/x/two", root.at("/run/x/one")).unwrap();
        let found = root.follow(Path::new("/etc/resolv.conf"));
        assert_eq!(found, Path::new("/run/x/two"));
        assert!(root.at(found).starts_with(folder.path()));
        symlink("two", root.at("/run/x/two")).unwrap();
        root.follow(Path::new("/etc/resolv.conf"));
    }
}
