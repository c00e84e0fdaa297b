//! The server as its clients see it: real ones, and such as no client should be.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::unix::net::UnixDatagram,
    process::Command,
    time::Duration,
};

use integration::{PATIENCE, Running, Service};
use proto::interceptor::v1::ConnectionEvent;

use super::{
    authority::{Asked, Scripted, Sends, now},
    stage::Said,
};

const SERVER: &str = "@127.0.0.1";

/// `big.` and `mid.` have many addresses, `slow.` takes its time.
fn script(asked: &Asked) -> Sends {
    let first = asked.name.split('.').next().unwrap_or_default();
    match first {
        "big" if !asked.tcp => now(asked.cut()),
        "big" => now(asked.addresses(200, 300)),
        "mid" => now(asked.addresses(60, 300)),
        "slow" => vec![(Duration::from_secs(1), asked.addresses(1, 300))],
        "none" => now(asked.empty(3)),
        _ => now(asked.addresses(1, 300)),
    }
}

fn scripted(label: &str) -> Scripted {
    Scripted::new(label, "", script)
}

/// The octets of a query with this header and name.
fn query(id: u16, flags: u16, questions: u16, name: &str) -> Vec<u8> {
    let mut query = [id, flags, questions, 0, 0, 0].map(u16::to_be_bytes).concat();
    for _ in 0..questions {
        for label in name.split('.') {
            query.push(u8::try_from(label.len()).unwrap());
            query.extend(label.bytes());
        }
        query.extend([0, 0, 1, 0, 1]);
    }
    query
}

fn framed(query: &[u8]) -> Vec<u8> {
    [&u16::try_from(query.len()).unwrap().to_be_bytes(), query].concat()
}

