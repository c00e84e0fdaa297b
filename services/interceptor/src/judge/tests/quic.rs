//! Connections by QUIC. Its datagrams are those of the fuzzer's corpus: their openers ask for `example.com`.

use super::*;

/// The hello of one connection, in one datagram.
const WHOLE: &str = "rfc9001";
/// The same in two.
const HALVES: &str = "shuffled";
const EARLY: &str = "early-data";

pub(super) fn datagrams(file: &str) -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/quic");
    let file = std::fs::read(format!("{folder}/{file}")).unwrap();
    let mut rest = &file[1..];
    let mut datagrams = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk() {
        let (datagram, next) = behind.split_at(usize::from(u16::from_be_bytes(*length)));
        datagrams.push(datagram.to_vec());
        rest = next;
    }
    datagrams
}

pub(super) fn datagram(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut transport = Vec::new();
    transport.extend(port.to_be_bytes());
    transport.extend(443_u16.to_be_bytes());
    transport.extend(u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
    transport.extend([0, 0]);
    transport.extend(payload);
    ipv4(17, HOST, PEER, &transport)
}

/// Everything is refused but this name.
fn only(name: &str) -> Bench {
    let app = profile("/usr/bin/app", Action::Block, vec![allow_domain(name)]);
    Bench::new(snapshot(vec![app]))
}

impl Bench {
    fn say(&mut self, port: u16, payload: &[u8]) -> u32 {
        self.out(&datagram(port, payload))
    }

    fn answer_app(&mut self) {
        self.answer_all(|_| Some(process("/usr/bin/app")));
    }

    fn wait_in_vain(&mut self) {
        self.time += Limits::default().attribution_deadline;
        self.judge.on_time(self.now(), &mut self.effects);
    }
}

#[test]
fn the_first_datagram_decides_where_it_says_the_name() {
    for (allowed, mark) in [("example.com", 1710), ("good.example", 1711)] {
        let mut bench = only(allowed);
        let packet = bench.say(4000, &datagrams(WHOLE)[0]);
        bench.answer_app();
        assert_eq!(bench.marks(), [(packet, mark)]);
        let event = bench.effects.events.pop().unwrap();
        assert_eq!(event.connection.domain.as_deref(), Some("example.com"));
        assert!(bench.effects.events.is_empty());
    }
}

#[test]
fn a_hello_in_two_datagrams_passes_whole_or_not_at_all() {
    let halves = datagrams(HALVES);
    for (allowed, mark) in [("example.com", 1710), ("good.example", 1711)] {
        for order in [[0, 1], [1, 0]] {
            let mut bench = only(allowed);
            let first = bench.say(4000, &halves[order[0]]);
            bench.answer_app();
            assert_eq!(bench.marks(), [], "nothing passes without its name");
            let second = bench.say(4000, &halves[order[1]]);
            assert_eq!(bench.marks(), [(first, mark), (second, mark)]);
            assert_eq!((bench.effects.events.len(), bench.judge.sizes()), (1, (1, 0)));
        }
    }
}

#[test]
fn both_halves_may_come_before_the_process_is_known() {
    let mut bench = only("example.com");
    for half in datagrams(HALVES) {
        bench.say(4000, &half);
    }
    bench.answer_app();
    assert_eq!(bench.marks(), [(1, 1710), (2, 1710)]);
}

#[test]
fn half_a_hello_is_dropped_this_once_and_heard_anew() {
    let halves = datagrams(HALVES);
    for what in [&halves[0], &halves[1], &datagrams(EARLY)[0]] {
        let mut bench = only("example.com");
        let lost = bench.say(4000, what);
        bench.answer_app();
        bench.wait_in_vain();
        assert_eq!(bench.marks(), [(lost, 1702)]);
        assert_eq!(
            (bench.judge.counts().unnamed, bench.judge.counts().overload),
            (1, 0)
        );
        assert!(bench.events().is_empty());
        for half in &halves {
            bench.say(4000, half);
        }
        bench.answer_app();
        assert_eq!(bench.marks(), [(2, 1710), (3, 1710)]);
    }
}

#[test]
fn a_refused_connection_stays_refused_whatever_part_of_its_hello_comes_again() {
    let mut rule = allow_domain("example.com");
    rule.action = Action::Block;
    let app = profile("/usr/bin/app", Action::Allow, vec![rule]);
    let mut bench = Bench::new(snapshot(vec![app]));
    let mut parts = datagrams(HALVES);
    for part in &parts {
        bench.say(4000, part);
    }
    bench.answer_app();
    assert_eq!(bench.marks(), [(1, 1711), (2, 1711)]);
    parts.extend(datagrams(EARLY));
    for part in parts {
        bench.say(4000, &part);
        bench.answer_app();
        bench.wait_in_vain();
        let marks: Vec<_> = bench.marks().into_iter().map(|(_, mark)| mark).collect();
        assert_eq!(marks, [1702]);
        bench.time += Duration::from_secs(60);
    }
    assert_eq!(bench.events().len(), 1);
}

#[test]
fn a_broken_seal_and_other_datagrams_are_decided_at_once_without_a_name() {
    for payload in [&datagrams("broken-seal")[0][..], b"\x12\x34\x01\x00", b""] {
        let mut bench = only("example.com");
        let packet = bench.say(4000, payload);
        bench.answer_app();
        assert_eq!(bench.marks(), [(packet, 1711)]);
    }
}

#[test]
fn where_no_rule_asks_for_names_nothing_waits_for_one() {
    let app = profile("/usr/bin/app", Action::Block, vec![]);
    let mut bench = Bench::new(snapshot(vec![app]));
    let packet = bench.say(4000, &datagrams(HALVES)[0]);
    bench.answer_app();
    assert_eq!(bench.marks(), [(packet, 1711)]);
}

#[test]
fn a_new_resolver_is_not_asked_whose_a_flow_is_that_only_waits_for_its_name() {
    let mut bench = only("example.com");
    let halves = datagrams(HALVES);
    bench.say(4000, &halves[0]);
    bench.answer_app();
    bench.judge.on_resolver_restart(bench.now(), &mut bench.effects);
    assert!(bench.effects.questions.is_empty());
    bench.say(4000, &halves[1]);
    assert_eq!(bench.marks(), [(1, 1710), (2, 1710)]);
}

#[test]
fn only_so_much_is_kept() {
    let halves = datagrams(HALVES);
    let mut bench = only("example.com");
    for _ in 0..12 {
        bench.say(4000, &halves[0]);
    }
    bench.answer_app();
    let refused: Vec<_> = (9..=12).map(|id| (id, 1702)).collect();
    assert_eq!(bench.marks(), refused, "of one flow");

    let mut bench = only("example.com");
    let room = (8 << 20) / halves[0].len();
    for port in (1000_u16..).take(room + 1) {
        bench.say(port, &halves[0]);
    }
    let last = u32::try_from(room + 1).unwrap();
    assert_eq!(bench.marks(), [(last, 1702)], "of all");
    bench.time += Duration::from_secs(1);
    bench.judge.on_resolver_lost(bench.now());
    bench.judge.on_time(bench.now(), &mut bench.effects);
    bench.marks();
    bench.say(1, &halves[0]);
    assert_eq!(bench.marks(), [], "there is room again");
}
