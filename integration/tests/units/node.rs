//! The Gate17 node as a service of its own: started by its owner alone, with ports that systemd holds.

use std::collections::BTreeSet;

use integration::{Booted, eventually};

use super::{
    privileges::{INTRUDER, INTRUDING},
    web_server,
};

pub(super) const NODE: &str = "portmaster-gate17-node.service";
const SETTINGS: &str = "/etc/portmaster/gate17-node.toml";
/// Prints the status and a header of what the port says.
const ASK: &str = "curl -sS --max-time 20 --insecure -o /dev/null -w '%{http_code}' https://127.0.0.1/";

fn host(label: &str) -> Booted {
    Booted::builder(label)
        .disabled()
        .file(SETTINGS, "access = \"nobody\"\n")
        .start()
}

#[test]
fn only_its_owner_starts_it_and_it_runs_with_no_privilege_at_all() {
    let host = host("node");
    assert_eq!(host.property(NODE, "ActiveState"), "inactive");
    host.systemctl("start portmaster.target");
    assert_eq!(
        host.property(NODE, "ActiveState"),
        "inactive",
        "no part of the firewall"
    );
    host.systemctl("stop portmaster.target 'portmaster-*'");
    host.systemctl(&format!("enable --now {NODE}"));
    assert_eq!(host.run(ASK), "200");
    let quote = host.run("timeout 20 bash -c 'cat </dev/tcp/127.0.0.1/17'");
    assert!(quote.ends_with("\r\n") && quote.len() <= 512, "{quote:?}");
    let page = host.run("curl -sS --max-time 20 http://127.0.0.1/");
    assert!(page.contains("<html>"), "{page}");

    let status = host.run(&format!("cat /proc/{}/status", host.property(NODE, "MainPID")));
    let words = |name: &str| -> BTreeSet<String> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().split_whitespace().map(str::to_owned).collect()
    };
    let user = host.run("id -u portmaster-gate17-node").trim().to_owned();
    let group = host.run("id -g portmaster-gate17-node").trim().to_owned();
    assert_eq!(words("Uid:"), BTreeSet::from([user]));
    assert_eq!(words("Groups:"), BTreeSet::from([group]), "no member of the mesh");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(
            words(set),
            BTreeSet::from(["0000000000000000".to_owned()]),
            "{set}"
        );
    }
    // in tenths; ends with an error where it is more
    host.run(&format!(
        "systemd-analyze security --no-pager --threshold=20 {NODE}"
    ));
    let key = host.run("stat -c '%U %a' /var/lib/portmaster/gate17-node/key.pem");
    assert_eq!(key, "portmaster-gate17-node 600\n");
}

#[test]
fn whoever_calls_while_it_restarts_waits_and_nobody_is_refused() {
    let host = host("node-restart");
    host.systemctl(&format!("start {NODE}"));
    let again = format!("{ASK} --retry 0");
    for round in 0..10 {
        let restart = if round % 2 == 0 { "restart" } else { "reload" };
        let script = format!("systemctl {restart} {NODE} & {again}; wait");
        assert_eq!(host.run(&script), "200", "round {round}");
    }
    // killed, it comes back by itself, and meanwhile nobody is refused
    let before = host.property(NODE, "MainPID");
    assert_eq!(host.run(&format!("kill -9 {before}; {again}")), "200");
    eventually("another process serves", || {
        let now = host.property(NODE, "MainPID");
        (now != before && now != "0").then_some(())
    });
}

#[test]
fn it_reads_its_configuration_again_when_told_to_and_a_wrong_one_changes_nothing() {
    let host = host("node-reload");
    host.systemctl(&format!("start {NODE}"));
    let pid = host.property(NODE, "MainPID");
    host.run("mkdir -p /srv/site; echo another page >/srv/site/index.html");
    host.file(SETTINGS, "page = \"/srv/site\"\n");
    host.systemctl(&format!("reload {NODE}"));
    let page = "curl -sS --max-time 20 --insecure https://127.0.0.1/";
    eventually("the page of the new configuration is there", || {
        (host.run(page) == "another page\n").then_some(())
    });
    host.file(SETTINGS, "page = 17\n");
    host.systemctl(&format!("reload {NODE}"));
    eventually("it is said what is wrong", || {
        host.journal(NODE).contains("gate17-node.toml:1").then_some(())
    });
    assert_eq!(host.run(page), "another page\n");
    assert_eq!(host.property(NODE, "MainPID"), pid, "no restart");
    assert_eq!(host.property(NODE, "ActiveState"), "active");
}

#[test]
fn an_intruder_in_the_node_gets_no_further() {
    let host = Booted::builder("node-intruder")
        .disabled()
        .file("/usr/lib/intruder.py", INTRUDER)
        .file("/root/secret", "x")
        .file(&format!("/etc/systemd/system/{NODE}.d/intruder.conf"), INTRUDING)
        .start();
    host.systemctl(&format!("start {NODE}"));
    let said = host.journal(NODE);
    assert!(said.contains("INTRUDER done"), "{said}");
    let worked: BTreeSet<_> = said
        .lines()
        .filter_map(|line| line.split_once("INTRUDER ")?.1.strip_suffix(" worked"))
        .collect();
    assert_eq!(
        worked,
        BTreeSet::from(["python", "inet", "inet6", "packet"]),
        "{said}"
    );
}

