use std::{
    net::IpAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;
use crate::{
    Cgroup, Direction, Endpoint, Executable, Protocol, Verdict, Why,
    policy::{
        file,
        model::{Action, Matcher, Remote, Settings},
        tunnel::Tunnel,
    },
};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

/// A policy out of TOML: profiles by id, and a `global.toml`.
pub(super) fn policy(global: &str, profiles: &[(&str, &str)]) -> CompiledPolicy {
    let users = |_: &str| None;
    let global = file::parse_global("global.toml", global, &users).unwrap();
    let parse = |(id, text): &(&str, &str)| file::parse_profile(id, id, text, &users).unwrap();
    let profiles = profiles.iter().map(parse).collect();
    CompiledPolicy::new(Snapshot {
        version: 7,
        global,
        profiles,
        pause: None,
    })
    .unwrap()
}

/// One profile for everybody with this uid, decided by.
fn app(settings_and_rules: &str) -> CompiledPolicy {
    policy(
        "",
        &[("app", &format!("{settings_and_rules}\n[[match]]\nuid = 1000\n"))],
    )
}

fn flow(direction: Direction, protocol: Protocol, remote: &str, port: u16) -> Flow {
    let remote: IpAddr = remote.parse().unwrap();
    let local: IpAddr = if remote.is_ipv4() {
        [10, 0, 0, 1].into()
    } else {
        "2001:db8::1".parse().unwrap()
    };
    let local = if remote.is_loopback() { remote } else { local };
    Flow {
        direction,
        protocol,
        local: Endpoint::new(local, 50_000),
        remote: Endpoint::new(remote, port),
    }
}

pub(super) fn out(remote: &str, port: u16) -> Flow {
    flow(Direction::Outgoing, Protocol::TCP, remote, port)
}

fn incoming(remote: &str) -> Flow {
    flow(Direction::Incoming, Protocol::TCP, remote, 40_000)
}

pub(super) fn facts<'a>(flow: Flow, domains: &'a [&'a str]) -> Facts<'a> {
    Facts {
        flow,
        scope: flow.scope(),
        uid: Some(1000),
        domains,
        dns_is_served: true,
        now: NOW.into(),
    }
}

/// `verdict why source`, by profile `app` where there is one.
fn decided(policy: &CompiledPolicy, flow: Flow, domains: &[&str]) -> String {
    let profile = policy.profile_named("app").unwrap_or_default();
    let facts = facts(flow, domains);
    let decision = policy.decide(profile, &facts);
    assert_eq!(policy.explain(profile, &facts).decision, decision);
    format!("{} {} {}", decision.verdict.text(), decision.why, decision.source)
}

const WEB: &str = "93.184.216.34";
const PRINTER: &str = "192.168.1.9";

#[test]
fn it_is_known_whether_anybody_is_tunnelled() {
    let rule = "[[rule]]\naction = \"tunnel\"\nremote = \"internet\"\n";
    let setting = |key: &str| format!("[settings]\n{key} = \"tunnel\"\n");
    assert!(!policy("", &[]).may_tunnel() && !app("").may_tunnel());
    for text in [
        rule.to_owned(),
        setting("default_action"),
        setting("ask_timeout_action"),
    ] {
        assert!(app(&text).may_tunnel(), "{text}");
        assert!(policy(&text, &[]).may_tunnel(), "{text}");
    }
}

#[test]
fn without_any_file_the_shipped_defaults_hold() {
    let policy = CompiledPolicy::new(crate::policy::shipped().unwrap()).unwrap();
    let with = |flow| decided(&policy, flow, &[]);
    assert_eq!(with(out(WEB, 443)), "allow default-action shipped#default_action");
    assert_eq!(
        with(out("2606:17::1", 443)),
        "allow default-action shipped#default_action"
    );
    assert_eq!(
        with(out(PRINTER, 631)),
        "allow default-action shipped#default_action"
    );
    assert_eq!(with(out("127.0.0.1", 631)), "allow global-rule shipped#1");
    assert_eq!(with(incoming("127.0.0.1")), "allow global-rule shipped#1");
    assert_eq!(
        with(incoming(PRINTER)),
        "drop block-incoming shipped#block_incoming"
    );
    assert_eq!(
        with(incoming("2606:17::1")),
        "drop block-incoming shipped#block_incoming"
    );
}

#[test]
fn what_is_built_in_is_what_is_shipped() {
    let shipped = file::shipped_global().unwrap().settings;
    let effective = Effective::global(&Settings::default());
    let built_in = Settings {
        default_action: Some(effective.default_action.value),
        ask_timeout_action: Some(effective.ask_timeout_action.value),
        block_incoming: Some(effective.block_incoming.value),
        block_lan: Some(effective.block_lan.value),
        block_internet: Some(effective.block_internet.value),
        block_direct: Some(effective.block_direct.value),
        block_encrypted_dns: Some(effective.block_encrypted_dns.value),
        block_lists: Some(effective.block_lists.value),
        tunnel: Tunnel {
            hops: Some(effective.tunnel.hops),
            exit: Some(effective.tunnel.exit),
            isolate: Some(effective.tunnel.isolate),
        },
    };
    assert_eq!(built_in, shipped);
}

#[test]
fn the_path_through_the_tunnel_is_inherited_setting_by_setting() {
    let policy = policy(
        "[tunnel]\nhops = 2\nexit = [\"de\", \"node:alpha\"]\n",
        &[
            (
                "far",
                "[[match]]\nuid = 1\n[tunnel]\nhops = 5\n[settings]\nblock_lan = true\n",
            ),
            (
                "near",
                "[[match]]\nuid = 2\n[tunnel]\nexit = \"near\"\nisolate = \"site\"\n",
            ),
        ],
    );
    let options = |profile| {
        let TunnelOptions { hops, exit, isolate } = policy.tunnel_options(profile);
        format!("{} {exit} {}", hops.get(), isolate.text())
    };
    assert_eq!(options("far"), "5 de, node:alpha app");
    assert_eq!(options("near"), "2 near site");
    assert_eq!(options(""), "2 de, node:alpha app");
    assert_eq!(options("gone"), "2 de, node:alpha app");
    let shipped = CompiledPolicy::new(crate::policy::shipped().unwrap()).unwrap();
    assert_eq!(*shipped.tunnel_options(""), TunnelOptions::default());
}

#[test]
fn what_a_host_cannot_live_without_comes_in() {
    let policy = CompiledPolicy::new(crate::policy::shipped().unwrap()).unwrap();
    let udp = |remote, remote_port, local_port| {
        let mut flow = flow(Direction::Incoming, Protocol::UDP, remote, remote_port);
        flow.local.port = local_port;
        decided(&policy, flow, &[])
    };
    assert_eq!(udp("192.168.1.1", 67, 68), "allow global-rule shipped#2");
    assert_eq!(udp("fe80::1", 547, 546), "allow global-rule shipped#3");
    assert_eq!(
        udp("192.168.1.1", 67, 69),
        "drop block-incoming shipped#block_incoming"
    );
    let icmp = |protocol, remote, kind: u16| {
        decided(
            &policy,
            flow(Direction::Incoming, protocol, remote, kind * 256),
            &[],
        )
    };
    for kind in [3, 11, 12] {
        assert_eq!(icmp(Protocol::ICMP, WEB, kind), "allow global-rule shipped#4");
    }
    for kind in 1..=4 {
        assert_eq!(
            icmp(Protocol::ICMPV6, "2606:17::1", kind),
            "allow global-rule shipped#5"
        );
    }
    for kind in 133..=137 {
        assert_eq!(
            icmp(Protocol::ICMPV6, "fe80::1", kind),
            "allow global-rule shipped#6"
        );
    }
    for kind in [130, 131, 132, 143] {
        assert_eq!(
            icmp(Protocol::ICMPV6, "fe80::1", kind),
            "allow global-rule shipped#7"
        );
    }
    assert_eq!(
        icmp(Protocol::ICMP, WEB, 8),
        "drop block-incoming shipped#block_incoming"
    );
    assert_eq!(icmp(Protocol(2), PRINTER, 0), "allow global-rule shipped#8");
}

#[test]
fn rules_come_in_order_the_profiles_own_first() {
    let profile = "[[rule]]\naction = \"block\"\nremote_port = 25\n[[rule]]\naction = \"allow\"\nremote_port = \"20-30\"\n[[match]]\nuid = 1\n";
    let policy = policy(
        "[[rule]]\naction = \"drop\"\nremote_port = [25, 80]\n",
        &[("app", profile)],
    );
    assert_eq!(decided(&policy, out(WEB, 25), &[]), "block rule app#1");
    assert_eq!(decided(&policy, out(WEB, 26), &[]), "allow rule app#2");
    assert_eq!(decided(&policy, out(WEB, 80), &[]), "drop global-rule global#1");
    assert_eq!(
        decided(&policy, out(WEB, 81), &[]),
        "allow default-action shipped#default_action"
    );
    assert_eq!(
        decided(&policy, out("127.0.0.1", 81), &[]),
        "allow global-rule shipped#1"
    );
}

#[test]
fn switches_refuse_what_no_rule_allows() {
    let lan = app("[settings]\nblock_lan = true\nblock_incoming = false\n");
    assert_eq!(
        decided(&lan, out(PRINTER, 1), &[]),
        "block block-lan app#block_lan"
    );
    assert_eq!(
        decided(&lan, out("224.0.0.251", 5353), &[]),
        "block block-lan app#block_lan"
    );
    assert_eq!(
        decided(&lan, incoming(PRINTER), &[]),
        "drop block-lan app#block_lan"
    );
    assert_eq!(
        decided(&lan, incoming(WEB), &[]),
        "allow default-action shipped#default_action"
    );
    let internet =
        app("[settings]\nblock_internet = true\n[[rule]]\naction = \"allow\"\nremote_port = 443\n");
    assert_eq!(
        decided(&internet, out(WEB, 80), &[]),
        "block block-internet app#block_internet"
    );
    assert_eq!(decided(&internet, out(WEB, 443), &[]), "allow rule app#1");
    assert_eq!(
        decided(&internet, out(PRINTER, 80), &[]),
        "allow default-action shipped#default_action"
    );
    let direct = app("[settings]\nblock_direct = true\n");
    assert_eq!(
        decided(&direct, out(WEB, 80), &[]),
        "block block-direct app#block_direct"
    );
    assert_eq!(
        decided(&direct, out(PRINTER, 80), &[]),
        "allow default-action shipped#default_action"
    );
    let named = decided(&direct, out(WEB, 80), &["example.org"]);
    assert_eq!(named, "allow default-action shipped#default_action");
}

#[test]
fn a_refusal_of_an_incoming_connection_is_made_as_wanted() {
    let policy = policy("incoming_refusal = \"block\"\n", &[]);
    assert_eq!(
        decided(&policy, incoming(WEB), &[]),
        "block block-incoming shipped#block_incoming"
    );
    let by_rule = app("[[rule]]\naction = \"block\"\n[settings]\ndefault_action = \"block\"\n");
    assert_eq!(decided(&by_rule, incoming(WEB), &[]), "block rule app#1");
    let by_default = app("[settings]\ndefault_action = \"block\"\nblock_incoming = false\n");
    assert_eq!(
        decided(&by_default, incoming(WEB), &[]),
        "drop default-action app#default_action"
    );
    assert_eq!(
        decided(&by_default, out(WEB, 1), &[]),
        "block default-action app#default_action"
    );
}

#[test]
fn a_question_that_nobody_answers_gets_its_answer_from_the_settings() {
    let policy = app("[settings]\ndefault_action = \"ask\"\n[[rule]]\naction = \"ask\"\nremote_port = 25\n");
    assert_eq!(decided(&policy, out(WEB, 25), &[]), "block ask-timeout app#1");
    assert_eq!(
        decided(&policy, out(WEB, 26), &[]),
        "block ask-timeout app#default_action"
    );
    let policy = app("[settings]\ndefault_action = \"ask\"\nask_timeout_action = \"allow\"\n");
    assert_eq!(
        decided(&policy, out(WEB, 26), &[]),
        "allow ask-timeout app#default_action"
    );
    let policy = app("[settings]\ndefault_action = \"ask\"\nask_timeout_action = \"tunnel\"\n");
    assert_eq!(
        decided(&policy, out(WEB, 26), &[]),
        "tunnel ask-timeout app#default_action"
    );
}

#[test]
fn the_tunnel_is_for_the_internet_or_it_is_not_at_all() {
    let tunnel = app("[settings]\ndefault_action = \"tunnel\"\nblock_incoming = false\n");
    assert_eq!(
        decided(&tunnel, out(WEB, 443), &[]),
        "tunnel default-action app#default_action"
    );
    assert_eq!(
        decided(&tunnel, out(PRINTER, 443), &[]),
        "allow default-action app#default_action"
    );
    assert_eq!(
        decided(&tunnel, out("127.0.0.1", 443), &[]),
        "allow global-rule shipped#1"
    );
    let ping = flow(Direction::Outgoing, Protocol::ICMP, WEB, 8 * 256);
    assert_eq!(
        decided(&tunnel, ping, &[]),
        "block tunnel-unsupported app#default_action"
    );
    assert_eq!(
        decided(&tunnel, incoming(WEB), &[]),
        "drop tunnel-unsupported app#default_action"
    );
    let by_rule = app("[[rule]]\naction = \"tunnel\"\n");
    assert_eq!(decided(&by_rule, out(PRINTER, 443), &[]), "tunnel rule app#1");
    assert_eq!(
        decided(&by_rule, out("::1", 443), &[]),
        "allow global-rule shipped#1"
    );
    assert_eq!(decided(&by_rule, ping, &[]), "block tunnel-unsupported app#1");
    let policy = policy(
        "shipped_rules = false\n[settings]\ndefault_action = \"tunnel\"\n",
        &[],
    );
    assert_eq!(
        decided(&policy, out("::1", 443), &[]),
        "allow default-action global#default_action"
    );
}

#[test]
fn stray_dns_queries_go_to_the_local_server() {
    let text = "redirect_dns = true\n[[rule]]\naction = \"block\"\nremote = \"9.9.9.9\"\n[settings]\nblock_direct = true\n";
    let policy = policy(text, &[]);
    let query = |remote| decided(&policy, flow(Direction::Outgoing, Protocol::UDP, remote, 53), &[]);
    assert_eq!(query("8.8.8.8"), "redirect-dns dns-redirect global#redirect_dns");
    assert_eq!(
        query("192.168.1.1"),
        "redirect-dns dns-redirect global#redirect_dns"
    );
    assert_eq!(query("9.9.9.9"), "block global-rule global#1");
    assert_eq!(query("127.0.0.53"), "allow global-rule shipped#1");
    assert_eq!(
        decided(&policy, out("8.8.8.8", 53), &[]),
        "redirect-dns dns-redirect global#redirect_dns"
    );
    assert_eq!(
        decided(&policy, out("8.8.8.8", 853), &[]),
        "block block-direct global#block_direct"
    );
    let facts = facts(out("8.8.8.8", 53), &[]);
    let unserved = policy.decide(
        ProfileRef::GLOBAL,
        &Facts {
            dns_is_served: false,
            ..facts
        },
    );
    assert_eq!(
        unserved.verdict,
        Verdict::Block,
        "there is no server to send it to"
    );
}

#[test]
fn who_may_reach_nobody_may_ask_the_local_dns_server_which_knows_the_names() {
    let policy = policy(
        "redirect_dns = true\n[settings]\ndefault_action = \"block\"\nblock_internet = true\n",
        &[],
    );
    assert_eq!(
        decided(&policy, out("8.8.8.8", 53), &[]),
        "redirect-dns dns-redirect global#redirect_dns"
    );
    assert_eq!(
        decided(&policy, out("8.8.8.8", 54), &[]),
        "block block-internet global#block_internet"
    );
}

#[test]
fn names_zones_users_and_icmp_types_match() {
    let policy = app(concat!(
        "[[rule]]\naction = \"drop\"\nremote = [\"example.org\", \"*.example.net\"]\n",
        "[[rule]]\naction = \"block\"\nuser = 1001\n",
        "[[rule]]\naction = \"block\"\nprotocol = \"icmp\"\nicmp_type = \"echo-request\"\n",
    ));
    assert_eq!(decided(&policy, out(WEB, 1), &["example.org"]), "drop rule app#1");
    assert_eq!(
        decided(&policy, out(WEB, 1), &["other.org", "a.b.example.net"]),
        "drop rule app#1"
    );
    assert_eq!(
        decided(&policy, out(WEB, 1), &["www.example.org"]),
        "allow default-action shipped#default_action"
    );
    let ping = flow(Direction::Outgoing, Protocol::ICMP, WEB, 8 * 256);
    assert_eq!(decided(&policy, ping, &[]), "block rule app#3");
    let profile = policy.profile_named("app").unwrap();
    let mut other = facts(out(WEB, 1), &[]);
    other.uid = Some(1001);
    assert_eq!(&*policy.decide(profile, &other).source, "app#2");
    other.uid = None;
    assert_eq!(policy.decide(profile, &other).why, Why::DefaultAction);
}

#[test]
fn a_rule_ends_when_it_expires() {
    let policy = app("[[rule]]\naction = \"block\"\nexpires = 1970-01-01T00:01:00Z\n");
    let profile = policy.profile_named("app").unwrap();
    let at = |seconds| {
        let now = NOW + Duration::from_secs(seconds);
        policy
            .decide(
                profile,
                &Facts {
                    now: now.into(),
                    ..facts(out(WEB, 1), &[])
                },
            )
            .verdict
    };
    assert_eq!((at(59), at(60)), (Verdict::Block, Verdict::Allow));
    assert_eq!(
        policy.next_expiry(NOW.into()),
        Some(NOW + Duration::from_secs(60))
    );
    assert_eq!(policy.next_expiry((NOW + Duration::from_secs(60)).into()), None);
}

#[test]
fn a_name_is_wanted_only_where_it_could_change_something() {
    let wants = |text: &str, flow| {
        let policy = app(text);
        policy.wants_name(policy.profile_named("app").unwrap(), &facts(flow, &[]))
    };
    let by_name = "[[rule]]\naction = \"block\"\nremote = \"example.org\"\nremote_port = 443\n";
    assert!(wants(by_name, out(WEB, 443)));
    assert!(!wants(by_name, out(WEB, 80)), "the rule is for another port");
    assert!(!wants("", out(WEB, 443)));
    assert!(
        !wants(&format!("[[rule]]\naction = \"allow\"\n{by_name}"), out(WEB, 443)),
        "never reached"
    );
    assert!(wants("[settings]\nblock_direct = true\n", out(WEB, 443)));
    assert!(!wants("[settings]\nblock_direct = true\n", out(PRINTER, 443)));
    assert!(!wants(
        "[settings]\nblock_direct = true\nblock_internet = true\n",
        out(WEB, 443)
    ));
    assert!(!wants(by_name, incoming(WEB)));
    let by_name = "[[rule]]\naction = \"allow\"\nremote = \"example.org\"\n";
    assert!(wants(by_name, out(WEB, 80)));
    assert!(
        !wants(by_name, out(WEB, 53)),
        "a query goes to the local server, and says no name of whom it was meant for"
    );
    assert!(wants(by_name, out(WEB, 853)));
    let encrypted = "[settings]\nblock_encrypted_dns = true\n";
    assert!(wants(encrypted, out(WEB, 443)), "it may be a resolver's");
    assert!(!wants(encrypted, out(WEB, 80)) && !wants("", out(WEB, 443)));
}

#[test]
fn encrypted_dns_is_refused_where_the_owner_says_so() {
    let text = "[settings]\nblock_encrypted_dns = true\n";
    let (off, on) = (app(""), app(text));
    let refused = "block encrypted-dns app#block_encrypted_dns";
    let allowed = "allow default-action shipped#default_action";
    for (flow, names, is_dns) in [
        (out(WEB, 853), &[][..], true),
        (out(PRINTER, 853), &[], true),
        (out("9.9.9.9", 443), &[], true),
        (out("2620:fe::fe", 443), &[], true),
        (out("9.9.9.9", 8853), &[], true),
        (out("9.9.9.9", 80), &[], false),
        (out(WEB, 443), &["dns.google"], true),
        (out(WEB, 443), &["abc123.dns.nextdns.io"], true),
        (out(WEB, 443), &["www.google.com"], false),
    ] {
        assert_eq!(decided(&off, flow, names), allowed, "{flow:?}");
        let expected = if is_dns { refused } else { allowed };
        assert_eq!(decided(&on, flow, names), expected, "{flow:?} {names:?}");
    }
    let ruled = app(&format!(
        "{text}[[rule]]\naction = \"allow\"\nremote = \"9.9.9.9\"\n"
    ));
    assert_eq!(decided(&ruled, out("9.9.9.9", 853), &[]), "allow rule app#1");
    let app = ruled.profile_named("app").unwrap();
    assert!(ruled.blocks_resolver(app, "dns.google").is_some());
    assert!(ruled.blocks_resolver(app, "example.org").is_none());
    assert!(ruled.blocks_resolver(ProfileRef::GLOBAL, "dns.google").is_none());
}

#[test]
fn an_explanation_tells_the_way() {
    let policy = app(concat!(
        "[[rule]]\naction = \"allow\"\nremote = \"lan\"\n[[rule]]\naction = \"allow\"\nremote = \"a.org\"\n",
        "[settings]\nblock_internet = true\n",
    ));
    let steps = policy
        .explain(policy.profile_named("app").unwrap(), &facts(out(WEB, 443), &[]))
        .steps;
    assert_eq!(steps[0], "app#1: it is for other remote ends");
    assert_eq!(steps[1], "app#2: it is for names, and none is known");
    assert_eq!(steps[2], "shipped#1: it is for other remote ends");
    assert_eq!(
        steps.last().unwrap(),
        "app#block_internet: decides: block (block-internet)"
    );
}

fn curl() -> Process {
    Process {
        uid: 1000,
        executable: Executable {
            path: Some("/usr/bin/curl".into()),
            sha256: Some([7; 32]),
            ..Executable::default()
        },
        script: Some("/usr/local/bin/script".into()),
        cgroup: Cgroup {
            path: "/user.slice/user-1000.slice/app.scope".into(),
            unit: "user@1000.service".into(),
            user_unit: "app.scope".into(),
            container: "0123456789abcdef".into(),
            ..Cgroup::default()
        },
        ..Process::default()
    }
}

fn profile_id(policy: &CompiledPolicy, process: Option<&Process>) -> String {
    policy.profile_id(policy.profile_for(process)).to_string()
}

#[test]
fn the_most_telling_matcher_wins() {
    let hash = "07".repeat(32);
    let mut profiles: Vec<(&str, String)> = vec![
        ("a-uid", "uid = 1000".into()),
        ("b-cgroup", "cgroup = \"/user.slice/**\"".into()),
        ("c-glob", "path = \"/usr/*/curl\"\nuser = 1000".into()),
        ("d-unit", "unit = \"app.scope\"".into()),
        (
            "e-container",
            "container = \"0123456789ab\"\ncgroup = \"/user.slice/**\"".into(),
        ),
        ("f-path", "path = \"/usr/bin/curl\"".into()),
        ("g-path-and-uid", "path = \"/usr/bin/curl\"\nuid = 1000".into()),
        ("h-script", "script = \"/usr/local/bin/script\"".into()),
        ("i-hash", format!("sha256 = \"{hash}\"")),
    ];
    let mut wrong = vec![
        (
            "z-other",
            "path = \"/usr/bin/curl\"\nuid = 1\nsha256 = \"".to_owned() + &hash + "\"",
        ),
        (
            "z-glob",
            "path = \"/usr/bin/curl\"\ncgroup = \"/system.slice/**\"".to_owned(),
        ),
    ];
    let order = [
        "i-hash",
        "h-script",
        "g-path-and-uid",
        "f-path",
        "e-container",
        "d-unit",
        "c-glob",
        "b-cgroup",
        "a-uid",
    ];
    for expected in order {
        let texts: Vec<_> = profiles
            .iter()
            .chain(&wrong)
            .map(|(id, keys)| (*id, format!("[[match]]\n{keys}\n")))
            .collect();
        let texts: Vec<_> = texts.iter().map(|(id, text)| (*id, text.as_str())).collect();
        assert_eq!(profile_id(&policy("", &texts), Some(&curl())), expected);
        profiles.pop();
    }
    wrong.clear();
    assert_eq!(profile_id(&policy("", &[]), Some(&curl())), "");
}

#[test]
fn an_unverified_path_matches_nothing_by_path() {
    let policy = policy(
        "",
        &[(
            "path",
            "[[match]]\npath = \"/usr/bin/curl\"\n[[match]]\npath = \"/usr/**\"\n",
        )],
    );
    let mut process = curl();
    assert_eq!(profile_id(&policy, Some(&process)), "path");
    process.executable.path = None;
    process.executable.claimed_path = "/usr/bin/curl".into();
    assert_eq!(profile_id(&policy, Some(&process)), "");
}

#[test]
fn an_unknown_process_has_a_profile_where_one_is_written_for_it() {
    let policy = policy(
        "",
        &[
            ("nobody", "[[match]]\nunknown = true\n"),
            ("root", "[[match]]\nuid = 0\n"),
        ],
    );
    assert_eq!(profile_id(&policy, None), "nobody");
    assert_eq!(profile_id(&policy, Some(&curl())), "");
    assert!(!policy.needs_hash());
}

#[test]
fn a_snapshot_that_contradicts_itself_is_refused() {
    let global = crate::policy::shipped().unwrap().global;
    let new = |profiles| {
        let error = CompiledPolicy::new(Snapshot {
            version: 1,
            global: global.clone(),
            profiles,
            pause: None,
        })
        .unwrap_err();
        error.to_string()
    };
    let profile = |matcher| Profile {
        id: "a".into(),
        matchers: vec![matcher],
        ..Profile::default()
    };
    let path = Matcher {
        path: Some("/a".into()),
        ..Matcher::default()
    };
    assert_eq!(
        new(vec![profile(path.clone()), profile(path)]),
        "two profiles are called a"
    );
    assert_eq!(
        new(vec![profile(Matcher::default())]),
        "profile a has a matcher that sets nothing"
    );
    let glob = Matcher {
        path_glob: Some("/[".into()),
        ..Matcher::default()
    };
    assert!(new(vec![profile(glob)]).contains("\"/[\""));
    let container = Matcher {
        container: Some("0123".into()),
        ..Matcher::default()
    };
    assert!(new(vec![profile(container)]).contains("fewer than 12 digits"));
}

#[test]
fn ten_thousand_profiles_are_indexed_and_found() {
    let profile = |number: u32| {
        let matcher = match number % 4 {
            0 => Matcher {
                path_glob: Some(format!("/opt/app{number}/*/bin")),
                ..Matcher::default()
            },
            1 => Matcher {
                unit: Some(format!("app{number}.service")),
                ..Matcher::default()
            },
            _ => Matcher {
                path: Some(format!("/opt/app{number}/bin").into()),
                ..Matcher::default()
            },
        };
        Profile {
            id: format!("app{number}").into(),
            matchers: vec![matcher],
            ..Profile::default()
        }
    };
    let global = crate::policy::shipped().unwrap().global;
    let profiles: Vec<_> = (0..10_000).map(profile).collect();
    let start = std::time::Instant::now();
    let policy = CompiledPolicy::new(Snapshot {
        version: 1,
        global,
        profiles,
        pause: None,
    })
    .unwrap();
    println!("compiled in {:?}", start.elapsed());
    let at = |path: &str| Process {
        executable: Executable {
            path: Some(path.into()),
            ..Executable::default()
        },
        ..Process::default()
    };
    assert_eq!(profile_id(&policy, Some(&at("/opt/app9999/bin"))), "app9999");
    let deep = at("/opt/app5000/x/bin");
    assert_eq!(profile_id(&policy, Some(&deep)), "app5000");
    let start = std::time::Instant::now();
    for _ in 0..1000 {
        std::hint::black_box(policy.profile_for(Some(&deep)));
    }
    println!("found in {:?}", start.elapsed() / 1000);
}

fn action() -> impl Strategy<Value = Action> {
    select(Action::ALL.to_vec())
}

fn rule() -> impl Strategy<Value = Rule> {
    let remotes = vec![
        Remote::Scope(Scope::Lan),
        Remote::Scope(Scope::Internet),
        Remote::Domain("a.org".into()),
        Remote::Zone("org".into()),
        Remote::Network("192.0.0.0/8".parse().unwrap()),
        Remote::Range([93, 0, 0, 0].into(), [94, 0, 0, 0].into()),
    ];
    let protocols = vec![Protocol::TCP, Protocol::UDP, Protocol::ICMP];
    let direction = option::of(select(vec![Direction::Outgoing, Direction::Incoming]));
    (
        action(),
        direction,
        vec(select(protocols), 0..2),
        vec(select(remotes), 0..3),
        option::of(0..100_u16),
    )
        .prop_map(|(action, direction, protocols, remotes, port)| Rule {
            source: "x#1".into(),
            action,
            direction,
            protocols,
            remotes,
            remote_ports: port.map(|port| port..=port * 2).into_iter().collect(),
            local_ports: Vec::new(),
            icmp_types: Vec::new(),
            uids: Vec::new(),
            expires: None,
            note: String::new(),
        })
}

fn flows() -> impl Strategy<Value = Flow> {
    let direction = select(vec![Direction::Outgoing, Direction::Incoming]);
    let remote = select(vec![
        WEB,
        PRINTER,
        "127.0.0.1",
        "224.0.0.251",
        "::1",
        "2606:17::1",
        "fe80::1",
    ]);
    let protocol = prop_oneof![Just(6), Just(17), Just(1), any::<u8>()].prop_map(Protocol);
    let port = prop_oneof![Just(53), 0..200_u16];
    (direction, protocol, remote, port)
        .prop_map(|(direction, protocol, remote, port)| flow(direction, protocol, remote, port))
}

fn settings() -> impl Strategy<Value = Settings> {
    (
        option::of(action()),
        option::of(action()),
        any::<[Option<bool>; 5]>(),
    )
        .prop_map(|(default, answer, switches)| Settings {
            default_action: default,
            ask_timeout_action: answer,
            block_incoming: switches[0],
            block_lan: switches[1],
            block_internet: switches[2],
            block_direct: switches[3],
            block_encrypted_dns: switches[4],
            block_lists: None,
            tunnel: Tunnel::default(),
        })
}

fn any_policy() -> impl Strategy<Value = Snapshot> {
    let profile = (settings(), vec(rule(), 0..5)).prop_map(|(settings, rules)| Profile {
        id: "app".into(),
        matchers: vec![Matcher {
            path: Some(PathBuf::from("/app")),
            ..Matcher::default()
        }],
        settings,
        rules,
        ..Profile::default()
    });
    let refusal = select(vec![Action::Drop, Action::Block]);
    (profile, settings(), vec(rule(), 0..3), any::<bool>(), refusal).prop_map(
        |(profile, settings, rules, redirect_dns, incoming_refusal)| Snapshot {
            version: 1,
            global: Global {
                settings,
                rules,
                redirect_dns,
                encrypted_dns_resolvers: Vec::new(),
                incoming_refusal,
                ask_timeout_seconds: 60,
            },
            profiles: vec![profile],
            pause: None,
        },
    )
}

proptest! {
    #[test]
    fn an_explanation_decides_as_the_decision(snapshot in any_policy(), flow in flows(), named: bool) {
        let policy = CompiledPolicy::new(snapshot).unwrap();
        let domains: &[&str] = if named { &["a.org"] } else { &[] };
        for profile in [ProfileRef::GLOBAL, policy.profile_named("app").unwrap()] {
            let facts = facts(flow, domains);
            let decision = policy.decide(profile, &facts);
            prop_assert!(decision.permanent);
            prop_assert!(!decision.source.is_empty());
            prop_assert_eq!(policy.explain(profile, &facts).decision, decision);
        }
    }

    #[test]
    fn a_rule_after_the_one_that_matched_changes_nothing(snapshot in any_policy(), flow in flows(), more in rule()) {
        let decide = |snapshot: &Snapshot| {
            let policy = CompiledPolicy::new(snapshot.clone()).unwrap();
            policy.decide(policy.profile_named("app").unwrap(), &facts(flow, &[]))
        };
        let before = decide(&snapshot);
        let mut longer = snapshot;
        longer.profiles[0].rules.push(more);
        let after = decide(&longer);
        prop_assert!(before.why != Why::Rule || before == after);
    }

    #[test]
    fn a_name_that_is_not_wanted_changes_nothing(snapshot in any_policy(), flow in flows()) {
        let policy = CompiledPolicy::new(snapshot).unwrap();
        let profile = policy.profile_named("app").unwrap();
        let nameless = facts(flow, &[]);
        let decision = policy.decide(profile, &nameless);
        // a stray query says no name of whom it was meant for, whatever becomes of it
        if !policy.is_stray_query(&nameless)
            && flow.direction == Direction::Outgoing
            && !policy.wants_name(profile, &nameless)
        {
            let named = facts(flow, &["a.org"]);
            prop_assert_eq!(decision, policy.decide(profile, &named));
        }
    }

    #[test]
    fn only_tcp_and_udp_to_others_are_tunnelled(snapshot in any_policy(), flow in flows()) {
        let policy = CompiledPolicy::new(snapshot).unwrap();
        let decision = policy.decide(policy.profile_named("app").unwrap(), &facts(flow, &[]));
        if matches!(decision.verdict, Verdict::Tunnel | Verdict::RedirectDns) {
            prop_assert!(flow.protocol.can_be_tunnelled());
            prop_assert_eq!(flow.direction, Direction::Outgoing);
            prop_assert!(flow.scope() != Scope::Localhost);
        }
    }
}

/// The shipped settings with these, paused from NOW for ten minutes.
fn paused(global: &str) -> CompiledPolicy {
    let pause = Pause {
        from: NOW,
        until: NOW + Duration::from_secs(600),
        began: None,
    };
    let global = file::parse_global("global.toml", global, &|_| None).unwrap();
    CompiledPolicy::new(Snapshot {
        version: 7,
        global,
        profiles: Vec::new(),
        pause: Some(pause),
    })
    .unwrap()
}

fn decided_after(policy: &CompiledPolicy, flow: Flow, seconds: u64) -> (Verdict, Why, bool) {
    let facts = Facts {
        flow,
        scope: flow.scope(),
        uid: None,
        domains: &[],
        dns_is_served: true,
        now: (NOW + Duration::from_secs(seconds)).into(),
    };
    let decision = policy.decide(ProfileRef::GLOBAL, &facts);
    (decision.verdict, decision.why, decision.permanent)
}

#[test]
fn a_pause_lets_pass_what_would_be_refused_until_it_ends() {
    let policy = paused("[settings]\ndefault_action = \"block\"");
    let flow = out("93.184.216.34", 443);
    assert_eq!(
        decided_after(&policy, flow, 0),
        (Verdict::Allow, Why::Paused, false)
    );
    assert_eq!(
        decided_after(&policy, flow, 599),
        (Verdict::Allow, Why::Paused, false)
    );
    assert_eq!(
        decided_after(&policy, flow, 600),
        (Verdict::Block, Why::DefaultAction, true)
    );
    assert_eq!(
        policy.next_expiry(NOW.into()),
        Some(NOW + Duration::from_secs(600))
    );
}

#[test]
fn a_pause_sends_nothing_in_the_clear_that_is_to_be_tunnelled() {
    let policy = paused("[settings]\ndefault_action = \"tunnel\"");
    let tcp = decided_after(&policy, out("93.184.216.34", 443), 1);
    assert_eq!(tcp, (Verdict::Tunnel, Why::DefaultAction, true));
    let ping = flow(Direction::Outgoing, Protocol::ICMP, "93.184.216.34", 0);
    assert_eq!(decided_after(&policy, ping, 1).1, Why::TunnelUnsupported);
}
