//! `[settings]`.

use super::{
    FileError,
    reader::{Key, Reader, Value, unknown_key},
};
use crate::policy::model::{Action, Resolver, Settings};

const KEYS: [&str; 8] = [
    "default_action",
    "ask_timeout_action",
    "block_incoming",
    "block_lan",
    "block_internet",
    "block_direct",
    "block_encrypted_dns",
    "block_lists",
];

pub(super) fn parse(value: &Value<'_>, reader: &Reader<'_>) -> Result<Settings, FileError> {
    let mut settings = Settings::default();
    for (key, value) in reader.table("settings", value)? {
        match key.get_ref().as_ref() {
            "default_action" => settings.default_action = Some(action(key, value, reader)?),
            "ask_timeout_action" => {
                let answer = action(key, value, reader)?;
                if answer == Action::Ask {
                    let problem =
                        "ask_timeout_action = \"ask\": it is the answer to a question that nobody answered";
                    return Err(reader.error(value.span(), problem, "write allow, block, drop or tunnel"));
                }
                settings.ask_timeout_action = Some(answer);
            }
            "block_incoming" => settings.block_incoming = Some(reader.boolean(key, value)?),
            "block_lan" => settings.block_lan = Some(reader.boolean(key, value)?),
            "block_internet" => settings.block_internet = Some(reader.boolean(key, value)?),
            "block_direct" => settings.block_direct = Some(reader.boolean(key, value)?),
            "block_encrypted_dns" => settings.block_encrypted_dns = Some(reader.boolean(key, value)?),
            "block_lists" => settings.block_lists = Some(lists(key, value, reader)?),
            _ => return Err(unknown_key(reader, key, "[settings]", &KEYS)),
        }
    }
    Ok(settings)
}

/// An empty list is meant: it takes a profile out of all lists.
fn lists(key: &Key<'_>, value: &Value<'_>, reader: &Reader<'_>) -> Result<Vec<String>, FileError> {
    if value.get_ref().as_array().is_some_and(|list| list.is_empty()) {
        return Ok(Vec::new());
    }
    let words = reader.values(key, value)?.into_iter();
    words
        .map(|word| reader.string(key, word).map(str::to_owned))
        .collect()
}

pub(super) fn resolvers(
    key: &Key<'_>,
    value: &Value<'_>,
    reader: &Reader<'_>,
) -> Result<Vec<Resolver>, FileError> {
    if value.get_ref().as_array().is_some_and(|list| list.is_empty()) {
        return Ok(Vec::new());
    }
    let words = reader.values(key, value)?.into_iter();
    words
        .map(|word| {
            let text = reader.string(key, word)?;
            Resolver::parse(text).ok_or_else(|| {
                let problem = format!("encrypted_dns_resolvers has {text:?}");
                reader.error(word.span(), problem, "write an address, a network or a name")
            })
        })
        .collect()
}

pub(super) fn action(key: &Key<'_>, value: &Value<'_>, reader: &Reader<'_>) -> Result<Action, FileError> {
    let word = reader.string(key, value)?;
    Action::parse(word).ok_or_else(|| {
        let problem = format!("{} = {word:?}", key.get_ref());
        reader.error(value.span(), problem, "write allow, block, drop, ask or tunnel")
    })
}
