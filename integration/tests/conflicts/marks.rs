//! Marks of others, and what they really do to decisions.

use std::time::Duration;

use integration::{Namespace, World, app::ATTEMPT, binary, eventually};

use crate::{Said, check, run};

/// As Kubernetes marks what it is to masquerade.
const OVERWRITES: &str = "iptables-nft -t nat -A OUTPUT -j MARK --or-mark 0x4000";
/// As programs for policy routing do.
const KEEPS: &str = "iptables-nft -t mangle -A POSTROUTING -j CONNMARK --set-xmark 0x4000/0x4000";

fn said_of(world: &World) -> Said {
    let config = world.config_dir();
    run(
        world.command(binary("portmaster")),
        &["--config", config.to_str().unwrap()],
    )
}

#[test]
fn a_mark_over_ours_is_a_clash_and_what_was_allowed_is_dropped() {
    let world = World::start("marks");
    let server = world.internet.echo(world.internet_addresses()[0], 443);
    let app = world.app("browser");
    assert!(app.connect(&world, server).connected);
    world.host.sh(OVERWRITES);
    let said = said_of(&world);
    assert_eq!(said.status, Some(2), "{said:#?}");
    assert!(said.text("mark-overwritten").contains("nat OUTPUT"), "{said:#?}");
    assert!(
        !app.connect(&world, server).connected,
        "called a clash, and does no harm"
    );
}

#[test]
fn a_connections_mark_over_ours_is_a_clash_and_ends_what_was_allowed() {
    let world = World::start("connmarks");
    let server = world.internet.echo(world.internet_addresses()[0], 443);
    let app = world.app("browser");
    let mut call = app.call(&world, server);
    assert!(call.echoes("before", ATTEMPT));
    world.host.sh(KEEPS);
    let said = said_of(&world);
    assert_eq!(
        (said.codes(), said.status),
        (vec![("clash", "connection-mark")], Some(2))
    );
    // what the rule has seen is not let through any more
    let _seen = call.echoes("seen", Duration::from_millis(500));
    assert!(
        !call.echoes("after", Duration::from_secs(1)),
        "called a clash, and does no harm"
    );
}

#[test]
fn with_bits_of_our_own_as_the_remedy_says_both_work() {
    let world = World::start("apart");
    world.host.sh(KEEPS);
    world.host.sh(OVERWRITES);
    let remedy = said_of(&world).text("mark-overwritten");
    assert!(remedy.contains("[marks] mask = 0x7ff, shift = 0"), "{remedy}");
    drop(world);
    let world = World::builder("apart")
        .config_file("interceptor.toml", "[marks]\nmask = 0x7ff\nshift = 0\n")
        .start();
    world.host.sh(KEEPS);
    world.host.sh(OVERWRITES);
    let said = said_of(&world);
    assert_eq!((said.codes(), said.status), (vec![], Some(0)), "{said:#?}");
    let server = world.internet.echo(world.internet_addresses()[0], 443);
    let (browser, telemetry) = (world.app("browser"), world.app("telemetry"));
    assert!(browser.call(&world, server).echoes("allowed", ATTEMPT));
    world.profile("telemetry", &telemetry.profile("block", ""));
    eventually("it is refused", || {
        (!telemetry.connect(&world, server).connected).then_some(())
    });
}

#[test]
fn marks_of_nft_are_judged_by_place_and_bits() {
    let judged = |hook: &str, rule: &str| {
        let host = Namespace::new("nftmark");
        host.sh(&format!(
            "nft 'table inet vpn {{ chain c {{ type filter hook {hook}; {rule}; }}; }}'"
        ));
        let said = check(&host);
        let codes: Vec<_> = said
            .codes()
            .into_iter()
            .map(|(level, code)| format!("{level} {code}"))
            .collect();
        codes.join(", ")
    };
    let (between, before, after) = (
        "output priority -100",
        "output priority -300",
        "output priority 10",
    );
    assert_eq!(judged(between, "meta mark set 0xca6c"), "clash mark-overwritten");
    assert_eq!(judged(before, "meta mark set 0xca6c"), "beside mark-kept");
    assert_eq!(judged(after, "meta mark set 0xca6c"), "");
    assert_eq!(
        judged(after, "ct mark set ct mark and 0xffff00ff or 0x100"),
        "clash connection-mark"
    );
    assert_eq!(judged("forward priority 0", "ct mark set 0x1"), "");
}
