//! What `global.toml` says beside its rules.

use proto::policy::v1::{Action, Isolation, Switches, exit::Choice};
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value};

use super::EditError;

/// Fields of `Switches`, and the table of the file that each stands in (`None`: at its top).
const FIELDS: [(&str, Option<&str>, &str); 14] = [
    ("default_action", Some("settings"), "default_action"),
    ("ask_timeout_action", Some("settings"), "ask_timeout_action"),
    ("block_incoming", Some("settings"), "block_incoming"),
    ("block_lan", Some("settings"), "block_lan"),
    ("block_internet", Some("settings"), "block_internet"),
    ("block_direct", Some("settings"), "block_direct"),
    ("block_encrypted_dns", Some("settings"), "block_encrypted_dns"),
    ("block_lists", Some("settings"), "block_lists"),
    ("redirect_dns", None, "redirect_dns"),
    ("incoming_refusal", None, "incoming_refusal"),
    ("ask_timeout_seconds", None, "ask_timeout_seconds"),
    ("tunnel.hops", Some("tunnel"), "hops"),
    ("tunnel.exit", Some("tunnel"), "exit"),
    ("tunnel.isolate", Some("tunnel"), "isolate"),
];

pub(super) fn set(
    document: &mut DocumentMut,
    switches: &Switches,
    fields: &[String],
) -> Result<(), EditError> {
    let known = |name: &String| {
        let within = |(field, ..): &(&str, _, _)| {
            field == name
                || field
                    .strip_prefix(name.as_str())
                    .is_some_and(|rest| rest.starts_with('.'))
        };
        FIELDS.iter().any(within)
    };
    if let Some(unknown) = fields.iter().find(|name| !known(name)) {
        let names: Vec<&str> = FIELDS.iter().map(|(field, ..)| *field).collect();
        let problem = format!("no field of the settings; there are {}", names.join(", "));
        return Err(EditError::field(unknown, problem));
    }
    let is_meant = |field: &str| {
        fields.iter().any(|name| {
            name == field
                || field
                    .strip_prefix(name.as_str())
                    .is_some_and(|rest| rest.starts_with('.'))
        })
    };
    for (field, table, key) in FIELDS {
        let wanted = wanted(switches, field)?;
        if wanted.is_none() && !is_meant(field) || !fields.is_empty() && !is_meant(field) {
            continue;
        }
        put(document, table, key, wanted)?;
    }
    Ok(())
}

/// In place of the old value, whose comment stays.
fn put(
    document: &mut DocumentMut,
    table: Option<&str>,
    key: &str,
    wanted: Option<Value>,
) -> Result<(), EditError> {
    let within: &mut dyn TableLike = match table {
        None => document.as_table_mut(),
        Some(name) => {
            if document.get(name).is_none() {
                if wanted.is_none() {
                    return Ok(());
                }
                document.insert(name, Item::Table(Table::new()));
            }
            let found = document.get_mut(name).and_then(Item::as_table_like_mut);
            found.ok_or_else(|| EditError::field(name, "is no table in this file; mend it first"))?
        }
    };
    match (within.get_mut(key), wanted) {
        (_, None) => drop(within.remove(key)),
        (Some(Item::Value(old)), Some(mut new)) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        (_, Some(new)) => drop(within.insert(key, Item::Value(new))),
    }
    Ok(())
}

/// `None`: not set.
fn wanted(switches: &Switches, field: &str) -> Result<Option<Value>, EditError> {
    let tunnel = switches.tunnel.as_ref();
    Ok(match field {
        "default_action" => action(field, switches.default_action)?.map(Value::from),
        "ask_timeout_action" => action(field, switches.ask_timeout_action)?.map(Value::from),
        "incoming_refusal" => action(field, switches.incoming_refusal)?.map(Value::from),
        "block_incoming" => switches.block_incoming.map(Value::from),
        "block_lan" => switches.block_lan.map(Value::from),
        "block_internet" => switches.block_internet.map(Value::from),
        "block_direct" => switches.block_direct.map(Value::from),
        "block_encrypted_dns" => switches.block_encrypted_dns.map(Value::from),
        "redirect_dns" => switches.redirect_dns.map(Value::from),
        "block_lists" => {
            let lists = switches.block_lists.as_ref();
            lists.map(|lists| words(lists.categories.iter().cloned()))
        }
        "ask_timeout_seconds" => switches
            .ask_timeout_seconds
            .map(|seconds| i64::from(seconds).into()),
        "tunnel.hops" => {
            let hops = tunnel.map_or(0, |tunnel| tunnel.hops);
            (hops > 0).then(|| i64::from(hops).into())
        }
        "tunnel.exit" => tunnel
            .and_then(|tunnel| tunnel.exit.as_ref()?.choice.as_ref())
            .map(exit),
        "tunnel.isolate" => match Isolation::try_from(tunnel.map_or(0, |tunnel| tunnel.isolate)) {
            Ok(Isolation::Unspecified) => None,
            Ok(Isolation::App) => Some("app".into()),
            Ok(Isolation::Site) => Some("site".into()),
            Ok(Isolation::None) => Some("none".into()),
            Err(_) => return Err(EditError::field(field, "is none: app, site or none")),
        },
        _ => None,
    })
}

fn exit(choice: &Choice) -> Value {
    match choice {
        Choice::Any(_) => "any".into(),
        Choice::Near(_) => "near".into(),
        Choice::Among(among) => {
            let nodes = among.nodes.iter().map(|node| format!("node:{node}"));
            words(among.regions.iter().cloned().chain(nodes))
        }
    }
}

fn words(words: impl Iterator<Item = String>) -> Value {
    Value::Array(words.collect::<Array>())
}

/// As files have it; `None` where it is not said.
pub(super) fn action(field: &str, number: i32) -> Result<Option<&'static str>, EditError> {
    Ok(match Action::try_from(number) {
        Ok(Action::Unspecified) => None,
        Ok(Action::Allow) => Some("allow"),
        Ok(Action::Block) => Some("block"),
        Ok(Action::Drop) => Some("drop"),
        Ok(Action::Ask) => Some("ask"),
        Ok(Action::Tunnel) => Some("tunnel"),
        Err(_) => return Err(EditError::field(field, format!("{number} is no action"))),
    })
}
