//! The DNS service under its real units.

use std::{net::IpAddr, path::Path};

use integration::{Booted, NameServer, Running, booted::INTERNET, eventually};

/// Asks for a name with nothing but python; says the addresses, or how it failed.
const ASK: &str = r#"
import socket, struct, sys
name, server = sys.argv[1:]
family = socket.AF_INET6 if ":" in server else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.settimeout(20)
s.connect((server, 53))
q = struct.pack(">HHHHHH", 7, 256, 1, 0, 0, 0)
q += b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\0" + struct.pack(">HH", 1, 1)
s.send(q)
a = s.recv(4096)
print("code", a[3] & 15, socket.inet_ntoa(a[-4:]) if struct.unpack(">H", a[6:8])[0] else "-")
"#;

fn host(label: &str) -> (Booted, NameServer, tempfile::TempDir) {
    let (v4, v6) = INTERNET;
    let host = Booted::builder(label)
        .file(
            "/etc/portmaster/dns.toml",
            &format!("[resolve.upstreams]\nservers = [\"udp://{v4}\"]\n"),
        )
        .file("/usr/local/bin/ask", ASK)
        .start();
    let folder = tempfile::tempdir().unwrap();
    let records =
        ["fine.example", "other.example", "printer.local"].map(|name| format!("host-record={name},{v4}"));
    let server = NameServer::start(
        &host.internet,
        &[IpAddr::from(v4), IpAddr::from(v6)],
        &records,
        folder.path(),
    );
    (host, server, folder)
}

fn ask(host: &Booted, name: &str, server: &str) -> String {
    let said = host.attempt(&format!("python3 /usr/local/bin/ask {name} {server}"));
    integration::booted::text(&said).trim().to_owned()
}

#[test]
fn names_are_answered_at_every_address_strays_are_caught_and_the_networks_own_stay_there() {
    let (host, server, folder) = host("names");
    let answer = format!("code 0 {}", INTERNET.0);
    for at in ["127.0.0.1", "::1", "127.0.0.17", "203.0.113.53", "2001:db8::53"] {
        assert_eq!(ask(&host, "fine.example", at), answer, "{at}");
    }
    assert_eq!(
        server.asked("fine.example"),
        1,
        "the upstream is asked by the service alone, and once"
    );
    // what is told lies beside the interceptor's stream, past all that the units deny either of them
    assert_eq!(ask(&host, "other.example", "127.0.0.1"), answer);
    eventually("a name is told without a wait", || {
        let status = integration::booted::text(&host.attempt("portmaster status --json"));
        let told = status.split("\"names_told_aside\":").nth(1)?;
        (!told.starts_with('0')).then_some(())
    });
    of_the_network(&host, &server, folder.path());
    let said = host.journal("portmaster-dns.service");
    assert!(
        !said.contains("nobody says when the network comes back"),
        "{said}"
    );
}

/// Asks by multicast (RFC 6762 §5.1), and says who answered.
const ASK_ALL: &str = r#"
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
q = struct.pack(">HHHHHH", 0, 0, 1, 0, 0, 0) + b"\7printer\5local\0" + struct.pack(">HH", 1, 1)
s.sendto(q, ("224.0.0.251", 5353))
answer, peer = s.recvfrom(4096)
print(answer.decode(), *peer)
"#;

/// A printer on the network.
const PRINTER: &str = r#"
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 5353))
group = socket.inet_aton("224.0.0.251") + socket.inet_aton(sys.argv[1])
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
print("listens", flush=True)
while True:
    q, peer = s.recvfrom(4096)
    s.sendto(b"printer" if b"\7printer\5local" in q else b"?", peer)
"#;

/// As docs/dns-upstreams.md says it.
const MULTICAST_DNS: &str = "[[rule]]\naction = \"allow\"\ndirection = \"in\"\nprotocol = \"udp\"\nremote = \"lan\"\nremote_port = 5353\n";

#[test]
fn queries_wait_while_the_service_restarts_and_what_it_knew_is_known_still() {
    let (host, server, _folder) = host("names-restart");
    let answer = format!("code 0 {}", INTERNET.0);
    assert_eq!(ask(&host, "fine.example", "127.0.0.1"), answer);
    for at in ["127.0.0.1", "203.0.113.53"] {
        let said = host.run(&format!(
            "systemctl stop portmaster-dns.service 2>/dev/null & sleep 0.3; python3 /usr/local/bin/ask fine.example {at}; wait"
        ));
        assert_eq!(said.trim(), answer, "the socket starts it: {at}");
    }
    host.run("systemctl kill --signal=KILL portmaster-dns.service");
    assert_eq!(ask(&host, "other.example", "127.0.0.1"), answer);
    eventually("it runs again", || {
        (host.property("portmaster-dns.service", "ActiveState") == "active").then_some(())
    });
    assert_eq!(server.asked("fine.example"), 1, "its cache outlived it");
}

