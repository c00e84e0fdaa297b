//! Flows whose name the DNS service told.

use super::*;
use crate::told::{App, Heard, Hearer};

const HOUR: Duration = Duration::from_secs(3600);

fn told(bench: &Bench, name: &str) {
    let app = App::of(&process("/usr/bin/app"));
    bench.names.hear(
        &Heard {
            hearer: Hearer::App(app),
            addresses: vec![PEER.into()],
            name: name.into(),
            holds: HOUR,
        },
        false,
    );
}

fn mark_of(bench: &mut Bench, port: u16) -> u32 {
    bench.out(&syn(port, 1));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    bench.marks().last().unwrap().1
}

#[test]
fn a_name_that_was_told_decides_at_once() {
    let app = profile("/usr/bin/app", Action::Block, vec![allow_domain("good.example")]);
    let mut bench = Bench::new(snapshot(vec![app]));
    told(&bench, "bad.example");
    assert_eq!(
        mark_of(&mut bench, 4000),
        1711,
        "a name is known, and no rule is for it"
    );
    told(&bench, "good.example");
    assert_eq!(mark_of(&mut bench, 4001), 1710);
    let event = bench.effects.events.last().unwrap();
    assert_eq!(event.connection.domain.as_deref(), Some("good.example"));
}

#[test]
fn all_names_are_remembered_for_a_new_policy() {
    let app = profile("/usr/bin/app", Action::Allow, vec![]);
    let mut bench = Bench::new(snapshot(vec![app]));
    told(&bench, "first.example");
    told(&bench, "second.example");
    assert_eq!(mark_of(&mut bench, 4000), 1710);
    let mut rule = allow_domain("first.example");
    rule.action = Action::Block;
    let stricter = snapshot(vec![profile("/usr/bin/app", Action::Allow, vec![rule])]);
    bench.judge.on_policy(bench.now(), stricter, &mut bench.effects);
    assert_eq!(bench.effects.resets.len(), 1);
}

#[test]
fn queries_stray_to_the_local_server_once_there_is_one() {
    let mut policy = policy(vec![profile("/usr/bin/app", Action::Block, vec![])]);
    policy.global.redirect_dns = true;
    let mut bench = Bench::new(Arc::new(CompiledPolicy::new(policy).unwrap()));
    let query = |bench: &mut Bench, port| {
        bench.out(&udp((HOST, port), (PEER, 53)));
        bench.answer_all(|_| Some(process("/usr/bin/app")));
        bench.marks().last().unwrap().1
    };
    assert_eq!(query(&mut bench, 4000), 1711);
    bench.names.serve();
    assert_eq!(query(&mut bench, 4001), 1799);
    let upstream = bench.packet_of(Hook::Output, Some(990), &udp((HOST, 4002), (PEER, 53)), None);
    assert_eq!(bench.marks(), [(upstream, 1710)], "the mesh's own queries go out");
}
