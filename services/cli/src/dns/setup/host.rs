//! The programs of this host that set its name servers: whether they run, what they were told, and how they hear of a change.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::{process::Command, time::timeout};
use zbus::{Connection, OwnedObjectPath, fdo::DBusProxy, proxy, proxy::CacheProperties};

use super::place::Place;

/// A service that does not answer for so long does not answer.
const PATIENCE: Duration = Duration::from_secs(20);

const RESOLVED: &str = "systemd-resolved.service";

/// What systemd-resolved was given for the host as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GlobalResolver {
    /// Address and port; 0: the usual one.
    pub(super) servers: Vec<(IpAddr, u16)>,
    /// Search domains, and with `~` before them those for routing.
    pub(super) domains: Vec<String>,
    /// Whether it asks over TLS, on any link.
    pub(super) tls: Tls,
}

/// `DNSOverTLS=` (resolved.conf(5)), the strictest last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tls {
    #[default]
    No,
    /// Where the server can, and without proof of who it is.
    Opportunistic,
    Yes,
}

impl Tls {
    fn of(said: &str) -> Self {
        match said {
            "yes" => Self::Yes,
            "opportunistic" => Self::Opportunistic,
            _ => Self::No,
        }
    }
}

/// Interface, address family, address, port, name to prove.
type Server = (i32, i32, Vec<u8>, u16, String);
/// Interface, domain, whether it is only for routing.
type Domain = (i32, String, bool);
/// Interface, address family, address.
type Address = (i32, i32, Vec<u8>);

/// org.freedesktop.resolve1(5).
#[proxy(
    interface = "org.freedesktop.resolve1.Manager",
    default_service = "org.freedesktop.resolve1",
    default_path = "/org/freedesktop/resolve1"
)]
trait Resolved {
    #[zbus(property, name = "DNSEx")]
    fn dns_ex(&self) -> zbus::Result<Vec<Server>>;
    #[zbus(property)]
    fn domains(&self) -> zbus::Result<Vec<Domain>>;
    #[zbus(property, name = "DNSOverTLS")]
    fn dns_over_tls(&self) -> zbus::Result<String>;
    fn get_link(&self, interface: i32) -> zbus::Result<OwnedObjectPath>;
    fn resolve_hostname(
        &self,
        interface: i32,
        name: &str,
        family: i32,
        flags: u64,
    ) -> zbus::Result<(Vec<Address>, String, u64)>;
}

/// Of one link.
#[proxy(
    interface = "org.freedesktop.resolve1.Link",
    default_service = "org.freedesktop.resolve1"
)]
trait ResolvedLink {
    #[zbus(property, name = "DNSOverTLS")]
    fn dns_over_tls(&self) -> zbus::Result<String>;
}

/// org.freedesktop.NetworkManager (nm-dbus-interface.h).
#[proxy(
    interface = "org.freedesktop.NetworkManager",
    default_service = "org.freedesktop.NetworkManager",
    default_path = "/org/freedesktop/NetworkManager"
)]
trait NetworkManager {
    /// Flags 0: everything is read anew.
    fn reload(&self, flags: u32) -> zbus::Result<()>;
}

/// This host, or one that only has files.
#[derive(Debug)]
pub(super) struct Host {
    bus: Option<Connection>,
    is_this: bool,
}

impl Host {
    /// The host that this runs on.
    pub(super) async fn this() -> Self {
        let bus = timeout(PATIENCE, Connection::system()).await;
        Self {
            bus: bus.ok().and_then(Result::ok),
            is_this: true,
        }
    }

    /// One that does not run: nobody has to be told.
    pub(super) const fn files() -> Self {
        Self {
            bus: None,
            is_this: false,
        }
    }

    pub(super) const fn is_this(&self) -> bool {
        self.is_this
    }

