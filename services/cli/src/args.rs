//! The command line as clap sees it: every word that a person can type, with its help text.
//!
//! Completions and man pages are generated from this tree, so the help texts here are the manual.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{filter::FilterArgs, place::PlaceArgs};

/// See what the programs on this host connect to, and why it is allowed or not.
#[derive(Debug, Parser)]
#[command(
    name = "portmaster",
    version,
    propagate_version = true,
    max_term_width = 110,
    after_help = "Exit status: 0 done, 1 failed, 64 wrong usage; `check-host`, `status` and `try` have more, see their help."
)]
pub struct Cli {
    /// Colours in what is printed; `auto`: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    pub color: Color,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set or TERM is "dumb".
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follow connections as they are decided, changed and ended
    Monitor(MonitorArgs),
    /// List the connections that are live now
    Connections(ConnectionsArgs),
    /// Check rules, and show the shipped ones
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Say what would happen to a connection, and by which rule
    Explain(ExplainArgs),
    /// See what the DNS server answers, and let the host use it
    #[command(subcommand)]
    Dns(crate::dns::DnsCommand),
    /// See what is carried through the tunnel, and by which nodes
    #[command(subcommand)]
    Gate17(crate::gate17::Gate17Command),
    /// Let programs use the API on 127.0.0.1:817 that are no members of group portmaster, or shall do more
    #[command(subcommand)]
    Token(crate::token::TokenCommand),
    /// Show every service: version, health, problems, counters; and a pause
    ///
    /// Exit status: 0 all are healthy, 1 one has a problem, 3 one is down.
    Status(StatusArgs),
    /// Let pass for a while what would be refused
    ///
    /// The pause ends by itself, also when nobody is there to end it. What is to be tunnelled stays tunnelled. Others than
    /// root ask on the desktop bus, where polkit decides (action org.portmaster.policy.pause).
    Pause(PauseArgs),
    /// End a pause
    ///
    /// Others than root ask on the desktop bus, as for `pause`.
    Resume(ResumeArgs),
    /// Start the firewall on this host
    ///
    /// With --confirm it goes back by itself unless it is confirmed in time, here with Enter or anywhere with `portmaster
    /// confirm`: whoever is cut off gets in again. Exit status: 0 it runs, 1 it does not, or went back.
    Start(StartArgs),
    /// Say that `start --confirm` cut nobody off: it stays
    Confirm,
    /// Stop the firewall on this host: everything passes
    Stop,
    /// Find what on this host is in our way, and name what helps
    ///
    /// Looks at packet queues, rules and marks of others, ports, programs and the kernel; changes nothing. Exit status: 0 nothing
    /// is in the way, 1 not everything could be looked at (run it as root), 2 something is.
    CheckHost(crate::check_host::CheckHostArgs),
    /// Tell which services run an older binary than the installed one
    ///
    /// Exit status: 0 none, 1 some, or one is down.
    UpgradeCheck(UpgradeCheckArgs),
    /// Try the firewall in a network namespace of its own; nothing else on this machine is touched
    Try(crate::try_cmd::TryArgs),
    /// Run all services in the network namespace where this stands, in the foreground
    Up(crate::up::UpArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Print the man page, or write the pages of all commands to a folder
    Man(ManArgs),
}

/// `portmaster start`
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Go back after so many seconds unless confirmed
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(5..=3600))]
    pub confirm: Option<u32>,
}

/// `portmaster upgrade-check`
#[derive(Debug, Args)]
pub struct UpgradeCheckArgs {
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the services are
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `portmaster monitor`
#[derive(Debug, Args)]
pub struct MonitorArgs {
    /// One JSON object per line (docs/events.md), instead of text for people
    #[arg(long)]
    pub json: bool,
    /// Begin with the connections that are live already
    #[arg(long)]
    pub live: bool,
    /// Only these kinds of event
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',')]
    pub kind: Vec<KindArg>,
    /// Which connections
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Where the services are
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// A kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// A new connection was decided.
    Decided,
    /// A live connection was decided anew.
    Redecided,
    /// A connection ended.
    Ended,
}

