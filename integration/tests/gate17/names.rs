//! Names of programs that are tunnelled are not asked for in the clear by who cannot tell that they are.

use std::{net::Ipv4Addr, path::PathBuf, process::Command};

use integration::{NameServer, Service, World, eventually, world::INTERNET_V4};

use crate::circuits::output;

/// Whom the DNS service asks.
const UPSTREAM: Ipv4Addr = Ipv4Addr::new(198, 18, 17, 53);

/// Asks for names below one; prints the code of the last answer. `gone`: does not wait for any.
const ASK: &str = "
import socket, struct, sys
server, zone, count, gone = sys.argv[1], sys.argv[2], int(sys.argv[3]), len(sys.argv) > 4
for number in range(count):
    labels = f'n{number}.{zone}'.split('.')
    said = struct.pack('>HHHHHH', number + 1, 0x100, 1, 0, 0, 0)
    said += b''.join(bytes([len(label)]) + label.encode() for label in labels) + b'\\0\\0\\1\\0\\1'
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.connect((server, 53))
        s.send(said)
        if not gone:
            print(s.recv(2048)[3] & 0xf)
";

fn ask(world: &World, program: &PathBuf, zone: &str, count: usize, gone: &[&str]) -> String {
    let mut command: Command = world.host.command(program);
    command.env("PYTHONHOME", "/usr").args(["-c", ASK]);
    command.args([&INTERNET_V4.to_string(), zone, &count.to_string()]);
    output(command.args(gone)).trim().to_owned()
}

#[test]
fn who_may_be_a_tunnelled_program_is_not_asked_for_in_the_clear() {
    let upstream = format!("[resolve.upstreams]\nservers = [\"udp://{UPSTREAM}\"]\n");
    let mut world = World::builder("g17-names")
        .config_file("dns.toml", &upstream)
        .with(Service::Dns)
        .start();
    world.internet.add_address(UPSTREAM);
    let records = ["address=/zone.example/192.0.2.17".to_owned()];
    let names = NameServer::start(&world.internet, &[UPSTREAM.into()], &records, world.root());
    let programs = ["tunnelled", "direct"].map(|name| {
        let path = world.root().join("apps").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(std::fs::canonicalize("/usr/bin/python3").unwrap(), &path).unwrap();
        path
    });
    let [tunnelled, direct] = &programs;
    eventually("names are answered", || {
        (ask(&world, direct, "first.zone.example", 1, &[]) == "0").then_some(())
    });
    // there is no entry: what is to be asked through the tunnel fails
    world.profile("tunnelled", &integration::profile(tunnelled, "tunnel", ""));
    eventually("the profile is in force", || {
        (ask(&world, tunnelled, "early.zone.example", 1, &[]) == "2").then_some(())
    });
    assert_eq!(ask(&world, direct, "second.zone.example", 1, &[]), "0");

    // whoever asks and is gone before anybody looks who it was
    ask(&world, tunnelled, "gone.zone.example", 100, &["gone"]);
    assert_eq!(
        ask(&world, direct, "behind.zone.example", 1, &[]),
        "0",
        "all before it are done with"
    );
    let asked: Vec<_> = (0..100)
        .filter(|number| names.asked(&format!("n{number}.gone.zone.example")) > 0)
        .collect();
    assert_eq!(asked, [0; 0]);

    // while nobody can say who asks
    world.kill(Service::Resolver);
    eventually("programs are not known", || {
        (ask(&world, direct, "lost.zone.example", 1, &[]) == "2").then_some(())
    });
    for program in &programs {
        assert_eq!(ask(&world, program, "unknown.zone.example", 3, &[]), "2\n2\n2");
    }
    assert_eq!(names.asked("n0.unknown.zone.example"), 0);
    world.start_service(Service::Resolver);
    eventually("they are known again", || {
        (ask(&world, direct, "known.zone.example", 1, &[]) == "0").then_some(())
    });

    // and where nobody is tunnelled, names are answered as those of an unknown program
    world.remove_profile("tunnelled");
    eventually("nobody is tunnelled", || {
        (ask(&world, tunnelled, "late.zone.example", 1, &[]) == "0").then_some(())
    });
    world.kill(Service::Resolver);
    assert_eq!(ask(&world, direct, "nobody.zone.example", 2, &[]), "0\n0");
}
