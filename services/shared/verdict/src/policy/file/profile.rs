//! A profile: `name`, `[[match]]`, `[settings]`, `[tunnel]`, `[[rule]]`.

use std::path::{Component, Path, PathBuf};

use toml::de::DeTable;

use super::{
    FileError,
    reader::{Key, Reader, Value, unknown_key},
    rule, settings, tunnel,
};
use crate::policy::{
    compiled,
    model::{Matcher, Profile},
    tunnel::Tunnel,
};

const KEYS: [&str; 5] = ["name", "match", "settings", "tunnel", "rule"];

const MATCH_KEYS: [&str; 11] = [
    "path",
    "sha256",
    "script",
    "unit",
    "cgroup",
    "user",
    "uid",
    "flatpak",
    "snap",
    "container",
    "unknown",
];

/// Longer than any path that the kernel takes.
const LONGEST: usize = 4096;

pub(super) fn parse(id: &str, reader: &Reader<'_>) -> Result<Profile, FileError> {
    let mut profile = Profile {
        id: id.into(),
        name: id.to_owned(),
        ..Profile::default()
    };
    let mut tunnel = Tunnel::default();
    let document = reader.document()?;
    for (key, value) in document.get_ref() {
        match key.get_ref().as_ref() {
            "name" => reader.string(key, value)?.clone_into(&mut profile.name),
            "match" => {
                for (at, table) in reader.tables("match", value)? {
                    let matcher = matcher(table, reader)?;
                    check(&matcher, at, reader)?;
                    profile.matchers.push(matcher);
                }
            }
            "settings" => profile.settings = settings::parse(value, reader)?,
            "tunnel" => tunnel = tunnel::parse(value, reader)?,
            "rule" => profile.rules = rule::parse_all(id, value, reader)?,
            _ => return Err(unknown_key(reader, key, "a profile", &KEYS)),
        }
    }
    profile.settings.tunnel = tunnel;
    if profile.matchers.is_empty() {
        let remedy = "add [[match]] and below it, say, path = \"/usr/bin/curl\"";
        return Err(reader.error(0..0, "the profile is for no program", remedy));
    }
    Ok(profile)
}

fn matcher(table: &DeTable<'_>, reader: &Reader<'_>) -> Result<Matcher, FileError> {
    let mut matcher = Matcher::default();
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "path" => {
                let text = reader.string(key, value)?;
                if text.contains(['*', '?', '[']) {
                    matcher.path_glob = Some(glob(key, value, reader)?);
                } else {
                    matcher.path = Some(path(key, value, reader)?);
                }
            }
            "sha256" => matcher.sha256 = Some(sha256(key, value, reader)?),
            "script" => matcher.script = Some(path(key, value, reader)?),
            "unit" => matcher.unit = Some(unit(key, value, reader)?),
            "cgroup" => matcher.cgroup = Some(glob(key, value, reader)?),
            "user" | "uid" if matcher.uid.is_some() => {
                return Err(reader.error(key.span(), "both user and uid are given", "leave one out"));
            }
            "user" | "uid" => matcher.uid = Some(reader.user(key, value)?),
            "flatpak" => matcher.flatpak = Some(name(key, value, reader)?),
            "snap" => matcher.snap = Some(name(key, value, reader)?),
            "container" => matcher.container = Some(container(key, value, reader)?),
            "unknown" => matcher.unknown = reader.boolean(key, value)?,
            _ => return Err(unknown_key(reader, key, "[[match]]", &MATCH_KEYS)),
        }
    }
    Ok(matcher)
}

fn check(matcher: &Matcher, at: std::ops::Range<usize>, reader: &Reader<'_>) -> Result<(), FileError> {
    if *matcher == Matcher::default() {
        let remedy = format!("give at least one of {}", MATCH_KEYS.join(", "));
        return Err(reader.error(at, "this [[match]] would match every program", remedy));
    }
    if matcher.unknown
        && (Matcher {
            unknown: true,
            ..Matcher::default()
        }) != *matcher
    {
        let problem =
            "unknown = true is for processes of which nothing is known, and other keys stand beside it";
        return Err(reader.error(at, problem, "give unknown a [[match]] of its own"));
    }
    Ok(())
}

fn path(key: &Key<'_>, value: &Value<'_>, reader: &Reader<'_>) -> Result<PathBuf, FileError> {
    let text = reader.string(key, value)?;
    let path = Path::new(text);
    let plain: PathBuf = path
        .components()
        .filter(|part| *part != Component::CurDir)
        .collect();
    let problem = format!("{} = {text:?}", key.get_ref());
    if !path.is_absolute() || text.len() > LONGEST {
        return Err(reader.error(value.span(), problem, "write the whole path, from / on"));
    }
    if path.components().any(|part| part == Component::ParentDir) || plain.as_os_str() != path.as_os_str() {
        let remedy = "write it as the kernel shows it: no '.', '..', '//' nor closing '/'";
        return Err(reader.error(value.span(), problem, remedy));
    }
    Ok(plain)
}

fn glob(key: &Key<'_>, value: &Value<'_>, reader: &Reader<'_>) -> Result<String, FileError> {
    let text = reader.string(key, value)?;
    let problem = format!("{} = {text:?}", key.get_ref());
    if !text.starts_with('/') || text.len() > LONGEST {
        return Err(reader.error(
            value.span(),
            problem,
            "write the whole path, from / on; ** stands for any folders",
        ));
    }
    match compiled::check_glob(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(error) => {
            let problem = format!("{problem} is no glob: {}", error.kind());
            Err(reader.error(
                value.span(),
                problem,
                "write a character that is meant itself in brackets: [*]",
            ))
        }
    }
}

fn sha256(key: &Key<'_>, value: &Value<'_>, reader: &Reader<'_>) -> Result<[u8; 32], FileError> {
    let text = reader.string(key, value)?;
    let octet = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    let hex = text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let octets = hex.then(|| text.as_bytes().chunks(2).filter_map(octet).collect::<Vec<_>>());
    octets.and_then(|octets| octets.try_into().ok()).ok_or_else(|| {
        let problem = format!("sha256 = {text:?}");
        reader.error(
            value.span(),
            problem,
            "write its 64 hexadecimal digits, as sha256sum prints them",
        )
    })
}

fn unit(key: &Key<'_>, value: &Value<'_>, reader: &Reader<'_>) -> Result<String, FileError> {
    let text = name(key, value, reader)?;
    if text.contains('.') && !text.contains('/') {
        return Ok(text);
    }
    let problem = format!("unit = {text:?}");
    Err(reader.error(
        value.span(),
        problem,
        "write the unit's whole name, with .service or .scope",
    ))
}

fn container(key: &Key<'_>, value: &Value<'_>, reader: &Reader<'_>) -> Result<String, FileError> {
    let text = reader.string(key, value)?;
    if (12..=64).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_alphanumeric()) {
        return Ok(text.to_owned());
    }
    let problem = format!("container = {text:?}");
    Err(reader.error(
        value.span(),
        problem,
        "write at least 12 digits of its id, as the engine lists it",
    ))
}

fn name(key: &Key<'_>, value: &Value<'_>, reader: &Reader<'_>) -> Result<String, FileError> {
    let text = reader.string(key, value)?;
    if text.is_empty() {
        return Err(reader.error(
            value.span(),
            format!("{} is empty", key.get_ref()),
            "write a name",
        ));
    }
    Ok(text.to_owned())
}
