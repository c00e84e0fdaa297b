//! Where a firewall differs from the rules.

use std::fmt;

use super::{
    Chain, ChainName, Family, RuleSet, Saved, SavedChain, SavedRule, SavedTable, TableName,
    canonical::Canonical,
};

/// One difference, said as what somebody did to our rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deviation {
    /// A chain of ours is not there.
    MissingChain(TableName, ChainName),
    /// A chain of ours is empty.
    EmptyChain(TableName, ChainName),
    /// A rule of ours is not there.
    MissingRule(TableName, ChainName, String),
    /// A rule that is not ours stands in our chain, or one of ours of an earlier configuration, or one twice.
    ExtraRule(TableName, ChainName, String),
    /// All rules are there, in another order.
    Reordered(TableName, ChainName),
    /// A rule of somebody else stands before ours.
    Displaced {
        /// Where.
        table: TableName,
        /// In which of the kernel's chains.
        chain: ChainName,
        /// By what.
        by: String,
    },
}

impl Deviation {
    /// The table to load again.
    pub const fn table(&self) -> TableName {
        match self {
            Self::MissingChain(table, _)
            | Self::EmptyChain(table, _)
            | Self::MissingRule(table, ..)
            | Self::ExtraRule(table, ..)
            | Self::Reordered(table, _)
            | Self::Displaced { table, .. } => *table,
        }
    }
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingChain(table, chain) => write!(f, "{table} {chain} is gone"),
            Self::EmptyChain(table, chain) => write!(f, "{table} {chain} is empty"),
            Self::MissingRule(table, chain, rule) => write!(f, "{table} {chain} lacks \"{rule}\""),
            Self::ExtraRule(table, chain, rule) => {
                write!(f, "{table} {chain} has \"{rule}\", which is not ours")
            }
            Self::Reordered(table, chain) => write!(f, "{table} {chain} is in another order"),
            Self::Displaced { table, chain, by } => {
                write!(f, "{table} {chain} begins with \"{by}\", before ours")
            }
        }
    }
}

/// Every difference between the rules and what `iptables-save` says. Empty: as it should be.
pub fn verify(rules: &RuleSet, family: Family, saved: &Saved) -> Vec<Deviation> {
    let empty = SavedTable::default();
    let mut deviations = Vec::new();
    for table in rules.tables(family) {
        let found = saved.table(table.name).unwrap_or(&empty);
        for chain in &table.chains {
            Comparison {
                table: table.name,
                chain,
                expected: chain
                    .rules
                    .iter()
                    .map(|rule| Canonical::parse(&rule.to_string()))
                    .collect(),
                deviations: &mut deviations,
            }
            .run(found);
        }
    }
    deviations
}

struct Comparison<'a> {
    table: TableName,
    chain: &'a Chain,
    /// One for each of the chain's rules.
    expected: Vec<Canonical>,
    deviations: &'a mut Vec<Deviation>,
}

impl Comparison<'_> {
    fn run(mut self, found: &SavedTable) {
        match found.chain(self.chain.name.text()) {
            None if self.chain.name.is_own() => {
                self.tell(Deviation::MissingChain(self.table, self.chain.name));
            }
            None => {
                self.missing(&[]);
            }
            Some(found) if self.chain.name.is_own() => self.all(found),
            Some(chain) => {
                let ours: Vec<_> = found
                    .ours(self.table)
                    .filter(|(name, _)| *name == chain.name)
                    .map(|(_, rule)| rule)
                    .collect();
                self.head(chain, &ours);
            }
        }
    }

    /// An own chain: nothing less, nothing more.
    fn all(&mut self, found: &SavedChain) {
        if found.rules.is_empty() {
            return self.tell(Deviation::EmptyChain(self.table, self.chain.name));
        }
        let rules: Vec<_> = found.rules.iter().collect();
        if !self.in_order(&rules) && !self.missing(&rules) & !self.extra(&rules) {
            self.tell(Deviation::Reordered(self.table, self.chain.name));
        }
    }

    /// A kernel's chain: ours at its head, each once, nobody before.
    fn head(&mut self, found: &SavedChain, ours: &[&SavedRule]) {
        if !self.in_order(ours) && !self.missing(ours) & !self.extra(ours) {
            self.tell(Deviation::Reordered(self.table, self.chain.name));
        }
        let head = found.rules.iter().take(ours.len());
        let stranger = head
            .into_iter()
            .find(|rule| !ours.iter().any(|own| std::ptr::eq(*own, *rule)));
        if let Some(stranger) = stranger {
            self.tell(Deviation::Displaced {
                table: self.table,
                chain: self.chain.name,
                by: stranger.text.clone(),
            });
        }
    }

    fn in_order(&self, found: &[&SavedRule]) -> bool {
        found.iter().map(|rule| &rule.canonical).eq(&self.expected)
    }

    fn missing(&mut self, found: &[&SavedRule]) -> bool {
        let mut rest: Vec<_> = found.iter().map(|rule| &rule.canonical).collect();
        let missing: Vec<_> = (self.chain.rules.iter().zip(&self.expected))
            .filter(|(_, wanted)| !take(&mut rest, wanted))
            .map(|(rule, _)| Deviation::MissingRule(self.table, self.chain.name, rule.to_string()))
            .collect();
        self.tell_all(missing)
    }

    fn extra(&mut self, found: &[&SavedRule]) -> bool {
        let mut rest: Vec<_> = self.expected.iter().collect();
        let extra: Vec<_> = found
            .iter()
            .filter(|rule| !take(&mut rest, &rule.canonical))
            .map(|rule| Deviation::ExtraRule(self.table, self.chain.name, rule.text.clone()))
            .collect();
        self.tell_all(extra)
    }

    fn tell_all(&mut self, deviations: Vec<Deviation>) -> bool {
        let any = !deviations.is_empty();
        self.deviations.extend(deviations);
        any
    }

    fn tell(&mut self, deviation: Deviation) {
        self.deviations.push(deviation);
    }
}

/// Takes one that equals `wanted` out of `rest`.
fn take(rest: &mut Vec<&Canonical>, wanted: &Canonical) -> bool {
    match rest.iter().position(|candidate| *candidate == wanted) {
        Some(place) => {
            rest.swap_remove(place);
            true
        }
        None => false,
    }
}
