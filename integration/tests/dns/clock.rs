//! The wall clock is set while the service runs, and between two runs: what counts spans of time is as the kernel has it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use integration::{Service, WrongClock, eventually};

use super::{
    authority::{Scripted, now},
    names, stage,
};

const SERVER: &str = "@127.0.0.1";
const DAY: i64 = 86_400;

#[test]
fn setting_the_wall_clock_ends_no_answer_and_no_name_and_lengthens_none() {
    let asked: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let counts = Arc::clone(&asked);
    let count = |name: &str| asked.lock().unwrap().get(name).copied().unwrap_or_default();
    let mut scripted = Scripted::new("dns-clock", "[cache]\nmin_ttl = 1\n", move |asked| {
        *counts.lock().unwrap().entry(asked.name.clone()).or_default() += 1;
        now(asked.addresses(1, if asked.name == "short.example" { 1 } else { 3000 }))
    });
    let clock = WrongClock::new(scripted.world.root());
    let restart = |scripted: &mut Scripted, by: i64| {
        scripted.world.stop(Service::Dns);
        clock.set_by(by);
        let mut command = scripted.world.service_command(Service::Dns);
        clock.give_to(&mut command);
        scripted.world.start_as(Service::Dns, command);
    };
    restart(&mut scripted, 0);
    let ask = |scripted: &Scripted, name: &str| {
        let said = scripted.dig("asks").ask(&[SERVER, name]);
        assert_eq!(said.answers().len(), 1, "{}", said.0);
    };
    let connect = |scripted: &Scripted, what: &str| {
        let script = format!("{}\n{what}", names::RESOLV);
        let mut python = stage::python(&scripted.world, "connects");
        assert!(python.args(["-c", &script]).status().unwrap().success());
    };
    ask(&scripted, "long.example");
    connect(&scripted, "ask('named.example')");
    for by in [DAY, -DAY, 3650 * DAY, -20_000 * DAY] {
        clock.set_by(by);
        let before = count("short.example");
        eventually("what is over is over", || {
            ask(&scripted, "short.example");
            (count("short.example") > before + 1).then_some(())
        });
        ask(&scripted, "long.example");
        assert_eq!(count("long.example"), 1, "set by {by} s");
    }
    // as written before the clock was set, and by a clock that was wrong
    for by in [30 * DAY, -30 * DAY] {
        restart(&mut scripted, by);
        ask(&scripted, "long.example");
        assert_eq!(count("long.example"), 1, "restarted, set by {by} s");
    }
    // who learns all names from the service
    let events = {
        let world = &mut scripted.world;
        world.stop(Service::Interceptor);
        world.start_service(Service::Interceptor);
        eventually("the interceptor knows names", || {
            (stage::counter(world, "names_told")? > 0).then_some(())
        });
        world.events()
    };
    let connection = "s = socket.socket()\ns.settimeout(0.1)\ns.connect_ex(('203.0.113.0', 7))";
    connect(&scripted, connection);
    events.wait_for("the name is known still", |event| {
        names::told(event, "connects", "named.example")
    });
}
