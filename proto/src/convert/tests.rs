use std::{
    fmt::Debug,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use proptest::{collection::vec, option, prelude::*, sample::select};
use prost::Message;
use verdict::{
    Cgroup, Decision, Direction, Endpoint, Executable, Flow, Parent, Process, Protocol, Scope, Verdict, Why,
    policy::{
        model::{
            Action, Global, Matcher, Pause, Profile, Remote, Resolver, Rule, Settings, SinceBoot, Snapshot,
        },
        tunnel::{ExitChoice, Hops, Isolation, Tunnel},
    },
};

use super::*;
use crate::{flow::v1 as flow, policy::v1 as policy};

const SCOPES: [Scope; 4] = [Scope::Localhost, Scope::Lan, Scope::Internet, Scope::Multicast];

fn v4() -> impl Strategy<Value = IpAddr> {
    any::<u32>().prop_map(|number| Ipv4Addr::from(number).into())
}

fn v6() -> impl Strategy<Value = IpAddr> {
    any::<u128>().prop_map(|number| IpAddr::from(Ipv6Addr::from(number)).to_canonical())
}

fn direction() -> impl Strategy<Value = Direction> {
    select(&[Direction::Outgoing, Direction::Incoming][..])
}

fn flows() -> impl Strategy<Value = Flow> {
    let pair = prop_oneof![(v4(), v4()), (v6(), v6())];
    let same_family = pair.prop_filter("one family", |(a, b)| a.is_ipv4() == b.is_ipv4());
    (direction(), any::<u8>(), same_family, any::<(u16, u16)>()).prop_map(
        |(direction, protocol, (local, remote), ports)| Flow {
            direction,
            protocol: Protocol(protocol),
            local: Endpoint::new(local, ports.0),
            remote: Endpoint::new(remote, ports.1),
        },
    )
}

fn path() -> impl Strategy<Value = PathBuf> {
    "(/[a-zé .-]{1,8}){1,4}".prop_map(PathBuf::from)
}

fn executable() -> impl Strategy<Value = Executable> {
    let identity = (
        option::of(path()),
        any::<(u64, u64, bool)>(),
        path(),
        option::of(any::<[u8; 32]>()),
    );
    identity.prop_map(
        |(path, (device, inode, deleted), claimed_path, sha256)| Executable {
            path,
            device,
            inode,
            claimed_path,
            deleted,
            sha256,
        },
    )
}

fn parent() -> impl Strategy<Value = Parent> {
    (any::<(u32, u64)>(), path(), "[a-z]{0,15}").prop_map(|((pid, start_time), path, comm)| Parent {
        pid,
        start_time,
        path,
        comm,
    })
}

fn cgroup() -> impl Strategy<Value = Cgroup> {
    vec("[a-z/.]{0,9}", 7).prop_map(|texts| {
        let [path, unit, user_unit, slice, container, flatpak, snap] = texts.try_into().unwrap();
        Cgroup {
            path,
            unit,
            user_unit,
            slice,
            container,
            flatpak,
            snap,
        }
    })
}

fn processes() -> impl Strategy<Value = Process> {
    let numbers = any::<(u32, u64, u32, u64, u64)>();
    let words = (option::of(path()), ".{0,15}", vec(".{0,9}", 0..4));
    (numbers, executable(), words, vec(parent(), 0..3), cgroup()).prop_map(
        |(numbers, executable, (script, comm, cmdline), parents, cgroup)| Process {
            pid: numbers.0,
            start_time: numbers.1,
            uid: numbers.2,
            network_namespace: numbers.3,
            mount_namespace: numbers.4,
            executable,
            script,
            comm,
            cmdline,
            parents,
            cgroup,
        },
    )
}

fn decisions() -> impl Strategy<Value = Decision> {
    let verdicts = [
        Verdict::Allow,
        Verdict::Block,
        Verdict::Drop,
        Verdict::Tunnel,
        Verdict::RedirectDns,
    ];
    (
        select(verdicts.to_vec()),
        select(Why::ALL.to_vec()),
        "[a-z#0-9]{0,9}",
        "[a-z]{0,9}",
        any::<bool>(),
    )
        .prop_map(|(verdict, why, source, profile, permanent)| Decision {
            verdict,
            why,
            source: source.into(),
            profile: profile.into(),
            permanent,
        })
}

fn remote() -> impl Strategy<Value = Remote> {
    let name = "[a-z0-9-]{1,9}(\\.[a-z]{2,5}){0,3}";
    let range = |(a, b): (IpAddr, IpAddr)| {
        let (first, last) = if a.is_ipv4() == b.is_ipv4() {
            (a.min(b), a.max(b))
        } else {
            (a, a)
        };
        Remote::Range(first, last)
    };
    let network = |(address, length): (IpAddr, u8)| {
        let width = if address.is_ipv4() { 32 } else { 128 };
        Remote::Network(IpNet::new(address, length.min(width)).unwrap())
    };
    prop_oneof![
        (prop_oneof![v4(), v6()], 0..=128_u8).prop_map(network),
        (v4(), v4()).prop_map(range),
        (v6(), v6()).prop_map(range),
        select(SCOPES.to_vec()).prop_map(Remote::Scope),
        name.prop_map(Remote::Domain),
        name.prop_map(Remote::Zone),
    ]
}

fn ports() -> impl Strategy<Value = Vec<RangeInclusive<u16>>> {
    vec(any::<(u16, u16)>().prop_map(|(a, b)| a.min(b)..=a.max(b)), 0..3)
}

fn action() -> impl Strategy<Value = Action> {
    select(Action::ALL.to_vec())
}

fn rule() -> impl Strategy<Value = Rule> {
    let time = (0..4_000_000_000_u64, 0..1_000_000_000_u32)
        .prop_map(|(seconds, nanos)| SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos));
    let numbers = (
        vec(any::<u8>(), 0..3),
        vec(any::<u8>(), 0..3),
        vec(any::<u32>(), 0..3),
    );
    let words = ("[a-z]{1,5}#[1-9]", ".{0,9}");
    (
        action(),
        option::of(direction()),
        vec(remote(), 0..4),
        ports(),
        ports(),
        numbers,
        option::of(time),
        words,
    )
        .prop_map(
            |(action, direction, remotes, remote_ports, local_ports, numbers, expires, words)| Rule {
                source: words.0.into(),
                action,
                direction,
                protocols: numbers.0.into_iter().map(Protocol).collect(),
                remotes,
                remote_ports,
                local_ports,
                icmp_types: numbers.1,
                uids: numbers.2,
                expires,
                note: words.1,
            },
        )
}

