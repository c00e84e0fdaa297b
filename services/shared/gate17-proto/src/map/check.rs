//! Whether a map makes sense: who uses one need not ask again.

use std::collections::HashSet;

use ipnet::IpNet;

use super::{ExitRule, MAX_ROOT_KEYS, Map, Node, NodeId, Root};

const MAX_NODES: usize = 10_000;
const MAX_OF_NODE: usize = 64;

/// What makes none, and of which node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// As whole.
    #[error("it has more than {MAX_NODES} nodes")]
    TooMany,
    /// One of its nodes.
    #[error("node {node:?}: {why}")]
    Node {
        /// Its id, or what stands there.
        node: String,
        /// What is wrong.
        why: &'static str,
    },
}

pub(super) fn root(root: &Root) -> Result<(), &'static str> {
    let different: HashSet<_> = root.keys.iter().collect();
    match root.keys.len() {
        count if count > MAX_ROOT_KEYS => Err("it has too many keys"),
        count if different.len() != count => Err("it has a key twice"),
        count if root.threshold == 0 || root.threshold > count => Err("its threshold is not of its keys"),
        _ => Ok(()),
    }
}

pub(super) fn nodes(map: &Map) -> Result<(), Malformed> {
    if map.nodes.len() > MAX_NODES {
        return Err(Malformed::TooMany);
    }
    let (mut ids, mut keys, mut addresses) = (HashSet::new(), HashSet::new(), HashSet::new());
    for node in &map.nodes {
        let wrong = |why| {
            Err(Malformed::Node {
                node: node.id.0.clone(),
                why,
            })
        };
        if let Err(why) = alone(node) {
            return wrong(why);
        }
        if !ids.insert(&node.id) {
            return wrong("its id is there twice");
        }
        if !node.keys.iter().all(|key| keys.insert(key)) {
            return wrong("one of its keys is there twice");
        }
        if !node
            .addresses
            .iter()
            .all(|at| addresses.insert((at.address, at.port)))
        {
            return wrong("one of its addresses is there twice");
        }
    }
    Ok(())
}

/// A node by itself.
///
/// # Errors
/// What is wrong with it.
pub fn alone(node: &Node) -> Result<(), &'static str> {
    let lists = [node.keys.len(), node.addresses.len(), node.exit.len()];
    if !is_id(&node.id) {
        Err("its id is not 1 to 32 of a-z, 0-9 and -")
    } else if node.keys.is_empty() {
        Err("it has no key")
    } else if node.addresses.is_empty() {
        Err("it has no address")
    } else if lists.iter().any(|length| *length > MAX_OF_NODE) {
        Err("it has more than 64 keys, addresses or rules")
    } else if node
        .addresses
        .iter()
        .any(|at| at.port == 0 || at.address.is_unspecified())
    {
        Err("one of its addresses is none")
    } else if !(node.region.len() == 2 && node.region.bytes().all(|letter| letter.is_ascii_lowercase())) {
        Err("its region is not two letters")
    } else if node.family.is_empty() || node.family.len() > 64 {
        Err("its family is not 1 to 64 octets")
    } else if !node.exit.iter().all(is_rule) {
        Err("one of its exit rules cannot be read")
    } else {
        Ok(())
    }
}

fn is_id(id: &NodeId) -> bool {
    let letter = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
    (1..=32).contains(&id.0.len()) && id.0.bytes().all(letter)
}

fn is_rule(rule: &ExitRule) -> bool {
    let to =
        rule.to == "*" || rule.to.parse::<IpNet>().is_ok() || rule.to.parse::<std::net::IpAddr>().is_ok();
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.trim().parse::<u16>(), last.trim().parse::<u16>());
        matches!((first, last), (Ok(first), Ok(last)) if first <= last)
    };
    to && (rule.ports == "*" || rule.ports.split(',').all(range))
}
