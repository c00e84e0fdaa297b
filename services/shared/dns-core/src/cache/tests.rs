use proptest::prelude::*;

use super::*;
use crate::wire::{Bounds, Response, extended, kind};

const LIFE: u32 = 100;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(1_000_000 + seconds)
}

fn key(name: &str) -> Key {
    let question = Question {
        name: Name::parse(name).unwrap(),
        kind: kind::A,
        class: 1,
    };
    Key::new(&question, false, false)
}

fn answer(key: &Key, life: u32) -> Answer {
    let head = [0u16, 0x8180, 1, 1, 0, 0].map(u16::to_be_bytes);
    let record = [
        &[0xc0, 12, 0, 1, 0, 1][..],
        &life.to_be_bytes(),
        &[0, 4, 192, 0, 2, 1],
    ]
    .concat();
    let message = [head.as_flattened(), key.question(), &record].concat();
    Answer::from_response(&Response::parse(&message).unwrap(), key, &Bounds::default()).unwrap()
}

fn failure(key: &Key) -> Answer {
    Answer::failure(key, 2, extended::NO_REACHABLE_AUTHORITY, "nobody is there", 5)
}

fn cache(bytes: usize) -> Cache {
    Cache::new(
        &Settings {
            bytes,
            shards: 1,
            ..Settings::default()
        },
        [7; 16],
    )
}

fn is_fresh(cache: &Cache, name: &str, seconds: u64) -> bool {
    matches!(cache.get(&key(name), at(seconds)), Found::Fresh { .. })
}

#[test]
fn an_answer_lives_as_long_as_it_says() {
    let cache = cache(1 << 20);
    let a = key("a.org");
    assert_eq!(cache.get(&a, at(0)), Found::Miss);
    let kept = cache.insert(&a, answer(&a, LIFE), at(0));
    assert_eq!(
        cache.get(&a, at(40)),
        Found::Fresh {
            answer: kept,
            age: 40,
            refresh: false
        }
    );
    assert_eq!(cache.get(&a, at(100)), Found::Miss);
    assert_eq!(
        cache.get(&Key::new(&a.to_question(), true, false), at(40)),
        Found::Miss,
        "DO asks for other records"
    );
    cache.insert(&a, answer(&a, 0), at(0));
    assert_eq!(cache.statistics().inserted, 1, "what has no life is not kept");
}

#[test]
fn what_is_used_is_refreshed_once_before_its_end() {
    let cache = cache(1 << 20);
    let refresh = |name, seconds| {
        matches!(
            cache.get(&key(name), at(seconds)),
            Found::Fresh { refresh: true, .. }
        )
    };
    for name in ["used.org", "idle.org"] {
        cache.insert(&key(name), answer(&key(name), LIFE), at(0));
    }
    assert!(!refresh("used.org", 10) && !refresh("used.org", 89));
    assert!(refresh("used.org", 90), "in the last tenth");
    assert!(!refresh("used.org", 95), "once");
    assert!(!refresh("idle.org", 95), "used for the first time");
    cache.insert(&key("used.org"), answer(&key("used.org"), LIFE), at(96));
    assert!(!refresh("used.org", 97));
}

#[test]
fn failing_upstreams_bring_back_what_was_known() {
    let cache = cache(1 << 20);
    let a = key("a.org");
    let kept = cache.insert(&a, answer(&a, LIFE), at(0));
    assert_eq!(cache.get(&a, at(200)), Found::Miss);
    assert_eq!(cache.failed(&a, failure(&a), at(201)), (kept.clone(), Age::Stale));
    assert_eq!(
        cache.get(&a, at(210)),
        Found::Stale(kept.clone()),
        "without asking"
    );
    assert_eq!(cache.get(&a, at(232)), Found::Miss, "ask again");
    assert_eq!(cache.stale(&a, at(232)), Some(kept));
    let beyond = 100 + 86_400;
    assert_eq!(cache.stale(&a, at(beyond)), None);
    let (given, age) = cache.failed(&a, failure(&a), at(beyond));
    assert_eq!((given.kind(), age), (Kind::Failure, Age::Fresh(0)));
    assert!(
        is_fresh(&cache, "a.org", beyond + 4),
        "the failure is known for a while"
    );
    assert!(!is_fresh(&cache, "a.org", beyond + 5));
    cache.insert(&a, answer(&a, LIFE), at(beyond + 6));
    cache.insert(&a, failure(&a), at(beyond + 7));
    assert!(
        matches!(cache.get(&a, at(beyond + 8)), Found::Fresh { answer, .. } if answer.kind() == Kind::Positive)
    );
}

