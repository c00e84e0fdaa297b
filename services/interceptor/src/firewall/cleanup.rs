//! Taking everything out again, whatever state it is in.

use std::{fmt, path::Path};

use iptables::IPTables;
use verdict::ruleset::{ChainName, Family, Options, RuleSet, Saved, Table, TableName, render_removal};

use super::{
    Backend, Error,
    apply::{has_ipv6, told},
    command, route,
};

/// What [`cleanup`] found and removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Where rules of ours were.
    pub from: Vec<(Backend, Family)>,
}

/// What [`cleanup`] could not remove; it went on with the rest.
#[derive(Debug, thiserror::Error)]
pub struct Unremoved {
    /// One for each place, with its reason.
    pub errors: Vec<String>,
    /// What was removed all the same.
    pub removed: Removed,
}

impl fmt::Display for Unremoved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "firewall rules are left: {}", self.errors.join("; "))
    }
}

/// Removes all rules of ours, of any configuration, from both back ends and both families. Where there is nothing it
/// does nothing, so twice is as good as once. A back end that is not installed can hold nothing.
pub async fn cleanup(lock_directory: &Path) -> Result<Removed, Unremoved> {
    let lock = command::own_lock(lock_directory);
    let mut removed = Removed::default();
    let mut errors = Vec::new();
    // before the rules that refuse whoever took it
    errors.extend(route::remove().err());
    for backend in Backend::ALL {
        for family in Family::ALL {
            match remove(backend, family, lock.as_deref()).await {
                Ok(true) => removed.from.push((backend, family)),
                Ok(false) => {}
                Err(error) => errors.push(format!("{family} in {backend}: {}", told(&error))),
            }
        }
    }
    if errors.is_empty() {
        Ok(removed)
    } else {
        Err(Unremoved { errors, removed })
    }
}

/// Whether there was something.
pub(super) async fn remove(backend: Backend, family: Family, lock: Option<&Path>) -> Result<bool, Error> {
    let Ok(tools) = backend.tools(family, lock) else {
        return Ok(false);
    };
    if !tools.may_hold_rules() || (family == Family::V6 && !has_ipv6()) {
        return Ok(false);
    }
    let saved = tools.read().await?;
    let hidden = saved.unreadable().to_vec();
    let stuck = if hidden.is_empty() {
        false
    } else {
        remove_unread(backend, family, hidden).await
    };
    let Some(text) = render_removal(&saved) else {
        return if stuck {
            Err(unread(family, &saved))
        } else {
            Ok(!saved.unreadable().is_empty())
        };
    };
    let stuck = stuck.then(|| unread(family, &saved));
    if let Err(error) = tools.load(&text).await {
        one_by_one(backend, family, saved).await;
        if tools.read().await?.has_ours() {
            return Err(error);
        }
    }
    stuck.map_or(Ok(true), Err)
}

fn unread(family: Family, saved: &Saved) -> Error {
    Error::Unreadable {
        family,
        tables: saved.unreadable().to_vec(),
    }
}

/// Programs one by one, for what one transaction cannot do.
const fn programs(backend: Backend, family: Family) -> IPTables {
    IPTables {
        cmd: backend.program(family),
        has_check: true,
        has_wait: true,
        is_numeric: true,
    }
}

/// Where one transaction does not go through (somebody changes the table at the same time): rule by rule, as far as it
/// goes.
async fn one_by_one(backend: Backend, family: Family, saved: Saved) {
    let work = move || {
        let tables = programs(backend, family);
        for table in TableName::ALL.into_iter().rev() {
            remove_table(&tables, table, &saved);
        }
    };
    if let Err(error) = tokio::task::spawn_blocking(work).await {
        tracing::warn!(%error, "removing rules one by one did not end");
    }
}

/// Tables that hold rules of `nft` cannot be listed, but rules that are known by their text can be taken out. True where
/// a chain of ours is left.
async fn remove_unread(backend: Backend, family: Family, hidden: Vec<TableName>) -> bool {
    let work = move || {
        let programs = programs(backend, family);
        let rules = RuleSet::new(&Options::default());
        let tables = rules
            .tables(family)
            .iter()
            .rev()
            .filter(|table| hidden.contains(&table.name));
        tables.filter(|table| remove_known(&programs, table)).count() > 0
    };
    tokio::task::spawn_blocking(work).await.unwrap_or(true)
}

fn remove_known(programs: &IPTables, table: &Table) -> bool {
    let name = table.name.text();
    for chain in table.chains.iter().filter(|chain| !chain.name.is_own()) {
        for rule in &chain.rules {
            let _ = programs.delete_all(name, chain.name.text(), &rule.to_string()); // what is left shows below
        }
    }
    let own = || {
        table
            .chains
            .iter()
            .map(|chain| chain.name)
            .filter(|name| name.is_own())
    };
    for chain in own() {
        let _ = programs.flush_chain(name, chain.text());
        let _ = programs.delete_chain(name, chain.text());
    }
    own().any(|chain| programs.chain_exists(name, chain.text()).unwrap_or(true))
}

fn remove_table(tables: &IPTables, table: TableName, saved: &Saved) {
    let name = table.text();
    let tell = |what: &str, result: Result<(), Box<dyn std::error::Error>>| {
        if let Err(error) = result {
            tracing::debug!(%error, table = name, what, "not removed");
        }
    };
    let Some(table_saved) = saved.table(table) else {
        return;
    };
    for (chain, rule) in table_saved.ours(table) {
        tell(&rule.text, tables.delete(name, chain, &rule.text));
    }
    let own = || {
        ChainName::OWN
            .iter()
            .filter(|own| table_saved.chain(own.text()).is_some())
    };
    for chain in own() {
        tell(chain.text(), tables.flush_chain(name, chain.text()));
    }
    for chain in own() {
        tell(chain.text(), tables.delete_chain(name, chain.text()));
    }
}