#[test]
fn where_another_server_has_the_port_the_own_address_serves() {
    let (host, _server, _folder) = host("names-taken");
    // somebody else is first
    host.systemctl("mask --runtime portmaster-dns-v4.socket");
    host.systemctl("stop portmaster-dns-v4.socket portmaster-dns.service");
    let taken = "import socket, time\ns = [socket.socket(socket.AF_INET, k) for k in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]\nfor x in s: x.bind(('127.0.0.1', 53))\ns[1].listen()\ntime.sleep(60)\n";
    host.file("/run/taken.py", taken);
    host.run("systemd-run --unit=taken python3 /run/taken.py; sleep 1; ss -Hlun | grep -q 127.0.0.1:53");
    host.systemctl("unmask --runtime portmaster-dns-v4.socket");
    assert!(
        !host
            .attempt("systemctl start portmaster-dns-v4.socket")
            .status
            .success()
    );
    host.systemctl("start portmaster-dns.service");
    let answer = format!("code 0 {}", INTERNET.0);
    assert_eq!(ask(&host, "fine.example", "127.0.0.17"), answer);
    // what is redirected would go to that other one: that is told, with what helps, and it helps
    let said = host.run("portmaster status || true");
    assert!(
        said.contains("port-taken") && said.contains("127.0.0.1:53"),
        "{said}"
    );
    let (line, place) = ("dns_v4 = \"127.0.0.17:53\"", "`[firewall]`");
    assert!(said.contains(line) && said.contains(place), "{said}");
    host.file(
        "/etc/portmaster/interceptor.toml",
        &format!("[firewall]\n{line}\n"),
    );
    host.systemctl("restart portmaster-interceptor.service");
    eventually("a query to another server comes to ours", || {
        (ask(&host, "other.example", "203.0.113.53") == answer).then_some(())
    });
}

/// Stops one thread of a process, by its name, and no other (`ptrace(2)`: SEIZE, INTERRUPT); holds it until it is gone.
const FREEZE: &str = r#"
import ctypes, os, sys
pid, name = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
for tid in map(int, os.listdir(f"/proc/{pid}/task")):
    if open(f"/proc/{pid}/task/{tid}/comm").read().strip() == name:
        for request in (0x4206, 0x4207):
            if libc.ptrace(request, ctypes.c_long(tid), None, None):
                sys.exit(os.strerror(ctypes.get_errno()))
        while True:
            _, status = os.waitpid(tid, 0x40000000)
            if os.WIFEXITED(status) or os.WIFSIGNALED(status):
                sys.exit(0)
sys.exit(f"no thread {name}")
"#;

#[test]
fn a_thread_that_answers_no_more_is_noticed_and_the_service_comes_back() {
    const DNS: &str = "portmaster-dns.service";
    let (v4, v6) = INTERNET;
    let host = Booted::builder("thread")
        .file(
            "/etc/portmaster/dns.toml",
            &format!("[resolve.upstreams]\nservers = [\"udp://{v4}\"]\n"),
        )
        .file(
            &format!("/etc/systemd/system/{DNS}.d/watchdog.conf"),
            "[Service]\nWatchdogSec=8s\n",
        )
        .file("/usr/local/bin/ask", ASK)
        .file("/usr/local/bin/freeze", FREEZE)
        .start();
    let folder = tempfile::tempdir().unwrap();
    let record = format!("host-record=fine.example,{v4}");
    let addresses = [IpAddr::from(v4), IpAddr::from(v6)];
    let _server = NameServer::start(&host.internet, &addresses, &[record], folder.path());
    let answer = format!("code 0 {v4}");
    assert_eq!(ask(&host, "fine.example", "127.0.0.1"), answer);
    let before = host.property(DNS, "MainPID");
    std::thread::sleep(std::time::Duration::from_secs(10));
    assert_eq!(host.property(DNS, "MainPID"), before, "idle is no hanging");
    // all other threads go on, those that feed the watchdog among them
    host.run(&format!(
        "systemd-run --unit=freeze --quiet python3 /usr/local/bin/freeze {before} dns-udp-0"
    ));
    eventually("the watchdog ended it, and another one runs", || {
        let now = host.property(DNS, "MainPID");
        let active = host.property(DNS, "ActiveState") == "active";
        (now != before && now != "0" && active).then_some(())
    });
    assert!(host.journal(DNS).contains("a thread that answers queries hangs"));
    assert_eq!(ask(&host, "fine.example", "127.0.0.1"), answer);
}

/// Names of the network itself are asked there, and by multicast, and never elsewhere.
fn of_the_network(host: &Booted, server: &NameServer, folder: &Path) {
    let away = ["127.0.0.1", "203.0.113.53", "224.0.0.251"];
    host.run("echo '# nobody' >/etc/resolv.conf");
    eventually("nobody on the network is known", || {
        let known = host.run("portmaster dns upstreams --json");
        (!known.contains("resolv.conf")).then_some(())
    });
    for at in away {
        eventually("there is nobody on the network to ask", || {
            (ask(host, "printer.local", at) == "code 3 -").then_some(())
        });
    }
    assert_eq!(
        server.asked("printer.local"),
        0,
        "the upstream of all names is not asked"
    );
    // who asks by multicast is not answered by ours, nor kept from it
    let mut printer = host.internet.command("python3");
    printer.args(["-c", PRINTER, &host.link.b.v4.to_string()]);
    let printer = Running::start_logged("printer", printer, &folder.join("printer"));
    eventually("the printer listens", || {
        printer.output().contains("listens").then_some(())
    });
    host.profile("global", MULTICAST_DNS);
    let ask_all = format!("python3 -c '{ASK_ALL}'");
    let answered = format!("printer {} 5353", host.link.b.v4);
    eventually("the printer's answer comes in", || {
        let said = host.attempt(&ask_all);
        (integration::booted::text(&said).trim() == answered).then_some(())
    });
    assert_eq!(server.asked("printer.local"), 0);

    host.run(&format!("echo nameserver {} >/etc/resolv.conf", INTERNET.0));
    let answer = format!("code 0 {}", INTERNET.0);
    for at in away {
        eventually("the network's server is asked", || {
            (ask(host, "printer.local", at) == answer).then_some(())
        });
    }
}
