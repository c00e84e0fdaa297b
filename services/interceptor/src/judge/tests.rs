use std::{
    net::{IpAddr, Ipv4Addr},
    time::SystemTime,
};

use super::{limits::CONFIRMED_BY_THEN, *};
use crate::conntrack::{Counter, Entry, Tuple};
use proptest::prelude::*;
use verdict::{
    Cgroup, Endpoint, Executable, Process, Protocol,
    policy::model::{Action, Global, Matcher, Pause, Profile, Remote, Rule, Settings, SinceBoot, Snapshot},
};

mod clocks;
mod quic;
mod told;
mod tunnel;

const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

/// A judge with a clock that tests move by hand.
struct Bench {
    judge: Judge,
    names: Names,
    time: Duration,
    /// What the wall clock said at the beginning; setting it changes that.
    epoch: SystemTime,
    /// How long the host was asleep.
    slept: Duration,
    effects: Effects,
    next_packet: u32,
}

fn snapshot(profiles: Vec<Profile>) -> Arc<CompiledPolicy> {
    Arc::new(CompiledPolicy::new(policy(profiles)).unwrap())
}

fn policy(profiles: Vec<Profile>) -> Snapshot {
    Snapshot {
        version: 1,
        global: Global {
            settings: Settings::default(),
            rules: Vec::new(),
            redirect_dns: false,
            encrypted_dns_resolvers: Vec::new(),
            incoming_refusal: Action::Drop,
            ask_timeout_seconds: 30,
        },
        profiles,
        pause: None,
    }
}

fn profile(path: &str, default: Action, rules: Vec<Rule>) -> Profile {
    Profile {
        id: path.rsplit('/').next().unwrap().into(),
        matchers: vec![Matcher {
            path: Some(path.into()),
            ..Matcher::default()
        }],
        settings: Settings {
            default_action: Some(default),
            ..Settings::default()
        },
        rules,
        ..Profile::default()
    }
}

fn allow_domain(name: &str) -> Rule {
    Rule {
        source: "app#1".into(),
        action: Action::Allow,
        direction: None,
        protocols: Vec::new(),
        remotes: vec![Remote::Domain(name.into())],
        remote_ports: Vec::new(),
        local_ports: Vec::new(),
        icmp_types: Vec::new(),
        uids: Vec::new(),
        expires: None,
        note: String::new(),
    }
}

fn process(path: &str) -> Process {
    Process {
        pid: 77,
        executable: Executable {
            path: Some(path.into()),
            ..Executable::default()
        },
        cgroup: Cgroup::default(),
        ..Process::default()
    }
}

fn ipv4(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr, transport: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0];
    bytes.extend(u16::try_from(20 + transport.len()).unwrap().to_be_bytes());
    bytes.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(transport);
    bytes
}

