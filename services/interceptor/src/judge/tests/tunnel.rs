//! Flows that are to go through Gate17.

use super::*;
use crate::conntrack::Tuple;

mod travels;

fn tunnelling() -> Arc<CompiledPolicy> {
    snapshot(vec![profile("/usr/bin/app", Action::Tunnel, vec![])])
}

/// With an entry.
fn bench() -> Bench {
    let mut bench = Bench::new(tunnelling());
    entry_comes(&mut bench);
    bench
}

fn entry_comes(bench: &mut Bench) {
    bench.judge.on_tunnel_begin(bench.now(), &mut bench.effects);
}

fn entry_goes(bench: &mut Bench) {
    bench.judge.on_tunnel_lost(bench.now(), &mut bench.effects);
}

/// The number of the request that this packet's flow led to.
fn opening(bench: &mut Bench, bytes: &[u8]) -> u64 {
    bench.out(bytes);
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    match bench.effects.tunnel.pop() {
        Some(ToTunnel::Open { request_id, .. }) => request_id,
        other => panic!("nothing is to be opened: {other:?}"),
    }
}

fn answer(bench: &mut Bench, request_id: u64, answer: OpenAnswer) {
    let now = bench.now();
    bench
        .judge
        .on_tunnel_answer(now, request_id, answer, &mut bench.effects);
}

fn opened() -> OpenAnswer {
    OpenAnswer::Opened {
        hops: vec!["a".into(), "b".into(), "c".into()],
    }
}

fn refused(refusal: Refusal) -> OpenAnswer {
    OpenAnswer::Refused {
        refusal,
        text: "b: no".into(),
    }
}

fn withdrawn(bench: &mut Bench) -> Vec<u64> {
    let said = bench.effects.tunnel.drain(..);
    said.filter_map(|said| match said {
        ToTunnel::Withdrawn(request_id) => Some(request_id),
        ToTunnel::Open { .. } => None,
    })
    .collect()
}

fn policy_becomes(bench: &mut Bench, default: Action) {
    let policy = snapshot(vec![profile("/usr/bin/app", default, vec![])]);
    bench.judge.on_policy(bench.now(), policy, &mut bench.effects);
}

fn data(port: u16) -> Vec<u8> {
    tcp((HOST, port), (PEER, 443), 2, ACK, b"data")
}

fn original(port: u16, protocol: Protocol, remote: u16) -> Tuple {
    Tuple::of(&Flow {
        direction: Direction::Outgoing,
        protocol,
        local: Endpoint::new(IpAddr::V4(HOST), port),
        remote: Endpoint::new(IpAddr::V4(PEER), remote),
    })
}

#[test]
fn a_syn_waits_for_the_far_end_and_its_copies_do_not() {
    let mut bench = bench();
    let request = opening(&mut bench, &syn(4000, 1));
    bench.out(&syn(4000, 1));
    assert_eq!((bench.marks(), bench.judge.sizes()), (vec![(2, 1702)], (0, 1)));
    assert!(bench.effects.tunnel.is_empty(), "asked once");
    answer(&mut bench, request, opened());
    assert_eq!(bench.marks(), [(1, 1717)]);
    let event = bench.effects.events.pop().unwrap();
    let connection = event.connection;
    assert_eq!(connection.decision.verdict, Verdict::Tunnel);
    assert_eq!(connection.through.unwrap().hops, ["a", "b", "c"]);
    let asked = original(4000, Protocol::TCP, 443);
    let told = bench.judge.tunnelled(&asked).unwrap();
    let told = told.connection;
    assert_eq!((told.id, &*told.decision.profile), (connection.id, "app"));
    assert!(
        bench
            .judge
            .tunnelled(&original(4001, Protocol::TCP, 443))
            .is_none()
    );
}

#[test]
fn the_program_sees_what_became_of_it_and_may_try_again() {
    for (refusal, mark, why) in [
        (Refusal::Said, 1701, Why::TunnelRefused),
        (Refusal::Silent, 1702, Why::TunnelRefused),
        (Refusal::NoWay, 1701, Why::TunnelUnavailable),
    ] {
        let mut bench = bench();
        let request = opening(&mut bench, &syn(4000, 1));
        answer(&mut bench, request, refused(refusal));
        let again = bench.out(&syn(4000, 1));
        assert_eq!(bench.marks(), [(1, mark), (again, mark)], "{refusal:?}");
        let event = bench.effects.events.pop().unwrap();
        assert_eq!(event.connection.decision.why, why);
        assert_eq!(event.connection.through.unwrap().problem, "b: no");
        let asked = original(4000, Protocol::TCP, 443);
        assert!(bench.judge.tunnelled(&asked).is_none());
        // another attempt is another question
        let request = opening(&mut bench, &syn(4000, 900));
        answer(&mut bench, request, opened());
        assert_eq!(bench.marks(), [(3, 1717)]);
    }
}

