//! What is said of a node: by its operator, and by itself.

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use gate17_proto::map::{Carrier, ExitRule, KeyPin, Node, NodeAddress};
use serde::Deserialize;

/// What a node is known and reached by.
#[derive(Debug, Args)]
pub struct SaidArgs {
    /// What `portmaster-gate17-node --print-descriptor` printed
    #[arg(long, value_name = "FILE")]
    pub descriptor: Option<PathBuf>,
    /// SHA-256 of its public key, sha256:…
    #[arg(long, value_name = "PIN")]
    pub key: Vec<String>,
    /// Where it is reached: ADDRESS:PORT; port 80 is asked to change to TLS
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub address: Vec<SocketAddr>,
    /// Name that its certificate has, for who looks at connections to it [default: none is said]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Whose it is: nodes of one family are never on one path [default: its id]
    #[arg(long)]
    pub family: Option<String>,
    /// What it can carry, in Mbit/s [default: 100]
    #[arg(long)]
    pub capacity: Option<u64>,
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

impl SaidArgs {
    /// Whatever was given; returns the exit rules of a descriptor that has some.
    pub(super) fn apply(self, node: &mut Node) -> Result<Option<Vec<ExitRule>>> {
        let mut keys = Vec::new();
        let mut rules = None;
        if let Some(file) = &self.descriptor {
            let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
            let said: Descriptor = toml::from_str(&text)
                .with_context(|| format!("{} is no node's descriptor", file.display()))?;
            keys = said.keys;
            node.version = said.version;
            rules = (!said.exit.is_empty()).then_some(said.exit);
        }
        for key in self.key {
            keys.push(KeyPin::try_from(key).map_err(anyhow::Error::msg)?);
        }
        if !keys.is_empty() {
            node.keys = keys;
        }
        if !self.address.is_empty() {
            node.addresses = self.address.into_iter().map(address).collect();
        }
        if let Some(name) = self.name {
            node.name = name;
        }
        if let Some(family) = self.family {
            node.family = family;
        }
        if let Some(capacity) = self.capacity {
            node.capacity = capacity;
        }
        Ok(rules)
    }
}

fn address(at: SocketAddr) -> NodeAddress {
    NodeAddress {
        address: at.ip(),
        port: at.port(),
        carrier: if at.port() == 80 {
            Carrier::Upgrade
        } else {
            Carrier::Tls
        },
    }
}