fn tcp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(from.1.to_be_bytes());
    segment.extend(to.1.to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend([0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
    segment.extend(payload);
    ipv4(6, from.0, to.0, &segment)
}

fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(from.1.to_be_bytes());
    datagram.extend(to.1.to_be_bytes());
    datagram.extend([0, 8, 0, 0]);
    ipv4(17, from.0, to.0, &datagram)
}

const SYN: u8 = 2;
const ACK: u8 = 16;

fn syn(port: u16, sequence: u32) -> Vec<u8> {
    tcp((HOST, port), (PEER, 443), sequence, SYN, &[])
}

impl Bench {
    fn new(policy: Arc<CompiledPolicy>) -> Self {
        let names = Names::default();
        let judge = Judge::new(
            Limits::default(),
            MarkScheme::default(),
            policy,
            vec![990],
            names.clone(),
            0,
        );
        Self {
            judge,
            names,
            time: Duration::ZERO,
            epoch: SystemTime::UNIX_EPOCH,
            slept: Duration::ZERO,
            effects: Effects::default(),
            next_packet: 0,
        }
    }

    fn now(&self) -> Now {
        Now {
            monotonic: self.time,
            wall: self.epoch + self.time + self.slept,
            boot: Some(SinceBoot {
                boot: [17; 16],
                elapsed: self.time + self.slept,
            }),
        }
    }

    /// The id that the packet got.
    fn packet_of(&mut self, hook: Hook, uid: Option<u32>, bytes: &[u8], opener: Option<Direction>) -> u32 {
        let origin = |seen: &Flow| {
            opener.map(|direction| Origin {
                flow: Flow { direction, ..*seen },
                way: Way::Direct,
            })
        };
        self.packet_with(hook, uid, bytes, origin)
    }

    fn packet_with(
        &mut self,
        hook: Hook,
        uid: Option<u32>,
        bytes: &[u8],
        origin: impl FnOnce(&Flow) -> Option<Origin>,
    ) -> u32 {
        self.next_packet += 1;
        let waiting = Waiting {
            queue: usize::from(hook == Hook::Input),
            id: self.next_packet,
            mark: 0,
            hook,
        };
        let arrival = Arrival {
            waiting,
            hook,
            uid,
            bytes,
        };
        self.judge
            .on_packet(self.now(), &arrival, origin, &mut self.effects);
        self.next_packet
    }

    fn out(&mut self, bytes: &[u8]) -> u32 {
        self.packet_of(Hook::Output, Some(1000), bytes, None)
    }

    fn answer_all(&mut self, process_of: impl Fn(u64) -> Option<Process>) {
        for question in std::mem::take(&mut self.effects.questions) {
            let process = process_of(question.request_id);
            let process_key = if process.is_some() { question.request_id } else { 0 };
            let answer = Answer {
                request_id: question.request_id,
                process_key,
                process,
                ..Answer::default()
            };
            self.judge.on_answer(self.now(), answer, &mut self.effects);
        }
    }

    fn marks(&mut self) -> Vec<(u32, u32)> {
        self.effects
            .verdicts
            .drain(..)
            .map(|verdict| (verdict.packet.id, verdict.mark))
            .collect()
    }

    fn events(&mut self) -> Vec<(EventKind, Verdict, Why)> {
        let told = |event: Event| {
            (
                event.kind,
                event.connection.decision.verdict,
                event.connection.decision.why,
            )
        };
        self.effects.events.drain(..).map(told).collect()
    }
}

#[test]
fn packets_of_a_flow_wait_together_and_get_one_decision() {
    let mut bench = Bench::new(snapshot(vec![profile("/usr/bin/app", Action::Block, vec![])]));
    let bytes = udp((HOST, 4000), (PEER, 53));
    let packets = [bench.out(&bytes), bench.out(&bytes), bench.out(&bytes)];
    assert_eq!((bench.effects.questions.len(), bench.marks()), (1, vec![]));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    assert_eq!(bench.marks(), packets.map(|id| (id, 1711)));
    assert_eq!(
        bench.events(),
        [(EventKind::Decided, Verdict::Block, Why::DefaultAction)]
    );
}

#[test]
fn an_allowed_flow_is_marked_for_good_and_its_stragglers_at_once() {
    let mut bench = Bench::new(snapshot(vec![]));
    bench.out(&syn(4000, 1));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    let straggler = bench.out(&tcp((HOST, 4000), (PEER, 443), 2, ACK, &[]));
    assert_eq!(bench.marks(), [(1, 1710), (straggler, 1710)]);
    assert_eq!(bench.events().len(), 1);
}

#[test]
fn a_flow_without_an_answer_is_decided_as_unknown_after_the_deadline() {
    let unknown = Profile {
        id: "unknown".into(),
        matchers: vec![Matcher {
            unknown: true,
            ..Matcher::default()
        }],
        settings: Settings {
            default_action: Some(Action::Drop),
            ..Settings::default()
        },
        ..Profile::default()
    };
    let mut bench = Bench::new(snapshot(vec![unknown]));
    let packet = bench.out(&syn(4000, 1));
    bench.time = bench.judge.next_deadline().unwrap();
    bench.judge.on_time(bench.now(), &mut bench.effects);
    assert_eq!(bench.marks(), [(packet, 1712)]);
    let event = bench.effects.events.pop().unwrap();
    assert_eq!(event.connection.who.miss, Some(Miss::Timeout));
    assert_eq!(event.connection.who.uid, Some(1000));
    assert_eq!(bench.judge.counts().late, 1);
}

#[test]
fn questions_are_asked_again_of_a_new_resolver() {
    let mut bench = Bench::new(snapshot(vec![]));
    bench.out(&syn(4000, 1));
    let asked = std::mem::take(&mut bench.effects.questions);
    bench.judge.on_resolver_restart(bench.now(), &mut bench.effects);
    assert_eq!(bench.effects.questions, asked);
}

#[test]
fn a_key_of_an_earlier_stream_names_nobody() {
    let mut bench = Bench::new(snapshot(vec![profile("/usr/bin/app", Action::Block, vec![])]));
    bench.out(&syn(4000, 1));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    bench.judge.on_resolver_restart(bench.now(), &mut bench.effects);
    bench.out(&syn(4001, 1));
    let request_id = bench.effects.questions.pop().unwrap().request_id;
    bench.marks();
    let stale = Answer {
        request_id,
        process_key: 1,
        ..Answer::default()
    };
    bench.judge.on_answer(bench.now(), stale, &mut bench.effects);
    assert_eq!(bench.marks(), [(2, 1710)], "decided as unknown");
}

#[test]
fn a_retransmitted_syn_is_no_new_event_but_another_one_is_asked_for() {
    let mut bench = Bench::new(snapshot(vec![profile("/usr/bin/app", Action::Drop, vec![])]));
    bench.out(&syn(4000, 1));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    let again = bench.out(&syn(4000, 1));
    assert_eq!(bench.marks(), [(1, 1712), (again, 1712)]);
    // the same ends, and another program behind them
    let other = bench.out(&syn(4000, 999));
    assert_eq!(bench.effects.questions.len(), 1);
    bench.answer_all(|_| Some(process("/usr/bin/other")));
    assert_eq!(bench.marks(), [(other, 1710)]);
    assert_eq!(bench.events().len(), 2);
}

#[test]
fn refused_datagrams_of_one_program_are_one_event_and_each_is_asked_for() {
    let mut bench = Bench::new(snapshot(vec![profile("/usr/bin/app", Action::Block, vec![])]));
    for _ in 0..3 {
        bench.out(&udp((HOST, 4000), (PEER, 9)));
        assert_eq!(bench.effects.questions.len(), 1);
        bench.answer_all(|_| Some(process("/usr/bin/app")));
    }
    assert_eq!(bench.marks().len(), 3);
    assert_eq!(bench.events().len(), 1);
    bench.out(&udp((HOST, 4000), (PEER, 9)));
    bench.answer_all(|_| Some(process("/usr/bin/other")));
    assert_eq!(bench.marks(), [(4, 1710)]);
}

#[test]
fn a_reply_that_comes_back_to_the_queue_keeps_its_direction() {
    let mut bench = Bench::new(snapshot(vec![]));
    let bytes = tcp((PEER, 443), (HOST, 4000), 5, ACK, b"data");
    bench.packet_of(Hook::Input, None, &bytes, Some(Direction::Outgoing));
    let flow = bench.effects.questions[0].flow;
    assert_eq!((flow.direction, flow.local.port), (Direction::Outgoing, 4000));
}

#[test]
fn a_change_of_policy_takes_the_mark_of_live_flows_away() {
    let mut bench = Bench::new(snapshot(vec![]));
    bench.out(&syn(4000, 1));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    bench.marks();
    bench.events();
    let blocks = snapshot(vec![profile("/usr/bin/app", Action::Block, vec![])]);
    bench.judge.on_policy(bench.now(), blocks, &mut bench.effects);
    assert_eq!(bench.effects.resets.len(), 1);
    assert_eq!(
        bench.events(),
        [(EventKind::Redecided, Verdict::Block, Why::DefaultAction)]
    );
    let next = bench.packet_of(
        Hook::Input,
        None,
        &tcp((PEER, 443), (HOST, 4000), 5, ACK, b"x"),
        None,
    );
    assert_eq!(bench.marks(), [(next, 1711)]);
}

/// Blocks all, and is paused from now on for ten minutes.
fn paused(bench: &Bench) -> Arc<CompiledPolicy> {
    let pause = Pause::new(bench.now().clocks(), Duration::from_secs(600));
    let mut global = verdict::policy::shipped().unwrap().global;
    global.settings.default_action = Some(Action::Block);
    Arc::new(
        CompiledPolicy::new(Snapshot {
            version: 2,
            global,
            profiles: Vec::new(),
            pause,
        })
        .unwrap(),
    )
}

#[test]
fn a_pause_ends_by_itself_although_policy_says_nothing() {
    let mut bench = Bench::new(snapshot(vec![]));
    let policy = paused(&bench);
    bench.judge.on_policy(bench.now(), policy, &mut bench.effects);
    let end = bench.now().monotonic + Duration::from_secs(600);
    bench.out(&syn(4000, 1));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    assert_eq!(bench.marks(), [(1, 1700)], "for this packet only");
    assert_eq!(
        bench.events(),
        [(EventKind::Decided, Verdict::Allow, Why::Paused)]
    );
    let data = tcp((HOST, 4000), (PEER, 443), 2, ACK, b"data");
    let during = bench.out(&data);
    assert_eq!(bench.marks(), [(during, 1700)]);
    assert_eq!(bench.judge.next_deadline(), Some(end));
    bench.time += Duration::from_secs(600);
    bench.judge.on_time(bench.now(), &mut bench.effects);
    assert_eq!(
        bench.events(),
        [(EventKind::Redecided, Verdict::Block, Why::DefaultAction)]
    );
    let after = bench.out(&data);
    assert_eq!(bench.marks(), [(after, 1711)]);
    assert_eq!(bench.judge.next_deadline(), None);
}

#[test]
fn a_packet_that_comes_before_the_timer_ends_the_pause_as_well() {
    let mut bench = Bench::new(snapshot(vec![]));
    let policy = paused(&bench);
    bench.judge.on_policy(bench.now(), policy, &mut bench.effects);
    bench.out(&syn(4000, 1));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    bench.marks();
    bench.time += Duration::from_secs(601);
    let late = bench.out(&tcp((HOST, 4000), (PEER, 443), 2, ACK, b"data"));
    assert_eq!(bench.marks(), [(late, 1711)]);
}

#[test]
fn a_policy_that_says_the_same_resets_nothing() {
    let mut bench = Bench::new(snapshot(vec![]));
    bench.out(&syn(4000, 1));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    bench.events();
    bench
        .judge
        .on_policy(bench.now(), snapshot(vec![]), &mut bench.effects);
    assert!(bench.effects.resets.is_empty() && bench.events().is_empty());
}

#[test]
fn a_flow_passes_until_it_says_its_name() {
    let app = profile("/usr/bin/app", Action::Block, vec![allow_domain("good.example")]);
    let mut bench = Bench::new(snapshot(vec![app]));
    for (port, host, mark) in [(4000, "good.example", 1710), (4001, "bad.example", 1711)] {
        bench.out(&syn(port, 1));
        bench.answer_all(|_| Some(process("/usr/bin/app")));
        assert_eq!(bench.marks().last().unwrap().1, 1700);
        assert!(bench.events().is_empty());
        bench.packet_of(
            Hook::Input,
            None,
            &tcp((PEER, 443), (HOST, port), 9, SYN | ACK, &[]),
            None,
        );
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        bench.out(&tcp((HOST, port), (PEER, 443), 2, ACK, request.as_bytes()));
        let marks: Vec<_> = bench.marks().into_iter().map(|(_, mark)| mark).collect();
        assert_eq!(marks, [1700, mark]);
        assert_eq!(bench.effects.events.len(), 1);
        assert_eq!(bench.effects.events[0].connection.domain.as_deref(), Some(host));
        bench.effects.events.clear();
    }
}

#[test]
fn a_flow_whose_peer_speaks_first_has_no_name() {
    let app = profile("/usr/bin/app", Action::Block, vec![allow_domain("good.example")]);
    let mut bench = Bench::new(snapshot(vec![app]));
    bench.out(&syn(4000, 1));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    bench.packet_of(
        Hook::Input,
        None,
        &tcp((PEER, 443), (HOST, 4000), 9, ACK, b"220 hello"),
        None,
    );
    assert_eq!(bench.marks().last().unwrap().1, 1711);
}

#[test]
fn a_flow_that_says_nothing_is_settled_after_its_time() {
    let app = profile("/usr/bin/app", Action::Block, vec![allow_domain("good.example")]);
    let mut bench = Bench::new(snapshot(vec![app]));
    bench.out(&syn(4000, 1));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    bench.marks();
    bench.time += Limits::default().name_deadline;
    bench.judge.on_time(bench.now(), &mut bench.effects);
    assert_eq!(
        bench.events(),
        [(EventKind::Decided, Verdict::Block, Why::DefaultAction)]
    );
    let late = bench.out(&tcp((HOST, 4000), (PEER, 443), 2, ACK, b"GET "));
    assert_eq!(bench.marks(), [(late, 1711)]);
}

#[test]
fn an_end_is_told_with_what_was_carried() {
    let mut bench = Bench::new(snapshot(vec![]));
    bench.out(&syn(4000, 1));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    bench.effects.events.clear();
    let flow = Flow {
        direction: Direction::Outgoing,
        protocol: Protocol::TCP,
        local: Endpoint::new(IpAddr::V4(HOST), 4000),
        remote: Endpoint::new(IpAddr::V4(PEER), 443),
    };
    let sent = Counter {
        packets: 3,
        bytes: 300,
    };
    let entry = Entry {
        original: Tuple::of(&flow),
        mark: 1710,
        redirected: false,
        sent,
        received: Counter::default(),
    };
    assert!(bench.judge.tracks(&entry));
    bench.time += Duration::from_secs(5);
    bench.judge.on_end(bench.now(), &entry, &mut bench.effects);
    let ended = bench.effects.events.pop().unwrap();
    assert_eq!(
        (ended.kind, ended.connection.totals.unwrap().sent),
        (EventKind::Ended, sent)
    );
    assert_eq!(ended.connection.totals.unwrap().duration, Duration::from_secs(5));
    assert!(!bench.judge.tracks(&entry));
}

fn entry(port: u16, packets: u64) -> Entry {
    let flow = Flow {
        direction: Direction::Outgoing,
        protocol: Protocol::TCP,
        local: Endpoint::new(IpAddr::V4(HOST), port),
        remote: Endpoint::new(IpAddr::V4(PEER), 443),
    };
    Entry {
        original: Tuple::of(&flow),
        mark: 1710,
        redirected: false,
        sent: Counter { packets, bytes: 0 },
        received: Counter::default(),
    }
}

/// Conntrack lets go of a connection when another one begins with the same ends; who hears of both hears it in either order.
#[test]
fn an_end_that_is_heard_late_is_not_that_of_the_connection_with_the_same_ends() {
    let mut bench = Bench::new(snapshot(vec![]));
    for sequence in [1, 2] {
        bench.out(&syn(4000, sequence));
        bench.answer_all(|_| Some(process("/usr/bin/app")));
    }
    let ids: Vec<u64> = bench
        .effects
        .events
        .drain(..)
        .map(|event| event.connection.id)
        .collect();
    assert_eq!(ids.len(), 2, "both are told of");
    bench
        .judge
        .on_end(bench.now(), &entry(4000, 3), &mut bench.effects);
    assert!(bench.judge.tracks(&entry(4000, 0)), "the second one lives on");
    bench
        .judge
        .on_end(bench.now(), &entry(4000, 5), &mut bench.effects);
    let ended: Vec<_> = bench.effects.events.drain(..).collect();
    let told: Vec<_> = ended
        .iter()
        .map(|event| {
            (
                event.kind,
                event.connection.id,
                event.connection.totals.unwrap().sent.packets,
            )
        })
        .collect();
    assert_eq!(
        told,
        [(EventKind::Ended, ids[0], 3), (EventKind::Ended, ids[1], 5)]
    );
}

#[test]
fn one_that_was_replaced_ends_also_where_nobody_hears_of_it() {
    let mut bench = Bench::new(snapshot(vec![]));
    for sequence in [1, 2, 3] {
        bench.out(&syn(4000, sequence));
        bench.answer_all(|_| Some(process("/usr/bin/app")));
    }
    let ended = |bench: &mut Bench| -> Vec<EventKind> {
        bench.effects.events.drain(..).map(|event| event.kind).collect()
    };
    let decided = EventKind::Decided;
    assert_eq!(ended(&mut bench), [decided, decided, decided, EventKind::Ended]);
    bench.time += CONFIRMED_BY_THEN * 2;
    bench
        .judge
        .reconcile(bench.now(), &[entry(4000, 0)], &mut bench.effects);
    assert_eq!(
        ended(&mut bench),
        [EventKind::Ended],
        "the second; the third lives on"
    );
    assert!(bench.judge.tracks(&entry(4000, 0)));
}

#[test]
fn another_users_datagram_with_the_same_ends_is_asked_for() {
    let mut bench = Bench::new(snapshot(vec![profile("/usr/bin/other", Action::Block, vec![])]));
    let bytes = udp((HOST, 4000), (PEER, 9));
    bench.packet_of(Hook::Output, Some(1000), &bytes, None);
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    bench.packet_of(Hook::Output, Some(1001), &bytes, None);
    bench.answer_all(|_| Some(process("/usr/bin/other")));
    assert_eq!(bench.marks(), [(1, 1710), (2, 1711)]);
}

#[test]
fn a_flow_that_conntrack_never_had_ends_all_the_same() {
    let mut bench = Bench::new(snapshot(vec![]));
    bench.out(&syn(4000, 1));
    bench.out(&syn(4001, 1));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    bench.events();
    let flow = Flow {
        direction: Direction::Outgoing,
        protocol: Protocol::TCP,
        local: Endpoint::new(IpAddr::V4(HOST), 4001),
        remote: Endpoint::new(IpAddr::V4(PEER), 443),
    };
    let nothing = Counter::default();
    let alive = [Entry {
        original: Tuple::of(&flow),
        mark: 1710,
        redirected: false,
        sent: nothing,
        received: nothing,
    }];
    bench.judge.reconcile(bench.now(), &alive, &mut bench.effects);
    assert!(bench.events().is_empty(), "it may still be on its way");
    bench.time += CONFIRMED_BY_THEN * 2;
    bench.judge.reconcile(bench.now(), &alive, &mut bench.effects);
    assert_eq!(bench.effects.events.len(), 1);
    assert_eq!(bench.effects.events[0].connection.flow.local.port, 4000);
}

#[test]
fn the_mesh_itself_passes_without_a_question() {
    let mut bench = Bench::new(snapshot(vec![]));
    let packet = bench.packet_of(Hook::Output, Some(990), &syn(4000, 1), None);
    assert_eq!(bench.marks(), [(packet, 1710)]);
    assert_eq!(bench.events(), [(EventKind::Decided, Verdict::Allow, Why::Mesh)]);
}

fn flood(bench: &mut Bench, count: u32) {
    for number in 0..count {
        let source = Ipv4Addr::from(u32::from(HOST) + number / 60_000);
        let port = u16::try_from(number % 60_000).unwrap() + 1;
        bench.out(&tcp((source, port), (PEER, 80), number, SYN, &[]));
    }
}

#[test]
fn a_flood_makes_room_for_newcomers_and_never_asks_more_than_can_be_answered() {
    let mut bench = Bench::new(snapshot(vec![]));
    let room = Limits::default().pending_flows / 2;
    flood(&mut bench, 20_000);
    let refused = bench.marks();
    assert_eq!(refused.len(), 20_000 - room);
    assert!(refused.iter().all(|(_, mark)| *mark == 1702));
    let questions = u32::try_from(Limits::default().questions).unwrap();
    assert_eq!(
        refused[0].0,
        questions + 1,
        "the oldest first, of those that are not asked for yet"
    );
    assert_eq!(
        (bench.judge.sizes().1, bench.effects.questions.len()),
        (room, Limits::default().questions)
    );
    // once one is answered, the newest of all is asked for
    let newcomer = bench.out(&syn(60_001, 1));
    let answered = bench.effects.questions.remove(0).request_id;
    bench.effects.questions.clear();
    let answer = Answer {
        request_id: answered,
        miss: Some(Miss::NoSocket),
        ..Answer::default()
    };
    bench.judge.on_answer(bench.now(), answer, &mut bench.effects);
    assert_eq!(bench.effects.questions.len(), 1);
    assert_eq!(bench.effects.questions[0].flow.local.port, 60_001, "{newcomer}");
}

#[test]
fn one_users_flood_leaves_room_for_others() {
    let mut bench = Bench::new(snapshot(vec![]));
    flood(&mut bench, 20_000);
    bench.marks();
    bench.packet_of(Hook::Output, Some(1001), &syn(9, 1), None);
    assert!(
        bench.marks().is_empty(),
        "nobody had to make room for another user"
    );
}

#[test]
fn what_an_overloaded_resolver_does_not_get_to_is_dropped_this_once() {
    let mut bench = Bench::new(snapshot(vec![]));
    bench.out(&syn(4000, 1));
    bench.out(&syn(4001, 1));
    bench.time += Duration::from_millis(400);
    let request_id = bench.effects.questions[0].request_id;
    bench.judge.on_answer(
        bench.now(),
        Answer {
            request_id,
            ..Answer::default()
        },
        &mut bench.effects,
    );
    bench.marks();
    bench.time += Duration::from_millis(100);
    bench.judge.on_time(bench.now(), &mut bench.effects);
    assert_eq!(
        bench.marks(),
        [(2, 1702)],
        "it answers others: nothing passes as unknown"
    );
    // and it is asked again
    bench.effects.questions.clear();
    bench.out(&syn(4001, 1));
    assert_eq!(bench.effects.questions.len(), 1);
    bench.judge.on_resolver_lost(bench.now());
    bench.time += Duration::from_millis(500);
    bench.judge.on_time(bench.now(), &mut bench.effects);
    assert_eq!(bench.marks(), [(3, 1710)], "nobody answers: decided as unknown");
}

/// As where systemd restarts it: its socket stays.
#[test]
fn a_resolver_that_is_restarted_is_waited_for_and_one_that_is_gone_is_not() {
    let mut bench = Bench::new(snapshot(vec![]));
    bench.judge.on_resolver_restart(bench.now(), &mut bench.effects);
    bench.time += Duration::from_secs(5);
    bench.out(&syn(4000, 1));
    bench.judge.on_resolver_lost(bench.now());
    bench.time += Duration::from_millis(1900);
    assert!(
        bench.judge.next_deadline().unwrap() > bench.time,
        "nothing to do until then"
    );
    bench.judge.on_time(bench.now(), &mut bench.effects);
    assert_eq!(bench.marks(), []);
    bench.effects.questions.clear();
    bench.judge.on_resolver_restart(bench.now(), &mut bench.effects);
    assert_eq!(bench.effects.questions.len(), 1, "it is asked again");
    bench.time += Duration::from_millis(400);
    bench.judge.on_time(bench.now(), &mut bench.effects);
    assert_eq!(bench.marks(), [], "and has time to answer");
    bench.time += Duration::from_millis(100);
    bench.judge.on_time(bench.now(), &mut bench.effects);
    assert_eq!(bench.marks(), [(1, 1710)], "decided as unknown");

    bench.out(&syn(4001, 1));
    bench.judge.on_resolver_lost(bench.now());
    bench.time += Duration::from_millis(500);
    bench.judge.on_resolver_gone();
    bench.judge.on_resolver_lost(bench.now());
    bench.judge.on_time(bench.now(), &mut bench.effects);
    assert_eq!(bench.marks(), [(2, 1710)], "nobody takes the call");

    bench.judge.on_resolver_restart(bench.now(), &mut bench.effects);
    bench.out(&syn(4002, 1));
    bench.judge.on_resolver_lost(bench.now());
    bench.time += Duration::from_secs(2);
    bench.judge.on_time(bench.now(), &mut bench.effects);
    assert_eq!(bench.marks(), [(3, 1710)], "it does not come back");
}

#[test]
fn what_does_not_parse_is_dropped_this_once() {
    let mut bench = Bench::new(snapshot(vec![]));
    let packet = bench.out(&[0x45, 0, 0]);
    assert_eq!(bench.marks(), [(packet, 1702)]);
    assert_eq!(bench.judge.counts().unparsable, 1);
}

#[derive(Clone, Debug)]
enum Step {
    Packet {
        input: bool,
        port: u16,
        flags: u8,
        sequence: u32,
        payload: Vec<u8>,
    },
    Answer {
        known: bool,
    },
    Time(u64),
    Policy(Action),
    /// None: its stream ended, and nobody knows yet whether it comes back.
    Entry(Option<bool>),
    /// To the newest request that is not answered, or to one that nobody made.
    Tunnel {
        known: bool,
        opened: bool,
    },
    Rubbish(Vec<u8>),
    Datagram {
        port: u16,
        file: &'static str,
        which: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let payload = prop_oneof![
        Just(vec![]),
        Just(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n".to_vec()),
        any::<Vec<u8>>()
    ];
    prop_oneof![
        4 => (any::<bool>(), 1..4_u16, prop_oneof![Just(SYN), Just(ACK), Just(SYN | ACK)], 0..3_u32, payload)
            .prop_map(|(input, port, flags, sequence, payload)| Step::Packet { input, port, flags, sequence, payload }),
        2 => any::<bool>().prop_map(|known| Step::Answer { known }),
        1 => (0..12_000_u64).prop_map(Step::Time),
        1 => prop_oneof![Just(Action::Allow), Just(Action::Block), Just(Action::Tunnel)].prop_map(Step::Policy),
        1 => prop::option::of(any::<bool>()).prop_map(Step::Entry),
        2 => any::<(bool, bool)>().prop_map(|(known, opened)| Step::Tunnel { known, opened }),
        1 => any::<Vec<u8>>().prop_map(Step::Rubbish),
        4 => (1..4_u16, prop_oneof![Just("rfc9001"), Just("shuffled"), Just("early-data"), Just("cut")], 0..2_usize)
            .prop_map(|(port, file, which)| Step::Datagram { port, file, which }),
    ]
}

struct Played {
    packets: u32,
    /// Packets and their marks.
    answered: Vec<(u32, u32)>,
    /// Packets of this host.
    outgoing: Vec<u32>,
}

/// All steps, and all the time that it takes.
fn play(global: Action, steps: Vec<Step>) -> Result<Played, TestCaseError> {
    let app = |action| profile("/usr/bin/app", action, vec![allow_domain("a.example")]);
    let policy = |action| {
        let mut snapshot = policy(vec![app(action)]);
        snapshot.global.settings.default_action = Some(global);
        Arc::new(CompiledPolicy::new(snapshot).unwrap())
    };
    let mut bench = Bench::new(policy(Action::Tunnel));
    let (mut requests, mut answered, mut outgoing) = (Vec::new(), Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Packet {
                input,
                port,
                flags,
                sequence,
                payload,
            } => {
                let (hook, from, to) = if input {
                    (Hook::Input, (PEER, 443), (HOST, port))
                } else {
                    (Hook::Output, (HOST, port), (PEER, 443))
                };
                let bytes = tcp(from, to, sequence, flags, &payload);
                let id = bench.packet_of(hook, Some(1000), &bytes, None);
                outgoing.extend((!input).then_some(id));
            }
            Step::Answer { known } => bench.answer_all(|_| known.then(|| process("/usr/bin/app"))),
            Step::Time(milliseconds) => {
                bench.time += Duration::from_millis(milliseconds);
                bench.judge.on_time(bench.now(), &mut bench.effects);
            }
            Step::Policy(action) => {
                let policy = policy(action);
                bench.judge.on_policy(bench.now(), policy, &mut bench.effects);
            }
            Step::Entry(Some(true)) => bench.judge.on_tunnel_begin(bench.now(), &mut bench.effects),
            Step::Entry(Some(false)) => bench.judge.on_tunnel_lost(bench.now(), &mut bench.effects),
            Step::Entry(None) => bench.judge.on_tunnel_interrupted(),
            Step::Tunnel { known, opened } => {
                let request_id = if known { requests.pop().unwrap_or(0) } else { 4711 };
                let answer = if opened {
                    OpenAnswer::Opened { hops: Vec::new() }
                } else {
                    OpenAnswer::Refused {
                        refusal: Refusal::Said,
                        text: String::new(),
                    }
                };
                bench
                    .judge
                    .on_tunnel_answer(bench.now(), request_id, answer, &mut bench.effects);
            }
            Step::Rubbish(bytes) => {
                bench.out(&bytes);
            }
            Step::Datagram { port, file, which } => {
                let datagrams = quic::datagrams(file);
                let id = bench.out(&quic::datagram(port, &datagrams[which % datagrams.len()]));
                outgoing.push(id);
            }
        }
        answered.extend(bench.marks());
        for said in bench.effects.tunnel.drain(..) {
            match said {
                ToTunnel::Open { request_id, .. } => requests.push(request_id),
                ToTunnel::Withdrawn(request_id) => requests.retain(|request| *request != request_id),
            }
        }
    }
    // first nobody is known, then no name, then nobody answers
    for _ in 0..3 {
        bench.time += Duration::from_secs(3600);
        bench.judge.on_time(bench.now(), &mut bench.effects);
    }
    prop_assert_eq!(bench.judge.sizes().1, 0);
    answered.extend(bench.marks());
    answered.sort_unstable();
    Ok(Played {
        packets: bench.next_packet,
        answered,
        outgoing,
    })
}

proptest! {
    /// Whatever happens in whatever order, no packet is forgotten and none is answered twice.
    #[test]
    fn every_packet_gets_exactly_one_verdict(steps in proptest::collection::vec(step(), 0..60)) {
        let Played { packets, answered, .. } = play(Action::Allow, steps)?;
        let answered: Vec<u32> = answered.into_iter().map(|(id, _)| id).collect();
        prop_assert_eq!(answered, (1..=packets).collect::<Vec<_>>());
    }

    /// Whatever happens in whatever order, nothing leaves in the clear that is to be tunnelled.
    #[test]
    fn what_is_to_be_tunnelled_never_passes(steps in proptest::collection::vec(step(), 0..60)) {
        let may_pass = |step: &Step| match step {
            // what is refused for want of a name passes until it says one
            Step::Policy(action) => *action != Action::Tunnel,
            // a name that is allowed
            Step::Packet { payload, .. } => payload.starts_with(b"GET"),
            _ => false,
        };
        let steps = steps.into_iter().filter(|step| !may_pass(step)).collect();
        let Played { answered, outgoing, .. } = play(Action::Tunnel, steps)?;
        for (id, mark) in answered {
            prop_assert!(!outgoing.contains(&id) || ![1700, 1710].contains(&mark), "{} {}", id, mark);
        }
    }
}
