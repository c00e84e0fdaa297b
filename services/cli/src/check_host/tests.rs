//! Judged by rule sets that the real programs made on Debian 12, in network namespaces of their own: `captured/`.

mod host;

use netlink::queues::Statistics;
use proptest::prelude::*;
use verdict::{
    mark::MarkScheme,
    ruleset::{Family, Options, RuleSet, render},
};

use super::{
    facts::{Backend, Facts, Process, Reader, Saved, Settings, Trial},
    finding::{Finding, Level},
    judge::judge,
};

const UFW: [&str; 2] = [
    include_str!("captured/ufw-v4.txt"),
    include_str!("captured/ufw-v6.txt"),
];
const OPENSNITCH: &str = include_str!("captured/opensnitch-v4.txt");
const DOCKER: &str = include_str!("captured/docker-v4.txt");
const FIREWALLD: &str = include_str!("captured/firewalld.json");
const DOCKER_NFT: &str = include_str!("captured/docker.json");

/// A host with nothing on it.
fn plain() -> Facts {
    Facts {
        ours: Ok(Options::default()),
        readers: Ok(Vec::new()),
        saved: Vec::new(),
        backend: Some(Backend::Nft),
        nft: None,
        sockets: Vec::new(),
        processes: Vec::new(),
        missing: Vec::new(),
        trial: vec![(Family::V4, Trial::Taken), (Family::V6, Trial::Taken)],
        queues: Some(true),
        settings: Settings::default(),
    }
}

fn saved(backend: Backend, text: &str) -> Saved {
    Saved {
        backend,
        family: Family::V4,
        text: Ok(text.to_owned()),
    }
}

fn with_rules(text: &str) -> Facts {
    Facts {
        saved: vec![saved(Backend::Nft, text)],
        ..plain()
    }
}

fn with_nft(text: &str) -> Facts {
    Facts {
        nft: Some(Ok(text.to_owned())),
        ..plain()
    }
}

fn process(name: &str) -> Process {
    Process {
        pid: 4242,
        name: name.to_owned(),
    }
}

fn reader(queue: u16, name: Option<&str>) -> Reader {
    let line = Statistics::parse(&format!("{queue} 4194999999 0 2 4096 0 0 0 1"));
    Reader {
        line: line[0],
        process: name.map(process),
    }
}

/// Level and code of each.
fn codes(facts: &Facts) -> Vec<(Level, &'static str)> {
    judge(facts)
        .iter()
        .map(|finding| (finding.level, finding.code))
        .collect()
}

/// The only one.
fn one(facts: &Facts) -> Finding {
    let mut findings = judge(facts);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    findings.remove(0)
}

#[test]
fn a_plain_host_has_nothing_in_the_way() {
    assert_eq!(judge(&plain()), []);
}

#[test]
fn our_own_rules_are_nobodys_trouble() {
    for scheme in [MarkScheme::default(), MarkScheme::new(0x7ff << 8, 8).unwrap()] {
        let options = Options {
            scheme,
            ..Options::default()
        };
        let rules = RuleSet::new(&options);
        let mut facts = with_rules(&render(&rules, Family::V4));
        facts.ours = Ok(options);
        assert_eq!(judge(&facts), []);
    }
}

#[test]
fn ufw_works_beside() {
    for text in UFW {
        let found = one(&with_rules(text));
        assert_eq!(
            (found.level, found.what.as_str()),
            (Level::Beside, "ufw: its rules filter as well")
        );
    }
}

#[test]
fn firewalld_works_beside() {
    let found = one(&with_nft(FIREWALLD));
    assert_eq!((found.level, found.code), (Level::Beside, "other-rules"));
    assert!(found.what.starts_with("firewalld:"), "{}", found.what);
}

#[test]
fn docker_works_beside_and_is_not_seen() {
    let mut facts = with_rules(DOCKER);
    facts.nft = Some(Ok(DOCKER_NFT.to_owned()));
    let found = one(&facts);
    assert_eq!(
        (found.level, found.what.as_str()),
        (Level::Beside, "docker: its rules filter as well")
    );
    assert!(found.remedy.contains("forwarded"));
    let masquerades = "*nat\n-A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE\nCOMMIT\n";
    assert_eq!(
        codes(&with_rules(masquerades)),
        [],
        "it neither filters nor marks"
    );
}