#[test]
fn without_an_entry_everything_is_refused_at_once() {
    let mut bench = Bench::new(tunnelling());
    entry_goes(&mut bench);
    for bytes in [syn(4000, 1), udp((HOST, 4001), (PEER, 9))] {
        bench.out(&bytes);
        bench.answer_all(|_| Some(process("/usr/bin/app")));
    }
    assert_eq!(bench.marks(), [(1, 1701), (2, 1701)]);
    let expected = (EventKind::Decided, Verdict::Block, Why::TunnelUnavailable);
    assert_eq!(bench.events(), [expected, expected]);
    assert!(bench.effects.tunnel.is_empty());
    assert_eq!(bench.judge.counts().tunnel_unavailable, 2);
    // and as soon as there is one, it is not
    entry_comes(&mut bench);
    bench.out(&udp((HOST, 4001), (PEER, 9)));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    assert_eq!(bench.marks(), [(3, 1717)]);
}

#[test]
fn an_entry_that_goes_away_is_an_error_for_who_waits() {
    let mut bench = bench();
    let request = opening(&mut bench, &syn(4000, 1));
    bench.judge.on_tunnel_lost(bench.now(), &mut bench.effects);
    assert_eq!(bench.marks(), [(1, 1701)]);
    answer(&mut bench, request, opened());
    assert_eq!(bench.marks(), [], "too late");
}

#[test]
fn who_waits_for_an_entry_that_is_restarted_goes_on_waiting_and_so_does_who_comes_meanwhile() {
    let mut bench = bench();
    let first = opening(&mut bench, &syn(4000, 1));
    bench.judge.on_tunnel_interrupted();
    bench.out(&syn(4001, 1));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    assert!(bench.effects.tunnel.is_empty() && bench.marks().is_empty());
    entry_comes(&mut bench);
    let asked = bench.effects.tunnel.drain(..).map(|asked| match asked {
        ToTunnel::Open { request_id, .. } => request_id,
        ToTunnel::Withdrawn(request_id) => panic!("{request_id} still waits"),
    });
    let asked: Vec<u64> = asked.collect();
    assert_eq!((asked.len(), asked[0]), (2, first));
    for request in asked {
        answer(&mut bench, request, opened());
    }
    assert_eq!(bench.marks(), [(1, 1717), (2, 1717)]);

    // and where it does not come back
    let _waits = opening(&mut bench, &syn(4002, 1));
    bench.judge.on_tunnel_interrupted();
    entry_goes(&mut bench);
    assert_eq!(bench.marks(), [(3, 1701)]);
}

#[test]
fn what_comes_before_it_is_known_whether_there_is_an_entry_waits_for_that() {
    let mut bench = Bench::new(tunnelling());
    bench.out(&syn(4000, 1));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    assert!(bench.effects.tunnel.is_empty() && bench.marks().is_empty());
    entry_comes(&mut bench);
    let Some(ToTunnel::Open { request_id, .. }) = bench.effects.tunnel.pop() else {
        panic!("it is asked as soon as there is one");
    };
    answer(&mut bench, request_id, opened());
    assert_eq!(bench.marks(), [(1, 1717)]);

    let mut bench = Bench::new(tunnelling());
    bench.out(&syn(4000, 1));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    entry_goes(&mut bench);
    assert_eq!(bench.marks(), [(1, 1701)]);
}

#[test]
fn an_entry_that_says_nothing_is_not_waited_for_for_ever() {
    let mut bench = bench();
    let request = opening(&mut bench, &syn(4000, 1));
    let deadline = bench.judge.next_deadline().unwrap();
    assert_eq!(deadline, Limits::default().tunnel_deadline);
    bench.time = deadline;
    bench.judge.on_time(bench.now(), &mut bench.effects);
    assert_eq!(
        (bench.marks(), withdrawn(&mut bench)),
        (vec![(1, 1702)], vec![request])
    );
}

#[test]
fn a_new_policy_is_honoured_by_what_waits() {
    for (action, mark) in [(Action::Block, 1711), (Action::Allow, 1710)] {
        let mut bench = bench();
        let request = opening(&mut bench, &syn(4000, 1));
        policy_becomes(&mut bench, action);
        assert_eq!(bench.marks(), [(1, mark)]);
        assert_eq!(withdrawn(&mut bench), [request]);
        answer(&mut bench, request, opened());
        assert_eq!(bench.marks(), []);
    }
    let mut bench = bench();
    opening(&mut bench, &syn(4000, 1));
    policy_becomes(&mut bench, Action::Tunnel);
    assert_eq!((bench.marks(), withdrawn(&mut bench)), (vec![], vec![]));
}

