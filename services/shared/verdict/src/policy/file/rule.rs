//! `[[rule]]`.

use std::{
    ops::{Range, RangeInclusive},
    time::SystemTime,
};

use toml::de::{DeTable, DeValue};

use super::{
    FileError, icmp,
    reader::{Key, Reader, Value, unknown_key},
    remote,
    settings::action,
};
use crate::{
    Direction, Protocol, Scope,
    policy::model::{Action, Remote, Rule},
};

const KEYS: [&str; 10] = [
    "action",
    "direction",
    "protocol",
    "remote",
    "remote_port",
    "local_port",
    "icmp_type",
    "user",
    "expires",
    "note",
];

/// All rules of `[[rule]]`; the first is number 1.
pub(super) fn parse_all(id: &str, value: &Value<'_>, reader: &Reader<'_>) -> Result<Vec<Rule>, FileError> {
    let tables = reader.tables("rule", value)?.into_iter().zip(1..);
    tables
        .map(|((at, table), number)| parse(&format!("{id}#{number}"), at, table, reader))
        .collect()
}

fn parse(
    source: &str,
    at: Range<usize>,
    table: &DeTable<'_>,
    reader: &Reader<'_>,
) -> Result<Rule, FileError> {
    let mut rule = Rule {
        source: source.into(),
        action: Action::Block,
        direction: None,
        protocols: Vec::new(),
        remotes: Vec::new(),
        remote_ports: Vec::new(),
        local_ports: Vec::new(),
        icmp_types: Vec::new(),
        uids: Vec::new(),
        expires: None,
        note: String::new(),
    };
    let mut has_action = false;
    let mut icmp_types = None;
    for (key, value) in table {
        // Lists may be called by one or by many, not by both.
        match singular(key.get_ref(), table, key, reader)? {
            "action" => {
                rule.action = action(key, value, reader)?;
                has_action = true;
            }
            "direction" => rule.direction = Some(direction(key, value, reader)?),
            "protocol" => rule.protocols = each(key, value, reader, protocol)?,
            "remote" => rule.remotes = each(key, value, reader, remote::parse)?,
            "remote_port" => rule.remote_ports = each(key, value, reader, ports)?,
            "local_port" => rule.local_ports = each(key, value, reader, ports)?,
            "icmp_type" => icmp_types = Some((key, value)),
            "user" => rule.uids = each(key, value, reader, |key, value, reader| reader.user(key, value))?,
            "expires" => rule.expires = Some(expiry(key, value, reader)?),
            "note" => reader.string(key, value)?.clone_into(&mut rule.note),
            _ => return Err(unknown_key(reader, key, "[[rule]]", &KEYS)),
        }
    }
    if !has_action {
        let remedy = "add action = \"allow\", \"block\", \"drop\", \"ask\" or \"tunnel\"";
        return Err(reader.error(at, format!("rule {source} has no action"), remedy));
    }
    if let Some((key, value)) = icmp_types {
        let family = icmp_protocol(&rule, value.span(), reader)?;
        rule.icmp_types = each(key, value, reader, |key, value, reader| {
            icmp::parse(family, key, value, reader)
        })?;
    }
    check(&mut rule, at, reader)?;
    Ok(rule)
}

/// `remotes` is another word for `remote`.
fn singular<'k>(
    word: &'k str,
    table: &DeTable<'_>,
    key: &Key<'_>,
    reader: &Reader<'_>,
) -> Result<&'k str, FileError> {
    let lists = [
        "protocols",
        "remotes",
        "remote_ports",
        "local_ports",
        "icmp_types",
        "users",
    ];
    if !lists.contains(&word) {
        return Ok(word);
    }
    let one = word.strip_suffix('s').unwrap_or(word);
    if table.iter().any(|(other, _)| other.get_ref() == one) {
        return Err(reader.error(
            key.span(),
            format!("both {one} and {word} are given"),
            "write one list",
        ));
    }
    Ok(one)
}

