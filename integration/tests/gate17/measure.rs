//! What the tunnel carries, and what it costs: figures, not tests. `cargo nextest run --release -p integration --test gate17
//! --run-ignored only --no-capture measure`

use std::process::Command;

use integration::{Running, Service, World, eventually, profile, world::INTERNET_V4};

use crate::network::{ENTRY, ENTRY_TOKEN, Network};

const PORT: &str = "5201";

fn iperf(mut command: Command) -> String {
    let output = command
        .args(["-c", &INTERNET_V4.to_string(), "-p", PORT, "-t", "5", "-f", "m"])
        .output();
    let output = output.expect("start iperf3");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said.lines().rev().find(|line| line.contains("receiver"));
    line.map_or_else(
        || said.clone() + &String::from_utf8_lossy(&output.stderr),
        str::to_owned,
    )
}

#[test]
#[ignore = "a measurement"]
fn how_much_goes_through_circuits_of_one_to_three_hops() {
    let mut world = World::builder("g17-bulk")
        .config_file(ENTRY.0, ENTRY.1)
        .config_file(ENTRY_TOKEN.0, ENTRY_TOKEN.1)
        .start();
    let network = Network::start(&world);
    world.start_service(Service::Gate17Entry);
    let mut command = world.internet.command("iperf3");
    command.args(["-s", "-p", PORT]);
    let _server = Running::start_logged("iperf3", command, &world.root().join("iperf3.log"));
    let path = world.root().join("iperf3-app");
    std::fs::copy("/usr/bin/iperf3", &path).expect("copy iperf3");
    let run = |more: &[&str]| {
        let mut command = world.host.command(&path);
        command.args(more);
        iperf(command)
    };
    let direct = || run(&[]);
    println!("direct: {}", direct());
    for hops in [1, 2, 3] {
        world.profile(
            "iperf",
            &profile(&path, "tunnel", &format!("[tunnel]\nhops = {hops}\n")),
        );
        let wire = world.internet.capture();
        eventually("it is tunnelled", || {
            wire.clear();
            let mut command = world.host.command(&path);
            command.args(["-c", &INTERNET_V4.to_string(), "-p", PORT, "-n", "1K"]);
            let worked = command.output().expect("start iperf3").status.success();
            std::thread::sleep(std::time::Duration::from_millis(300));
            let host = world.link.a.v4;
            let clear = wire.seen(|packet| packet.from == host && packet.to == INTERNET_V4);
            (worked && clear.is_empty()).then_some(())
        });
        drop(wire);
        println!("{hops} hops: {}", run(&[]));
        println!("{hops} hops, 20 streams: {}", run(&["-P", "20"]));
        println!("{hops} hops, towards us: {}", run(&["-R"]));
    }
    drop(network);
}
