//! Puts the rules into the kernel, keeps them there, and takes them out again.
//!
//! Invariant: what is loaded is what [`RuleSet`] says. Text goes through `iptables-restore` (one transaction per table,
//! tested first), is read back with `iptables-save` and compared; [`Firewall::watch`] compares again whenever somebody
//! changed the tables. Nothing is remembered between runs: what is to be removed is read from the kernel.

mod apply;
mod backend;
mod cleanup;
mod command;
mod config;
mod legacy;
mod notice;
mod route;
mod watch;

pub use apply::{Applied, Finding, Problem};
pub use backend::Backend;
pub use cleanup::{Removed, Unremoved, cleanup};
pub use config::{BackendChoice, Config, RejectTcp};
pub use watch::Report;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use verdict::{
    mark::MarkScheme,
    ruleset::{Deviation, Family, RuleSet, TableName, render},
};

/// Why the rules could not be put in, read or taken out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is not installed.
    #[error("{0} is not installed; install the package iptables")]
    NoProgram(String),
    /// A setting cannot be used.
    #[error(
        "setting firewall.{setting}: {address} is not an address of this host alone; give one of 127.0.0.0/8 or ::1"
    )]
    NotLocal {
        /// Which.
        setting: &'static str,
        /// Its value.
        address: std::net::IpAddr,
    },
    /// A program could not be started or talked to.
    #[error("run {program}")]
    Start {
        /// Which.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program does not end.
    #[error(
        "{program} has not answered for {seconds} s and was ended; does another program hold the lock of xtables?"
    )]
    Timeout {
        /// Which.
        program: PathBuf,
        /// How long it had.
        seconds: u64,
    },
    /// A program said no.
    #[error("{program} failed: {said}")]
    Failed {
        /// Which.
        program: PathBuf,
        /// Its words, on one line.
        said: String,
    },
    /// Somebody put rules there that the iptables programs do not understand.
    #[error(
        "rules that were made by nft, and that iptables cannot read, are in {}: move them to a table of another name",
        tables.iter().map(|table| format!("nft table {} {table}", nft_family(*family))).collect::<Vec<_>>().join(", ")
    )]
    Unreadable {
        /// Of which family.
        family: Family,
        /// Which tables.
        tables: Vec<TableName>,
    },
    /// Read back, the rules are others than those loaded.
    #[error("the {family} rules were loaded and read back otherwise: {}", list(.deviations))]
    Unverified {
        /// Of which family.
        family: Family,
        /// How they differ.
        deviations: Vec<Deviation>,
    },
}

const fn nft_family(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn list(deviations: &[Deviation]) -> String {
    let texts: Vec<_> = deviations.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// The rules, and the back end that they live in.
#[derive(Clone, Debug)]
pub struct Firewall {
    rules: RuleSet,
    ipv6_route: bool,
    backend: Backend,
    lock: Option<PathBuf>,
}

impl Firewall {
    /// Chooses the back end (`auto` asks `iptables --version`) and builds the rules. Changes nothing yet.
    pub async fn new(config: &Config, scheme: MarkScheme) -> Result<Self, Error> {
        let rules = RuleSet::new(&config.options(scheme)?);
        let backend = backend::choose(config.backend).await?;
        Ok(Self {
            rules,
            ipv6_route: config.ipv6_route,
            backend,
            lock: None,
        })
    }

    /// Puts the rules in, verified; gives what is not as it should be beside them.
    pub async fn load(
        config: &Config,
        scheme: MarkScheme,
        runtime: &Path,
    ) -> anyhow::Result<(Self, Vec<Problem>)> {
        let firewall = Self::new(config, scheme).await?.lock_in(runtime);
        let applied = firewall.apply().await.context("load the firewall rules")?;
        tracing::info!(backend = %applied.backend, "rules loaded and verified");
        Ok((firewall, applied.problems))
    }

    /// Where the lock of the legacy back end lies if this process may not write `/run/xtables.lock` (that is, is not
    /// root): `DIR/xtables.lock`. Such a lock keeps only our own programs apart.
    pub fn lock_in(mut self, directory: &Path) -> Self {
        self.lock = command::own_lock(directory);
        self
    }

    /// The back end that was chosen.
    pub const fn backend(&self) -> Backend {
        self.backend
    }
}

/// The text of all rules, both families, with the reason of each addition: what `--print-rules` says.
pub fn print_rules(config: &Config, scheme: MarkScheme) -> Result<String, Error> {
    let rules = RuleSet::new(&config.options(scheme)?);
    Ok(Family::ALL.map(|family| render(&rules, family)).join("\n"))
}