fn tunnel() -> impl Strategy<Value = Tunnel> {
    let among = (vec("[a-z]{2}", 1..3), vec("[a-z0-9-]{1,32}", 0..3))
        .prop_map(|(regions, nodes)| ExitChoice::Among { regions, nodes });
    let exit = prop_oneof![Just(ExitChoice::Any), Just(ExitChoice::Near), among];
    let hops = (1..=5_u32).prop_map(|hops| Hops::new(hops).unwrap());
    (
        option::of(hops),
        option::of(exit),
        option::of(select(Isolation::ALL.to_vec())),
    )
        .prop_map(|(hops, exit, isolate)| Tunnel { hops, exit, isolate })
}

fn settings() -> impl Strategy<Value = Settings> {
    let answer = action().prop_filter("an answer", |action| *action != Action::Ask);
    (
        option::of(action()),
        option::of(answer),
        any::<[Option<bool>; 5]>(),
        option::of(vec("[a-z]{1,5}", 0..3)),
        tunnel(),
    )
        .prop_map(
            |(default_action, ask_timeout_action, switches, block_lists, tunnel)| Settings {
                default_action,
                ask_timeout_action,
                block_incoming: switches[0],
                block_lan: switches[1],
                block_internet: switches[2],
                block_direct: switches[3],
                block_encrypted_dns: switches[4],
                block_lists,
                tunnel,
            },
        )
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let text = || option::of("[a-z0-9.@*-]{1,9}");
    let files = (
        option::of(path()),
        text(),
        option::of(any::<[u8; 32]>()),
        option::of(path()),
    );
    let places = (text(), text(), text(), text(), text());
    (files, places, option::of(any::<u32>()), any::<bool>())
        .prop_map(
            |((path, path_glob, sha256, script), (unit, cgroup, flatpak, snap, container), uid, unknown)| {
                Matcher {
                    path,
                    path_glob,
                    sha256,
                    script,
                    unit,
                    cgroup,
                    uid,
                    flatpak,
                    snap,
                    container,
                    unknown,
                }
            },
        )
        .prop_filter("matches by something", |matcher| *matcher != Matcher::default())
}

fn profile() -> impl Strategy<Value = Profile> {
    (
        "[a-z]{1,9}",
        ".{0,9}",
        vec(matcher(), 0..3),
        settings(),
        vec(rule(), 0..4),
    )
        .prop_map(|(id, name, matchers, settings, rules)| Profile {
            id: id.into(),
            name,
            matchers,
            settings,
            rules,
        })
}

