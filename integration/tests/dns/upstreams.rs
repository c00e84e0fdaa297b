//! Upstreams that fail or lie, a network that goes and comes back, and who is judged by what when it takes long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use integration::{Service, World, eventually, profile, world::INTERNET_V4};

use super::{
    authority::{Asked, Scripted, now},
    stage::{Dig, Said, path_of},
};

const SERVER: &str = "@127.0.0.1";
/// A failure is soon forgotten, and nothing else: answers live two seconds, and long beyond it while nobody answers.
const SHORT: &str = "deadline_ms = 2000\n[cache]\nmin_ttl = 1\n";

/// The first address that [`Asked::addresses`] gives, for assertions.
const TRUE: &str = "203.0.113.0";

fn is_stale(said: &Said) -> bool {
    said.0.contains("EDE: 3 (Stale Answer)") && said.answers() == [TRUE]
}

/// An answer with another address in it: what a liar would have us believe.
fn lie(asked: &Asked) -> Vec<u8> {
    let mut message = asked.addresses(1, 300);
    message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4, 198, 51, 100, 66]);
    message.iter_mut().skip(7).take(1).for_each(|count| *count = 2);
    message
}

#[test]
fn what_does_not_fit_the_question_is_not_believed() {
    let scripted = Scripted::new("dns-lies", "", |asked| {
        let changed = |at: usize| {
            let mut message = lie(asked);
            message.iter_mut().skip(at).take(1).for_each(|octet| *octet ^= 1);
            message
        };
        let lies = match asked.name.as_str() {
            "id.example" => vec![changed(1)],
            "question.example" => vec![changed(13)],
            "kind.example" => vec![changed(12 + asked.name.len() + 3)],
            "query.example" => vec![asked.query.clone()],
            "garbage.example" => vec![vec![255; 700], vec![0; 11], Vec::new()],
            "half.example" => {
                let whole = asked.addresses(3, 300);
                vec![whole.get(..whole.len() - 5).unwrap_or_default().to_vec()]
            }
            _ => Vec::new(),
        };
        let soon = |message| (Duration::ZERO, message);
        let late = (Duration::from_millis(100), asked.addresses(1, 300));
        lies.into_iter().map(soon).chain([late]).collect()
    });
    let dig = scripted.dig("asks");
    for name in ["id", "question", "kind", "query", "garbage", "half"] {
        let said = dig.ask(&[SERVER, &format!("{name}.example")]);
        assert!(!said.0.contains("198.51.100.66"), "{name}: {}", said.0);
        // half an answer is a failure that says so; all else is left unread, and the true one awaited
        let wanted: &[&str] = if name == "half" { &[] } else { &[TRUE] };
        assert_eq!(said.answers(), wanted, "{name}: {}", said.0);
    }
    let said = dig.ask(&[SERVER, "fine.example"]);
    assert_eq!(said.answers(), [TRUE], "{}", said.0);
}

#[test]
fn an_upstream_that_hangs_is_an_error_in_time_and_comes_back_by_itself() {
    let mode = Arc::new(AtomicU8::new(0));
    let script = Arc::clone(&mode);
    let scripted = Scripted::new("dns-hangs", SHORT, move |asked| match script.load(SeqCst) {
        // over TCP it hangs up in the middle of a message
        1 if asked.tcp => now(Vec::new()),
        1 => now(asked.cut()),
        2 => Vec::new(),
        3 => now(asked.empty(2)),
        // answers long after anybody waits
        4 => vec![(Duration::from_secs(4), asked.addresses(1, 300))],
        _ => now(asked.addresses(1, 300)),
    });
    let dig = scripted.dig("asks");
    for (broken, name) in [(1, "tcp"), (2, "silence"), (3, "servfail"), (4, "late")] {
        mode.store(broken, SeqCst);
        let said = dig.ask(&[SERVER, "+time=15", &format!("{name}.example")]);
        assert_eq!(said.status(), "SERVFAIL", "{name}: {}", said.0);
        assert!(said.0.contains("EDE: "), "{name} says why: {}", said.0);
        mode.store(0, SeqCst);
        eventually("it is asked again", || {
            let said = dig.ask(&[SERVER, &format!("after-{name}.example")]);
            (said.answers() == [TRUE]).then_some(())
        });
    }
}