#[test]
fn a_flood_of_random_names_pushes_out_nothing_that_is_used() {
    let cache = cache(1 << 20);
    let used: Vec<String> = (0..500).map(|n| format!("used{n}.org")).collect();
    for name in &used {
        cache.insert(&key(name), answer(&key(name), 9_000), at(0));
    }
    let touch = |seconds| used.iter().filter(|name| is_fresh(&cache, name, seconds)).count();
    assert_eq!((touch(1), touch(2)), (500, 500));
    for n in 0..100_000 {
        let name = format!("x{n}.flood.example");
        cache.insert(&key(&name), answer(&key(&name), 9_000), at(3));
    }
    assert_eq!(touch(4), 500);
    let statistics = cache.statistics();
    assert!(statistics.bytes <= 1 << 20, "{statistics:?}");
    assert!(statistics.evicted > 90_000, "{statistics:?}");
}

#[test]
fn what_comes_back_soon_is_kept() {
    let cache = cache(256 << 10);
    let flood = |from: u32, to: u32| {
        for n in from..to {
            let name = format!("x{n}.example");
            cache.insert(&key(&name), answer(&key(&name), 9_000), at(0));
        }
    };
    let back = "back.org";
    cache.insert(&key(back), answer(&key(back), 9_000), at(0));
    flood(0, 1_500);
    assert!(!is_fresh(&cache, back, 1), "it was new, and is gone");
    cache.insert(&key(back), answer(&key(back), 9_000), at(1));
    flood(2_000, 4_000);
    assert!(is_fresh(&cache, back, 2), "it had come back");
}

#[test]
fn names_and_zones_are_forgotten() {
    let cache = cache(1 << 20);
    for name in [
        "example.org",
        "a.example.org",
        "b.a.example.org",
        "notexample.org",
    ] {
        cache.insert(&key(name), answer(&key(name), LIFE), at(0));
    }
    assert_eq!(cache.forget_name(&Name::parse("A.example.org").unwrap()), 1);
    assert!(!is_fresh(&cache, "a.example.org", 1) && is_fresh(&cache, "b.a.example.org", 1));
    assert_eq!(cache.forget_zone(&Name::parse("example.org").unwrap()), 2);
    assert!(is_fresh(&cache, "notexample.org", 1));
    let mut seen = Vec::new();
    cache.visit(at(1), |entry| {
        seen.push((entry.question.name.to_string(), entry.left));
    });
    assert_eq!(seen, [("notexample.org".to_owned(), 99)]);
    assert_eq!(cache.clear(), 1);
    assert_eq!(cache.statistics().entries, 0);
    cache.insert(&key("example.org"), answer(&key("example.org"), LIFE), at(2));
    assert!(is_fresh(&cache, "example.org", 3));
}

#[test]
fn a_restart_keeps_answers_and_their_age() {
    let (before, after) = (cache(1 << 20), cache(1 << 20));
    let wall = |seconds: u64| Duration::from_secs(1_790_000_000 + seconds);
    for (name, life) in [("a.org", LIFE), ("b.org", 20)] {
        before.insert(&key(name), answer(&key(name), life), at(0));
    }
    before.insert(&key("bad.org"), failure(&key("bad.org")), at(0));
    let file = before.save(at(10), wall(10));
    // the host was started anew: its clock began at zero
    let loaded = after.load(&file, Duration::from_secs(5), wall(40)).unwrap();
    assert_eq!(
        loaded,
        Loaded {
            fresh: 1,
            stale: 1,
            dropped: 0
        }
    );
    let found = after.get(&key("a.org"), Duration::from_secs(5));
    assert!(
        matches!(&found, Found::Fresh { age: 40, answer: kept, .. } if **kept == answer(&key("a.org"), LIFE)),
        "{found:?}"
    );
    assert!(after.stale(&key("b.org"), Duration::from_secs(5)).is_some());
    let back = cache(1 << 20).load(&file, at(0), wall(5)).unwrap();
    assert_eq!(
        back,
        Loaded {
            fresh: 0,
            stale: 2,
            dropped: 0
        },
        "the clock was set back"
    );
}

