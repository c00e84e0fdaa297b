//! What the operator of a Gate17 network does, without a network: keys, nodes, and the map that is signed.
//!
//! A folder holds it all: `network.toml` (to be read and edited), `root.key` (the network's own key, for its owner alone),
//! `trust.json` (for everybody who is to use the network) and `map.json` (signed, for the same).

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::signature::Ed25519KeyPair;
use clap::{Args, Subcommand, ValueEnum};
use gate17_proto::{
    access::token_digest,
    map::{
        self, Access, Carrier, Digest, Envelope, ExitRule, Held, KeyPin, MAP_TYPE, Map, Node, NodeAddress,
        NodeId, PublicKey, Root, Secret, Trust,
    },
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    output::print,
    paint::Paint,
    printable::{json_line, printable},
    table::{Cell, table},
};

const NETWORK: &str = "network.toml";
const KEY: &str = "root.key";
const TRUST: &str = "trust.json";
const MAP: &str = "map.json";
/// A map is used this long at most without a new one.
const MOST_DAYS: u32 = 366;

/// `portmaster gate17 network`
#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    /// Found a network: a key, and an empty list of nodes
    Init(InitArgs),
    /// Let one more client in, where access is by token; prints the token, which is written down nowhere
    Token(FolderArgs),
}

/// `portmaster gate17 node`
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Take a node into the network
    Add(Box<AddArgs>),
    /// Take a node out
    Remove(RemoveArgs),
}

/// `portmaster gate17 map`
#[derive(Debug, Subcommand)]
pub enum MapCommand {
    /// Sign the list of nodes as the next map
    Sign(SignArgs),
    /// Verify a map, and show what it says
    Show(ShowArgs),
}

/// Who may use the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccessArg {
    /// Everybody, with any client
    None,
    /// Everybody who has the map
    Map,
    /// Those who were given a token
    Token,
}

/// See [`NetworkCommand::Init`].
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Folder that is made for it
    pub dir: PathBuf,
    /// What the network is called
    #[arg(long, default_value = "mine")]
    pub name: String,
    /// Who may use the nodes
    #[arg(long, value_enum, default_value = "map")]
    pub access: AccessArg,
}

/// A network's folder.
#[derive(Debug, Args)]
pub struct FolderArgs {
    /// The network's folder
    pub dir: PathBuf,
}

/// See [`NodeCommand::Add`].
#[derive(Debug, Args)]
pub struct AddArgs {
    /// The network's folder
    pub dir: PathBuf,
    /// What it is called: 1 to 32 of a-z, 0-9 and -
    #[arg(long)]
    pub id: String,
    /// What `portmaster-gate17-node --print-descriptor` printed
    #[arg(long, value_name = "FILE", required_unless_present = "key")]
    pub descriptor: Option<PathBuf>,
    /// SHA-256 of its public key, sha256:…
    #[arg(long, value_name = "PIN")]
    pub key: Vec<String>,
    /// Where it is reached: ADDRESS:PORT; port 80 is asked to change to TLS
    #[arg(long, value_name = "ADDRESS:PORT", required = true)]
    pub address: Vec<std::net::SocketAddr>,
    /// Two letters of its country
    #[arg(long)]
    pub region: String,
    /// Whose it is: nodes of one family are never on one path [default: its id]
    #[arg(long)]
    pub family: Option<String>,
    /// It carries to other nodes
    #[arg(long)]
    pub relay: bool,
    /// It carries to the internet, as its descriptor says, else anywhere
    #[arg(long)]
    pub exit: bool,
    /// What it can carry, in Mbit/s
    #[arg(long, default_value_t = 100)]
    pub capacity: u64,
}

/// See [`NodeCommand::Remove`].
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The network's folder
    pub dir: PathBuf,
    /// Which
    pub id: String,
}

/// See [`MapCommand::Sign`].
#[derive(Debug, Args)]
pub struct SignArgs {
    /// The network's folder
    pub dir: PathBuf,
    /// Days that the map holds
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_DAYS)))]
    pub days: u32,
}

/// See [`MapCommand::Show`].
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

/// `network.toml`
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    network: String,
    /// Of the last map.
    serial: u64,
    access: Access,
    knock: Secret,
    #[serde(default)]
    tokens: Vec<Digest>,
    #[serde(default)]
    client_keys: Vec<PublicKey>,
    #[serde(default)]
    nodes: Vec<Node>,
}

/// What a node prints of itself.
#[derive(Debug, Default, Deserialize)]
struct Descriptor {
    #[serde(default)]
    keys: Vec<KeyPin>,
    #[serde(default)]
    exit: Vec<ExitRule>,
    #[serde(default)]
    version: String,
}

pub(super) fn network(command: NetworkCommand) -> Result<ExitCode> {
    match command {
        NetworkCommand::Init(args) => init(&args),
        NetworkCommand::Token(args) => token(&args.dir),
    }
}

