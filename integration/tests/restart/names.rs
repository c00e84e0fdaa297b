//! Names: asked of each of the service's addresses and of strangers, whose queries are caught, while it restarts and is killed.

use std::net::IpAddr;

use integration::{
    Booted, NameServer,
    booted::{Builder, INTERNET},
    eventually,
};
use tempfile::TempDir;

use crate::{
    SERVICES, kill, load, meanwhile,
    script::{Asked, PLACE, PYTHON, Started},
};

/// Our own addresses.
const OURS: [&str; 3] = ["127.0.0.1", "127.0.0.17", "::1"];
/// Addresses that are nobody's.
pub(crate) const STRANGERS: [&str; 2] = ["203.0.113.53", "2001:db8::53"];
pub(crate) const UNIT: &str = "portmaster-dns.service";
/// Seconds until a query is asked again, as `resolv.conf(5)` has it.
const PATIENCE: &str = "5";

/// Under way; dropped, it ends.
pub(crate) struct Names {
    asking: Started,
    _upstream: NameServer,
    _folder: TempDir,
}

/// Whom the service asks.
pub(crate) fn files(host: Builder) -> Builder {
    let settings = format!("[resolve.upstreams]\nservers = [\"udp://{}\"]\n", INTERNET.0);
    host.file("/etc/portmaster/dns.toml", &settings)
}

impl Names {
    pub(crate) fn start(host: &Booted) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let answer = INTERNET.0.to_string();
        let records = [format!("address=/load.example/{answer}")];
        let upstream = NameServer::start(
            &host.internet,
            &[IpAddr::from(INTERNET.0)],
            &records,
            folder.path(),
        );
        // redirection begins when the interceptor has reached the service for the first time
        let [v4, v6] = STRANGERS;
        eventually("who asks a stranger is sent to us", || {
            let once = format!("{PYTHON} {PLACE}/names.py once {answer} {v4} {v6}");
            host.attempt(&once).status.success().then_some(())
        });
        let arguments: Vec<&str> = [PATIENCE, &answer]
            .into_iter()
            .chain(OURS)
            .chain(STRANGERS)
            .collect();
        Self {
            asking: Started::inside(host, PYTHON, "names.py", &arguments),
            _upstream: upstream,
            _folder: folder,
        }
    }

    /// Ends it, and counts.
    pub(crate) fn stop(self) -> Asked {
        let asked = self.asking.told();
        println!("names:\n{asked}\n");
        asked
    }
}

/// Does something under load of names and of all else.
fn names_meanwhile(label: &str, what: &str, act: impl FnMut(&Booted)) -> Asked {
    let host = files(load::files(Booted::builder(label))).start();
    host.wait_for(UNIT, "active");
    let names = Names::start(&host);
    let outcome = meanwhile(&host, what, act);
    let asked = names.stop();
    outcome.assert_nothing_lost();
    asked
}

#[test]
fn a_restart_of_dns_drops_no_query() {
    let what = format!("systemctl restart {UNIT}");
    let asked = names_meanwhile("r-dns", &what, |host| {
        host.systemctl(&format!("restart {UNIT}"));
    });
    asked.assert_none_dropped();
}

/// What the killed process had read and not answered is asked again by whoever asked; no more can be done for it.
#[test]
fn a_killed_dns_refuses_nobody_and_each_query_is_answered_in_the_end() {
    names_meanwhile("k-dns", &format!("kill -9 {UNIT}"), |host| kill(host, UNIT)).assert_all_answered();
}

/// Who asks is found out by other services, which are new in that moment as well; also of queries that strayed. One of those may have
/// to be asked again on a busy host.
#[test]
fn a_restart_of_all_services_at_once_refuses_no_query_and_answers_each() {
    let what = format!("systemctl restart {}", SERVICES.join(" "));
    let asked = names_meanwhile("r-mesh", &what, |host| {
        host.systemctl(&format!("restart {}", SERVICES.join(" ")));
    });
    asked.assert_all_answered();
}
