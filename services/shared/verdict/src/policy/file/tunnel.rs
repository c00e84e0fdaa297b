//! `[tunnel]`.

use super::{
    FileError,
    reader::{Key, Reader, Value, unknown_key},
};
use crate::policy::tunnel::{ExitChoice, Hops, Isolation, Tunnel, is_node, is_region};

const KEYS: [&str; 3] = ["hops", "exit", "isolate"];

const EXIT_REMEDY: &str = "write \"any\", \"near\", or a list of regions (\"de\") and nodes (\"node:alpha\")";

pub(super) fn parse(value: &Value<'_>, reader: &Reader<'_>) -> Result<Tunnel, FileError> {
    let mut tunnel = Tunnel::default();
    for (key, value) in reader.table("tunnel", value)? {
        match key.get_ref().as_ref() {
            "hops" => {
                let within = i64::from(Hops::LEAST)..=i64::from(Hops::MOST);
                let hops = reader.integer(key, value, within)?;
                tunnel.hops = u32::try_from(hops).ok().and_then(Hops::new);
            }
            "exit" => tunnel.exit = Some(exit(key, value, reader)?),
            "isolate" => tunnel.isolate = Some(isolation(key, value, reader)?),
            _ => return Err(unknown_key(reader, key, "[tunnel]", &KEYS)),
        }
    }
    Ok(tunnel)
}

fn exit(key: &Key<'_>, value: &Value<'_>, reader: &Reader<'_>) -> Result<ExitChoice, FileError> {
    let wrong = |value: &Value<'_>, problem: String| reader.error(value.span(), problem, EXIT_REMEDY);
    if value.get_ref().as_array().is_some_and(|list| list.is_empty()) {
        return Err(wrong(
            value,
            "exit is an empty list: no node could be the exit".into(),
        ));
    }
    let words = reader.values(key, value)?;
    let alone = words.len() == 1;
    let (mut regions, mut nodes) = (Vec::new(), Vec::new());
    for value in words {
        let word = reader.string(key, value)?;
        match (word, word.strip_prefix("node:")) {
            ("any", _) if alone => return Ok(ExitChoice::Any),
            ("near", _) if alone => return Ok(ExitChoice::Near),
            ("any" | "near", _) => {
                return Err(wrong(value, format!("exit = {word:?} stands beside others")));
            }
            (_, Some(node)) if is_node(node) => nodes.push(node.to_owned()),
            (_, None) if is_region(word) => regions.push(word.to_owned()),
            _ => return Err(wrong(value, format!("exit = {word:?}"))),
        }
    }
    Ok(ExitChoice::Among { regions, nodes })
}

fn isolation(key: &Key<'_>, value: &Value<'_>, reader: &Reader<'_>) -> Result<Isolation, FileError> {
    let word = reader.string(key, value)?;
    Isolation::parse(word).ok_or_else(|| {
        let problem = format!("isolate = {word:?}");
        reader.error(value.span(), problem, "write app, site or none")
    })
}