pub(super) fn node(command: NodeCommand) -> Result<ExitCode> {
    match command {
        NodeCommand::Add(args) => add(*args),
        NodeCommand::Remove(args) => remove(&args),
    }
}

pub(super) fn map(command: MapCommand, paint: Paint) -> Result<ExitCode> {
    match command {
        MapCommand::Sign(args) => sign(&args),
        MapCommand::Show(args) => show(&args, paint),
    }
}

fn init(args: &InitArgs) -> Result<ExitCode> {
    let dir = &args.dir;
    ensure!(
        !dir.join(NETWORK).exists() && !dir.join(KEY).exists(),
        "{} has a network already: give another folder",
        dir.display()
    );
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("make {}", dir.display()))?;
    let (pkcs8, key) = new_key()?;
    let trust = Trust {
        network: args.name.clone(),
        root: root(&key)?,
    };
    let mut knock = [0; 32];
    aws_lc_rs::rand::fill(&mut knock).map_err(|_| anyhow::anyhow!("no random octets are to be had"))?;
    let network = Network {
        network: args.name.clone(),
        serial: 0,
        access: match args.access {
            AccessArg::None => Access::None,
            AccessArg::Map => Access::Map,
            AccessArg::Token => Access::Token,
        },
        knock: Secret(knock),
        tokens: Vec::new(),
        client_keys: Vec::new(),
        nodes: Vec::new(),
    };
    private(&dir.join(KEY), &pkcs8)?;
    store(dir, &network)?;
    write(&dir.join(TRUST), serde_json::to_string_pretty(&trust)?.as_bytes())?;
    let admission = match args.access {
        AccessArg::Map => "nodes that have the map admit whoever has it\n".to_owned(),
        AccessArg::None => "nodes that have the map admit everybody\n".to_owned(),
        AccessArg::Token => format!(
            "`portmaster gate17 network token {}` makes a token for a client\n",
            dir.display()
        ),
    };
    print(&format!(
        "{dir}: network {name}\n  keep {KEY} to yourself, and a copy of it; give {TRUST} to the nodes, and to those who are to use the network\n  {admission}",
        dir = dir.display(),
        name = printable(&args.name),
    ))
}

fn token(dir: &Path) -> Result<ExitCode> {
    let mut network = load(dir)?;
    ensure!(
        network.access == Access::Token,
        "access to {} is not by token: change `access` in {NETWORK}",
        printable(&network.network)
    );
    let mut octets = [0; 24];
    aws_lc_rs::rand::fill(&mut octets).map_err(|_| anyhow::anyhow!("no random octets are to be had"))?;
    let token: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    let digest = token_digest(&token);
    network.tokens.push(digest);
    store(dir, &network)?;
    eprintln!("nodes admit it from the next map on: portmaster gate17 map sign");
    print(&format!("{token}\n"))
}

fn add(args: AddArgs) -> Result<ExitCode> {
    let mut network = load(&args.dir)?;
    let descriptor: Descriptor = match &args.descriptor {
        Some(file) => {
            let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
            toml::from_str(&text).with_context(|| format!("{} is no node's descriptor", file.display()))?
        }
        None => Descriptor::default(),
    };
    let mut keys = descriptor.keys;
    for key in args.key {
        keys.push(KeyPin::try_from(key).map_err(anyhow::Error::msg)?);
    }
    let anywhere = || {
        vec![ExitRule {
            allow: true,
            to: "*".to_owned(),
            ports: "*".to_owned(),
        }]
    };
    let exit = match (args.exit, descriptor.exit.is_empty()) {
        (false, _) => Vec::new(),
        (true, false) => descriptor.exit,
        (true, true) => anywhere(),
    };
    let carrier = |port| {
        if port == 80 {
            Carrier::Upgrade
        } else {
            Carrier::Tls
        }
    };
    let node = Node {
        family: args.family.unwrap_or_else(|| args.id.clone()),
        id: NodeId(args.id),
        keys,
        addresses: args
            .address
            .iter()
            .map(|address| NodeAddress {
                address: address.ip(),
                port: address.port(),
                carrier: carrier(address.port()),
            })
            .collect(),
        name: String::new(),
        region: args.region,
        relay: args.relay,
        exit,
        capacity: args.capacity,
        version: descriptor.version,
    };
    map::alone(&node).map_err(|wrong| anyhow::anyhow!("node {}: {wrong}", printable(&node.id.0)))?;
    ensure!(
        node.relay || !node.exit.is_empty(),
        "node {} carries nothing: give --relay, --exit or both",
        node.id.0
    );
    let id = node.id.clone();
    network.nodes.retain(|known| known.id != id);
    network.nodes.push(node);
    store(&args.dir, &network)?;
    print(&format!(
        "{}: {} nodes; `portmaster gate17 map sign` makes the next map of them\n",
        id.0,
        network.nodes.len()
    ))
}