fn snapshots() -> impl Strategy<Value = Snapshot> {
    let refusal = select(vec![Action::Drop, Action::Block]);
    let global = (
        settings(),
        vec(rule(), 0..3),
        any::<bool>(),
        refusal,
        any::<u32>(),
    )
        .prop_map(
            |(settings, rules, redirect_dns, incoming_refusal, ask_timeout_seconds)| Global {
                settings,
                rules,
                redirect_dns,
                encrypted_dns_resolvers: ["192.0.2.0/24", "dns.example.org"]
                    .iter()
                    .filter_map(|text| Resolver::parse(text))
                    .collect(),
                incoming_refusal,
                ask_timeout_seconds,
            },
        );
    let began = option::of((any::<[u8; 16]>(), any::<u32>(), 0..1_000_000_000_u32));
    let pause = (0..2_000_000_000_u64, 0..90_000_u64, began).prop_map(|(from, seconds, began)| {
        let from = SystemTime::UNIX_EPOCH + Duration::from_secs(from);
        let until = from + Duration::from_secs(seconds);
        let began = began.map(|(boot, seconds, nanos)| SinceBoot {
            boot,
            elapsed: Duration::new(seconds.into(), nanos),
        });
        Pause { from, until, began }
    });
    let pause = option::of(pause);
    let all = (any::<u64>(), global, vec(profile(), 0..4), pause);
    all.prop_map(|(version, global, profiles, pause)| Snapshot {
        version,
        global,
        profiles,
        pause,
    })
}

/// Over the wire, as bytes, and back.
fn returns<D, W>(value: &D, wire: &W)
where
    D: TryFrom<W, Error = Error> + PartialEq + Debug,
    W: Message + Default,
{
    let received = W::decode(&*wire.encode_to_vec()).unwrap();
    assert_eq!(&D::try_from(received).unwrap(), value);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_flow_returns(flow in flows()) {
        returns(&flow, &flow::Flow::from(flow));
    }

    #[test]
    fn a_process_returns(process in processes()) {
        returns(&process, &flow::Process::from(&process));
    }

    #[test]
    fn a_decision_returns(decision in decisions()) {
        returns(&decision, &flow::Decision::from(&decision));
    }

    #[test]
    fn a_snapshot_returns(snapshot in snapshots()) {
        returns(&snapshot, &policy::Snapshot::from(&snapshot));
    }
}

fn wire_flow() -> flow::Flow {
    flow::Flow {
        direction: flow::Direction::Outgoing.into(),
        protocol: 6,
        local_address: vec![10, 0, 0, 1],
        local_port: 1,
        remote_address: vec![10, 0, 0, 2],
        remote_port: 2,
    }
}

fn refused(change: impl FnOnce(&mut flow::Flow)) -> String {
    let mut wire = wire_flow();
    change(&mut wire);
    Flow::try_from(wire).unwrap_err().to_string()
}

#[test]
fn an_error_names_the_field() {
    assert_eq!(refused(|flow| flow.direction = 0), "direction is missing");
    assert_eq!(
        refused(|flow| flow.direction = 9),
        "direction is 9, which this version does not know"
    );
    assert_eq!(
        refused(|flow| flow.protocol = 256),
        "protocol is 256, it must be at most 255"
    );
    assert_eq!(
        refused(|flow| flow.local_port = 65536),
        "local_port is 65536, it must be at most 65535"
    );
    let text = "remote_address is 3 octets, it must be 4 or 16 octets";
    assert_eq!(refused(|flow| flow.remote_address = vec![1; 3]), text);
    let text = "remote_address is 101:101:101:101:101:101:101:101, it must be of the family of local_address";
    assert_eq!(refused(|flow| flow.remote_address = vec![1; 16]), text);
}

#[test]
fn a_nested_error_names_the_way() {
    let rule = policy::Rule {
        action: 77,
        ..Default::default()
    };
    let profile = policy::Profile {
        id: "a".into(),
        rules: vec![Default::default(), rule],
        ..Default::default()
    };
    let error = Profile::try_from(profile).unwrap_err();
    assert_eq!(error.to_string(), "rules[0].action is missing");
    let status = tonic::Status::from(error);
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert_eq!(status.message(), "rules[0].action is missing");
}

#[test]
fn what_would_match_everybody_by_accident_is_refused() {
    let error = Matcher::try_from(policy::Matcher::default()).unwrap_err();
    assert_eq!(error.problem, Problem::Missing);
}

#[test]
fn a_mapped_address_is_the_address_that_it_stands_for() {
    let mapped = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
    assert_eq!(
        address("a", &mapped.octets()).unwrap(),
        IpAddr::from([192, 0, 2, 1])
    );
}

#[cfg(unix)]
#[test]
fn a_path_that_is_not_utf8_matches_no_profile() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let path = PathBuf::from(OsStr::from_bytes(b"/usr/bin/\xff"));
    let executable = Executable {
        path: Some(path.clone()),
        claimed_path: path,
        ..Executable::default()
    };
    let wire = flow::Executable::from(&executable);
    assert_eq!(
        (wire.path.as_str(), wire.claimed_path.as_str()),
        ("", "/usr/bin/\u{fffd}")
    );
}
