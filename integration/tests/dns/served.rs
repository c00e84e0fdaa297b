//! Who asks anybody is answered by the local server.

use integration::{Service, eventually, world::INTERNET_V4, world::INTERNET_V6};

use super::stage::{ELSEWHERE_V4, ELSEWHERE_V6, Stage};

#[test]
fn the_local_server_answers_on_all_its_addresses() {
    let stage = Stage::new("dns", &[], "");
    let dig = stage.dig("asks");
    for server in ["@127.0.0.1", "@::1", "@127.0.0.17"] {
        for transport in ["+notcp", "+tcp"] {
            let said = dig.ask(&[server, transport, "fine.example", "A"]);
            assert_eq!(
                said.answers(),
                [INTERNET_V4.to_string()],
                "{server} {transport}: {}",
                said.0
            );
        }
        let said = dig.ask(&[server, "fine.example", "AAAA"]);
        assert_eq!(said.answers(), [INTERNET_V6.to_string()], "{}", said.0);
        let said = dig.ask(&[server, "missing.example", "A"]);
        assert_eq!(said.status(), "NXDOMAIN", "{}", said.0);
    }
    assert_eq!(
        stage.nameserver.asked("fine.example"),
        2,
        "each type once, the rest comes from the cache"
    );
}

#[test]
fn a_query_to_any_other_server_is_answered_by_ours() {
    let stage = Stage::new("dns-stray", &[], "");
    let dig = stage.dig("strays");
    for server in [ELSEWHERE_V4, ELSEWHERE_V6] {
        for transport in ["+notcp", "+tcp"] {
            let said = dig.ask(&[&format!("@{server}"), transport, "fine.example", "A"]);
            assert_eq!(
                said.answers(),
                [INTERNET_V4.to_string()],
                "{server} {transport}: {}",
                said.0
            );
            assert!(
                said.0.contains(&format!("SERVER: {server}#53")),
                "none the wiser: {}",
                said.0
            );
        }
    }
    // the name server itself is asked by the service alone
    let said = dig.ask(&[&format!("@{INTERNET_V4}"), "second.example", "A"]);
    assert_eq!(said.answers(), [INTERNET_V4.to_string()], "{}", said.0);
    let said = dig.ask(&[&format!("@{INTERNET_V4}"), "second.example", "A"]);
    assert_eq!(said.answers(), [INTERNET_V4.to_string()], "{}", said.0);
    assert_eq!(
        stage.nameserver.asked("second.example"),
        1,
        "the second time, the cache knew it"
    );
}

/// Asks two names by turns, all at once, and looks at each answer: whose it is, where it comes from, what it says.
const BURST: &str = "
import socket, struct, sys
server = sys.argv[1]
s = socket.socket(socket.AF_INET6 if ':' in server else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(10)
names = ['fine.example', 'second.example']
def query(number):
    labels = names[number % 2].split('.')
    head = struct.pack('>HHHHHH', number, 256, 1, 0, 0, 0)
    return head + b''.join(bytes([len(l)]) + l.encode() for l in labels) + b'\\0' + struct.pack('>HH', 1, 1)
def heard():
    answer, sender = s.recvfrom(4096)
    number, = struct.unpack('>H', answer[:2])
    assert sender[:2] == (server, 53), sender
    assert answer[3] & 15 == 0 and answer[7] == 1, answer
    asked = query(number)[12:]
    assert answer[12:12 + len(asked)] == asked, answer
    return number
for number in range(2):
    s.sendto(query(number), (server, 53))
    heard()
for burst in range(20):
    numbers = range(100 * burst, 100 * burst + 100)
    for number in numbers:
        s.sendto(query(number), (server, 53))
    assert sorted(heard() for _ in numbers) == list(numbers)
";

/// Answers to one socket go as one packet where many are ready (`UDP_SEGMENT`), also back through the redirect.
#[test]
fn each_of_a_burst_on_one_socket_is_answered_and_from_the_address_that_was_asked() {
    let stage = Stage::new("dns-burst", &[], "");
    let elsewhere = [ELSEWHERE_V4, ELSEWHERE_V6].map(|server| server.to_string());
    let own = ["127.0.0.1", "::1", "127.0.0.17"].map(str::to_owned);
    for server in own.iter().chain(&elsewhere) {
        let output = stage.python("bursts", BURST).arg(server).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{server}: {said}");
    }
}

#[test]
fn other_hosts_are_not_answered() {
    let stage = Stage::new("dns-others", &[], "");
    let host = stage.world.link.a.v4;
    // even where the owner lets everybody in
    stage.world.profile(
        "dns",
        "[[match]]\npath = \"/**\"\n[settings]\nblock_incoming = false\n[[rule]]\naction = \"allow\"\n",
    );
    let mut command = stage.world.internet.command("dig");
    command.args(["+tries=1", "+time=2", &format!("@{host}"), "fine.example"]);
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(!said.contains("status: NOERROR"), "{said}");
}

#[test]
fn while_the_service_is_away_names_wait_or_fail_and_connections_go_on() {
    let mut stage = Stage::new("dns-down", &[], "");
    let asks = ["@127.0.0.1", "fine.example", "A"];
    assert_eq!(stage.dig("asks").ask(&asks).answers(), [INTERNET_V4.to_string()]);
    stage.world.kill(Service::Dns);
    let server = stage.world.internet.echo(stage.world.internet_addresses()[0], 7);
    let app = stage.world.app("connects");
    assert!(app.connect(&stage.world, server).connected);
    // a stray query is not let out instead
    let dig = stage.dig("asks");
    let said = dig.ask(&["+tries=1", "+time=2", &format!("@{INTERNET_V4}"), "other.example"]);
    assert_eq!(said.status(), "", "{}", said.0);
    assert_eq!(stage.nameserver.asked("other.example"), 0);
    stage.world.start_service(Service::Dns);
    eventually("names are answered again", || {
        (stage.dig("asks").ask(&asks).answers() == [INTERNET_V4.to_string()]).then_some(())
    });
}
