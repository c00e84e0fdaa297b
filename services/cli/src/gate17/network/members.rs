//! `portmaster gate17 token` and `client-key`: who is let in, where access is by token or by key.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail, ensure};
use clap::{Args, Subcommand};
use gate17_proto::{
    access::token_digest,
    map::{Access, PublicKey},
};

use super::{
    folder::{Network, now},
    init::{self, KeyArgs},
    keys,
    member::Member,
};
use crate::{
    output::print,
    paint::Paint,
    printable::printable,
    table::{Cell, table},
};

/// `portmaster gate17 token`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Let one more client in; prints the token, which is written down nowhere
    New(NewArgs),
    /// List them by their names
    List(FolderArgs),
    /// Let a client in no more
    Remove(MemberArgs),
}

/// `portmaster gate17 client-key`
#[derive(Debug, Subcommand)]
pub enum ClientKeyCommand {
    /// Make a client's key; prints its public half, for the network's operator
    New(KeyArgs),
    /// Let the client with this key in
    Add(AddArgs),
    /// List them by their names
    List(FolderArgs),
    /// Let a client in no more
    Remove(MemberArgs),
}

/// A network's folder.
#[derive(Debug, Args)]
pub struct FolderArgs {
    /// The network's folder
    pub dir: PathBuf,
}

/// See [`TokenCommand::New`].
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The network's folder
    pub dir: PathBuf,
    /// Whose it is, in lists [default: a number]
    pub name: Option<String>,
}

/// See [`ClientKeyCommand::Add`].
#[derive(Debug, Args)]
pub struct AddArgs {
    /// The network's folder
    pub dir: PathBuf,
    /// Whose it is, in lists
    pub name: String,
    /// The public key, ed25519:…, or a file with it
    pub key: String,
}

/// One of them.
#[derive(Debug, Args)]
pub struct MemberArgs {
    /// The network's folder
    pub dir: PathBuf,
    /// Its name in the list, or what stands there as SHOWN
    pub name: String,
}

const NEXT: &str = "nodes know it from the next map on: portmaster gate17 map sign";

pub(super) fn token(command: TokenCommand, paint: Paint) -> Result<ExitCode> {
    match command {
        TokenCommand::New(args) => new_token(&args),
        TokenCommand::List(args) => {
            let network = Network::load(&args.dir)?;
            list(&network.tokens, paint)
        }
        TokenCommand::Remove(args) => {
            let mut network = Network::open(&args.dir)?;
            remove(&mut network.tokens, &args.name, "token")?;
            network.store(&args.dir)?;
            eprintln!("{NEXT}");
            print(&format!("{} tokens\n", network.tokens.len()))
        }
    }
}

pub(super) fn client_key(command: ClientKeyCommand, paint: Paint) -> Result<ExitCode> {
    match command {
        ClientKeyCommand::New(args) => init::new_key(&args),
        ClientKeyCommand::Add(args) => add_key(&args),
        ClientKeyCommand::List(args) => {
            let network = Network::load(&args.dir)?;
            list(&network.client_keys, paint)
        }
        ClientKeyCommand::Remove(args) => {
            let mut network = Network::open(&args.dir)?;
            remove(&mut network.client_keys, &args.name, "client key")?;
            network.store(&args.dir)?;
            eprintln!("{NEXT}");
            print(&format!("{} client keys\n", network.client_keys.len()))
        }
    }
}

pub(super) fn new_token(args: &NewArgs) -> Result<ExitCode> {
    let mut network = Network::open(&args.dir)?;
    ensure!(
        network.access == Access::Token,
        "access to {} is not by token: `portmaster gate17 network access {} token`",
        printable(&network.network),
        args.dir.display()
    );
    let octets: [u8; 24] = init::random()?;
    let token: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    let digest = token_digest(&token);
    let name = args
        .name
        .clone()
        .unwrap_or_else(|| (network.tokens.len() + 1).to_string());
    add(&mut network.tokens, name, digest, "token")?;
    network.store(&args.dir)?;
    eprintln!("{NEXT}");
    print(&format!("{token}\n"))
}

fn add_key(args: &AddArgs) -> Result<ExitCode> {
    let mut network = Network::open(&args.dir)?;
    let key: PublicKey = keys::public(&args.key)?;
    add(&mut network.client_keys, args.name.clone(), key, "client key")?;
    network.store(&args.dir)?;
    if network.access != Access::Key {
        eprintln!(
            "access is not by key yet: portmaster gate17 network access {} key",
            args.dir.display()
        );
    }
    eprintln!("{NEXT}");
    print(&format!("{} client keys\n", network.client_keys.len()))
}

fn add<T: PartialEq>(members: &mut Vec<Member<T>>, name: String, shown: T, what: &str) -> Result<()> {
    let letter = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    ensure!(
        (1..=64).contains(&name.len()) && name.chars().all(letter),
        "{name:?} names no {what}: use up to 64 letters, digits and any of - _ . @"
    );
    ensure!(
        !members.iter().any(|member| member.name == name),
        "there is a {what} called {name} already: remove it, or give another name"
    );
    if let Some(same) = members.iter().find(|member| member.shown == shown) {
        bail!("that {what} is there already, as {:?}", same.name);
    }
    members.push(Member {
        name,
        shown,
        since: Some(now()?),
    });
    Ok(())
}

fn remove<T>(members: &mut Vec<Member<T>>, name: &str, what: &str) -> Result<()>
where
    T: Copy,
    String: From<T>,
{
    let before = members.len();
    members.retain(|member| !(member.name == name || String::from(member.shown) == name));
    ensure!(
        members.len() < before,
        "there is no {what} {name:?}: the command `list` has them"
    );
    Ok(())
}

fn list<T>(members: &[Member<T>], paint: Paint) -> Result<ExitCode>
where
    T: Copy,
    String: From<T>,
{
    let rows: Vec<_> = members
        .iter()
        .map(|member| {
            let since = member.since.map(|since| since.strftime("%Y-%m-%d").to_string());
            [
                Cell::plain(printable(&member.name)),
                Cell::plain(since.unwrap_or_default()),
                Cell::plain(String::from(member.shown)),
            ]
        })
        .collect();
    print(&table(["NAME", "SINCE", "SHOWN"], &rows, paint))
}