#[test]
fn who_goes_away_is_not_waited_for() {
    let mut bench = bench();
    // the same ends, anew
    let first = opening(&mut bench, &syn(4000, 1));
    bench.out(&syn(4000, 900));
    assert_eq!(
        (bench.marks(), withdrawn(&mut bench)),
        (vec![(1, 1702)], vec![first])
    );
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    let Some(ToTunnel::Open {
        request_id: second, ..
    }) = bench.effects.tunnel.pop()
    else {
        panic!("asked anew");
    };
    // the program ended: the resolver called it by the number of the question that told of it
    let ended = Answer {
        ended: vec![2],
        ..Answer::default()
    };
    bench.judge.on_answer(bench.now(), ended, &mut bench.effects);
    assert_eq!(
        (bench.marks(), withdrawn(&mut bench)),
        (vec![(2, 1702)], vec![second])
    );
    assert_eq!(bench.judge.sizes().1, 0);
}

#[test]
fn nothing_else_with_the_same_ends_passes_while_a_syn_waits() {
    let mut bench = bench();
    opening(&mut bench, &syn(4000, 1));
    bench.out(&data(4000));
    bench.packet_of(
        Hook::Input,
        None,
        &tcp((PEER, 443), (HOST, 4000), 1, SYN, &[]),
        None,
    );
    assert_eq!(bench.marks(), [(2, 1702), (3, 1702)]);
}

#[test]
fn a_connection_that_was_open_before_is_never_carried_on() {
    let mut bench = Bench::new(snapshot(vec![]));
    entry_comes(&mut bench);
    bench.out(&syn(4000, 1));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    bench.marks();
    bench.events();
    policy_becomes(&mut bench, Action::Tunnel);
    assert_eq!(bench.effects.resets.len(), 1);
    assert_eq!(
        bench.events(),
        [(EventKind::Redecided, Verdict::Block, Why::TunnelLate)]
    );
    // what comes in makes this side answer, and hear the error
    let incoming = tcp((PEER, 443), (HOST, 4000), 5, ACK, b"x");
    bench.packet_of(Hook::Input, None, &incoming, None);
    bench.out(&data(4000));
    assert_eq!(bench.marks(), [(2, 1700), (3, 1701)]);
    // one that nobody remembers
    bench.out(&data(4001));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    assert_eq!(bench.marks(), [(4, 1701)]);
    assert!(bench.effects.tunnel.is_empty());
    // tunnelled no longer: it goes on
    bench.events();
    policy_becomes(&mut bench, Action::Allow);
    let event = bench.effects.events.pop().unwrap();
    assert_eq!(event.connection.through, None);
    bench.out(&data(4000));
    assert_eq!(bench.marks(), [(5, 1710)]);
}

#[test]
fn what_an_earlier_process_let_into_the_tunnel_stays_there() {
    let mut bench = bench();
    let flow = Flow {
        direction: Direction::Outgoing,
        protocol: Protocol::TCP,
        local: Endpoint::new(IpAddr::V4(HOST), 4000),
        remote: Endpoint::new(IpAddr::V4(PEER), 443),
    };
    let inside = move |_: &Flow| {
        Some(Origin {
            flow,
            way: Way::Redirected,
        })
    };
    let entry = (Ipv4Addr::new(127, 0, 0, 17), 717);
    let answer = tcp(entry, (HOST, 4000), 5, ACK, b"x");
    bench.packet_with(Hook::Input, None, &answer, inside);
    bench.packet_with(Hook::Output, Some(1000), &data(4000), inside);
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    assert_eq!(bench.marks(), [(1, 1717), (2, 1717)]);
    // and what came to be forbidden ends, whichever end speaks first
    policy_becomes(&mut bench, Action::Block);
    assert_eq!(bench.effects.resets, [flow]);
    bench.packet_with(Hook::Input, None, &answer, inside);
    assert_eq!(bench.marks(), [(3, 1711)]);
}

#[test]
fn a_connection_in_the_tunnel_is_not_late_for_it() {
    let mut bench = bench();
    let request = opening(&mut bench, &syn(4000, 1));
    answer(&mut bench, request, opened());
    policy_becomes(&mut bench, Action::Allow);
    policy_becomes(&mut bench, Action::Tunnel);
    bench.marks();
    bench.out(&data(4000));
    assert_eq!(bench.marks(), [(2, 1717)]);
}

