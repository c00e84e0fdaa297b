//! `[[match]]` and `[[rule]]`, as they are written.

use proto::{
    flow::v1::Direction,
    policy::v1::{NewMatch, NewRule},
};
use toml_edit::{Array, Item, Table, Value, value};

use super::{EditError, switches::action};

pub(super) fn matching(of: &NewMatch) -> Table {
    let mut table = Table::new();
    let texts = [
        ("path", &of.path),
        ("sha256", &of.sha256),
        ("script", &of.script),
        ("unit", &of.unit),
        ("cgroup", &of.cgroup),
        ("flatpak", &of.flatpak),
        ("snap", &of.snap),
        ("container", &of.container),
    ];
    for (key, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        table.insert(key, value(text.as_str()));
    }
    if !of.user.is_empty() {
        table.insert("user", Item::Value(number_or_text(&of.user)));
    }
    if of.unknown {
        table.insert("unknown", value(true));
    }
    table
}

pub(super) fn table(rule: &NewRule) -> Result<Table, EditError> {
    let mut table = Table::new();
    if !rule.note.is_empty() {
        table.insert("note", value(rule.note.as_str()));
    }
    let word = action("rule.action", rule.action)?
        .ok_or_else(|| EditError::field("rule.action", "is missing: allow, block, drop, ask or tunnel"))?;
    table.insert("action", value(word));
    match Direction::try_from(rule.direction) {
        Ok(Direction::Unspecified) => {}
        Ok(Direction::Outgoing) => drop(table.insert("direction", value("out"))),
        Ok(Direction::Incoming) => drop(table.insert("direction", value("in"))),
        Err(_) => {
            return Err(EditError::field(
                "rule.direction",
                format!("{} is none", rule.direction),
            ));
        }
    }
    let lists = [
        ("protocol", &rule.protocols),
        ("remote", &rule.remotes),
        ("remote_port", &rule.remote_ports),
        ("local_port", &rule.local_ports),
        ("icmp_type", &rule.icmp_types),
        ("user", &rule.users),
    ];
    for (key, words) in lists {
        match words.as_slice() {
            [] => {}
            [one] => drop(table.insert(key, Item::Value(item(key, one)))),
            many => {
                let values: Array = many.iter().map(|word| item(key, word)).collect();
                table.insert(key, value(values));
            }
        }
    }
    if let Some(expires) = rule.expires {
        let moment = jiff::Timestamp::new(expires.seconds, expires.nanos);
        let moment = moment.map_err(|error| EditError::field("rule.expires", error.to_string()))?;
        let moment = moment.to_string().parse::<toml_edit::Datetime>();
        let moment = moment.map_err(|error| EditError::field("rule.expires", error.to_string()))?;
        table.insert("expires", value(moment));
    }
    Ok(table)
}

/// An address is a text, also where it looks like a number.
fn item(key: &str, word: &str) -> Value {
    if key == "remote" {
        word.into()
    } else {
        number_or_text(word)
    }
}

/// `443`, not `"443"`.
fn number_or_text(word: &str) -> Value {
    let is_number = !word.is_empty() && word.bytes().all(|digit| digit.is_ascii_digit());
    match word.parse::<i64>() {
        Ok(number) if is_number => number.into(),
        _ => word.into(),
    }
}