fn remove(args: &RemoveArgs) -> Result<ExitCode> {
    let mut network = load(&args.dir)?;
    let before = network.nodes.len();
    network.nodes.retain(|node| node.id.0 != args.id);
    ensure!(
        network.nodes.len() < before,
        "the network has no node {:?}; {} lists them",
        args.id,
        args.dir.join(NETWORK).display()
    );
    store(&args.dir, &network)?;
    print(&format!("{} nodes\n", network.nodes.len()))
}

fn sign(args: &SignArgs) -> Result<ExitCode> {
    let (dir, mut network) = (&args.dir, load(&args.dir)?);
    let key = fs::read(dir.join(KEY))
        .with_context(|| format!("read the network's key {}", dir.join(KEY).display()))?;
    let key = Ed25519KeyPair::from_pkcs8(&key)
        .map_err(|error| anyhow::anyhow!("{} is no key: {error}", dir.join(KEY).display()))?;
    network.serial += 1;
    let now = Timestamp::try_from(SystemTime::now()).context("this host's clock")?;
    let seconds = |time: i64| Timestamp::from_second(time).context("this host's clock");
    let map = Map {
        format: 1,
        network: network.network.clone(),
        serial: network.serial,
        issued: seconds(now.as_second())?,
        expires: seconds(now.as_second() + 86_400 * i64::from(args.days))?,
        root: root(&key)?,
        rotations: Vec::new(),
        access: network.access,
        knock: network.knock,
        tokens: network.tokens.clone(),
        client_keys: network.client_keys.clone(),
        nodes: network.nodes.clone(),
    };
    let mut envelope = Envelope::new(MAP_TYPE, &serde_json::to_vec(&map)?);
    ensure!(
        envelope.sign(&key),
        "the map cannot be signed by {}",
        dir.join(KEY).display()
    );
    let octets = serde_json::to_vec(&envelope)?;
    // as every holder will: a map that nobody can use is not given out
    verified(&octets, &read_trust(&dir.join(TRUST))?)?;
    store(dir, &network)?;
    write(&dir.join(MAP), &octets)?;
    print(&format!(
        "{}: map {}, {} nodes, holds until {}\n",
        dir.join(MAP).display(),
        map.serial,
        map.nodes.len(),
        map.expires
    ))
}

fn show(args: &ShowArgs, paint: Paint) -> Result<ExitCode> {
    let beside = args.map.parent().unwrap_or(Path::new(".")).join(TRUST);
    let trust = read_trust(args.trust.as_ref().unwrap_or(&beside))?;
    let octets = fs::read(&args.map).with_context(|| format!("read {}", args.map.display()))?;
    let map = verified(&octets, &trust)?;
    if args.json {
        // the secret is for holders of the map: they have it here as there
        return print(&json_line(&json!(map))?);
    }
    let rows: Vec<_> = map
        .nodes
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
    print(&format!(
        "network {}, map {} of {}, holds until {}\n{}",
        printable(&map.network),
        map.serial,
        map.issued,
        map.expires,
        table(head, &rows, paint)
    ))
}

fn verified(octets: &[u8], trust: &Trust) -> Result<Map> {
    let mut held = Held::new(trust.clone());
    let now = Timestamp::try_from(SystemTime::now()).context("this host's clock")?;
    held.accept(octets, now)?;
    held.latest().cloned().context("the map is gone")
}

fn read_trust(path: &Path) -> Result<Trust> {
    let text = fs::read(path).with_context(|| format!("read whom to believe: {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} does not say whom to believe", path.display()))
}

fn new_key() -> Result<(Vec<u8>, Ed25519KeyPair)> {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new())
        .map_err(|_| anyhow::anyhow!("a key cannot be made"))?;
    let key =
        Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map_err(|_| anyhow::anyhow!("a key cannot be made"))?;
    Ok((pkcs8.as_ref().to_vec(), key))
}

fn root(key: &Ed25519KeyPair) -> Result<Root> {
    Ok(Root {
        version: 1,
        threshold: 1,
        keys: vec![map::public(key).context("the key has no public half")?],
    })
}

fn load(dir: &Path) -> Result<Network> {
    let path = dir.join(NETWORK);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
            "{} is no network's folder: `portmaster gate17 network init {}` makes one",
            dir.display(),
            dir.display()
        ),
        other => other.with_context(|| format!("read {}", path.display()))?,
    };
    toml::from_str(&text).with_context(|| format!("{} cannot be read", path.display()))
}

fn store(dir: &Path, network: &Network) -> Result<()> {
    write(&dir.join(NETWORK), toml::to_string(network)?.as_bytes())
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    daemon::files::replace(path, content).with_context(|| format!("write {}", path.display()))
}

/// For its owner alone, from the beginning.
fn private(path: &Path, content: &[u8]) -> Result<()> {
    let what = || format!("write {}", path.display());
    let mut options = fs::File::options();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(what)?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .with_context(what)
}
