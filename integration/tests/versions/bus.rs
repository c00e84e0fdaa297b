//! The desktop bus: what widgets call, hear and read there only grows.

use std::{collections::BTreeMap, fs, path::Path};

use crate::previous;

#[test]
fn what_widgets_use_is_as_it_was() {
    let Some(source) = previous::source("dbus/interfaces") else {
        return;
    };
    let old = members(&source.path().join("dbus/interfaces"));
    let new = members(Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../dbus/interfaces"
    )));
    assert!(!old.is_empty(), "the previous version has interfaces");
    let lost: Vec<_> = old
        .iter()
        .filter(|(name, is)| new.get(*name) != Some(is))
        .collect();
    assert!(
        lost.is_empty(),
        "widgets of {} use these: {lost:#?}",
        previous::commit()
    );
}

#[test]
fn a_member_is_told_by_its_types() {
    let method = |inner: &str| {
        let mut all = BTreeMap::new();
        let text = format!(
            "<node><interface name=\"a.B1\"><!-- says\nmuch --><method name=\"Do\">{inner}</method>\n<property name=\"P\" type=\"u\" access=\"read\"/></interface></node>"
        );
        read(&text, &mut all);
        all
    };
    let was = method("<arg name=\"x\" type=\"s\" direction=\"in\"/>");
    assert_eq!(was.get("a.B1.Do").map(String::as_str), Some("method s/in"));
    assert_eq!(was.get("a.B1.P").map(String::as_str), Some("property u read"));
    assert_ne!(was, method("<arg name=\"x\" type=\"u\" direction=\"in\"/>"));
    assert_eq!(
        was,
        method("<arg name=\"y\" type=\"s\" direction=\"in\"/>"),
        "names are nothing on the wire"
    );
}

/// What each member is, by interface and name.
fn members(folder: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        read(&fs::read_to_string(entry.path()).unwrap(), &mut all);
    }
    all
}

/// Introspection data, as it is generated: elements with attributes in double quotes, no text.
fn read(text: &str, all: &mut BTreeMap<String, String>) {
    let (mut interface, mut member) = (String::new(), String::new());
    for part in without_comments(text).split('<') {
        let value = |name: &str| {
            let behind = part.split_once(&format!(" {name}=\""))?.1;
            behind.split('"').next()
        };
        let kind = part.split([' ', '>', '/']).next().unwrap_or_default();
        match (kind, value("name")) {
            ("interface", Some(name)) => name.clone_into(&mut interface),
            ("method" | "signal" | "property", Some(name)) => {
                member = format!("{interface}.{name}");
                let types = [value("type"), value("access")].map(Option::unwrap_or_default);
                let is = format!("{kind} {}", types.join(" "));
                all.insert(member.clone(), is.trim().to_owned());
            }
            ("arg", _) => {
                let (of, way) = (value("type").unwrap(), value("direction").unwrap_or("out"));
                let is = all.get_mut(&member).unwrap();
                is.push_str(&format!(" {of}/{way}"));
            }
            _ => {}
        }
    }
}

fn without_comments(text: &str) -> String {
    let mut parts = text.split("<!--");
    let first = parts.next().unwrap_or_default().to_owned();
    let rest = parts.map(|part| part.split_once("-->").map_or("", |(_, behind)| behind));
    std::iter::once(first.as_str()).chain(rest).collect()
}
