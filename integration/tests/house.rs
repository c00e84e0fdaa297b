//! What the house itself must keep: licences, and crates that stay pure.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what fails there fails the test"
)]

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.args(arguments).args(["--locked", "--manifest-path"]);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_dependency_has_a_licence_of_our_list() {
    let list: Value = toml::from_str(include_str!("../../deny.toml")).unwrap();
    let allowed: BTreeSet<_> = list["licenses"]["allow"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version", "1"])).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 50, "cargo metadata shows the whole graph");
    let refused: Vec<_> = packages
        .iter()
        .map(|package| {
            (
                package["name"].as_str().unwrap(),
                package["license"].as_str().unwrap_or("none"),
            )
        })
        .filter(|(_, licence)| !Expression::new(licence).holds(&allowed))
        .collect();
    assert!(refused.is_empty(), "not in deny.toml: {refused:?}");
}

#[test]
fn the_crate_that_decides_is_free_of_async_and_io() {
    let tree = cargo(&[
        "tree",
        "--package",
        "verdict",
        "--edges",
        "normal",
        "--prefix",
        "none",
        // on ARM, it asks the kernel by libc which instructions the ciphers have
        "--prune",
        "cpufeatures",
    ]);
    for line in tree.lines() {
        let name = line.split(' ').next().unwrap();
        assert!(
            !["tokio", "tonic", "mio", "rustix", "zbus", "libc"].contains(&name),
            "verdict depends on {line}"
        );
    }
}

#[test]
fn licence_expressions_are_read_as_spdx_says() {
    let allowed = BTreeSet::from(["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"]);
    for (text, holds) in [
        ("MIT", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0-only OR MIT", true),
        ("MIT AND GPL-3.0-only", false),
        ("(MIT OR GPL-2.0-only) AND Apache-2.0", true),
        ("GPL-3.0-only OR (MIT AND GPL-2.0-only)", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("MIT WITH LLVM-exception", false),
        ("none", false),
    ] {
        assert_eq!(Expression::new(text).holds(&allowed), holds, "{text}");
    }
}

/// An SPDX licence expression (annex D), by recursive descent: OR binds less than AND.
struct Expression {
    words: Vec<String>,
    next: usize,
}

impl Expression {
    fn new(text: &str) -> Self {
        let text = text.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        Self {
            words: text.split_whitespace().map(str::to_owned).collect(),
            next: 0,
        }
    }

    fn holds(mut self, allowed: &BTreeSet<&str>) -> bool {
        self.any(allowed)
    }

    fn any(&mut self, allowed: &BTreeSet<&str>) -> bool {
        let mut holds = self.all(allowed);
        while self.take("OR") {
            holds |= self.all(allowed);
        }
        holds
    }

    fn all(&mut self, allowed: &BTreeSet<&str>) -> bool {
        let mut holds = self.one(allowed);
        while self.take("AND") {
            holds &= self.one(allowed);
        }
        holds
    }

    fn one(&mut self, allowed: &BTreeSet<&str>) -> bool {
        if self.take("(") {
            let holds = self.any(allowed);
            return self.take(")") && holds;
        }
        let Some(mut licence) = self.words.get(self.next).cloned() else {
            return false;
        };
        self.next += 1;
        if self.take("WITH") {
            licence = format!(
                "{licence} WITH {}",
                self.words.get(self.next).cloned().unwrap_or_default()
            );
            self.next += 1;
        }
        allowed.contains(licence.as_str())
    }

    fn take(&mut self, word: &str) -> bool {
        let is = self.words.get(self.next).is_some_and(|next| next == word);
        self.next += usize::from(is);
        is
    }
}
