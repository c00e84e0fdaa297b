//! What is kept of answers, for how long, and what it spares programs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use integration::{Service, eventually};

use super::authority::{Asked, Scripted, now};

const SERVER: &str = "@127.0.0.1";

/// How often each name was asked for.
#[derive(Clone, Default)]
struct Counts(Arc<Mutex<HashMap<String, usize>>>);

impl Counts {
    /// And gives how often before.
    fn count(&self, asked: &Asked) -> usize {
        let mut counts = self.0.lock().unwrap();
        let count = counts.entry(asked.name.clone()).or_default();
        *count += 1;
        *count - 1
    }

    fn of(&self, name: &str) -> usize {
        self.0.lock().unwrap().get(name).copied().unwrap_or_default()
    }
}

/// "There is none" (RFC 2308): the zone's SOA record, which holds for `ttl`, and lets that be kept for `minimum`.
fn none(asked: &Asked, code: u8, ttl: u32, minimum: u32) -> Vec<u8> {
    let mut message = asked.empty(code);
    message.iter_mut().skip(9).take(1).for_each(|count| *count = 1);
    message.extend(b"\x07example\0\0\x06\0\x01");
    message.extend(ttl.to_be_bytes());
    // mname and rname are the root; serial, refresh, retry, expire
    message.extend([0, 22, 0, 0]);
    for number in [1, 3600, 600, 86_400, minimum] {
        message.extend(u32::to_be_bytes(number));
    }
    message
}

/// Seconds that a client may keep the first record.
fn ttl(said: &str) -> u32 {
    let section = said.split(";; ANSWER SECTION:").nth(1).unwrap_or_default();
    let line = section.lines().nth(1).unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .unwrap_or_default()
        .parse()
        .unwrap()
}

fn portmaster(scripted: &Scripted, words: &[&str]) -> String {
    let mut command = scripted.world.command(integration::binary("portmaster"));
    let output = command.arg("dns").args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_used_is_asked_for_before_its_end_and_nobody_waits_for_it() {
    const LIFE: u32 = 12;
    let counts = Counts::default();
    let asked = counts.clone();
    let scripted = Scripted::new("dns-prefetch", "", move |query| {
        let after = if asked.count(query) == 0 { 0 } else { 300 };
        vec![(Duration::from_millis(after), query.addresses(1, LIFE))]
    });
    let dig = scripted.dig("asks");
    let ask = |name: &str| {
        let said = dig.ask(&[SERVER, name]);
        assert_eq!(said.answers().len(), 1, "{}", said.0);
        said.0
    };
    ask("used.example");
    ask("idle.example");
    let began = Instant::now();
    let mut renewed = None;
    while began.elapsed() < Duration::from_secs(u64::from(LIFE) + 6) {
        ask("used.example");
        if counts.of("used.example") == 2 && renewed.is_none() {
            renewed = Some(began.elapsed());
        }
        thread::sleep(Duration::from_millis(100));
    }
    let renewed = renewed.unwrap();
    assert!(renewed < Duration::from_secs(LIFE.into()), "in time: {renewed:?}");
    assert_eq!(counts.of("used.example"), 2, "once for each life");
    assert_eq!(counts.of("idle.example"), 1, "nobody asked for it again");
    let log = portmaster(
        &scripted,
        &["log", "--once", "--json", "--domain", "used.example"],
    );
    let from = |origin: &str| log.matches(&format!("\"origin\":\"{origin}\"")).count();
    assert_eq!(from("upstream"), 1, "only who asked first had to wait: {log}");
    assert_eq!(from("cache") + 1, log.lines().count(), "{log}");
}

#[test]
fn that_there_is_none_is_kept_as_the_zone_says_and_the_owner_permits() {
    let counts = Counts::default();
    let asked = counts.clone();
    let settings = "[cache]\nmin_ttl = 2\nmax_ttl = 100\nmax_negative_ttl = 4\n";
    let scripted = Scripted::new("dns-negative", settings, move |query| {
        asked.count(query);
        now(match query.name.as_str() {
            "short.example" => none(query, 3, 300, 2),
            "long.example" => none(query, 3, 3600, 3600),
            "typeless.example" => none(query, 0, 2, 300),
            "hasty.example" => query.addresses(1, 0),
            _ => query.addresses(1, 90_000),
        })
    });
    let dig = scripted.dig("asks");
    let ask = |name: &str, status: &str| {
        let said = dig.ask(&[SERVER, name]);
        assert_eq!(said.status(), status, "{name}: {}", said.0);
        said.0
    };
    let all = [
        ("short.example", "NXDOMAIN"),
        ("long.example", "NXDOMAIN"),
        ("typeless.example", "NOERROR"),
        ("hasty.example", "NOERROR"),
    ];
    for (name, status) in all {
        for _ in 0..5 {
            ask(name, status);
        }
        assert_eq!(counts.of(name), 1, "{name} is kept");
    }
    let before = Instant::now();
    for (name, status) in all {
        eventually(&format!("{name} is asked for again"), || {
            ask(name, status);
            (counts.of(name) > 1).then_some(())
        });
    }
    assert!(
        before.elapsed() < Duration::from_secs(20),
        "none of it for an hour"
    );
    let said = ask("lasting.example", "NOERROR");
    assert!((95..=100).contains(&ttl(&said)), "the owner's bound: {said}");
}

#[test]
fn a_name_is_forgotten_alone_or_with_all_below_and_does_not_come_back_after_a_crash() {
    let counts = Counts::default();
    let asked = counts.clone();
    let mut scripted = Scripted::new("dns-flush", "", move |query| {
        asked.count(query);
        now(query.addresses(1, 3000))
    });
    const NAMES: [&str; 3] = ["a.example", "b.a.example", "ba.example"];
    let ask_all = |scripted: &Scripted| {
        for name in NAMES {
            let said = scripted.dig("asks").ask(&[SERVER, name]);
            assert_eq!(said.answers().len(), 1, "{}", said.0);
        }
        NAMES.map(|name| counts.of(name))
    };
    assert_eq!(ask_all(&scripted), [1, 1, 1]);
    assert_eq!(ask_all(&scripted), [1, 1, 1]);
    let kept = portmaster(&scripted, &["cache", "a.example", "--json"]);
    assert_eq!(kept.lines().count(), 2, "the zone alone: {kept}");
    assert!(kept.contains("\"name\":\"b.a.example\"") && kept.contains("\"code\":\"NOERROR\""));

    assert_eq!(portmaster(&scripted, &["flush", "a.example"]), "forgotten: 1\n");
    assert_eq!(ask_all(&scripted), [2, 1, 1]);
    assert_eq!(
        portmaster(&scripted, &["flush", "A.Example.", "--zone"]),
        "forgotten: 2\n"
    );
    assert_eq!(ask_all(&scripted), [3, 2, 1]);

    portmaster(&scripted, &["flush", "ba.example"]);
    eventually("what was flushed is written down", || {
        let kept = std::fs::read(scripted.world.state_dir(Service::Dns).join("cache")).ok()?;
        let has = |name: &[u8]| kept.windows(name.len()).any(|octets| octets == name);
        (has(b"\x01b\x01a\x07example") && !has(b"\x02ba\x07example")).then_some(())
    });
    scripted.world.kill(Service::Dns);
    scripted.world.start_service(Service::Dns);
    assert_eq!(
        ask_all(&scripted),
        [3, 2, 2],
        "the crash cost what was flushed, and no more"
    );

    portmaster(&scripted, &["flush"]);
    assert_eq!(portmaster(&scripted, &["cache", "--json"]), "");
    assert_eq!(ask_all(&scripted), [4, 3, 3]);
}