#[test]
fn opensnitch_clashes_in_mangle_and_its_reader_is_named() {
    let mut facts = with_rules(OPENSNITCH);
    facts.readers = Ok(vec![reader(0, Some("opensnitchd"))]);
    facts.processes = vec![process("opensnitchd"), process("bash")];
    let found = judge(&facts);
    let codes: Vec<_> = found
        .iter()
        .map(|finding| (finding.level, finding.code))
        .collect();
    assert_eq!(
        codes,
        [
            (Level::Clash, "other-firewall"),
            (Level::Clash, "queue-skipped"),
            (Level::Beside, "queue-beside")
        ]
    );
    assert!(found[1].what.contains("mangle OUTPUT"), "{found:#?}");
    assert!(
        found[1].remedy.contains("opensnitchd (process 4242)"),
        "{found:#?}"
    );
}

#[test]
fn a_queue_of_ours_that_others_read_or_feed_is_named() {
    let facts = Facts {
        readers: Ok(vec![
            reader(17040, Some("Suricata-Main")),
            reader(17060, Some("portmaster-interceptor")),
            reader(17140, None),
            reader(3, Some("snort")),
        ]),
        ..plain()
    };
    let found = judge(&facts);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found[0]
            .what
            .contains("queue 17040 is held by Suricata-Main (process 4242)")
    );
    assert!(
        found[1]
            .what
            .contains("queue 17140 is held by netlink port 4194999999")
    );
    let rule = "*filter\n-A FORWARD -j NFQUEUE --queue-balance 17000:17100\n-A INPUT -j IPS\n-A IPS -j NFQUEUE --queue-balance 17000:17100\nCOMMIT\n";
    assert_eq!(codes(&with_rules(rule)), [(Level::Clash, "queue-rule")]);
    let elsewhere = "*filter\n-A FORWARD -j NFQUEUE --queue-num 17040\nCOMMIT\n";
    assert_eq!(
        codes(&with_rules(elsewhere)),
        [],
        "forwarded packets are not ours"
    );
}

#[test]
fn marks_clash_where_they_take_bits_of_ours_between_decision_and_fate() {
    let at = |table: &str, chain: &str, rule: &str| format!("*{table}\n-A {chain} {rule}\nCOMMIT\n");
    let mark = "-p udp -j MARK --set-xmark 0x4000/0x4000";
    let narrow = Options {
        scheme: MarkScheme::new(0x7ff << 16, 16).unwrap(),
        ..Options::default()
    };
    let wiping = Options {
        keep_foreign_marks: false,
        ..Options::default()
    };
    let judged = |text: &str, ours: Options| {
        codes(&Facts {
            ours: Ok(ours),
            ..with_rules(text)
        })
    };
    let whole = Options::default();
    for (table, chain) in [("nat", "OUTPUT"), ("mangle", "OUTPUT"), ("mangle", "INPUT")] {
        let text = at(table, chain, mark);
        assert_eq!(
            judged(&text, whole),
            [(Level::Clash, "mark-overwritten")],
            "{text}"
        );
        assert_eq!(judged(&text, narrow), [], "{text}");
    }
    let before = at("mangle", "PREROUTING", mark);
    assert_eq!(judged(&before, whole), [(Level::Beside, "mark-kept")]);
    assert_eq!(judged(&before, wiping), [(Level::Clash, "mark-wiped")]);
    for after in [
        at("mangle", "POSTROUTING", mark),
        at("mangle", "FORWARD", mark),
        at("filter", "OUTPUT", mark),
    ] {
        assert_eq!(judged(&after, whole), [], "{after}");
    }
    // the same table of the other back end may come before ours or behind
    let mut other = with_rules("");
    other.saved = vec![saved(Backend::Legacy, &at("filter", "OUTPUT", mark))];
    assert_eq!(codes(&other), [(Level::Clash, "mark-overwritten")]);
}