    /// Whether the program behind a place runs, or is about to. Asking starts nothing.
    pub(super) async fn runs(&self, place: Place) -> bool {
        let (name, unit) = match place {
            Place::Resolved => ("org.freedesktop.resolve1", RESOLVED),
            Place::NetworkManager => ("org.freedesktop.NetworkManager", "NetworkManager.service"),
            Place::Openresolv => return ["/sbin", "/usr/sbin", "/usr/bin"].iter().any(has_resolvconf),
            Place::ResolvConf => return false,
        };
        if has_systemd() {
            // between two lives, as when somebody restarts it just now, it owns no name
            return is_up(unit).await;
        }
        let asked = async {
            let bus = DBusProxy::new(self.bus.as_ref()?).await.ok()?;
            bus.name_has_owner(name.try_into().ok()?).await.ok()
        };
        timeout(PATIENCE, asked).await.ok().flatten().unwrap_or(false)
    }

    /// What systemd-resolved was told.
    pub(super) async fn global_resolver(&self) -> Result<GlobalResolver> {
        let asked = async {
            let manager = self.resolved().await?;
            let (servers, domains) = (manager.dns_ex().await?, manager.domains().await?);
            let tls = self.tls(&manager, &servers).await;
            Ok::<_, anyhow::Error>(translate(servers, domains, tls))
        };
        timeout(PATIENCE, asked)
            .await
            .context("ask systemd-resolved")?
            .context("ask systemd-resolved for its servers")
    }

    /// The strictest of the host's and its links'. A version that does not say knows no TLS; a link may have gone meanwhile.
    async fn tls(&self, manager: &ResolvedProxy<'_>, servers: &[Server]) -> Tls {
        let mut strictest = Tls::of(&manager.dns_over_tls().await.unwrap_or_default());
        let links: BTreeSet<i32> = servers
            .iter()
            .map(|server| server.0)
            .filter(|link| *link != 0)
            .collect();
        for link in links {
            let said = async {
                let path = manager.get_link(link).await?;
                let builder = ResolvedLinkProxy::builder(manager.inner().connection()).path(path);
                let link = builder.cache_properties(CacheProperties::No).build().await?;
                link.dns_over_tls().await
            };
            strictest = strictest.max(Tls::of(&said.await.unwrap_or_default()));
        }
        strictest
    }

    /// Has systemd-resolved look for a name; what it finds is of no interest.
    pub(super) async fn ask_resolved(&self, name: &str) -> Result<()> {
        let manager = self.resolved().await?;
        let _found_or_not = timeout(PATIENCE, manager.resolve_hostname(0, name, 0, 0)).await;
        Ok(())
    }

    async fn resolved(&self) -> Result<ResolvedProxy<'static>> {
        let bus = self.bus.as_ref().context("reach the system bus")?;
        let builder = ResolvedProxy::builder(bus).cache_properties(CacheProperties::No);
        builder.build().await.context("reach systemd-resolved")
    }

    /// Tells the program behind a place that its files changed; returns when it uses them. One that does not run needs not
    /// be told.
    pub(super) async fn tell(&self, place: Place) -> Result<()> {
        if !self.is_this || !self.runs(place).await {
            return Ok(());
        }
        match place {
            Place::Resolved => restart(RESOLVED).await,
            Place::NetworkManager => {
                let bus = self.bus.as_ref().context("reach the system bus")?;
                let manager = NetworkManagerProxy::new(bus).await?;
                let told = timeout(PATIENCE, manager.reload(0)).await;
                told.context("have NetworkManager read its files anew")?.context(
                    "have NetworkManager read its files anew: `journalctl -u NetworkManager` tells more",
                )
            }
            Place::Openresolv => run("resolvconf", &["-u"])
                .await
                .context("have openresolv write /etc/resolv.conf"),
            Place::ResolvConf => Ok(()),
        }
    }
}

fn has_resolvconf(folder: &&str) -> bool {
    Path::new(folder).join("resolvconf").exists()
}

