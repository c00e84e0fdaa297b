//! `portmaster dns`: what the DNS server answers, from where, and why; and whether this host asks it.

mod kind;
mod log;
mod query;
pub(crate) mod setup;
mod show;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};

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
    /// Ask for all names at the network's own servers for a time, to get past a captive portal; as root
    ///
    /// These names go in the clear, to whoever runs the network; nothing that is answered meanwhile is kept. `portmaster status`
    /// tells while it lasts.
    Open(OpenArgs),
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
    /// End after what is remembered, instead of waiting for more
    #[arg(long)]
    pub once: bool,
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
    /// Record types: A, AAAA, HTTPS, … or a number
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', value_parser = kind::parse)]
    pub kind: Vec<u32>,
    /// Where answers come from
    #[arg(long, value_enum, value_name = "ORIGIN", value_delimiter = ',')]
    pub origin: Vec<OriginArg>,
    /// Where the services are
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OriginArg {
    /// What is kept
    Cache,
    /// What is kept, past its time, since no server answered
    Stale,
    /// A server that was asked
    Upstream,
    /// A registry, or the owner's settings
    Special,
    /// Nowhere: policy, a list, or what the answer held refuse it
    Refused,
    /// Nowhere: no server answered
    Failed,
}

impl OriginArg {
    /// As in the log.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Stale => "stale",
            Self::Upstream => "upstream",
            Self::Special => "special",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
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

/// `portmaster dns open`
#[derive(Debug, Args)]
pub struct OpenArgs {
    /// For how long, at most an hour: 90s, 5m, 1h; 0s: not any longer
    #[arg(value_name = "TIME", value_parser = show::opening)]
    pub time: Duration,
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
        DnsCommand::Open(args) => show::open(args).await,
        DnsCommand::Enable(args) => setup::enable(args).await,
        DnsCommand::Disable(args) => setup::disable(args).await,
    }
}
