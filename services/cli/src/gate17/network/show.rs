//! `portmaster gate17 map show`, and how nodes are listed.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;
use gate17_proto::map::{Access, Node};
use serde_json::json;

use super::folder::{trust_for, verified};
use crate::{
    output::print,
    paint::Paint,
    printable::{json_line, printable},
    table::{Cell, table},
};

/// `portmaster gate17 map show`
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The map
    pub map: PathBuf,
    /// Whom to believe [default: trust.json beside the map]
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
    /// JSON, instead of text for people
    #[arg(long)]
    pub json: bool,
}

pub(super) fn show(args: &ShowArgs, paint: Paint) -> Result<ExitCode> {
    let trust = trust_for(args.trust.as_ref(), &args.map)?;
    let octets = fs::read(&args.map).with_context(|| format!("read {}", args.map.display()))?;
    let map = verified(&octets, &trust)?;
    if args.json {
        // the secret is for holders of the map: they have it here as there
        return print(&json_line(&json!(map))?);
    }
    print(&format!(
        "network {}, map {} of {}, holds until {}\nsigned by {} of root {}, {} keys of which {} sign; admits {}\n{}",
        printable(&map.network),
        map.serial,
        map.issued,
        map.expires,
        signers(&octets, &map.root),
        map.root.version,
        map.root.keys.len(),
        map.root.threshold,
        admits(map.access, map.tokens.len(), map.client_keys.len()),
        nodes(&map.nodes, paint)
    ))
}

fn signers(octets: &[u8], root: &gate17_proto::map::Root) -> usize {
    serde_json::from_slice::<gate17_proto::map::Envelope>(octets).map_or(0, |envelope| envelope.signers(root))
}

fn admits(access: Access, tokens: usize, keys: usize) -> String {
    match access {
        Access::None => "everybody".to_owned(),
        Access::Map => "whoever has it".to_owned(),
        Access::Token => format!("{tokens} tokens"),
        Access::Key => format!("{keys} client keys"),
    }
}

pub(super) fn nodes(nodes: &[Node], paint: Paint) -> String {
    let rows: Vec<_> = nodes
        .iter()
        .map(|node| {
            let does = [(node.relay, "relay"), (!node.exit.is_empty(), "exit")];
            let does: Vec<_> = does.iter().filter_map(|(is, word)| is.then_some(*word)).collect();
            let at: Vec<_> = node
                .addresses
                .iter()
                .map(|at| std::net::SocketAddr::new(at.address, at.port).to_string())
                .collect();
            [
                Cell::plain(printable(&node.id.0)),
                Cell::plain(does.join(", ")),
                Cell::plain(printable(&node.region)),
                Cell::plain(printable(&node.family)),
                Cell::plain(format!("{} Mbit/s", node.capacity)),
                Cell::plain(at.join(" ")),
            ]
        })
        .collect();
    let head = ["NODE", "DOES", "REGION", "FAMILY", "CAPACITY", "AT"];
    table(head, &rows, paint)
}
