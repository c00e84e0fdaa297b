//! Restarts, crashes and upgrades of the real units in the middle of traffic: what is lost is counted.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests: what fails there fails the test"
)]

mod calls;
mod clock;
mod endings;
mod load;
mod names;
mod package;
mod rpm;
mod script;
mod tunnel;

use std::{thread, time::Duration};

use integration::{Booted, eventually};
use load::{Load, Outcome, host};

/// All of the mesh.
const SERVICES: [&str; 6] = [
    "portmaster-interceptor.service",
    "portmaster-process-resolver.service",
    "portmaster-policy.service",
    names::UNIT,
    tunnel::UNIT,
    calls::UNIT,
];

/// Times that each thing is done; `PORTMASTER_RESTARTS=20` gives the figures of docs/reliability.md.
fn times() -> usize {
    std::env::var("PORTMASTER_RESTARTS")
        .ok()
        .and_then(|times| times.parse().ok())
        .unwrap_or(3)
}

/// Under load: does something, so many times, and gives what was lost.
fn meanwhile(host: &Booted, what: &str, mut act: impl FnMut(&Booted)) -> Outcome {
    let load = Load::start(host);
    thread::sleep(Duration::from_millis(300));
    for _ in 0..times() {
        act(host);
        thread::sleep(Duration::from_millis(300));
    }
    let outcome = load.stop();
    println!("{what}, {} times:\n{outcome}\n", times());
    outcome
}

#[test]
fn without_a_restart_nothing_is_lost() {
    let host = host("calm");
    meanwhile(&host, "nothing", |_| thread::sleep(Duration::from_millis(200))).assert_nothing_lost();
}

/// Each on a host of its own: ports are new ones to its kernel.
fn restarts(label: &str, unit: &str) {
    let host = host(label);
    let what = format!("systemctl restart {unit}");
    let outcome = meanwhile(&host, &what, |host| {
        host.systemctl(&format!("restart {unit}"));
    });
    outcome.assert_nothing_lost();
}

#[test]
fn a_restart_of_the_interceptor_loses_nothing() {
    restarts("r-int", "portmaster-interceptor.service");
}

#[test]
fn a_restart_of_the_process_resolver_loses_nothing() {
    restarts("r-res", "portmaster-process-resolver.service");
}

#[test]
fn a_restart_of_policy_loses_nothing() {
    restarts("r-pol", "portmaster-policy.service");
}

#[test]
fn a_restart_of_all_of_them_loses_nothing() {
    let all = "portmaster-interceptor portmaster-process-resolver portmaster-policy";
    restarts("r-all", all);
}

/// Its sockets are closed and opened again; whoever wants one waits in the queue meanwhile, as everybody does.
#[test]
fn a_restart_of_the_target_loses_nothing() {
    restarts("r-target", "portmaster.target");
}

fn killed(label: &str, unit: &str) -> Outcome {
    let host = host(label);
    meanwhile(&host, &format!("kill -9 {unit}"), |host| kill(host, unit))
}

/// SIGKILL, and waits until another process is the service.
fn kill(host: &Booted, unit: &str) {
    let pid = host.property(unit, "MainPID");
    host.systemctl(&format!("kill --signal=KILL --kill-whom=main {unit}"));
    eventually("it is back", || {
        let back = host.property(unit, "MainPID") != pid && host.property(unit, "ActiveState") == "active";
        back.then_some(())
    });
}

#[test]
fn a_killed_interceptor_loses_nothing() {
    killed("k-int", "portmaster-interceptor.service").assert_nothing_lost();
}

#[test]
fn a_killed_process_resolver_loses_nothing() {
    killed("k-res", "portmaster-process-resolver.service").assert_nothing_lost();
}

#[test]
fn a_killed_policy_loses_nothing() {
    killed("k-pol", "portmaster-policy.service").assert_nothing_lost();
}

#[test]
fn a_restart_of_the_bus_loses_nothing() {
    let host = host("r-bus");
    // systemd gives up on a bus that is restarted so often
    let script = "systemctl reset-failed dbus.service; systemctl restart dbus.service";
    meanwhile(&host, "systemctl restart dbus", |host| {
        host.run(script);
    })
    .assert_nothing_lost();
}
