//! `portmaster gate17 network init`, `new-key` and `access`.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use gate17_proto::map::{Access, MAX_ROOT_KEYS, PublicKey, Root, Secret, Trust};

use super::{
    folder::{NETWORK, Network, TRUST, write},
    keys::{self, Key},
};
use crate::{output::print, printable::printable};

/// Who may use the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccessArg {
    /// Everybody, with any client
    None,
    /// Everybody who has the map
    Map,
    /// Those who were given a token
    Token,
    /// Those whose key the map names
    Key,
}

impl From<AccessArg> for Access {
    fn from(word: AccessArg) -> Self {
        match word {
            AccessArg::None => Self::None,
            AccessArg::Map => Self::Map,
            AccessArg::Token => Self::Token,
            AccessArg::Key => Self::Key,
        }
    }
}

/// `portmaster gate17 network init`
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
    /// Root keys to make here: keep them apart
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=32))]
    pub roots: u8,
    /// Root key of somebody else, ed25519:… or a file with it, as `network new-key` printed it
    #[arg(long, value_name = "KEY")]
    pub root_key: Vec<String>,
    /// How many of the root keys sign [default: more than half]
    #[arg(long, value_name = "K")]
    pub threshold: Option<usize>,
}

/// `portmaster gate17 network new-key`
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// File that is made for it
    pub file: PathBuf,
}

/// `portmaster gate17 network access`
#[derive(Debug, Args)]
pub struct AccessArgs {
    /// The network's folder
    pub dir: PathBuf,
    /// Who may use the nodes
    #[arg(value_enum)]
    pub access: AccessArg,
}

pub(super) fn init(args: &InitArgs) -> Result<ExitCode> {
    let dir = &args.dir;
    let is_there = dir.join(NETWORK).exists() || dir.join(TRUST).exists() || dir.join("root.key").exists();
    ensure!(
        !is_there,
        "{} has a network already: give another folder",
        dir.display()
    );
    ensure!(
        !args.name.is_empty() && args.name.len() <= 64,
        "a network's name has 1 to 64 octets: give another --name"
    );
    let others = args
        .root_key
        .iter()
        .map(|key| keys::public(key))
        .collect::<Result<Vec<_>>>()?;
    let count = others.len() + usize::from(args.roots);
    let threshold = args.threshold.unwrap_or(count / 2 + 1);
    check(&others, count, threshold)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("make {}", dir.display()))?;
    let own = make(dir, args.roots)?;
    let root = Root {
        version: 1,
        threshold,
        keys: own.iter().map(|key| key.public).chain(others).collect(),
    };
    let network = Network::new(args.name.clone(), args.access.into(), Secret(random()?));
    let trust = Trust {
        network: args.name.clone(),
        root,
    };
    write(&dir.join(TRUST), serde_json::to_string_pretty(&trust)?.as_bytes())?;
    // last: with this file it is a network's folder
    network.store(dir)?;
    let names: Vec<_> = own.iter().map(|key| name_of(&key.path)).collect();
    print(&format!(
        "{dir}: network {name}\n{keep}  give {TRUST} to the nodes, and to those who are to use the network\n{signs}  {admission}\n",
        dir = dir.display(),
        name = printable(&args.name),
        keep = kept(&names),
        signs = signs(&trust.root),
        admission = admission(args.access, dir, &network),
    ))
}

fn kept(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => format!("  keep {one} to yourself, and a copy of it\n"),
        several => format!(
            "  keep {} to yourself, each in a place of its own, and copies of them\n",
            several.join(", ")
        ),
    }
}

fn signs(root: &Root) -> String {
    match root.keys.len() {
        1 => String::new(),
        count => format!("  {} of {count} root keys sign its maps\n", root.threshold),
    }
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// What a root has to be.
pub(super) fn check(keys: &[PublicKey], count: usize, threshold: usize) -> Result<()> {
    let mut different = keys.to_vec();
    different.sort_unstable();
    different.dedup();
    ensure!(
        different.len() == keys.len(),
        "a root key is given twice: name each once"
    );
    ensure!(
        (1..=MAX_ROOT_KEYS).contains(&count),
        "{count} root keys: give 1 to {MAX_ROOT_KEYS}"
    );
    ensure!(
        (1..=count).contains(&threshold),
        "{threshold} of {count} root keys cannot sign: give a --threshold of 1 to {count}"
    );
    Ok(())
}

/// New root keys in a folder.
pub(super) fn make(dir: &Path, count: u8) -> Result<Vec<Key>> {
    let is_only = count == 1 && !dir.join("root.key").exists();
    (0..count)
        .map(|_| {
            let path = if is_only {
                dir.join("root.key")
            } else {
                keys::free(dir)?
            };
            Key::make(&path)
        })
        .collect()
}

pub(super) fn new_key(args: &KeyArgs) -> Result<ExitCode> {
    let key = Key::make(&args.file)?;
    eprintln!(
        "{} is for you alone; what follows is for the network's operator",
        args.file.display()
    );
    print(&format!("{}\n", String::from(key.public)))
}

pub(super) fn access(args: &AccessArgs) -> Result<ExitCode> {
    let mut network = Network::open(&args.dir)?;
    network.access = args.access.into();
    network.store(&args.dir)?;
    print(&format!(
        "{}\nfrom the next map on: `portmaster gate17 map sign {}`\n",
        admission(args.access, &args.dir, &network),
        args.dir.display()
    ))
}

fn admission(access: AccessArg, dir: &Path, network: &Network) -> String {
    let dir = dir.display();
    match access {
        AccessArg::None => "nodes that have the map admit everybody".to_owned(),
        AccessArg::Map => "nodes that have the map admit whoever has it".to_owned(),
        AccessArg::Token => format!(
            "nodes that have the map admit {} tokens: `portmaster gate17 token new {dir} NAME` makes one",
            network.tokens.len()
        ),
        AccessArg::Key => format!(
            "nodes that have the map admit {} client keys: `portmaster gate17 client-key add {dir} NAME KEY` adds one",
            network.client_keys.len()
        ),
    }
}

/// From the system.
pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut octets = [0; N];
    aws_lc_rs::rand::fill(&mut octets).map_err(|_| anyhow::anyhow!("no random octets are to be had"))?;
    Ok(octets)
}
