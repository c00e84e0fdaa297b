//! What `iptables-save` says. Parsing is total: a line that is not understood is passed over.

use super::{TableName, canonical::Canonical, render::is_own};
use crate::Mark;

/// The tables that may hold rules of ours, as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    tables: Vec<(TableName, SavedTable)>,
    unreadable: Vec<TableName>,
}

/// A table as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedTable {
    /// In the order in which they were said.
    pub chains: Vec<SavedChain>,
}

/// A chain as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedChain {
    /// Its name.
    pub name: String,
    /// In order.
    pub rules: Vec<SavedRule>,
}

/// A rule as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedRule {
    /// Behind `-A CHAIN `, word by word.
    pub text: String,
    pub(super) canonical: Canonical,
}

impl Saved {
    /// Reads the output of `iptables-save` or `ip6tables-save`, with or without counters.
    pub fn parse(text: &str) -> Self {
        let mut saved = Self::default();
        let mut current = None;
        for line in text.lines().map(str::trim) {
            if let Some(name) = unreadable(line) {
                saved.unreadable.push(name);
            } else if let Some(name) = line.strip_prefix('*') {
                current = TableName::ALL.into_iter().find(|table| table.text() == name);
                if let Some(name) = current.filter(|name| saved.table(*name).is_none()) {
                    saved.tables.push((name, SavedTable::default()));
                }
            } else if line == "COMMIT" {
                current = None;
            } else if let Some(table) = current.and_then(|name| saved.table_mut(name)) {
                table.read(line);
            }
        }
        saved
    }

    /// A table; `None` where it was not said.
    pub fn table(&self, name: TableName) -> Option<&SavedTable> {
        let mut tables = self.tables.iter();
        tables.find(|(other, _)| *other == name).map(|(_, table)| table)
    }

    /// Tables of which the program says only that it does not understand them: they hold rules that were made by `nft`.
    pub fn unreadable(&self) -> &[TableName] {
        &self.unreadable
    }

    /// Something of ours is there.
    pub fn has_ours(&self) -> bool {
        let has = |(name, table): &(TableName, SavedTable)| {
            table.chains.iter().any(|chain| is_own(&chain.name)) || table.ours(*name).next().is_some()
        };
        self.tables.iter().any(has)
    }

    pub(super) fn table_mut(&mut self, name: TableName) -> Option<&mut SavedTable> {
        let mut tables = self.tables.iter_mut();
        tables.find(|(other, _)| *other == name).map(|(_, table)| table)
    }
}

impl SavedTable {
    /// A chain by its name.
    pub fn chain(&self, name: &str) -> Option<&SavedChain> {
        self.chains.iter().find(|chain| chain.name == name)
    }

    /// Rules of ours in any chain, of this configuration or an earlier one, with the chain's name.
    pub fn ours(&self, table: TableName) -> impl Iterator<Item = (&str, &SavedRule)> {
        self.chains.iter().flat_map(move |chain| {
            let name = chain.name.as_str();
            let rules = chain.rules.iter();
            rules
                .filter(move |rule| is_ours(table, name, rule))
                .map(move |rule| (name, rule))
        })
    }

    fn read(&mut self, line: &str) {
        if let Some(declaration) = line.strip_prefix(':') {
            if let Some(name) = declaration.split_whitespace().next() {
                self.chain_mut(name);
            }
        } else if let Some((name, rule)) = rule(line) {
            let rule = SavedRule {
                text: rule.to_owned(),
                canonical: Canonical::parse(rule),
            };
            if let Some(chain) = self.chain_mut(name) {
                chain.rules.push(rule);
            }
        }
    }

    fn chain_mut(&mut self, name: &str) -> Option<&mut SavedChain> {
        if self.chain(name).is_none() {
            self.chains.push(SavedChain {
                name: name.to_owned(),
                rules: Vec::new(),
            });
        }
        self.chains.iter_mut().find(|chain| chain.name == name)
    }
}

/// ``# Table `filter' is incompatible, use 'nft' tool.``
fn unreadable(line: &str) -> Option<TableName> {
    let (name, rest) = line.strip_prefix("# Table `")?.split_once('\'')?;
    let known = TableName::ALL.into_iter().find(|table| table.text() == name);
    known.filter(|_| rest.contains("incompatible"))
}

/// Chain and rule of `-A CHAIN RULE`, or of `[12:3456] -A CHAIN RULE`.
fn rule(line: &str) -> Option<(&str, &str)> {
    let line = match line.strip_prefix('[') {
        Some(counted) => counted.split_once(']')?.1.trim_start(),
        None => line,
    };
    let rest = line.strip_prefix("-A ")?.trim_start();
    Some(match rest.split_once(' ') {
        Some((chain, rule)) => (chain, rule.trim()),
        None => (rest, ""),
    })
}

/// A jump to a chain of ours, or one of the rules that we put into the kernel's own chains, known by our marks under
/// any mask. Nobody else has these numbers with these targets.
fn is_ours(table: TableName, chain: &str, rule: &SavedRule) -> bool {
    let target = rule.canonical.target();
    if target.is_some_and(is_own) {
        return true;
    }
    let rerouted = || rule.canonical.mark().is_some_and(is_rerouting_mark);
    match (table, chain) {
        (TableName::Nat, "OUTPUT") => target == Some("DNAT") && rerouted(),
        (TableName::Mangle, "POSTROUTING") => {
            target == Some("DROP") && rule.canonical.not_out_loopback() && rerouted()
        }
        _ => false,
    }
}

fn is_rerouting_mark(wire: u32) -> bool {
    let unshifted = wire.checked_shr(wire.trailing_zeros()).unwrap_or(0);
    [Mark::TUNNEL, Mark::DNS].iter().any(|mark| mark.0 == unshifted) // both are odd
}
