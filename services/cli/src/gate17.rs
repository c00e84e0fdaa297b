//! `portmaster gate17`: what is carried through the tunnel and by whom, and the networks that carry it.

mod entry;
mod network;
mod speed;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::{dns::PlainArgs, paint::Paint};
pub use network::{ClientKeyCommand, MapCommand, NetworkCommand, NodeCommand, TokenCommand};

/// `portmaster gate17`
#[derive(Debug, Subcommand)]
pub enum Gate17Command {
    /// Say whether connections can be carried, and by which map
    Status(PlainArgs),
    /// List the ways that are open through the network
    Circuits(PlainArgs),
    /// List the map's nodes, and how they do
    Nodes(PlainArgs),
    /// Say by which nodes a destination would be reached, and why
    Route(RouteArgs),
    /// Measure how far a node is
    Ping(PingArgs),
    /// Measure how much a path carries, and how long it takes meanwhile
    ///
    /// By a circuit of its own, with the last node of which nothing goes on: at most 256 MiB and the seconds given, each way. Nodes let
    /// nobody measure often; some let nobody measure at all.
    Speed(SpeedArgs),
    /// Close a circuit, and what it carries
    Close(CloseArgs),
    /// Found a network of your own, and let clients in
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Say which nodes a network has
    #[command(subcommand)]
    Node(NodeCommand),
    /// Sign and read maps
    #[command(subcommand)]
    Map(MapCommand),
    /// Let clients in by token
    #[command(subcommand)]
    Token(TokenCommand),
    /// Let clients in by key
    #[command(subcommand)]
    ClientKey(ClientKeyCommand),
}

/// `portmaster gate17 route`
#[derive(Debug, Args)]
pub struct RouteArgs {
    /// HOST:PORT, the host a name or an address
    #[arg(value_name = "DEST")]
    pub destination: String,
    /// Profile of who connects, by id [default: the settings for all programs]
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub profile: String,
    /// What is common
    #[command(flatten)]
    pub plain: PlainArgs,
}

/// `portmaster gate17 ping`
#[derive(Debug, Args)]
pub struct PingArgs {
    /// Its id in the map
    #[arg(value_name = "NODE")]
    pub node: String,
    /// What is common
    #[command(flatten)]
    pub plain: PlainArgs,
}

/// `portmaster gate17 speed`
#[derive(Debug, Args)]
pub struct SpeedArgs {
    /// The last node, by its id in the map [default: an exit]
    #[arg(long, value_name = "NODE")]
    pub via: Option<String>,
    /// Nodes of the path [default: 1 with --via, else as the profile says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=5))]
    pub hops: Option<u32>,
    /// Seconds for each direction
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=10))]
    pub seconds: u64,
    /// Profile whose path it is, by id [default: the settings for all programs]
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub profile: String,
    /// What is common
    #[command(flatten)]
    pub plain: PlainArgs,
}

/// `portmaster gate17 close`
#[derive(Debug, Args)]
pub struct CloseArgs {
    /// Its number
    #[arg(value_name = "CIRCUIT")]
    pub circuit: u64,
    /// What is common
    #[command(flatten)]
    pub plain: PlainArgs,
}

pub(crate) async fn run(command: Gate17Command, paint: Paint) -> Result<ExitCode> {
    match command {
        Gate17Command::Status(args) => entry::status(args, paint).await,
        Gate17Command::Circuits(args) => entry::circuits(args, paint).await,
        Gate17Command::Nodes(args) => entry::nodes(args, paint).await,
        Gate17Command::Route(args) => entry::route(args, paint).await,
        Gate17Command::Ping(args) => entry::ping(args).await,
        Gate17Command::Speed(args) => speed::speed(args).await,
        Gate17Command::Close(args) => entry::close(args).await,
        Gate17Command::Network(command) => network::network(command),
        Gate17Command::Node(command) => network::node(command, paint),
        Gate17Command::Map(command) => network::map(command, paint),
        Gate17Command::Token(command) => network::token(command, paint),
        Gate17Command::ClientKey(command) => network::client_key(command, paint),
    }
}
