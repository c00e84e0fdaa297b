//! `portmaster dns enable` and `disable`: the host's own resolver set-up names our server, and is put back exactly.
//!
//! Without it every query is answered all the same: the firewall redirects it. With it programs ask by themselves, which saves
//! the redirect, and works for those that systemd-resolved asks for.
//!
//! Invariant: nothing is written but at the places of [`place::Place`], and not before what is there is on record.

mod carry;
mod facts;
mod host;
mod kept;
mod place;
mod plan;
mod probe;
mod record;
mod trouble;

use std::{net::IpAddr, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::json;

use self::{
    carry::{Outcome, State, put_back},
    facts::Facts,
    host::Host,
    place::{Place, Root},
    plan::{Plan, Wishes},
    probe::Probe,
    record::{Lock, Record},
};
use super::PlainArgs;
use crate::{host as units, output::print, printable::json_line};

/// `portmaster dns enable`
#[derive(Debug, Args)]
pub struct EnableArgs {
    /// Say what would be changed, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Programs ask Portmaster themselves where they would ask systemd-resolved's stub, so that rules know who asks; names that
    /// only systemd-resolved finds (LLMNR, multicast DNS) are then not found
    #[arg(long)]
    pub direct: bool,
    /// Also where the DNS service does not answer, or names would leave in the clear that are encrypted now
    #[arg(long)]
    pub force: bool,
    /// What is common
    #[command(flatten)]
    pub plain: PlainArgs,
}

impl EnableArgs {
    const fn wishes(&self) -> Wishes {
        Wishes {
            direct: self.direct,
            force: self.force,
        }
    }
}

/// `portmaster dns disable`
#[derive(Debug, Args)]
pub struct DisableArgs {
    /// Also files that were edited since: they are put aside in /var/lib/portmaster, or left where they no longer name us
    #[arg(long)]
    pub force: bool,
    /// What is common
    #[command(flatten)]
    pub plain: PlainArgs,
}

/// Where our server is asked unless it says otherwise.
const USUAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 17));

/// With a root of its own it is a tree of files, where nothing runs.
async fn host(plain: &PlainArgs) -> (Root, Host) {
    match plain.place.root.as_deref().filter(|root| *root != Path::new("/")) {
        Some(folder) => (Root::new(folder), Host::files()),
        None => (Root::new(Path::new("/")), Host::this().await),
    }
}

fn need_root(host: &Host) -> Result<()> {
    ensure!(
        !host.is_this() || rustix::process::geteuid().is_root(),
        "the name servers of this host are root's to set: run it with sudo"
    );
    Ok(())
}

async fn gather(root: &Root, host: &Host) -> Result<Facts> {
    let mut facts = Facts::of_files(root);
    if host.is_this() {
        facts.resolved = host.runs(Place::Resolved).await;
        facts.network_manager = host.runs(Place::NetworkManager).await;
        if facts.resolved {
            facts.global = host.global_resolver().await?;
        }
    }
    Ok(facts)
}

pub(super) async fn enable(args: EnableArgs) -> Result<ExitCode> {
    let (root, host) = host(&args.plain).await;
    if args.dry_run {
        return dry_run(&args, &root, &host).await;
    }
    need_root(&host)?;
    let _lock = Lock::take(&root)?;
    if host.is_this() && !args.force {
        stays().await?;
    }
    let mut probe = Probe::new(&args.plain.place);
    let (server, own_upstreams) = service(&mut probe, &host, args.force).await?;
    if let Some(record) = Record::load(&root)? {
        if record.server == server
            && record.direct == args.direct
            && carry::state(&root, &record)? == State::Enabled
        {
            return tell(&args.plain, "enabled", &already(&record), &[]);
        }
        // interrupted, or done otherwise: what was there before is what counts
        put_back(&root, &host, args.force).await?;
    }
    let facts = gather(&root, &host).await?;
    let plan = plan::plan(&facts, server, own_upstreams, args.wishes())?;
    carry::enable(&root, &host, &plan, Record::new(server, args.direct)).await?;
    verify(&mut probe, &root, &host, &plan, args.force).await?;
    tell(&args.plain, "enabled", &changes(&plan), &plan.notes)
}

/// Whether the service is there tomorrow as well: after the time for a confirmation, and after a boot.
async fn stays() -> Result<()> {
    ensure!(
        !units::is_unconfirmed().await?,
        "the start of Portmaster is not confirmed yet, and going back would leave this host without names: `portmaster confirm`, \
         then again"
    );
    ensure!(
        units::starts_at_boot().await?,
        "Portmaster does not start at boot, and this host would be without names then: `systemctl enable portmaster.target`, \
         then again (--force insists)"
    );
    Ok(())
}