fn datagrams(scripted: &Scripted) -> UdpSocket {
    let socket = scripted
        .world
        .host
        .enter(|| UdpSocket::bind("127.0.0.1:0").unwrap());
    socket.connect("127.0.0.1:53").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn connection(scripted: &Scripted) -> TcpStream {
    let server = SocketAddr::from(([127, 0, 0, 1], 53));
    let stream = scripted.world.host.enter(|| TcpStream::connect(server).unwrap());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Id, and the code of what came next.
fn next(stream: &mut TcpStream) -> (u16, u8) {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).unwrap();
    (u16::from_be_bytes([message[0], message[1]]), message[3] & 15)
}

fn run(mut command: Command) -> Said {
    let output = command.output().unwrap();
    Said(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

fn size(said: &Said) -> usize {
    let size = said.0.split("MSG SIZE  rcvd: ").nth(1).unwrap_or_default();
    size.split_whitespace().next().unwrap().parse().unwrap()
}

fn is_cut(said: &Said) -> bool {
    said.0
        .lines()
        .any(|line| line.starts_with(";; flags:") && line.contains(" tc "))
}

#[test]
fn an_answer_is_as_large_as_its_client_takes_and_the_rest_comes_over_tcp() {
    let scripted = scripted("dns-sizes");
    let dig = scripted.dig("sizes");
    for (options, limit) in [
        (&["+noedns"][..], 512),
        (&["+bufsize=512"], 512),
        (&["+bufsize=100"], 512),
        (&["+bufsize=1232"], 1232),
        (&["+bufsize=4096"], 1232),
    ] {
        for (name, whole) in [("big.example", 3000), ("mid.example", 960)] {
            let asked = [&[SERVER, "+ignore", "+nocookie", name][..], options].concat();
            let said = dig.ask(&asked);
            assert!(size(&said) <= limit, "{options:?}: {}", said.0);
            assert_eq!(is_cut(&said), limit < whole, "{name} {options:?}: {}", said.0);
        }
    }
    assert_eq!(dig.ask(&[SERVER, "big.example"]).answers().len(), 200);
    let command = |program: &str, words: &[&str]| {
        let mut command = scripted.world.host.command(program);
        command.args(words);
        run(command)
    };
    for said in [
        command("kdig", &[SERVER, "big.example"]),
        command("drill", &["-t", "big.example", SERVER]),
    ] {
        assert_eq!(said.0.matches("203.0.113.").count(), 200, "{}", said.0);
    }
}

#[test]
fn cookies_are_given_and_taken_and_crippled_ones_refused() {
    let scripted = scripted("dns-cookies");
    let dig = scripted.dig("cookies");
    let cookie = |said: &Said| {
        let text = said.0.split("; COOKIE: ").nth(1).unwrap_or_default();
        text.split_whitespace().next().unwrap_or_default().to_owned()
    };
    let said = dig.ask(&[SERVER, "+cookie=0102030405060708", "a.example"]);
    let first = cookie(&said);
    assert_eq!(
        (first.len(), &first[..16]),
        (48, "0102030405060708"),
        "{}",
        said.0
    );
    assert!(said.0.contains("(good)"), "{}", said.0);
    let said = dig.ask(&[SERVER, &format!("+cookie={first}"), "a.example"]);
    assert_eq!(cookie(&said), first, "accepted, and thus kept: {}", said.0);
    let forged = first.replace(&first[40..], "00000000");
    let said = dig.ask(&[SERVER, &format!("+cookie={forged}"), "a.example"]);
    assert_ne!(
        cookie(&said)[32..],
        forged[32..],
        "another one is given: {}",
        said.0
    );
    for wrong in ["01", "01020304050607", "010203040506070809"] {
        let said = dig.ask(&[SERVER, "+nocookie", &format!("+ednsopt=10:{wrong}"), "a.example"]);
        assert_eq!(said.status(), "FORMERR", "{wrong}: {}", said.0);
    }
    let said = dig.ask(&[SERVER, "+nocookie", "+nsid", "+subnet=192.0.2.0/24", "a.example"]);
    assert_eq!(
        said.status(),
        "NOERROR",
        "options that it does not know: {}",
        said.0
    );
}

#[test]
fn what_no_resolver_does_is_refused_with_its_own_code() {
    let scripted = scripted("dns-odd");
    let dig = scripted.dig("odd");
    for (words, status) in [
        (&["+edns=1", "+noednsnegotiation", "a.example"][..], "BADVERS"),
        (&["+opcode=STATUS", "a.example"], "NOTIMP"),
        (&["+opcode=NOTIFY", "a.example", "SOA"], "NOTIMP"),
        (&["+opcode=UPDATE", "a.example", "SOA"], "NOTIMP"),
        (&["+header-only"], "FORMERR"),
        (&["version.bind", "CH", "TXT"], "REFUSED"),
        (&["a.example", "TYPE128"], "NOTIMP"),
    ] {
        for transport in ["+notcp", "+tcp"] {
            let said = dig.ask(&[&[SERVER, transport], words].concat());
            assert_eq!(said.status(), status, "{transport} {words:?}: {}", said.0);
        }
    }
    let said = dig.ask(&[SERVER, "a.example", "AXFR"]);
    assert!(said.0.contains("Transfer failed"), "{}", said.0);
    let said = dig.ask(&[SERVER, "a.example", "IXFR=1"]);
    assert!(!said.0.contains("203.0.113"), "{}", said.0);
    let said = dig.ask(&[SERVER, "a.example", "ANY", "+notcp"]);
    assert!(
        said.0.contains("HINFO") && said.0.contains("RFC8482"),
        "{}",
        said.0
    );
    let said = dig.ask(&[SERVER, "FiNe.eXaMpLe"]);
    assert!(said.0.contains("FiNe.eXaMpLe.\t"), "its own letters: {}", said.0);
}

#[test]
fn octets_that_are_no_query_are_refused_or_left_and_harm_nobody() {
    let scripted = scripted("dns-garbage");
    let pid = scripted.world.service(Service::Dns).pid();
    let socket = datagrams(&scripted);
    let mut answer = [0; 4096];
    let mut code_of = |message: &[u8]| {
        socket.send(message).unwrap();
        let length = socket.recv(&mut answer).unwrap();
        assert!(length >= 12 && answer[2] & 0x80 != 0 && answer[..2] == message[..2]);
        answer[3] & 15
    };
    assert_eq!(code_of(&query(1, 0x0100, 0, "")), 1, "no question");
    assert_eq!(code_of(&query(2, 0x0100, 2, "a.example")), 1, "two questions");
    let good = query(3, 0x0100, 1, "a.example");
    assert_eq!(code_of(&good[..good.len() - 3]), 1, "cut");
    assert_eq!(code_of(&[&good[..], &[0; 300]].concat()), 0, "octets behind it");
    let pointer = [
        &query(4, 0x0100, 0, "")[..4],
        &[0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1],
    ]
    .concat();
    assert_eq!(code_of(&pointer), 1, "a name that is itself");
    assert_eq!(
        code_of(&query(5, 0x2900, 1, "a.example")),
        4,
        "an operation of the future"
    );
    // what is silence is: the next answer is the next query's
    socket.send(&query(6, 0x8180, 1, "a.example")).unwrap();
    socket.send(&[]).unwrap();
    socket.send(&[0; 11]).unwrap();
    assert_eq!(code_of(&good), 0);
    // an endless row of numbers, the same in each run (xorshift)
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..5000 {
        let mut message: Vec<u8> = match round % 2 {
            0 => (0..random() % 600).map(|_| random().to_be_bytes()[7]).collect(),
            _ => query(7, 0x0100, 1, "a.example"),
        };
        for _ in 0..random() % 4 {
            let at = usize::try_from(random()).unwrap() % message.len().max(1);
            if let Some(octet) = message.get_mut(at) {
                *octet = random().to_be_bytes()[7];
            }
        }
        let _full = socket.send(&message);
    }
    for garbage in [
        &[0, 5, 1, 2, 3, 4, 5][..],
        &[0, 0],
        &[255, 255, 1],
        &framed(&good)[..20],
    ] {
        connection(&scripted).write_all(garbage).unwrap();
    }
    let said = scripted.dig("after").ask(&[SERVER, "b.example"]);
    assert_eq!(said.status(), "NOERROR", "{}", said.0);
    assert_eq!(scripted.world.service(Service::Dns).pid(), pid);
    assert!(!scripted.world.output(Service::Dns).contains("panicked"));
}

#[test]
fn the_service_manager_hears_of_questions_that_came_back_through_a_socket() {
    let mut scripted = scripted("dns-watchdog");
    let path = scripted.world.root().join("watchdog.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let is_fed = || {
        let mut octets = [0; 512];
        // what is left of before, and one after it
        for _ in 0..4 {
            loop {
                let length = socket.recv(&mut octets).unwrap();
                if octets[..length].starts_with(b"WATCHDOG=1") {
                    break;
                }
            }
        }
    };
    let start = |scripted: &Scripted, log: &str| {
        let mut command = scripted.world.service_command(Service::Dns);
        command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "1000000");
        Running::start_logged("dns", command, &scripted.world.root().join(log))
    };
    scripted.world.stop(Service::Dns);
    let events = scripted.world.events();
    let service = start(&scripted, "watched.log");
    is_fed();
    let own = |event: &ConnectionEvent| {
        let flow = event
            .connection
            .as_ref()
            .and_then(|connection| connection.flow.as_ref());
        flow.is_some_and(|flow| flow.remote_address == [127, 0, 0, 1] && flow.remote_port != 53)
    };
    let seen = events.all().iter().filter(|event| own(event)).count();
    assert!(
        (1..=2).contains(&seen),
        "one conversation, which stays open: {seen}"
    );
    service.stop();
    // where the firewall lets nothing through, that is no reason to be ended
    scripted.world.kill(Service::Interceptor);
    let service = start(&scripted, "closed.log");
    is_fed();
    assert!(!service.output().contains("hangs"));
}

#[test]
fn queries_on_one_connection_are_answered_as_their_answers_come() {
    let scripted = scripted("dns-pipelined");
    let mut stream = connection(&scripted);
    stream
        .write_all(&framed(&query(1, 0x0100, 1, "known.example")))
        .unwrap();
    assert_eq!(next(&mut stream), (1, 0));
    let many: Vec<u8> = [(2, "slow.example"), (3, "known.example"), (4, "none.example")]
        .iter()
        .flat_map(|(id, name)| framed(&query(*id, 0x0100, 1, name)))
        .collect();
    // in pieces, as the network may deliver them
    for piece in many.chunks(7) {
        stream.write_all(piece).unwrap();
    }
    let order = [next(&mut stream), next(&mut stream), next(&mut stream)];
    assert_eq!(order[2], (2, 0), "the slow one last: {order:?}");
    // more than may wait at once: all of them are answered
    let many: Vec<u8> = (100..400_u16)
        .flat_map(|id| framed(&query(id, 0x0100, 1, &format!("n{id}.example"))))
        .collect();
    let mut writes = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || writes.write_all(&many).unwrap());
    let mut ids: Vec<u16> = (100..400).map(|_| next(&mut stream).0).collect();
    writing.join().unwrap();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(100..400));
    let mut kdig = scripted.world.host.command("kdig");
    kdig.args([
        SERVER,
        "+tcp",
        "+keepopen",
        "one.example",
        "two.example",
        "three.example",
    ]);
    let said = run(kdig);
    assert_eq!(said.0.matches("203.0.113.0").count(), 3, "{}", said.0);
    let connections = said.0.matches("(TCP)").count();
    assert_eq!(connections, 3, "{}", said.0);
}
