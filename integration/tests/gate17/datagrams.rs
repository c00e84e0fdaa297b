//! Datagrams through the real entry: one socket and many peers, and how long the entry remembers them.

use std::{
    net::IpAddr,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use integration::{Running, Service, World, eventually, world::INTERNET_V4};

use crate::{
    carried::ECHO,
    circuits::{Place, output},
    network::ENTRY,
};

const UDP: u16 = 7002;
/// Of the kernel of the host, in seconds: how long it remembers a flow that is new, and one that went both ways for more than two.
const TIMES: [u64; 2] = [3, 15];
/// An answer as late as this comes while a stream is remembered, and a flow that is none is forgotten.
const LATE: u64 = 6;
/// A flow is forgotten by then that is no stream.
const SOON: Duration = Duration::from_secs(10);

/// To many peers by one socket, all before any answer is read; what each says comes from whom it was said to.
const MANY: &str = "
import socket, sys
kind = socket.AF_INET6 if ':' in sys.argv[2] else socket.AF_INET
s = socket.socket(kind, socket.SOCK_DGRAM)
s.settimeout(2)
peers = [(host, int(sys.argv[1])) for host in sys.argv[2:]]
for round in range(20):
    said = {peer: f'{round} to {peer[0]}'.encode() for peer in peers}
    for peer in peers:
        s.sendto(said[peer], peer)
    try:
        for _ in peers:
            words, by = s.recvfrom(100)
            if words.startswith(b'%d ' % round):
                assert said.pop(by[:2]) == words, (by, words)
    except TimeoutError:
        pass
    if not said:
        sys.exit(print('all of', len(peers)))
print('without an answer:', said)
";

/// Talks for a while, then says a line, hears it at once, and hears it again later; then the same socket once more.
const LATER: &str = "
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
s.connect((sys.argv[1], int(sys.argv[2])))
def ask(said):
    for _ in range(20):
        try:
            s.send(said)
            while s.recv(100) != said: pass
            return
        except OSError: pass
    sys.exit('nobody answers')
for number in range(10):
    ask(b'line %d' % number)
    time.sleep(0.5)
ask(b'say it again')
print('at once', flush=True)
s.settimeout(30)
print('later:', s.recv(100).decode(), flush=True)
sys.stdin.readline()
s.settimeout(2)
ask(b'once more')
print('once more', flush=True)
";

/// Answers at once, and what is to be said again after so many seconds.
const ECHO_LATE: &str = "
import socket, sys, threading
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], int(sys.argv[2])))
while True:
    said, who = s.recvfrom(2048)
    s.sendto(said, who)
    if said == b'say it again':
        threading.Timer(float(sys.argv[3]), s.sendto, (said, who)).start()
";

/// A program of Python's that is tunnelled.
fn python(place: &Place, name: &str) -> PathBuf {
    let path = place.world.root().join("apps").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::copy(std::fs::canonicalize("/usr/bin/python3").unwrap(), &path).unwrap();
    let profile = integration::profile(&path, "tunnel", "[tunnel]\nhops = 2\n");
    place.world.profile(name, &profile);
    path
}

fn command(place: &Place, program: &PathBuf, script: &str) -> Command {
    let mut command = place.world.host.command(program);
    command.env("PYTHONHOME", "/usr").args(["-c", script]);
    command
}

fn server(world: &World, script: &str, arguments: &[&str]) -> Running {
    let mut command = world.internet.command("python3");
    command.args(["-c", script]).args(arguments);
    Running::start_logged("a server", command, &world.root().join("servers.log"))
}

/// What the entry counts under this name.
pub(crate) fn counted(place: &Place, name: &str) -> u64 {
    let mut command = place.world.command(integration::binary("portmaster"));
    let said = output(command.args(["status", "--json"]));
    let status: serde_json::Value = serde_json::from_str(&said).expect(&said);
    let services = status["services"].as_array().unwrap();
    let entry = services
        .iter()
        .find(|service| service["service"] == "gate17-entry");
    entry.unwrap()["counters"][name].as_u64().unwrap_or_default()
}