/// sd_booted(3)
fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Whether a unit runs, or a job of systemd's is to make it so.
async fn is_up(unit: &str) -> bool {
    let mut command = Command::new("systemctl");
    command.args(["show", "--property=ActiveState,Job", unit]);
    let output = command.output().await;
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    said.is_ok_and(|said| is_up_by(&said))
}

/// By what systemctl(1) shows: a number stands for a job that waits or runs.
fn is_up_by(shown: &str) -> bool {
    shown.lines().any(|line| match line.split_once('=') {
        Some(("ActiveState", state)) => !matches!(state, "inactive" | "failed"),
        Some(("Job", job)) => job.parse::<u32>().is_ok_and(|job| job != 0),
        _ => false,
    })
}

/// It reads drop-ins when it starts; later versions also when they are told to.
async fn restart(unit: &str) -> Result<()> {
    if !has_systemd() {
        bail!("{unit} runs without systemd: restart it by hand, so that it reads its files");
    }
    // whoever changes their mind five times in ten seconds would meet its start limit
    let mut forget = Command::new("systemctl");
    let _not_failed = forget.args(["reset-failed", unit]).output().await;
    let restarted = run("systemctl", &["reload-or-restart", unit]).await;
    restarted.with_context(|| format!("restart {unit}: `systemctl status {unit}` tells more"))
}

/// What it said is the error.
async fn run(program: &str, words: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    let output = timeout(PATIENCE, command.args(words).kill_on_drop(true).output());
    let output = output.await.with_context(|| format!("wait for {program}"))?;
    let output = output.with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        bail!("{program} {}: {said}", words.join(" "));
    }
    Ok(())
}

fn translate(servers: Vec<Server>, domains: Vec<Domain>, tls: Tls) -> GlobalResolver {
    let whole = |interface: i32| interface == 0;
    GlobalResolver {
        servers: servers
            .into_iter()
            .filter(|(interface, ..)| whole(*interface))
            .filter_map(|(_, _, octets, port, _)| Some((address(&octets)?, port)))
            .collect(),
        domains: domains
            .into_iter()
            .filter(|(interface, ..)| whole(*interface))
            .map(|(_, domain, route_only)| if route_only { format!("~{domain}") } else { domain })
            .collect(),
        tls,
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(octets).map(|octets| Ipv4Addr::from(octets).into());
    let six = || <[u8; 16]>::try_from(octets).map(|octets| Ipv6Addr::from(octets).into());
    four.or_else(|_| six()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_restarted_just_now_runs() {
        for shown in [
            "ActiveState=active\n",
            "ActiveState=deactivating\n",
            "Job=17\nActiveState=inactive\n",
        ] {
            assert!(is_up_by(shown), "{shown}");
        }
        for shown in [
            "ActiveState=inactive\n",
            "ActiveState=failed\nJob=0\n",
            "ActiveState=inactive\nJob=\n",
            "",
        ] {
            assert!(!is_up_by(shown), "{shown}");
        }
    }

    #[test]
    fn only_what_is_for_the_whole_host_counts() {
        let servers = vec![
            (0, 2, vec![192, 0, 2, 9], 0, String::new()),
            (2, 2, vec![192, 0, 2, 1], 0, String::new()),
            (0, 10, vec![0; 16], 5353, "dns.example".to_owned()),
            (0, 2, vec![1, 2, 3], 0, String::new()),
        ];
        let domains = vec![
            (0, ".".to_owned(), true),
            (0, "corp.example".to_owned(), false),
            (2, "lan".to_owned(), false),
        ];
        let global = translate(servers, domains, Tls::No);
        let server = |text: &str, port| (text.parse().unwrap(), port);
        assert_eq!(global.servers, [server("192.0.2.9", 0), server("::", 5353)]);
        assert_eq!(global.domains, ["~.", "corp.example"]);
        assert_eq!(Tls::of("opportunistic").max(Tls::of("yes")), Tls::Yes);
    }
}
