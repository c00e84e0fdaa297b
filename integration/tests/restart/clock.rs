//! The wall clock jumps, for all services at once: what is decided, answered and told goes on.

use integration::{Booted, WrongClock};

use crate::{
    SERVICES,
    calls::Calls,
    load, meanwhile,
    names::{self, Names},
};

const YEAR: i64 = 365 * 86_400;

#[test]
fn a_clock_that_jumps_years_ahead_and_back_loses_nothing_also_over_restarts() {
    let host = names::files(load::files(Booted::builder("clock"))).start();
    let clock = WrongClock::new(&host.root().join("opt"));
    let preload = "[Service]\nEnvironment=LD_PRELOAD=/opt/clock.so CLOCK_SET_BY=/opt/clock-set-by\n";
    for unit in SERVICES {
        host.file(&format!("/etc/systemd/system/{unit}.d/clock.conf"), preload);
    }
    host.systemctl("daemon-reload");
    host.systemctl(&format!("restart {}", SERVICES.join(" ")));
    for unit in SERVICES {
        let pid = host.property(unit, "MainPID");
        host.run(&format!("grep -q clock-set-by /proc/{pid}/maps"));
    }
    let (names, calls) = (Names::start(&host), Calls::start(&host));
    let mut jumps = [10 * YEAR, -10 * YEAR, 3600, 0].into_iter().cycle();
    let outcome = meanwhile(&host, "the clock jumps", |host| {
        clock.set_by(jumps.next().unwrap());
        host.systemctl(&format!("restart {}", SERVICES.join(" ")));
        clock.set_by(jumps.next().unwrap());
    });
    outcome.assert_nothing_lost();
    names.stop().assert_own_answered(&names::STRANGERS);
    let (asked, watched) = calls.stop();
    asked.assert_all_answered();
    watched.assert_nothing_missed(&outcome);
}
