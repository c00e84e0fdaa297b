//! The wall clock is set: nothing that takes a span of time minds.

use super::*;

/// What it is set to: a century ahead, and back to the year 1970, where a host without a battery begins.
fn jumps() -> [SystemTime; 3] {
    let epoch = SystemTime::UNIX_EPOCH;
    [
        epoch + Duration::from_secs(4_000_000_000),
        epoch + Duration::from_secs(3600),
        epoch,
    ]
}

#[test]
fn a_pause_of_ten_minutes_takes_ten_however_often_the_clock_is_set() {
    let mut bench = Bench::new(snapshot(vec![]));
    bench.epoch += Duration::from_secs(1_790_000_000);
    let policy = paused(&bench);
    bench.judge.on_policy(bench.now(), policy, &mut bench.effects);
    let end = bench.now().monotonic + Duration::from_secs(600);
    for (number, jump) in (4000..).zip(jumps()) {
        bench.epoch = jump;
        bench.out(&syn(number, 1));
        bench.answer_all(|_| Some(process("/usr/bin/app")));
        let (_, mark) = bench.marks()[0];
        assert_eq!(mark, 1700, "paused with the clock at {jump:?}");
        bench.time += Duration::from_secs(60);
        bench.judge.on_time(bench.now(), &mut bench.effects);
    }
    assert_eq!(bench.judge.next_deadline(), Some(end));
    bench.time = end;
    bench.epoch = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    bench.out(&syn(5000, 1));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    let last = bench.marks().pop();
    assert_eq!(last.map(|(_, mark)| mark), Some(1711), "over");
}

#[test]
fn a_host_that_slept_through_the_end_of_a_pause_wakes_up_without_it() {
    let mut bench = Bench::new(snapshot(vec![]));
    let policy = paused(&bench);
    bench.judge.on_policy(bench.now(), policy, &mut bench.effects);
    bench.out(&syn(4000, 1));
    bench.answer_all(|_| Some(process("/usr/bin/app")));
    bench.marks();
    // this one's clock stands still meanwhile
    bench.slept = Duration::from_secs(601);
    let data = tcp((HOST, 4000), (PEER, 443), 2, ACK, b"data");
    let after = bench.out(&data);
    assert_eq!(bench.marks(), [(after, 1711)]);
}

#[test]
fn deadlines_and_durations_go_on_when_the_clock_is_set() {
    let mut bench = Bench::new(snapshot(vec![]));
    for jump in jumps() {
        bench.epoch = jump;
        bench.out(&syn(4000, 1));
        // nobody answers
        bench.time += Duration::from_millis(499);
        bench.judge.on_time(bench.now(), &mut bench.effects);
        assert!(bench.marks().is_empty(), "half a second is not over");
        bench.time += Duration::from_millis(1);
        bench.judge.on_time(bench.now(), &mut bench.effects);
        assert_eq!(bench.marks().len(), 1, "decided as unknown");
        bench.time += Duration::from_secs(3600);
        bench.judge.on_time(bench.now(), &mut bench.effects);
        bench.judge.reconcile(bench.now(), &[], &mut bench.effects);
        let ended = bench.effects.events.pop().unwrap();
        assert_eq!(ended.kind, EventKind::Ended);
        assert_eq!(
            ended.connection.totals.unwrap().duration,
            Duration::from_secs(3600)
        );
        bench.events();
    }
}
