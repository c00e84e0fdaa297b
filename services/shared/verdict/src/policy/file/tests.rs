use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::{
    Direction, Protocol, Scope,
    policy::{
        model::{Remote, Rule},
        tunnel::{ExitChoice, Hops, Isolation},
    },
};

fn users(name: &str) -> Option<u32> {
    (name == "alice").then_some(1000)
}

fn profile(text: &str) -> Result<Profile, FileError> {
    parse_profile("curl", "profiles.d/curl.toml", text, &users)
}

/// What is said about `text` as the whole of a rule.
fn refused_rule(text: &str) -> String {
    let text = format!("[[match]]\npath = \"/usr/bin/curl\"\n[[rule]]\naction = \"allow\"\n{text}\n");
    profile(&text).unwrap_err().to_string()
}

fn rule(text: &str) -> Rule {
    let text = format!("[[match]]\npath = \"/usr/bin/curl\"\n[[rule]]\n{text}\n");
    profile(&text).unwrap().rules.remove(0)
}

#[test]
fn what_an_owners_file_does_not_name_is_as_shipped() {
    let empty = parse_global("global.toml", "", &|_| None).unwrap();
    let shipped = shipped_global().unwrap();
    assert!(empty.redirect_dns);
    let settings = Settings::default();
    assert_eq!(empty, Global { settings, ..shipped });
}

#[test]
fn resolvers_are_addresses_networks_and_names() {
    let text = "encrypted_dns_resolvers = [\"192.0.2.1\", \"2001:db8::/32\", \"Dns.Corp.Example\"]\n";
    let global = parse_global("global.toml", text, &|_| None).unwrap();
    let texts: Vec<_> = global
        .encrypted_dns_resolvers
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(texts, ["192.0.2.1", "2001:db8::/32", "dns.corp.example"]);
    let error = parse_global("global.toml", "encrypted_dns_resolvers = [\"1.1.1\"]\n", &|_| {
        None
    })
    .unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("global.toml:1") && said.contains("\"1.1.1\"") && said.contains("write an address"),
        "{said}"
    );
}

#[test]
fn a_profile_says_all_that_can_be_said() {
    let text = r#"
name = "The transfer tool"

[[match]]
path = "/usr/bin/curl"
user = "alice"

[[match]]
path = "/opt/**/curl-[0-9]*"
unit = "fetch.service"

[settings]
default_action = "ask"
ask_timeout_action = "drop"
block_lan = true

[[rule]]
action = "block"
direction = "out"
protocol = ["tcp", 17]
remote = ["*.example.org", "10.0.0.0/8", "10.1.0.1-10.1.0.9", "multicast"]
remote_ports = [443, "8000-8999", "80"]
local_port = 1
users = ["alice", 33]
expires = 2027-01-01T00:00:00+01:00
note = "why"
"#;
    let profile = profile(text).unwrap();
    assert_eq!(
        (&*profile.id, profile.name.as_str()),
        ("curl", "The transfer tool")
    );
    assert_eq!(
        profile.matchers[0].path.as_ref().unwrap(),
        std::path::Path::new("/usr/bin/curl")
    );
    assert_eq!(profile.matchers[0].uid, Some(1000));
    assert_eq!(
        profile.matchers[1].path_glob.as_deref(),
        Some("/opt/**/curl-[0-9]*")
    );
    assert_eq!(profile.settings.default_action, Some(Action::Ask));
    assert_eq!(profile.settings.block_lan, Some(true));
    assert_eq!(profile.settings.block_internet, None);
    let rule = &profile.rules[0];
    assert_eq!(
        (&*rule.source, rule.action, rule.note.as_str()),
        ("curl#1", Action::Block, "why")
    );
    assert_eq!(rule.protocols, [Protocol::TCP, Protocol::UDP]);
    assert_eq!(rule.remotes.len(), 4);
    assert_eq!(rule.remotes[3], Remote::Scope(Scope::Multicast));
    assert_eq!(rule.remote_ports, [443..=443, 8000..=8999, 80..=80]);
    assert_eq!(rule.local_ports, [1..=1]);
    assert_eq!(rule.uids, [1000, 33]);
    let new_year_in_berlin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_798_758_000);
    assert_eq!(rule.expires, Some(new_year_in_berlin));
}