#[test]
fn while_the_network_is_away_what_was_known_is_given_and_afterwards_all_is_as_before() {
    let scripted = Scripted::new("dns-away", SHORT, |asked| now(asked.addresses(1, 2)));
    let dig = scripted.dig("asks");
    let said = dig.ask(&[SERVER, "known.example"]);
    assert_eq!(said.answers(), [TRUE], "{}", said.0);
    let (world, pid) = (&scripted.world, scripted.world.service(Service::Dns).pid());
    let interface = &world.link.interface;
    let heard = |what: &str| world.output(Service::Dns).matches(what).count();
    // a cable that is pulled far away, and one here, with which the routes go
    for (side, namespace) in [&world.internet, &world.host].into_iter().enumerate() {
        namespace.sh(&format!("ip link set {interface} down"));
        eventually("nobody has to find out that there is no way", || {
            (heard("upstream is not reached any more") > side).then_some(())
        });
        eventually("its time is over, and it is given all the same", || {
            is_stale(&dig.ask(&[SERVER, "+time=15", "known.example"])).then_some(())
        });
        let unknown = format!("unknown-{side}.example");
        let said = dig.ask(&[SERVER, "+time=15", &unknown]);
        assert_eq!(said.status(), "SERVFAIL", "{}", said.0);
        assert!(said.0.contains("EDE: "), "{}", said.0);
        namespace.sh(&format!("ip link set {interface} up"));
        let gateway = world.link.b.v4;
        world
            .host
            .sh(&format!("ip -4 route replace default via {gateway}"));
        eventually("it is heard that the network is back", || {
            (heard("servers are reached another way") > side).then_some(())
        });
        // at once: no pause has to end, and the failure of before is forgotten
        let said = dig.ask(&[SERVER, "+tries=1", "+time=15", &unknown]);
        assert_eq!(said.answers(), [TRUE], "{}", said.0);
    }
    assert_eq!(scripted.world.service(Service::Dns).pid(), pid);
    assert_eq!(dig.ask(&[SERVER, "known.example"]).status(), "NOERROR");
}

#[test]
fn a_query_that_waits_is_judged_by_the_policy_in_force_when_it_is_answered() {
    let (asked, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, gate) = (Arc::clone(&asked), Arc::clone(&go));
    let scripted = Scripted::new("dns-change", "deadline_ms = 30000\n", move |asked| {
        if asked.name == "waits.example" {
            count.fetch_add(1, SeqCst);
            if !gate.load(SeqCst) {
                return Vec::new();
            }
        }
        now(asked.addresses(1, 300))
    });
    let world = &scripted.world;
    let (waits, other) = (scripted.dig("waits"), scripted.dig("waits-too"));
    let refused = |name: &str| {
        let path = path_of(world, name);
        let rule = "[[rule]]\naction = \"block\"\nremote = [\"waits.example\", \"sees.example\"]\n";
        world.profile(name, &profile(&path, "allow", rule));
    };
    std::thread::scope(|scope| {
        let words = [SERVER, "+time=25", "+tries=1", "waits.example"];
        let (asker, asker_too) = (&waits, &other);
        let asks = scope.spawn(move || asker.ask(&words));
        let asks_too = scope.spawn(move || asker_too.ask(&words));
        eventually("it waits for its upstream", || {
            (asked.load(SeqCst) > 0 && scripted.counter("lookups_now") >= 2).then_some(())
        });
        refused("waits");
        eventually("the rule is in force", || {
            (waits.ask(&[SERVER, "sees.example"]).status() == "NXDOMAIN").then_some(())
        });
        go.store(true, SeqCst);
        let said = asks.join().unwrap();
        assert_eq!(said.status(), "NXDOMAIN", "{}", said.0);
        assert!(said.0.contains("waits#1"), "it says by which rule: {}", said.0);
        let said = asks_too.join().unwrap();
        assert_eq!(said.answers(), [TRUE], "another program's rule: {}", said.0);
    });
}