/// `portmaster connections`
#[derive(Debug, Args)]
pub struct ConnectionsArgs {
    /// One JSON object per line (docs/events.md), instead of a table
    #[arg(long)]
    pub json: bool,
    /// Order of the lines
    #[arg(long, value_enum, value_name = "KEY", default_value_t)]
    pub sort: SortKey,
    /// The other way round
    #[arg(long)]
    pub reverse: bool,
    /// Which connections
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Where the services are
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// What `connections` sorts by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SortKey {
    /// When it began, oldest first.
    #[default]
    Time,
    /// Name of the program, then process id.
    App,
    /// Domain, else address, of the other end.
    Remote,
    /// Verdict.
    Verdict,
    /// Profile.
    Profile,
}

/// `portmaster rules`
#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// Check profile files without putting them in force
    ///
    /// Each refused file is named with line, mistake and remedy. Exit status: 0 if all are good, 1 if one is refused.
    Check(CheckArgs),
    /// Print the rules that hold when there is no file at all
    Default,
}

/// `portmaster rules check`
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Profiles (NAME.toml), global settings (global.toml), or folders of them
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// `portmaster explain`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portmaster explain --program /usr/bin/curl --to example.com:443
  portmaster explain --pid 1234 --to 192.0.2.7:53 --protocol udp
  portmaster explain --program /usr/sbin/sshd --unit ssh.service --in --to 198.51.100.4:22
  portmaster explain --unknown --to '[2001:db8::7]:443' --config ./portmaster")]
pub struct ExplainArgs {
    /// Who connects
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// The other end, as HOST:PORT, with --in the host that connects and the port here that it connects to; HOST is an
    /// address or a name; no PORT where the protocol has none
    #[arg(long, visible_alias = "from", value_name = "HOST:PORT")]
    pub to: String,
    /// The connection comes in, instead of going out
    #[arg(long = "in")]
    pub incoming: bool,
    /// tcp, udp, icmp, icmpv6, … or a number
    #[arg(long, value_name = "NAME", default_value = "tcp", value_parser = crate::filter::protocol)]
    pub protocol: verdict::Protocol,
    /// Type of an ICMP message [default: echo request]
    #[arg(long, value_name = "NUMBER")]
    pub icmp_type: Option<u8>,
    /// Name that the program asked for [default: HOST, if it is a name]
    #[arg(long, value_name = "NAME")]
    pub domain: Option<String>,
    /// Address of HOST, instead of asking DNS for it (once per address)
    #[arg(long, value_name = "ADDRESS")]
    pub address: Vec<IpAddr>,
    /// Decide by the files in this folder, laid out like /etc/portmaster, instead of asking the running policy service
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
    /// One JSON object per line
    #[arg(long)]
    pub json: bool,
    /// Where the services are
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Who connects.
#[derive(Debug, Default, Args)]
pub struct SubjectArgs {
    /// The running process with this id
    #[arg(long, value_name = "PID", conflicts_with_all = ["program", "script", "user", "unit", "cgroup", "flatpak", "snap", "container"])]
    pub pid: Option<u32>,
    /// A program's file
    #[arg(long, value_name = "PATH", required_unless_present_any = ["pid", "unknown", "script", "unit", "cgroup", "flatpak", "snap", "container"])]
    pub program: Option<PathBuf>,
    /// A script that the program, an interpreter, runs
    #[arg(long, value_name = "PATH")]
    pub script: Option<PathBuf>,
    /// Name or id of the user that it runs as [default: you]
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// systemd unit, of the system or of a user's manager
    #[arg(long, value_name = "UNIT")]
    pub unit: Option<String>,
    /// Path of its cgroup
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<String>,
    /// Flatpak application
    #[arg(long, value_name = "ID")]
    pub flatpak: Option<String>,
    /// Snap
    #[arg(long, value_name = "NAME")]
    pub snap: Option<String>,
    /// Container
    #[arg(long, value_name = "ID")]
    pub container: Option<String>,
    /// A process that could not be found
    #[arg(long, conflicts_with_all = ["pid", "program", "script", "unit", "cgroup", "flatpak", "snap", "container"])]
    pub unknown: bool,
}

/// `portmaster status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// One JSON object, instead of text for people
    #[arg(long)]
    pub json: bool,
    /// Where the services are
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `portmaster pause`
#[derive(Debug, Args)]
pub struct PauseArgs {
    /// For how long, at most 24 hours: 90s, 10m, 1h30m
    #[arg(value_name = "TIME", value_parser = crate::pause::length)]
    pub length: std::time::Duration,
    /// Where the services are
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `portmaster resume`
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// Where the services are
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `portmaster completions`
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Which shell
    pub shell: clap_complete::Shell,
}

/// `portmaster man`
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write portmaster.1, portmaster-monitor.1, … to this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