#[test]
fn one_socket_talks_to_many_and_each_answer_comes_from_whom_it_is() {
    let place = Place::new("g17-peers");
    let program = python(&place, "peers");
    let last = |number: u8| [INTERNET_V4.octets()[..3].to_vec(), vec![100 + number]].concat();
    let v4: Vec<IpAddr> = (0..8)
        .map(|number| IpAddr::from(<[u8; 4]>::try_from(last(number)).unwrap()))
        .collect();
    let v6: Vec<IpAddr> = (1..8)
        .map(|number| format!("2606:17::1:{number}").parse().unwrap())
        .collect();
    for peers in [v4, v6] {
        let _servers: Vec<_> = peers
            .iter()
            .map(|peer| {
                place.world.internet.add_address(*peer);
                server(&place.world, ECHO, &[&peer.to_string()])
            })
            .collect();
        let peers: Vec<_> = peers.iter().map(ToString::to_string).collect();
        let wire = place.world.internet.capture();
        eventually("all of them answer", || {
            let mut many = command(&place, &program, MANY);
            let said = output(many.arg(UDP.to_string()).args(&peers));
            said.starts_with("all of ").then_some(())
        });
        // the first tries may have been before the profile was in force
        wire.clear();
        let mut many = command(&place, &program, MANY);
        let said = output(many.arg(UDP.to_string()).args(&peers));
        assert_eq!(said.trim(), format!("all of {}", peers.len()));
        let host = [place.world.link.a.v4.into(), IpAddr::from(place.world.link.a.v6)];
        let peers: Vec<IpAddr> = peers.iter().map(|peer| peer.parse().unwrap()).collect();
        let clear = wire.seen(|packet| {
            let ends = [packet.from, packet.to];
            ends.iter().any(|end| host.contains(end)) && ends.iter().any(|end| peers.contains(end))
        });
        assert_eq!(clear.len(), 0, "by the tunnel");
    }
}

#[test]
fn a_flow_is_remembered_as_long_as_the_kernel_remembers_it_and_found_anew_later() {
    let place = Place::with("g17-times", ENTRY.1, |_, world| {
        for (name, seconds) in ["", "_stream"].into_iter().zip(TIMES) {
            let file = format!("/proc/sys/net/netfilter/nf_conntrack_udp_timeout{name}");
            world.host.sh(&format!("echo {seconds} >{file}"));
        }
    });
    let program = python(&place, "patient");
    let (to, port) = (INTERNET_V4.to_string(), UDP.to_string());
    let _server = server(&place.world, ECHO_LATE, &[&to, &port, &LATE.to_string()]);
    // from then on it is tunnelled
    eventually("a flow is carried", || {
        let mut many = command(&place, &program, MANY);
        let _said = output(many.args([&port, &to]));
        (counted(&place, "datagram_flows_now") > 0).then_some(())
    });
    // a question and its answer are no stream: the port may be another program's as soon as the kernel thinks so
    let begin = Instant::now();
    eventually("and forgotten", || {
        (counted(&place, "datagram_flows_now") == 0).then_some(())
    });
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    let mut later = command(&place, &program, LATER);
    later.args([&to, &port]);
    later
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut child = later.spawn().unwrap();
    let mut said = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let mut line = || said.next().unwrap().unwrap();
    assert_eq!(line(), "at once");
    assert_eq!(counted(&place, "datagram_flows_now"), 1);
    assert_eq!(
        line(),
        "later: say it again",
        "longer than a flow without an answer is remembered"
    );
    eventually("it is forgotten", || {
        (counted(&place, "datagram_flows_now") == 0).then_some(())
    });
    // its port may be another program's by now: it is asked for anew, and carried
    drop(child.stdin.take());
    assert_eq!(line(), "once more");
    assert!(child.wait().unwrap().success());
    assert_eq!(counted(&place, "datagrams_of_strangers"), 0);
}

#[test]
fn while_the_entry_is_away_datagrams_stay_here_and_go_on_when_it_is_back() {
    let mut place = Place::new("g17-away");
    let program = python(&place, "away");
    let (to, port) = (INTERNET_V4.to_string(), UDP.to_string());
    let _server = server(&place.world, ECHO, &[&to]);
    let wire = place.world.internet.capture();
    let answered = |place: &Place| {
        let mut many = command(place, &program, MANY);
        output(many.args([&port, &to])).starts_with("all of ")
    };
    eventually("it is carried", || {
        (answered(&place) && counted(&place, "datagram_flows_now") > 0).then_some(())
    });
    wire.clear();
    // as systemd does it: asked to end, and started again
    place.world.stop(Service::Gate17Entry);
    let mut many = command(&place, &program, MANY);
    let said = output(many.args([&port, &to]));
    assert!(!said.starts_with("all of "), "{said}");
    place.world.start_service(Service::Gate17Entry);
    eventually("the next one carries", || answered(&place).then_some(()));
    let clear = wire.seen(|packet| {
        [packet.from, packet.to].contains(&place.world.link.a.v4.into())
            && [packet.from, packet.to].contains(&INTERNET_V4.into())
    });
    assert_eq!(clear.len(), 0);
}
