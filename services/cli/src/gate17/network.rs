//! What the operator of a Gate17 network does, without a network: keys, nodes, members, and the map that is signed.
//!
//! A folder holds it all: `network.toml` (to be read and edited), `root.key` (the network's own key, for its owner alone; or
//! several), `trust.json` (for everybody who is to use the network) and `map.json` (signed, for the same). What waits for
//! signatures of other holders of root keys lies in `map-pending.json` and `rotation-pending.json`.

mod folder;
mod init;
mod keys;
mod member;
mod members;
mod nodes;
mod rotate;
mod show;
mod sign;
mod take;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::paint::Paint;

pub use members::{ClientKeyCommand, TokenCommand};
pub use nodes::NodeCommand;

/// `portmaster gate17 network`
#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    /// Found a network: its root keys, and an empty list of nodes
    Init(init::InitArgs),
    /// Make a root key for a network of several holders; prints its public half
    NewKey(init::KeyArgs),
    /// Say who may use the nodes
    Access(init::AccessArgs),
    /// Have other root keys sign from now on
    RotateRoot(rotate::RotateArgs),
    /// Put a document that has its signatures into the network's folder
    Take(take::TakeArgs),
    /// Let one more client in, as `portmaster gate17 token new` does
    #[command(hide = true)]
    Token(members::NewArgs),
}

/// `portmaster gate17 map`
#[derive(Debug, Subcommand)]
pub enum MapCommand {
    /// Sign the list of nodes as the next map; or a document that waits for signatures
    Sign(sign::SignArgs),
    /// Verify a map, and show what it says
    Show(show::ShowArgs),
}

pub(super) fn network(command: NetworkCommand) -> Result<ExitCode> {
    match command {
        NetworkCommand::Init(args) => init::init(&args),
        NetworkCommand::NewKey(args) => init::new_key(&args),
        NetworkCommand::Access(args) => init::access(&args),
        NetworkCommand::RotateRoot(args) => rotate::rotate(&args),
        NetworkCommand::Take(args) => take::take_all(&args),
        NetworkCommand::Token(args) => members::new_token(&args),
    }
}

pub(super) fn map(command: MapCommand, paint: Paint) -> Result<ExitCode> {
    match command {
        MapCommand::Sign(args) => sign::sign(&args),
        MapCommand::Show(args) => show::show(&args, paint),
    }
}

pub(super) fn node(command: NodeCommand, paint: Paint) -> Result<ExitCode> {
    nodes::node(command, paint)
}

pub(super) fn token(command: TokenCommand, paint: Paint) -> Result<ExitCode> {
    members::token(command, paint)
}

pub(super) fn client_key(command: ClientKeyCommand, paint: Paint) -> Result<ExitCode> {
    members::client_key(command, paint)
}
