//! Changes of a file's text that leave everything else in it as its owner wrote it, comments among it. Pure.
//!
//! What comes out is parsed as every file is before anybody gets it: here nothing is checked twice.

mod rule;
mod switches;

use proto::policy::v1::{NewMatch, NewRule, Switches};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value};

const RULE: &str = "rule";
const MATCH: &str = "match";

/// Why a text cannot be changed so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EditError {
    #[error("the file is not TOML ({0}); mend it first")]
    Text(String),
    #[error("there is no rule {number}; the file has {rules}")]
    NoRule { number: u32, rules: usize },
    #[error("`rule` is no list of tables in this file; mend it first")]
    NoList,
    #[error("{field}: {problem}")]
    Field { field: String, problem: String },
}

impl EditError {
    fn field(field: &str, problem: impl Into<String>) -> Self {
        Self::Field {
            field: field.to_owned(),
            problem: problem.into(),
        }
    }
}

/// A profile of one rule.
pub(crate) fn new_profile(of: &NewMatch, rule: &NewRule) -> Result<String, EditError> {
    let mut document = DocumentMut::new();
    let mut matches = ArrayOfTables::new();
    matches.push(rule::matching(of));
    document.insert(MATCH, Item::ArrayOfTables(matches));
    let mut rules = ArrayOfTables::new();
    rules.push(rule::table(rule)?);
    document.insert(RULE, Item::ArrayOfTables(rules));
    Ok(document.to_string())
}

/// A profile of one match and no rule.
pub(crate) fn only_match(of: &NewMatch) -> String {
    let mut document = DocumentMut::new();
    let mut matches = ArrayOfTables::new();
    matches.push(rule::matching(of));
    document.insert(MATCH, Item::ArrayOfTables(matches));
    document.to_string()
}

/// With a rule more. `number`: its place, from 1; 0 is the first, what is beyond the last is the last.
pub(crate) fn add_rule(text: &str, rule: &NewRule, number: u32) -> Result<String, EditError> {
    let mut document = parse(text)?;
    let table = rule::table(rule)?;
    let wanted = usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
    let end = document
        .iter()
        .filter_map(|(_, item)| last_position(item))
        .max()
        .unwrap_or(0);
    match document.get_mut(RULE) {
        None => {
            let mut rules = ArrayOfTables::new();
            rules.push(at(table, Some(end + 1)));
            document.insert(RULE, Item::ArrayOfTables(rules));
        }
        Some(Item::ArrayOfTables(rules)) => {
            let place = wanted.min(rules.len());
            // tables of one place are written in the order of their list
            let neighbour = rules.get(place).or_else(|| rules.iter().last());
            let position = neighbour.and_then(Table::position);
            rules.insert(place, at(table, position));
        }
        Some(Item::Value(Value::Array(rules))) => insert_inline(rules, table, wanted),
        Some(_) => return Err(EditError::NoList),
    }
    Ok(document.to_string())
}

/// Without the rule of this number, from 1. The comment right above it goes as well.
pub(crate) fn remove_rule(text: &str, number: u32) -> Result<String, EditError> {
    let mut document = parse(text)?;
    let place = usize::try_from(number).unwrap_or(usize::MAX);
    let missing = |rules| EditError::NoRule { number, rules };
    let place = place.checked_sub(1).ok_or_else(|| missing(count(&document)))?;
    match document.get_mut(RULE) {
        None => return Err(missing(0)),
        Some(Item::ArrayOfTables(rules)) if place < rules.len() => {
            let removed = rules.remove(place);
            let heading = heading(&removed);
            match rules.get_mut(place) {
                Some(next) if !heading.is_empty() => prepend(next, &heading),
                None if !heading.is_empty() => {
                    let trailing = document.trailing().as_str().unwrap_or_default().to_owned();
                    document.set_trailing(heading + &trailing);
                }
                _ => {}
            }
        }
        Some(Item::Value(Value::Array(rules))) if place < rules.len() => drop(rules.remove(place)),
        Some(Item::ArrayOfTables(rules)) => return Err(missing(rules.len())),
        Some(Item::Value(Value::Array(rules))) => return Err(missing(rules.len())),
        Some(_) => return Err(EditError::NoList),
    }
    Ok(document.to_string())
}

/// With these switches. `fields` names those that are meant (`block_lan`, `tunnel.hops`): the ones that are not set go. Empty: those
/// that are set.
pub(crate) fn set_switches(text: &str, switches: &Switches, fields: &[String]) -> Result<String, EditError> {
    let mut document = parse(text)?;
    switches::set(&mut document, switches, fields)?;
    Ok(document.to_string())
}

fn parse(text: &str) -> Result<DocumentMut, EditError> {
    text.parse::<DocumentMut>()
        .map_err(|error| EditError::Text(error.message().to_owned()))
}

fn count(document: &DocumentMut) -> usize {
    match document.get(RULE) {
        Some(Item::ArrayOfTables(rules)) => rules.len(),
        Some(Item::Value(Value::Array(rules))) => rules.len(),
        _ => 0,
    }
}

fn at(mut table: Table, position: Option<isize>) -> Table {
    table.set_position(position);
    table
}

fn last_position(item: &Item) -> Option<isize> {
    match item {
        Item::Table(table) => table.position(),
        Item::ArrayOfTables(tables) => tables.iter().filter_map(Table::position).max(),
        _ => None,
    }
}

/// `rule = [{ … }]`
fn insert_inline(rules: &mut Array, table: Table, wanted: usize) {
    let inline: InlineTable = table.into_inline_table();
    rules.insert(wanted.min(rules.len()), Value::InlineTable(inline));
}

/// What stands above a table, apart from it by an empty line: it is about more than the table.
fn heading(table: &Table) -> String {
    let prefix = table.decor().prefix().and_then(|prefix| prefix.as_str());
    let prefix = prefix.unwrap_or_default();
    match prefix.rfind("\n\n") {
        Some(end) if prefix.get(..end).is_some_and(|head| head.contains('#')) => {
            prefix.get(..=end).unwrap_or_default().to_owned()
        }
        _ => String::new(),
    }
}

fn prepend(table: &mut Table, heading: &str) {
    let own = table.decor().prefix().and_then(|prefix| prefix.as_str());
    let prefix = format!("{heading}{}", own.unwrap_or_default());
    table.decor_mut().set_prefix(prefix);
}

#[cfg(test)]
mod tests;