#[test]
fn who_writes_the_connections_mark_clashes_and_is_told_of_free_bits() {
    let rule = |rule: &str| format!("*mangle\n-A POSTROUTING {rule}\nCOMMIT\n");
    let found = one(&with_rules(&rule("-j CONNMARK --set-xmark 0x1/0xff")));
    assert_eq!((found.level, found.code), (Level::Clash, "connection-mark"));
    assert!(
        found.remedy.contains("mask = 0x7ff00, shift = 8"),
        "{}",
        found.remedy
    );
    // as wg-quick does: all of it
    let found = one(&with_rules(&rule(
        "-m mark --mark 0xca6c -p udp -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff",
    )));
    assert!(
        found.remedy.contains("one of the two has to go"),
        "{}",
        found.remedy
    );
    let narrow = Options {
        scheme: MarkScheme::new(0x7ff << 8, 8).unwrap(),
        ..Options::default()
    };
    let facts = Facts {
        ours: Ok(narrow),
        ..with_rules(&rule("-j CONNMARK --set-xmark 0x1/0xff"))
    };
    assert_eq!(codes(&facts), []);
}

/// Real text of nft 1.0.6 for `ct mark set ct mark and 0xffff00ff or 0x100` and the like.
#[test]
fn marks_of_nft_are_judged_by_the_bits_that_change() {
    let set = |hook: &str, priority: i32, key: &str, value: &str| {
        with_nft(&format!(
            r#"{{"nftables": [{{"chain": {{"family": "inet", "table": "vpn", "name": "c", "type": "filter", "hook": "{hook}", "prio": {priority}}}}},
            {{"rule": {{"family": "inet", "table": "vpn", "chain": "c", "expr": [{{"mangle": {{"key": {key}, "value": {value}}}}}]}}}}]}}"#
        ))
    };
    let (packet, connection) = (r#"{"meta": {"key": "mark"}}"#, r#"{"ct": {"key": "mark"}}"#);
    let or = format!(r#"{{"|": [{{"&": [{connection}, 4294902015]}}, 256]}}"#);
    assert_eq!(
        codes(&set("output", 10, connection, &or)),
        [(Level::Clash, "connection-mark")]
    );
    assert_eq!(codes(&set("forward", 0, connection, &or)), []);
    assert_eq!(
        codes(&set("output", -100, packet, "51820")),
        [(Level::Clash, "mark-overwritten")]
    );
    assert_eq!(
        codes(&set("output", -200, packet, "51820")),
        [(Level::Beside, "mark-kept")]
    );
    assert_eq!(codes(&set("output", 10, packet, "51820")), []);
    let mut facts = set("output", 10, connection, &or);
    facts.ours = Ok(Options {
        scheme: MarkScheme::new(0x7ff << 16, 16).unwrap(),
        ..Options::default()
    });
    assert_eq!(codes(&facts), []);
}

/// `libnftables-json(5)`: QUEUE, and jumps in verdict maps.
#[test]
fn queues_of_nft_are_found_behind_a_verdict_map() {
    let text = r#"{"nftables": [
        {"chain": {"family": "inet", "table": "ips", "name": "in", "type": "filter", "hook": "input", "prio": 0}},
        {"rule": {"family": "inet", "table": "ips", "chain": "in", "expr": [{"vmap": {"key": {"meta": {"key": "l4proto"}}, "data": {"set": [["tcp", {"jump": {"target": "ask"}}]]}}}]}},
        {"rule": {"family": "inet", "table": "ips", "chain": "ask", "expr": [{"queue": {"num": {"range": [17140, 17143]}, "flags": ["bypass"]}}]}},
        {"rule": {"family": "inet", "table": "ips", "chain": "nobody", "expr": [{"queue": {"num": 17160}}]}}]}"#;
    let found = one(&with_nft(text));
    assert_eq!((found.level, found.code), (Level::Clash, "queue-rule"));
    assert!(found.remedy.contains("queues 17140 to 17143"), "{}", found.remedy);
}

proptest! {
    #[test]
    fn judging_is_total(rules in r"(\*(mangle|filter)\n)?(-A (INPUT|OUTPUT|X)( -j (X|MARK|CONNMARK|NFQUEUE)| --[a-z-]+ [0-9a-fx/:]*){0,4}\n){0,9}", nft: String) {
        let mut facts = with_rules(&rules);
        facts.nft = Some(Ok(nft));
        let _ = judge(&facts);
    }
}