#[test]
fn over_another_network_all_may_be_asked_again() {
    let cache = cache(1 << 20);
    let (known, unknown, fine) = (key("a.org"), key("b.org"), key("c.org"));
    cache.insert(&known, answer(&known, 5), at(0));
    cache.insert(&fine, answer(&fine, LIFE), at(0));
    let failure = |key: &Key| Answer::failure(key, 2, 22, "nobody", 30);
    let (_, age) = cache.failed(&known, failure(&known), at(6));
    assert_eq!(age, Age::Stale);
    cache.failed(&unknown, failure(&unknown), at(6));
    assert!(matches!(cache.get(&known, at(7)), Found::Stale(_)));
    assert!(matches!(cache.get(&unknown, at(7)), Found::Fresh { .. }));
    cache.forget_failures();
    for key in [&known, &unknown] {
        assert_eq!(cache.get(key, at(7)), Found::Miss);
    }
    assert!(cache.stale(&known, at(7)).is_some(), "while nobody answers");
    assert!(matches!(cache.get(&fine, at(7)), Found::Fresh { .. }));
}

#[test]
fn a_damaged_file_is_refused() {
    let full = cache(1 << 20);
    full.insert(&key("a.org"), answer(&key("a.org"), LIFE), at(0));
    let file = full.save(at(0), at(0));
    let load = |file: &[u8]| cache(1 << 20).load(file, at(0), at(0));
    assert_eq!(load(b"something else"), Err(LoadError::Magic));
    assert_eq!(load(&[]), Err(LoadError::Magic));
    assert_eq!(load(&file[..file.len() - 1]), Err(LoadError::Checksum));
    let mut flipped = file.clone();
    flipped[30] ^= 1;
    assert_eq!(load(&flipped), Err(LoadError::Checksum));
    // whoever computes the sum of a malformed entry gets no further
    let mut cut = file[..file.len() - 12].to_vec();
    let sum = siphash::<1, 3>([0x706f_7274, 0x6d61_7374], &cut);
    cut.extend_from_slice(&sum.to_be_bytes());
    assert_eq!(load(&cut), Err(LoadError::Entry(1)));
}

proptest! {
    /// Against the simplest cache there is: whatever is found was put in, and is within its life; no more than the room.
    #[test]
    fn nothing_is_found_that_was_not_put_in(steps in prop::collection::vec((0u8..40, 0u32..50, 0u64..30, any::<bool>()), 1..300)) {
        let cache = cache(32 << 10);
        let mut model = std::collections::HashMap::new();
        let mut now = 0;
        for (name, life, passed, put) in steps {
            now += passed;
            let key = key(&format!("n{name}.org"));
            if put {
                cache.insert(&key, answer(&key, life), at(now));
                if life > 0 { model.insert(name, (now, life)); }
            } else if let Found::Fresh { answer: found, age, .. } = cache.get(&key, at(now)) {
                let (stored, life) = model[&name];
                prop_assert_eq!((u64::from(age), found.lifetime()), (now - stored, life));
                prop_assert!(u64::from(life) > now - stored);
            }
            prop_assert!(cache.statistics().bytes <= 32 << 10);
        }
    }

    #[test]
    fn any_file_is_loaded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut file = b"PMDNSC01".to_vec();
        file.extend_from_slice(&bytes);
        let sum = siphash::<1, 3>([0x706f_7274, 0x6d61_7374], &file);
        file.extend_from_slice(&sum.to_be_bytes());
        let _ = cache(1 << 20).load(&file, at(0), at(0));
    }
}