#[test]
fn datagrams_that_change_their_way_begin_anew() {
    let mut bench = Bench::new(snapshot(vec![]));
    entry_comes(&mut bench);
    bench.out(&udp((HOST, 4000), (PEER, 9)));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    policy_becomes(&mut bench, Action::Tunnel);
    assert_eq!((bench.effects.resets.len(), bench.effects.anew.len()), (0, 1));
    // one that nobody remembers
    bench.effects.anew.clear();
    let datagram = udp((HOST, 4001), (PEER, 9));
    bench.packet_of(Hook::Output, Some(1000), &datagram, Some(Direction::Outgoing));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    assert_eq!(bench.effects.anew.len(), 1);
}

#[test]
fn what_does_not_get_into_the_tunnel_is_refused() {
    let mut bench = bench();
    let request = opening(&mut bench, &syn(4000, 1));
    answer(&mut bench, request, opened());
    bench.out(&udp((HOST, 4001), (PEER, 9)));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    bench.events();
    // sent together with the first
    bench.out(&syn(4000, 1));
    bench.out(&udp((HOST, 4001), (PEER, 9)));
    bench.time += Duration::from_secs(1);
    bench.out(&syn(4000, 1));
    for _ in 0..2 {
        bench.out(&udp((HOST, 4001), (PEER, 9)));
    }
    let marks: Vec<u32> = bench.marks().into_iter().map(|(_, mark)| mark).collect();
    assert_eq!(marks, [1717, 1717, 1717, 1717, 1701, 1701, 1701]);
    let expected = (EventKind::Redecided, Verdict::Block, Why::TunnelUnsupported);
    assert_eq!(bench.events(), [expected, expected]);
}

#[test]
fn a_quiet_flow_of_datagrams_is_taken_up_again() {
    let mut bench = bench();
    bench.out(&udp((HOST, 4001), (PEER, 9)));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    let asked = original(4001, Protocol::UDP, 9);
    assert!(bench.judge.tunnelled(&asked).is_some(), "the entry has it");
    bench.time += Duration::from_secs(60);
    bench.out(&udp((HOST, 4001), (PEER, 9)));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    assert_eq!(bench.marks(), [(1, 1717), (2, 1717)]);
}

#[test]
fn one_users_silent_destinations_leave_room_for_others() {
    let mut bench = bench();
    for port in 1..10_000 {
        bench.out(&syn(port, 1));
        bench.answer_all(|_| Some(process("/usr/bin/app")));
    }
    let most = Limits::default().pending_flows / 8;
    assert_eq!((bench.judge.sizes().1, bench.effects.tunnel.len()), (most, most));
    assert_eq!(bench.marks().len(), 9_999 - most);
    bench.effects.tunnel.clear();
    bench.packet_of(Hook::Output, Some(1001), &syn(20_000, 1), None);
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    assert_eq!((bench.marks().len(), bench.effects.tunnel.len()), (0, 1));
}

#[test]
fn the_nodes_that_carry_datagrams_are_told_once() {
    let mut bench = bench();
    bench.out(&udp((HOST, 4001), (PEER, 9)));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    let asked = original(4001, Protocol::UDP, 9);
    let flow = bench.judge.tunnelled(&asked).unwrap().connection.flow;
    bench.effects.events.clear();
    for hops in [["a", "b"], ["a", "b"], ["a", "c"]] {
        let hops = hops.map(str::to_owned).to_vec();
        let now = bench.now();
        bench.judge.on_carried(now, &flow, hops, &mut bench.effects);
    }
    let told = bench.effects.events.drain(..);
    let hops: Vec<_> = told
        .map(|event| event.connection.through.unwrap().hops.join(""))
        .collect();
    assert_eq!(hops, ["ab", "ac"]);
}

#[test]
fn no_syn_is_sent_in_the_clear_to_learn_a_name() {
    let rules = vec![allow_domain("good.example")];
    let mut bench = Bench::new(snapshot(vec![profile("/usr/bin/app", Action::Tunnel, rules)]));
    entry_comes(&mut bench);
    opening(&mut bench, &syn(4000, 1));
    assert_eq!(bench.marks(), []);
}

#[test]
fn a_name_that_is_to_be_tunnelled_ends_a_direct_connection() {
    let rule = Rule {
        action: Action::Tunnel,
        ..allow_domain("secret.example")
    };
    let mut bench = Bench::new(snapshot(vec![profile("/usr/bin/app", Action::Allow, vec![rule])]));
    entry_comes(&mut bench);
    bench.out(&syn(4000, 1));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    let hello = b"GET / HTTP/1.1\r\nHost: secret.example\r\n\r\n";
    bench.out(&tcp((HOST, 4000), (PEER, 443), 2, ACK, hello));
    assert_eq!(bench.marks(), [(1, 1700), (2, 1701)]);
}