#[test]
fn another_host_is_not_answered_even_where_no_firewall_stands() {
    let toml = format!("[resolve.upstreams]\nservers = [\"udp://{INTERNET_V4}\"]\n");
    let world = World::builder("dns-foreign")
        .without_services()
        .config_file("dns.toml", &toml)
        .with(Service::Dns)
        .start();
    // what protects loopback addresses is switched off as well: the service alone refuses
    world.host.sh(&format!(
        "for i in all lo {0}; do echo 1 >/proc/sys/net/ipv4/conf/$i/route_localnet; done; \
         echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter; echo 0 >/proc/sys/net/ipv4/conf/{0}/rp_filter",
        world.link.interface
    ));
    world.internet.sh(&format!(
        "for i in all {1}; do echo 1 >/proc/sys/net/ipv4/conf/$i/route_localnet; done; \
         ip route add 127.0.0.17/32 via {0} src {2} table 17; ip rule add pref 0 to 127.0.0.17 table 17; \
         ip rule add pref 1 from all lookup local; ip rule del pref 0 from all lookup local",
        world.link.a.v4, world.link.interface, world.link.b.v4
    ));
    let _ = Dig::new(&world, "/usr/bin/dig", "own").ask(&[SERVER, "localhost"]);
    let counter = || super::stage::counter(&world, "queries_foreign").unwrap_or(0);
    for transport in ["+notcp", "+tcp"] {
        let before = counter();
        let mut command = world.internet.command("dig");
        command.args([
            "+tries=1",
            "+time=2",
            transport,
            "-b",
            &world.link.b.v4.to_string(),
            "@127.0.0.17",
            "localhost",
        ]);
        let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
        assert!(!said.contains("status:"), "{said}");
        eventually("it was seen and left", || (counter() > before).then_some(()));
    }
    let said = Dig::new(&world, "/usr/bin/dig", "own").ask(&["@127.0.0.17", "localhost"]);
    assert_eq!(said.answers(), ["127.0.0.1"], "{}", said.0);
}

#[test]
fn the_desktop_is_told_of_upstreams_as_the_command_line_is() {
    let zones =
        "[[resolve.zones]]\nnames = [\"corp.example\"]\nupstreams.servers = [\"udp://203.0.113.99\"]\n";
    let mut scripted = Scripted::new("dns-told", zones, |asked| now(asked.addresses(1, 300)));
    let said = scripted.dig("asks").ask(&[SERVER, "known.example"]);
    assert_eq!(said.answers(), [TRUE], "{}", said.0);
    let address = scripted.world.bus().address();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (upstreams, flushed) = eventually("the service is on the bus", || {
        runtime.block_on(async {
            let bus = zbus::connection::Builder::address(address.as_str());
            let bus = bus.build().await.ok()?;
            let dns = dbus::Dns1Proxy::new(&bus).await.ok()?;
            Some((
                dns.upstreams().await.ok()?,
                dns.flush("known.example").await.ok()?,
            ))
        })
    });
    assert_eq!(flushed, 1);
    let mut command = scripted.world.command(integration::binary("portmaster"));
    let output = command.args(["dns", "upstreams", "--json"]).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let of = |name: &str| {
        let upstream = upstreams.iter().find(|upstream| upstream.name == name).unwrap();
        let line = lines.lines().find(|line| line.contains(name)).unwrap();
        let told: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(told["source"], upstream.source.as_str(), "{line}");
        assert_eq!(told["zones"], serde_json::json!(upstream.zones), "{line}");
        upstream
    };
    let all = of(&format!("udp://{INTERNET_V4}"));
    assert!(
        all.up && all.queries > 0 && all.failures == 0 && all.round_trip > 0 && all.zones.is_empty(),
        "{all:?}"
    );
    let corp = of("udp://203.0.113.99");
    assert_eq!(
        (&corp.zones[..], corp.queries),
        (&["corp.example".to_owned()][..], 0)
    );
    assert_eq!(corp.source, "configured");
}
