//! How connections travel, and whose are not known.

use verdict::policy::tunnel::Hops;

use super::*;
use crate::conntrack::flow_of;

fn by_hops(hops: u32) -> Arc<CompiledPolicy> {
    let mut app = profile("/usr/bin/app", Action::Tunnel, vec![]);
    app.settings.tunnel.hops = Hops::new(hops);
    snapshot(vec![app])
}

fn asked_for(bench: &mut Bench) -> Vec<(u64, u8)> {
    let said = bench.effects.tunnel.drain(..);
    said.filter_map(|said| match said {
        ToTunnel::Open { request_id, carrying } => Some((request_id, carrying.options.hops.get())),
        ToTunnel::Withdrawn(_) => None,
    })
    .collect()
}

#[test]
fn the_entry_hears_how_a_connection_travels_by_the_policy_that_decided() {
    let mut bench = Bench::new(by_hops(5));
    entry_comes(&mut bench);
    bench.out(&syn(4000, 1));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    assert_eq!(asked_for(&mut bench), [(1, 5)]);
    answer(&mut bench, 1, opened());
    let told = bench
        .judge
        .tunnelled(&original(4000, Protocol::TCP, 443))
        .unwrap();
    assert_eq!(told.options.hops.get(), 5);
}

#[test]
fn a_syn_that_waits_is_asked_for_anew_where_it_is_to_travel_otherwise() {
    let mut bench = Bench::new(by_hops(1));
    entry_comes(&mut bench);
    bench.out(&syn(4000, 1));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    assert_eq!(asked_for(&mut bench), [(1, 1)]);
    bench.judge.on_policy(bench.now(), by_hops(1), &mut bench.effects);
    assert!(bench.effects.tunnel.is_empty(), "nothing changed for it");
    bench.judge.on_policy(bench.now(), by_hops(4), &mut bench.effects);
    let said = std::mem::take(&mut bench.effects.tunnel);
    assert!(matches!(said[0], ToTunnel::Withdrawn(1)), "{said:?}");
    bench.effects.tunnel = said;
    assert_eq!(asked_for(&mut bench), [(2, 4)]);
    answer(&mut bench, 1, opened());
    assert!(bench.marks().is_empty(), "that was the way by one node");
    answer(&mut bench, 2, opened());
    assert_eq!(bench.marks(), [(1, 1717)]);
}

#[test]
fn what_may_be_a_tunnelled_programs_is_refused_this_once() {
    let mut bench = bench();
    for (miss, mark) in [
        (Miss::NoSocket, 1701),
        (Miss::Timeout, 1701),
        // a socket that no process has is the kernel's own
        (Miss::NoProcess, 1710),
    ] {
        let who = Arc::new(Attribution {
            miss: Some(miss),
            uid: Some(0),
            ..Attribution::default()
        });
        let flow = flow_of(&original(4000, Protocol::TCP, 443), Direction::Outgoing);
        let decision = bench
            .judge
            .decide(bench.now(), &flow, &who, &Domains::default(), true);
        assert_eq!(Mark::of(&decision).0, mark, "{miss:?}: {decision:?}");
    }
    // nobody answers in time
    bench.out(&syn(4001, 1));
    bench.time += Duration::from_secs(2);
    bench.judge.on_time(bench.now(), &mut bench.effects);
    assert_eq!(bench.marks(), [(1, 1701)]);
    let event = bench.effects.events.pop().unwrap().connection;
    assert_eq!(event.decision.why, Why::TunnelUnsure);
    // the next one is asked anew
    let request = opening(&mut bench, &syn(4001, 900));
    answer(&mut bench, request, opened());
    assert_eq!(bench.marks().last().unwrap().1, 1717);
}