/// Where the service answers, and whether it has upstreams of its own.
async fn service(probe: &mut Probe<'_>, host: &Host, force: bool) -> Result<(IpAddr, bool)> {
    if !host.is_this() {
        return Ok((USUAL, false));
    }
    let asked = async {
        let server = probe.server().await?;
        let upstreams = probe.upstreams().await?;
        Ok((
            server,
            upstreams.iter().any(|upstream| {
                // an older service calls them otherwise
                let is_owners = matches!(upstream.source.as_str(), "configured" | "upstreams");
                is_owners && upstream.zones.is_empty()
            }),
        ))
    };
    match asked.await {
        Err(_) if force => Ok((USUAL, false)),
        found => found.map_err(|error: anyhow::Error| {
            error.context(
                "the host would be without names (`portmaster start` starts the service; --force insists): nothing was changed",
            )
        }),
    }
}

/// As programs ask, or all is put back.
async fn verify(probe: &mut Probe<'_>, root: &Root, host: &Host, plan: &Plan, force: bool) -> Result<()> {
    if !host.is_this() {
        return Ok(());
    }
    let places: Vec<_> = plan.changes.iter().map(|(place, _)| *place).collect();
    match probe.host(host, &places).await {
        Err(error) if force => {
            eprintln!("portmaster: {error:#}; it stays, as --force says");
            Ok(())
        }
        Err(error) => {
            let back = put_back(root, host, false).await;
            back.with_context(|| format!("{error:#}; and it could not be put back"))?;
            Err(error.context("it was tried and put back, nothing is changed"))
        }
        Ok(()) => Ok(()),
    }
}

async fn dry_run(args: &EnableArgs, root: &Root, host: &Host) -> Result<ExitCode> {
    if let Some(record) = Record::load(root)? {
        let state = carry::state(root, &record)?.text();
        return tell(&args.plain, state, &already(&record), &[]);
    }
    let facts = gather(root, host).await?;
    let plan = plan::plan(&facts, USUAL, false, args.wishes())?;
    tell(&args.plain, "disabled", &changes(&plan), &plan.notes)
}

fn already(record: &Record) -> Vec<(Place, String)> {
    let line = |place: Place| (place, "names Portmaster".to_owned());
    record.steps.iter().map(|step| line(step.place)).collect()
}

fn changes(plan: &Plan) -> Vec<(Place, String)> {
    let line = |place: Place| {
        let text = match place {
            Place::Resolved => "systemd-resolved asks Portmaster for all names",
            Place::NetworkManager => "NetworkManager leaves /etc/resolv.conf alone",
            Place::Openresolv => "openresolv has programs ask Portmaster",
            Place::ResolvConf => "programs ask Portmaster",
        };
        (place, text.to_owned())
    };
    plan.changes.iter().map(|(place, _)| line(*place)).collect()
}

pub(super) async fn disable(args: DisableArgs) -> Result<ExitCode> {
    let (root, host) = host(&args.plain).await;
    need_root(&host)?;
    let _lock = Lock::take(&root)?;
    let outcomes = put_back(&root, &host, args.force).await?;
    let line = |(place, outcome): &(Place, Outcome)| {
        let text = match outcome {
            Outcome::PutBack => "is as it was before".to_owned(),
            Outcome::AsBefore => "was as before already".to_owned(),
            Outcome::Left => "no longer names Portmaster: it stays as somebody made it".to_owned(),
            Outcome::Aside(path) => format!("is as it was before; as it was edited it is {}", path.display()),
        };
        (*place, text)
    };
    let lines: Vec<_> = outcomes.iter().map(line).collect();
    tell(&args.plain, "disabled", &lines, &[])
}

/// For `portmaster stop`, after which nobody would answer: takes the set-up back on this host where it was enabled; says
/// whether it was.
///
/// # Errors
/// What keeps it enabled, with the remedy.
pub(crate) async fn take_back() -> Result<bool> {
    let root = Root::new(Path::new("/"));
    if !Record::exists(&root) {
        return Ok(false);
    }
    let host = Host::this().await;
    let back = async {
        need_root(&host)?;
        let _lock = Lock::take(&root)?;
        put_back(&root, &host, false).await
    };
    back.await.context(
        "this host still asks Portmaster for names (`portmaster dns disable` as root puts it back)",
    )?;
    Ok(true)
}

fn tell(plain: &PlainArgs, state: &str, places: &[(Place, String)], notes: &[String]) -> Result<ExitCode> {
    if plain.json {
        let places: Vec<_> = places
            .iter()
            .map(|(place, text)| json!({ "path": place.path(), "text": text }))
            .collect();
        return print(&json_line(
            &json!({ "state": state, "places": places, "notes": notes }),
        )?);
    }
    let mut text = format!("{state}\n");
    for (place, what) in places {
        text += &format!("  {}: {what}\n", place.path());
    }
    for note in notes {
        text += &format!("  {note}\n");
    }
    print(&text)
}