fn each<T>(
    key: &Key<'_>,
    value: &Value<'_>,
    reader: &Reader<'_>,
    parse: impl Fn(&Key<'_>, &Value<'_>, &Reader<'_>) -> Result<T, FileError>,
) -> Result<Vec<T>, FileError> {
    reader
        .values(key, value)?
        .into_iter()
        .map(|value| parse(key, value, reader))
        .collect()
}

fn direction(key: &Key<'_>, value: &Value<'_>, reader: &Reader<'_>) -> Result<Direction, FileError> {
    match reader.string(key, value)? {
        "out" => Ok(Direction::Outgoing),
        "in" => Ok(Direction::Incoming),
        other => {
            let remedy = "write \"out\" or \"in\", or leave the line out for both";
            Err(reader.error(value.span(), format!("direction = {other:?}"), remedy))
        }
    }
}

fn protocol(key: &Key<'_>, value: &Value<'_>, reader: &Reader<'_>) -> Result<Protocol, FileError> {
    let DeValue::String(word) = value.get_ref() else {
        let number = reader.integer(key, value, 0..=255)?;
        return Ok(Protocol(u8::try_from(number).unwrap_or(u8::MAX)));
    };
    Protocol::parse(word).ok_or_else(|| {
        let remedy = "write tcp, udp, icmp, icmpv6, sctp, …, or its IANA number";
        reader.error(
            value.span(),
            format!("no protocol is called {word:?} here"),
            remedy,
        )
    })
}

/// `443`, `"443"`, `"8000-8999"`.
fn ports(key: &Key<'_>, value: &Value<'_>, reader: &Reader<'_>) -> Result<RangeInclusive<u16>, FileError> {
    let DeValue::String(text) = value.get_ref() else {
        let port = reader.integer(key, value, 0..=65535)?;
        let port = u16::try_from(port).unwrap_or(u16::MAX);
        return Ok(port..=port);
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.trim().parse::<u16>().ok();
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => {
            let problem = format!("{} = {text:?}", key.get_ref());
            let remedy = "write a port from 0 to 65535, or a range, the smaller first: \"8000-8999\"";
            Err(reader.error(value.span(), problem, remedy))
        }
    }
}

fn expiry(key: &Key<'_>, value: &Value<'_>, reader: &Reader<'_>) -> Result<SystemTime, FileError> {
    let text = match value.get_ref() {
        DeValue::Datetime(time) => time.to_string(),
        DeValue::String(text) => text.to_string(),
        other => return Err(reader.kind(key, value, other, "a date and time: 2027-01-31T18:00:00Z")),
    };
    text.parse::<jiff::Timestamp>()
        .map(SystemTime::from)
        .map_err(|_| {
            let remedy = "write date, time and offset: 2027-01-31T18:00:00Z, or +01:00 instead of Z";
            reader.error(value.span(), format!("expires = {text}"), remedy)
        })
}

/// The one family that the rule's ICMP types belong to.
fn icmp_protocol(rule: &Rule, at: Range<usize>, reader: &Reader<'_>) -> Result<Protocol, FileError> {
    match rule.protocols.as_slice() {
        [family] if family.is_icmp() => Ok(*family),
        _ => {
            let remedy = "write protocol = \"icmp\" or \"icmpv6\" beside it, and one rule for each";
            Err(reader.error(at, "icmp_type means something else in each protocol", remedy))
        }
    }
}

/// Refuses what could never match or never be done.
fn check(rule: &mut Rule, at: Range<usize>, reader: &Reader<'_>) -> Result<(), FileError> {
    let refuse = |problem: String, remedy: &str| {
        Err(reader.error(at.clone(), format!("rule {}: {problem}", rule.source), remedy))
    };
    let portless = rule.protocols.iter().find(|protocol| !protocol.has_ports());
    if let Some(protocol) = portless.filter(|_| !rule.remote_ports.is_empty() || !rule.local_ports.is_empty())
    {
        return refuse(
            format!("{protocol} has no ports"),
            "leave the ports out, or write a rule for each",
        );
    }
    let named = |remote: &Remote| matches!(remote, Remote::Domain(_) | Remote::Zone(_));
    if rule.direction == Some(Direction::Incoming) && rule.remotes.iter().any(named) {
        let problem = "whoever connects to this host has no name".to_owned();
        return refuse(problem, "write addresses, networks or a scope");
    }
    if rule.action != Action::Tunnel {
        return Ok(());
    }
    if rule.direction == Some(Direction::Incoming) {
        let problem = "an incoming connection cannot be tunnelled".to_owned();
        return refuse(problem, "write another action, or direction = \"out\"");
    }
    if let Some(protocol) = rule
        .protocols
        .iter()
        .find(|protocol| !protocol.can_be_tunnelled())
    {
        let remedy = "write protocol = [\"tcp\", \"udp\"], and what shall happen to others in another rule";
        return refuse(format!("Gate17 does not carry {protocol}"), remedy);
    }
    if rule.remotes.contains(&Remote::Scope(Scope::Localhost)) {
        return refuse(
            "localhost is never tunnelled".to_owned(),
            "leave it out of remote",
        );
    }
    rule.direction = Some(Direction::Outgoing);
    Ok(())
}