#[test]
fn an_error_says_file_line_and_remedy() {
    let error = profile("name = \"x\"\n\n[[match]]\npath = \"/x\"\nscrpt = \"/a\"\n").unwrap_err();
    assert_eq!(error.line, 5);
    let text = error.to_string();
    assert!(text.starts_with("profiles.d/curl.toml:5: [[match]] has no key \"scrpt\"; did you mean \"script\"? the keys are path,"), "{text}");
    let error = profile("name = \"x\"\n[[match]\n").unwrap_err();
    assert_eq!(error.line, 2, "{error}");
    assert!(error.to_string().contains(":2: not TOML: "), "{error}");
    let error = profile("[[match]]\npath = 7\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "profiles.d/curl.toml:2: path is integer; write text in quotes"
    );
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (text, expected) in [
        ("", "for no program; add [[match]]"),
        ("[[match]]\n", ":1: this [[match]] would match every program"),
        ("[[match]]\nunknown = true\nuid = 1\n", "a [[match]] of its own"),
        ("[[match]]\npath = \"curl\"\n", "write the whole path"),
        ("[[match]]\npath = \"/usr/../curl\"\n", "as the kernel shows it"),
        ("[[match]]\npath = \"/usr//curl\"\n", "as the kernel shows it"),
        ("[[match]]\npath = \"/usr/[curl\"\n", "is no glob"),
        ("[[match]]\nsha256 = \"12\"\n", "64 hexadecimal digits"),
        ("[[match]]\nunit = \"ssh\"\n", ".service"),
        ("[[match]]\ncontainer = \"0123\"\n", "at least 12 digits"),
        ("[[match]]\nuser = \"bob\"\n", "no user is called \"bob\""),
        ("[[match]]\nuser = 1\nuid = 1\n", "both user and uid"),
        ("[match]\nuid = 1\n", "[[match]]"),
        ("match = 3\n", "[[match]]"),
        ("settings = 3\n[[match]]\nuid = 1\n", "[settings]"),
        (
            "[settings]\nask_timeout_action = \"ask\"\n",
            "allow, block, drop or tunnel",
        ),
        (
            "[settings]\ndefault_action = \"deny\"\n",
            "default_action = \"deny\"; write allow",
        ),
        ("[settings]\nblock_lan = \"yes\"\n", "true or false"),
        ("[settings]\nblock_wan = true\n", "did you mean \"block_lan\"?"),
    ] {
        let error = profile(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_rule_that_could_never_match_is_refused() {
    for (text, expected) in [
        ("action = 3", "not TOML"),
        ("direction = \"up\"", "\"out\" or \"in\""),
        ("protocol = \"tpc\"", "no protocol is called \"tpc\""),
        ("protocol = 256", "from 0 to 255"),
        ("protocol = []", "empty list"),
        ("remote = \"lann\"", "localhost, lan, internet, multicast"),
        ("remote = \"10.0.0.300\"", "write an address"),
        ("remote_port = 65536", "from 0 to 65535"),
        ("remote_port = \"9-1\"", "the smaller first"),
        ("remote_port = 1.5", "a whole number"),
        ("protocol = \"icmp\"\nremote_port = 1", "icmp has no ports"),
        ("icmp_type = 8", "write protocol = \"icmp\""),
        (
            "protocol = [\"icmp\", \"icmpv6\"]\nicmp_type = 8",
            "one rule for each",
        ),
        (
            "protocol = \"icmp\"\nicmp_type = \"packet-too-big\"",
            "no type of icmp is called",
        ),
        ("direction = \"in\"\nremote = \"example.org\"", "has no name"),
        ("user = \"bob\"", "no user is called"),
        ("expires = 2027-01-01", "date, time and offset"),
        ("expires = 2027-01-01T00:00:00", "date, time and offset"),
        ("expires = \"soon\"", "date, time and offset"),
        (
            "remote = \"lan\"\nremotes = \"internet\"",
            "both remote and remotes",
        ),
        ("port = 1", "[[rule]] has no key \"port\""),
    ] {
        let error = refused_rule(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    let error = profile("[[match]]\nuid = 1\n[[rule]]\nnote = \"x\"\n").unwrap_err();
    assert!(
        error.to_string().contains(":3: rule curl#1 has no action"),
        "{error}"
    );
}

#[test]
fn the_tunnel_is_for_what_it_can_carry() {
    assert_eq!(rule("action = \"tunnel\"").direction, Some(Direction::Outgoing));
    for (text, expected) in [
        ("direction = \"in\"", "cannot be tunnelled"),
        ("protocol = [\"tcp\", \"icmp\"]", "Gate17 does not carry icmp"),
        ("remote = \"localhost\"", "never tunnelled"),
    ] {
        let text = format!("[[match]]\nuid = 1\n[[rule]]\naction = \"tunnel\"\n{text}\n");
        let error = profile(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_path_through_the_tunnel_is_one_that_can_be_built() {
    let tunnel = |text: &str| profile(&format!("[[match]]\nuid = 1\n[tunnel]\n{text}\n"));
    let taken = |text: &str| tunnel(text).unwrap().settings.tunnel;
    assert_eq!(taken("exit = \"fr\"").exit.unwrap().to_string(), "fr");
    assert_eq!(taken("exit = [\"near\"]").exit, Some(ExitChoice::Near));
    assert_eq!(taken("hops = 1").hops, Hops::new(1));
    assert_eq!(taken("isolate = \"none\"").isolate, Some(Isolation::None));
    assert_eq!(taken(""), Tunnel::default());
    for (text, expected) in [
        ("hops = 0", ":4: hops = 0; write a number from 1 to 5"),
        ("hops = 6", "from 1 to 5"),
        ("hops = \"3\"", "a whole number"),
        (
            "exit = []",
            "empty list: no node could be the exit; write \"any\"",
        ),
        ("exit = [\"de\", \"any\"]", "\"any\" stands beside others"),
        (
            "exit = \"Germany\"",
            "exit = \"Germany\"; write \"any\", \"near\", or a list",
        ),
        ("exit = \"DE\"", "regions (\"de\")"),
        ("exit = \"node:\"", "exit = \"node:\""),
        ("exit = \"node:Alpha\"", "nodes (\"node:alpha\")"),
        ("exit = 3", "text in quotes"),
        ("isolate = \"apps\"", "write app, site or none"),
        ("hop = 3", "did you mean \"hops\"?"),
    ] {
        let error = tunnel(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let error = profile("tunnel = 3\n[[match]]\nuid = 1\n").unwrap_err();
    assert!(
        error.to_string().contains("begin it with a line [tunnel]"),
        "{error}"
    );
}

#[test]
fn the_shipped_rules_follow_unless_they_are_declined() {
    let shipped = shipped_global().unwrap();
    assert_eq!(&*shipped.rules[0].source, "shipped#1");
    assert!(shipped.rules.iter().all(|rule| !rule.note.is_empty()));
    let global = |text: &str| parse_global("global.toml", text, &users).unwrap();
    let own = global("[[rule]]\naction = \"block\"\n");
    let sources: Vec<_> = own.rules.iter().map(|rule| &*rule.source).collect();
    assert_eq!(sources[..2], ["global#1", "shipped#1"]);
    assert!(global("shipped_rules = false\n").rules.is_empty());
    let copy = global(crate::policy::SHIPPED_GLOBAL);
    assert_eq!(copy.rules.len(), shipped.rules.len());
    assert_eq!(copy.settings, shipped.settings);
}

#[test]
fn a_global_file_says_how_incoming_connections_are_refused() {
    let error = parse_global("g", "incoming_refusal = \"ask\"\n", &users).unwrap_err();
    assert!(
        error.to_string().contains("\"drop\" (silent) or \"block\""),
        "{error}"
    );
    let error = parse_global("g", "ask_timeout_seconds = 0\n", &users).unwrap_err();
    assert!(error.to_string().contains("from 1 to 3600"), "{error}");
    let error = parse_global("g", "[[match]]\nuid = 1\n", &users).unwrap_err();
    assert!(
        error.to_string().contains("global.toml has no key \"match\""),
        "{error}"
    );
}

#[test]
fn a_profile_has_a_name_that_a_source_can_hold() {
    let parse = |id| parse_profile(id, "x", "[[match]]\nuid = 1\n", &users);
    assert!(parse("org.mozilla.Firefox@1").is_ok());
    for id in ["global", "shipped", "", ".hidden", "a#b", "a b", "ä"] {
        assert!(parse(id).is_err(), "{id}");
    }
}

proptest! {
    #[test]
    fn reading_is_total(text in ".*") {
        let _ = profile(&text);
        let _ = parse_global("g", &text, &users);
    }

    #[test]
    fn a_damaged_file_is_read_or_refused(at in 0..5000_usize, with in "\\PC{0,3}") {
        let mut text = crate::policy::SHIPPED_GLOBAL.to_owned();
        let at = at.min(text.len());
        if text.is_char_boundary(at) {
            text.insert_str(at, &with);
            if let Err(error) = parse_global("g", &text, &users) {
                prop_assert!(error.line >= 1 && error.line <= 1 + text.lines().count());
            }
        }
    }
}

#[test]
fn the_documented_example_is_taken() {
    let documented = include_str!("../file.rs").split("```").nth(1).unwrap();
    let lines = documented
        .lines()
        .skip(1)
        .map(|line| line.trim_start_matches("//!"));
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    let profile = profile(&text).unwrap();
    assert_eq!((profile.rules.len(), profile.rules[0].remotes.len()), (1, 6));
}
