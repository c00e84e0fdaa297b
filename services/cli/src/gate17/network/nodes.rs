//! `portmaster gate17 node`: which nodes a network has.

mod said;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Subcommand, builder::BoolishValueParser};
use gate17_proto::map::{self, ExitRule, Node, NodeAddress, NodeId};

use super::{
    folder::{NETWORK, Network},
    members::FolderArgs,
    show,
};
use said::SaidArgs;

use crate::{output::print, paint::Paint, printable::printable};

/// `portmaster gate17 node`
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Take a node into the network
    Add(Box<AddArgs>),
    /// Change what the network says of a node; what is not named stays
    Edit(Box<EditArgs>),
    /// Take a node out
    Remove(RemoveArgs),
    /// List them as the next map will have them
    List(FolderArgs),
}

/// See [`NodeCommand::Add`].
#[derive(Debug, Args)]
pub struct AddArgs {
    /// The network's folder
    pub dir: PathBuf,
    /// What it is called: 1 to 32 of a-z, 0-9 and -
    #[arg(long)]
    pub id: String,
    /// What is said of it
    #[command(flatten)]
    pub said: SaidArgs,
    /// Two letters of its country
    #[arg(long)]
    pub region: String,
    /// It carries to other nodes
    #[arg(long)]
    pub relay: bool,
    /// It carries to the internet, as its descriptor says, else anywhere
    #[arg(long)]
    pub exit: bool,
}

/// See [`NodeCommand::Edit`].
#[derive(Debug, Args)]
pub struct EditArgs {
    /// The network's folder
    pub dir: PathBuf,
    /// Which
    pub id: String,
    /// What is said of it from now on; keys and addresses in place of all that it had
    #[command(flatten)]
    pub said: SaidArgs,
    /// Two letters of its country
    #[arg(long)]
    pub region: Option<String>,
    /// Whether it carries to other nodes
    #[arg(long, value_name = "YES|NO", value_parser = BoolishValueParser::new())]
    pub relay: Option<bool>,
    /// Whether it carries to the internet
    #[arg(long, value_name = "YES|NO", value_parser = BoolishValueParser::new())]
    pub exit: Option<bool>,
}

/// See [`NodeCommand::Remove`].
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The network's folder
    pub dir: PathBuf,
    /// Which
    pub id: String,
}

pub(super) fn node(command: NodeCommand, paint: Paint) -> Result<ExitCode> {
    match command {
        NodeCommand::Add(args) => add(*args),
        NodeCommand::Edit(args) => edit(*args),
        NodeCommand::Remove(args) => remove(&args),
        NodeCommand::List(args) => print(&show::nodes(&Network::load(&args.dir)?.nodes, paint)),
    }
}

fn add(args: AddArgs) -> Result<ExitCode> {
    let mut network = Network::open(&args.dir)?;
    ensure!(
        !network.nodes.iter().any(|node| node.id.0 == args.id),
        "the network has a node {:?} already: `portmaster gate17 node edit {} {}` changes it, `remove` takes it out",
        args.id,
        args.dir.display(),
        args.id
    );
    let mut node = Node {
        family: args.id.clone(),
        id: NodeId(args.id),
        keys: Vec::new(),
        addresses: Vec::new(),
        name: String::new(),
        region: args.region,
        relay: args.relay,
        exit: Vec::new(),
        capacity: 100,
        version: String::new(),
    };
    let rules = args.said.apply(&mut node)?;
    if args.exit {
        node.exit = rules.unwrap_or_else(anywhere);
    }
    network.nodes.push(node);
    finish(&args.dir, &network, network.nodes.len() - 1)
}

fn edit(args: EditArgs) -> Result<ExitCode> {
    let mut network = Network::open(&args.dir)?;
    let Some(place) = network.nodes.iter().position(|node| node.id.0 == args.id) else {
        bail!(unknown(&args.dir, &args.id));
    };
    let node = network.nodes.get_mut(place).context("the node is gone")?;
    let rules = args.said.apply(node)?;
    if let Some(region) = args.region {
        node.region = region;
    }
    node.relay = args.relay.unwrap_or(node.relay);
    let is_exit = args.exit.unwrap_or(!node.exit.is_empty());
    node.exit = match (is_exit, rules) {
        (false, _) => Vec::new(),
        (true, Some(rules)) => rules,
        (true, None) if node.exit.is_empty() => anywhere(),
        (true, None) => std::mem::take(&mut node.exit),
    };
    finish(&args.dir, &network, place)
}

fn remove(args: &RemoveArgs) -> Result<ExitCode> {
    let mut network = Network::open(&args.dir)?;
    let before = network.nodes.len();
    network.nodes.retain(|node| node.id.0 != args.id);
    ensure!(network.nodes.len() < before, unknown(&args.dir, &args.id));
    network.store(&args.dir)?;
    print(&format!("{} nodes\n", network.nodes.len()))
}

fn unknown(dir: &Path, id: &str) -> String {
    format!(
        "the network has no node {id:?}; {} lists them",
        dir.join(NETWORK).display()
    )
}

fn anywhere() -> Vec<ExitRule> {
    vec![ExitRule {
        allow: true,
        to: "*".to_owned(),
        ports: "*".to_owned(),
    }]
}

/// Written only if a map can have it.
fn finish(dir: &Path, network: &Network, place: usize) -> Result<ExitCode> {
    let node = network.nodes.get(place).context("the node is gone")?;
    let id = printable(&node.id.0);
    map::alone(node).map_err(|wrong| anyhow::anyhow!("node {id}: {wrong}; {}", remedy(node)))?;
    ensure!(
        node.relay || !node.exit.is_empty(),
        "node {id} carries nothing: give --relay, --exit or both"
    );
    for other in network.nodes.iter().filter(|other| other.id != node.id) {
        let key = node.keys.iter().find(|key| other.keys.contains(key));
        ensure!(
            key.is_none(),
            "node {id} has the key of node {}: each has its own",
            other.id.0
        );
        let is_there = |at: &NodeAddress| {
            let mut others = other.addresses.iter();
            others.any(|own| (own.address, own.port) == (at.address, at.port))
        };
        let same = node.addresses.iter().find(|at| is_there(at));
        if let Some(at) = same {
            bail!(
                "node {id} is at {}, where node {} is: each has its own",
                SocketAddr::new(at.address, at.port),
                other.id.0
            );
        }
    }
    network.store(dir)?;
    print(&format!(
        "{id}: {} nodes; `portmaster gate17 map sign` makes the next map of them\n",
        network.nodes.len()
    ))
}

fn remedy(node: &Node) -> &'static str {
    if node.keys.is_empty() {
        "give --descriptor or --key"
    } else if node.addresses.is_empty() {
        "give --address"
    } else {
        "give another"
    }
}
