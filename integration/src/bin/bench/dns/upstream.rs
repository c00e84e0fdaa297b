//! Whom all of them ask: nsd, with every name below one zone; whatever is not written there is one address.

use std::{fmt::Write as _, fs, process::Command};

use integration::{Running, World, eventually, process::run, world::INTERNET_V4};

use super::{names::CACHED, server::UPSTREAM};

const ZONE: &str =
    "$TTL 3600\n@ SOA ns hostmaster 1 3600 600 86400 300\n@ NS ns\nns A 198.18.17.10\n* A 198.18.17.80\n";

/// Names that are kept have an address each, as they have in the world.
fn zone() -> String {
    let mut text = ZONE.to_owned();
    for number in 0..CACHED {
        let [.., high, low] = number.to_be_bytes();
        writeln!(text, "n{number} A 198.19.{high}.{low}").expect("a string takes it");
    }
    text
}

/// On the second processor, until it is dropped.
pub(super) fn start(world: &World) -> Running {
    let place = world.root().join("nsd");
    fs::create_dir_all(&place).expect("make a folder");
    fs::write(place.join("zone"), zone()).expect("write a zone");
    let here = place.display();
    let text = format!(
        "server:\n ip-address: {INTERNET_V4}@{UPSTREAM}\n username: \"\"\n chroot: \"\"\n zonesdir: \"{here}\"\n database: \"\"\n \
         pidfile: \"\"\n xfrdfile: \"{here}/xfrd\"\n zonelistfile: \"{here}/zones\"\n server-count: 1\n rrl-ratelimit: 0\n\
         remote-control:\n control-enable: no\nzone:\n name: bench.example\n zonefile: \"zone\"\n"
    );
    let config = place.join("nsd.conf");
    fs::write(&config, text).expect("write nsd's configuration");
    let mut command: Command = world.internet.command("taskset");
    command
        .args(["-c", "1", "/usr/sbin/nsd", "-d", "-c"])
        .arg(&config);
    let nsd = Running::start_logged("nsd", command, &place.join("log"));
    eventually("the upstream listens", || {
        let sockets = run(world.internet.command("ss").arg("-Hlun"));
        sockets.contains(&format!(":{UPSTREAM} ")).then_some(())
    });
    nsd
}
