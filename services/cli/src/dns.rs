//! `portmaster dns`: what the DNS server answers, from where, and why; and whether this host asks it.

mod kind;
mod log;
mod query;
pub(crate) mod setup;
mod show;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::{
    filter::{DomainPattern, VerdictArg},
    paint::Paint,
    place::PlaceArgs,
};

/// `portmaster dns`
#[derive(Debug, Subcommand)]
pub enum DnsCommand {
    /// Follow queries as they are answered
    Log(LogArgs),
    /// List what is kept to answer from
    Cache(CacheArgs),
    /// Forget what is kept to answer from
    Flush(FlushArgs),
    /// List the servers that are asked, and how they do
    Upstreams(PlainArgs),
    /// List the filter lists, and what is wrong with them
    Lists(PlainArgs),
    /// Say what would happen to a query, and why
    Explain(ExplainArgs),
    /// Have this host ask Portmaster for names: systemd-resolved, NetworkManager, /etc/resolv.conf
    ///
    /// Without it queries are answered all the same, since the firewall redirects them. What is changed is recorded before,
    /// tried with a real query, and put back by `disable`, by `portmaster stop`, and when Portmaster is removed. Twice is no
    /// error.
    Enable(setup::EnableArgs),
    /// Put back what `enable` changed, exactly as it was
    Disable(setup::DisableArgs),
}

/// `portmaster dns log`
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Begin with the last queries that are remembered
    #[arg(long)]
    pub recent: bool,
    /// One JSON object per line, instead of text for people
    #[arg(long)]
    pub json: bool,
    /// Programs: part of the path or name of program or script
    #[arg(long, value_name = "TEXT")]
    pub app: Vec<String>,
    /// Names: example.com alone, or *.example.com with all below it
    #[arg(long, value_name = "NAME")]
    pub domain: Vec<DomainPattern>,
    /// Verdicts
    #[arg(long, value_enum, value_name = "VERDICT", value_delimiter = ',')]
    pub verdict: Vec<VerdictArg>,
    /// Where the services are
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `portmaster dns cache`
#[derive(Debug, Args)]
pub struct CacheArgs {
    /// Only this name and what is below
    #[arg(value_name = "ZONE", default_value = "", hide_default_value = true)]
    pub zone: String,
    /// What is common
    #[command(flatten)]
    pub plain: PlainArgs,
}

/// `portmaster dns flush`
#[derive(Debug, Args)]
pub struct FlushArgs {
    /// Only this name [default: everything]
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// And all names below it
    #[arg(long, requires = "name")]
    pub zone: bool,
    /// What is common
    #[command(flatten)]
    pub plain: PlainArgs,
}

/// `portmaster dns explain`
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Name that is asked for
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Record type: A, AAAA, HTTPS, … or a number
    #[arg(long = "type", value_name = "TYPE", default_value = "A", value_parser = kind::parse)]
    pub kind: u32,
    /// The program that asks; the policy service tells its profile
    #[arg(long, value_name = "PATH", conflicts_with = "profile")]
    pub app: Option<PathBuf>,
    /// Profile of who asks, by id [default: the settings for all programs]
    #[arg(long, value_name = "ID")]
    pub profile: Option<String>,
    /// What is common
    #[command(flatten)]
    pub plain: PlainArgs,
}

/// What the commands that answer once have in common.
#[derive(Debug, Args)]
pub struct PlainArgs {
    /// JSON, instead of text for people
    #[arg(long)]
    pub json: bool,
    /// Where the services are
    #[command(flatten)]
    pub place: PlaceArgs,
}

pub(crate) async fn run(command: DnsCommand, paint: Paint) -> Result<ExitCode> {
    match command {
        DnsCommand::Log(args) => log::run(args, paint).await,
        DnsCommand::Cache(args) => show::cache(args, paint).await,
        DnsCommand::Flush(args) => show::flush(args).await,
        DnsCommand::Upstreams(args) => show::upstreams(args, paint).await,
        DnsCommand::Lists(args) => show::lists(args, paint).await,
        DnsCommand::Explain(args) => show::explain(args, paint).await,
        DnsCommand::Enable(args) => setup::enable(args).await,
        DnsCommand::Disable(args) => setup::disable(args).await,
    }
}