#[test]
fn the_guide_founds_a_network_of_which_a_node_gives_the_map_to_its_members() {
    let host = Booted::builder("node-guide").disabled().start();
    host.run("portmaster gate17 network init mine --name mine");
    host.run("install -m 644 mine/trust.json /etc/portmaster/gate17-trust.json");
    let exit = "exit = [{ allow = true, to = \"198.18.17.0/24\", ports = \"80\" }]\n";
    host.file(SETTINGS, exit);
    host.systemctl(&format!("enable --now {NODE}"));
    host.run(
        "runuser -u portmaster-gate17-node -- /usr/libexec/portmaster/portmaster-gate17-node --print-descriptor > alpha.toml",
    );
    host.run("portmaster gate17 node add mine --id alpha --descriptor alpha.toml --address 203.0.113.5:443 --region de --relay --exit");
    host.run("portmaster gate17 map sign mine");
    assert!(
        host.run("portmaster gate17 map show mine/map.json")
            .contains("alpha")
    );
    let map = "https://127.0.0.1/.well-known/gate17/map";
    let ask = format!("curl -sS --max-time 20 --insecure -o got -w '%{{http_code}}' {map}");
    assert_eq!(host.run(&ask), "404", "a web server, to everybody");
    host.run("install -g portmaster-gate17-node -m 640 mine/map.json /etc/portmaster/gate17-map.json");
    // what clients make of the map's secret (docs/gate17.md)
    let token = "python3 -c \"import base64,hashlib,hmac,json; \
        knock=json.loads(base64.b64decode(json.load(open('mine/map.json'))['payload']))['knock']; \
        print(base64.urlsafe_b64encode(hmac.digest(bytes.fromhex(knock), b'gate17 map access v1', 'sha256')).decode().rstrip('='))\"";
    let token = host.run(token).trim().to_owned();
    eventually("the node gives the map to who has it", || {
        (host.run(&format!("{ask} -H 'Authorization: Bearer {token}'")) == "200").then_some(())
    });
    host.run("cmp got mine/map.json");
    let figures = eventually("figures are written", || {
        let said = host.attempt("cat /run/portmaster-gate17-node/metrics.prom");
        said.status
            .success()
            .then(|| String::from_utf8_lossy(&said.stdout).into_owned())
    });
    assert!(
        figures.contains("gate17_node_connections ") && figures.ends_with("# EOF\n"),
        "{figures}"
    );
    // by UDP when its owner says so
    let quote = "python3 -c \"import socket; s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2); \
        s.sendto(b'?'*512, ('127.0.0.1', 17)); print(len(s.recv(600)))\"";
    assert!(!host.attempt(quote).status.success());
    host.systemctl("enable portmaster-gate17-node-udp.socket");
    host.systemctl(&format!("restart {NODE}"));
    host.run(quote);
}

/// Asks a server through the node, the second half of the question when a file is there.
const STORY: &str = r#"
import os, socket, ssl, sys, time
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
raw = socket.create_connection(("127.0.0.1", 443))
stream = context.wrap_socket(raw)
stream.settimeout(60)
stream.sendall(b"CONNECT %s:8000 HTTP/1.1\r\nHost: x\r\n\r\n" % sys.argv[1].encode())
assert b" 200 " in stream.recv(4096)
open("/run/opened", "w")
while not os.path.exists("/run/go"):
    time.sleep(0.05)
stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
said = b""
while b"hello" not in said:
    part = stream.recv(4096)
    assert part, said
    said += part
open("/run/heard", "w")
"#;

#[test]
fn an_upgrade_by_reload_ends_nothing_that_is_carried() {
    let host = Booted::builder("node-upgrade")
        .disabled()
        .file(
            SETTINGS,
            "access = \"none\"\nexit = [{ allow = true, to = \"198.18.0.0/15\", ports = \"*\" }]\n",
        )
        .file("/usr/lib/story.py", STORY)
        .start();
    web_server(&host);
    host.systemctl(&format!("start {NODE}"));
    let (address, _) = integration::booted::INTERNET;
    host.run(&format!(
        "python3 /usr/lib/story.py {address} >/run/said 2>&1 & echo"
    ));
    let there = |file: &str| {
        host.attempt(&format!("test -e {file}"))
            .status
            .success()
            .then_some(())
    };
    eventually("a stream is open", || there("/run/opened"));
    let before = host.property(NODE, "MainPID");
    // as a package does it
    let program = "/usr/libexec/portmaster/portmaster-gate17-node";
    host.run(&format!("cp {program} {program}.new; mv {program}.new {program}"));
    host.systemctl(&format!("reload {NODE}"));
    let now = eventually("another process is the service", || {
        let now = host.property(NODE, "MainPID");
        (now != before).then_some(now)
    });
    assert_eq!(host.run(ASK), "200", "new callers come to it");
    assert!(
        there(&format!("/proc/{before}")).is_some(),
        "the old one carries on"
    );
    host.run("touch /run/go");
    eventually("what was carried went on", || there("/run/heard"));
    eventually("the old process is gone", || {
        there(&format!("/proc/{before}")).is_none().then_some(())
    });
    assert_eq!(host.property(NODE, "ActiveState"), "active");
    assert_eq!(host.property(NODE, "MainPID"), now);
    // the new one is watched as the old one was, and is another's to succeed
    assert_ne!(host.property(NODE, "WatchdogTimestampMonotonic"), "0");
    // one that does not come up changes nothing
    host.run(&format!(
        "printf '#!/bin/sh\\nexit 1\\n' > {program}.new; chmod 755 {program}.new; mv {program}.new {program}"
    ));
    host.systemctl(&format!("reload {NODE}"));
    eventually("it is said", || {
        host.journal(NODE).contains("the old one goes on").then_some(())
    });
    assert_eq!(host.property(NODE, "MainPID"), now);
    assert_eq!(host.run(ASK), "200");
}
