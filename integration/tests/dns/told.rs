//! What is told of queries: to the desktop, to the command line, and to nobody else.

use std::{
    net::{IpAddr, Ipv4Addr},
    process::{Command, Output},
};

use integration::{Running, Service, World, eventually, profile, world::INTERNET_V4};
use serde_json::Value;
use tokio_stream::StreamExt as _;

use super::{
    authority::{Scripted, now},
    stage::{self, Stage, path_of},
};

const SERVER: &str = "@127.0.0.1";

fn command(world: &World, words: &[&str]) -> Output {
    let mut command = world.command(integration::binary("portmaster"));
    command.args(words).output().unwrap()
}

fn said(world: &World, words: &[&str]) -> String {
    let output = command(world, words);
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn log(world: &World, words: &[&str]) -> Vec<Value> {
    let lines = said(world, &[&["dns", "log", "--once", "--json"], words].concat());
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_desktop_and_the_command_line_are_told_all_of_each_query_and_strangers_nothing() {
    let mut scripted = Scripted::new("dns-queries", "", |asked| match asked.name.as_str() {
        "fails.example" => now(asked.empty(2)),
        _ => now(asked.addresses(2, 300)),
    });
    let path = path_of(&scripted.world, "bound");
    let rule = "[[rule]]\naction = \"block\"\nremote = \"*.refused.example\"\n";
    scripted.world.profile("bound", &profile(&path, "allow", rule));
    let address = scripted.world.bus().address();
    let dig = scripted.dig("bound");
    let program = path.to_str().unwrap();
    eventually("the rule is in force", || {
        let words = ["dns", "explain", "x.refused.example", "--app", program];
        let said = command(&scripted.world, &words).stdout;
        said.starts_with(b"block").then_some(())
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut signals = runtime.block_on(async {
        let bus = zbus::connection::Builder::address(address.as_str());
        let bus = bus.build().await.unwrap();
        let dns = dbus::Dns1Proxy::new(&bus).await.unwrap();
        dns.receive_queries_answered().await.unwrap()
    });
    let stray = dig.ask(&["@203.0.113.53", "stray.example"]);
    assert_eq!(stray.status(), "NOERROR", "{}", stray.0);
    for (words, code) in [
        (&["one.example", "AAAA"][..], "NOERROR"),
        (&["two.example"], "NOERROR"),
        (&["two.example", "+tcp"], "NOERROR"),
        (&["a.refused.example"], "NXDOMAIN"),
        (&["fails.example"], "SERVFAIL"),
        (&["localhost"], "NOERROR"),
    ] {
        let answer = dig.ask(&[&[SERVER], words].concat());
        assert_eq!(answer.status(), code, "{words:?}: {}", answer.0);
    }
    let mut heard = Vec::new();
    runtime.block_on(async {
        while !heard
            .iter()
            .any(|query: &dbus::DnsQuery| query.name == "localhost")
        {
            let waiting = tokio::time::timeout(integration::PATIENCE, signals.next());
            let signal = waiting.await.unwrap().unwrap();
            let told = signal.args().unwrap();
            assert_eq!(told.dropped, 0);
            heard.extend(told.queries);
        }
    });
    let of_stray = heard.iter().find(|query| query.name == "stray.example").unwrap();
    let extras = |query: &dbus::DnsQuery| {
        let is = |word| query.extra.get(word).is_some_and(|value| **value == true.into());
        (is("tcp"), is("redirected"))
    };
    assert_eq!(extras(of_stray), (false, true), "{of_stray:?}");
    let lines = log(&scripted.world, &["--app", "bound"]);
    let upstream = format!("udp://{INTERNET_V4}");
    let upstream = upstream.as_str();
    let both = [Ipv4Addr::new(203, 0, 113, 0), Ipv4Addr::new(203, 0, 113, 1)];
    for (name, kind, code, origin, number, upstream, why) in [
        (
            "one.example",
            "AAAA",
            "NOERROR",
            "upstream",
            4,
            upstream,
            "default-action",
        ),
        (
            "two.example",
            "A",
            "NOERROR",
            "upstream",
            4,
            upstream,
            "default-action",
        ),
        ("two.example", "A", "NOERROR", "cache", 2, "", "default-action"),
        ("a.refused.example", "A", "NXDOMAIN", "refused", 1, "", "rule"),
        (
            "fails.example",
            "A",
            "SERVFAIL",
            "failed",
            6,
            "",
            "default-action",
        ),
        ("localhost", "A", "NOERROR", "special", 5, "", "dns-special"),
    ] {
        let is_it = |line: &&Value| line["name"] == name && line["origin"] == origin;
        let line = lines.iter().find(is_it);
        let line = line.unwrap_or_else(|| panic!("{name} {origin}: {lines:?}"));
        let of_bus = heard
            .iter()
            .find(|query| query.id == line["id"].as_u64().unwrap());
        let of_bus = of_bus.unwrap_or_else(|| panic!("{name}: {heard:?}"));
        assert_eq!(line["type"], kind, "{line}");
        assert_eq!(line["code"], code, "{line}");
        assert_eq!(line["upstream"], upstream, "{line}");
        assert_eq!(line["why"], why, "{line}");
        assert_eq!(line["profile"], "bound", "{line}");
        assert_eq!(
            line["verdict"],
            if origin == "refused" { "block" } else { "allow" }
        );
        assert!(line["took_us"].as_u64().unwrap() > 0 && line["time"].as_str().unwrap().ends_with('Z'));
        assert_eq!(line["process"]["path"], path.to_str().unwrap(), "{line}");
        assert_eq!(line["tcp"], origin == "cache", "{line}");
        assert_eq!(extras(of_bus), (origin == "cache", false), "{of_bus:?}");
        if name == "two.example" {
            assert_eq!(line["addresses"], serde_json::json!(both), "{line}");
        }
        assert_eq!(
            (of_bus.name.as_str(), of_bus.origin),
            (name, number),
            "{of_bus:?}"
        );
        assert_eq!(of_bus.executable, path.to_str().unwrap(), "{of_bus:?}");
        assert_eq!(
            (of_bus.upstream.as_str(), of_bus.why_text.as_str()),
            (upstream, why),
            "{of_bus:?}"
        );
        assert_eq!(
            of_bus.verdict,
            if origin == "refused" { 2 } else { 1 },
            "{of_bus:?}"
        );
        assert_eq!(of_bus.rule, line["rule"].as_str().unwrap(), "{of_bus:?}");
        assert_eq!(Some(of_bus.took), line["took_us"].as_u64(), "{of_bus:?}");
        assert!(of_bus.pid > 0 && of_bus.uid == 0 && of_bus.profile == "bound" && of_bus.time > 0);
        assert_eq!(
            of_bus.addresses.len(),
            line["addresses"].as_array().unwrap().len()
        );
    }
    // what one looks for
    let narrowed = |words: &[&str]| log(&scripted.world, words).len();
    assert_eq!(
        narrowed(&[
            "--domain",
            "*.refused.example",
            "--domain",
            "two.example",
            "--verdict",
            "allow"
        ]),
        2
    );
    assert_eq!(narrowed(&["--type", "aaaa", "--app", "bound"]), 1);
    assert_eq!(narrowed(&["--origin", "cache,special", "--app", "bound"]), 2);
    assert_eq!(narrowed(&["--app", "nobody"]), 0);

    // the socket and the bus are for root and the group; the folders are no hindrance
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(scripted.world.root(), open).unwrap();
    let strangers = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let mut stranger = scripted.world.command("setpriv");
    stranger.args(strangers).arg(integration::binary("portmaster"));
    let refused = stranger.args(["dns", "log", "--once"]).output().unwrap();
    assert!(
        !refused.status.success() && refused.stdout.is_empty(),
        "{refused:?}"
    );
    let words = [
        "--print-reply",
        "--dest=org.portmaster.Dns1",
        "/org/portmaster/Dns1",
    ];
    for (method, argument) in [("Upstreams", None), ("Flush", Some("string:two.example"))] {
        let mut stranger = Command::new("setpriv");
        stranger
            .args(strangers)
            .arg("dbus-send")
            .arg(format!("--bus={address}"));
        stranger
            .args(words)
            .arg(format!("org.portmaster.Dns1.{method}"))
            .args(argument);
        let said = String::from_utf8(stranger.output().unwrap().stderr).unwrap();
        assert!(said.contains("AccessDenied"), "{method}: {said}");
    }
}

#[test]
fn the_reason_of_a_refused_name_is_repeated_by_whoever_explains() {
    let list = "[[list]]\nname = \"our-ads\"\ncategories = [\"ads\"]\nfile = \"lists/ads\"\n";
    let stage = Stage::with_lists("dns-explains", &[], list, &[("ads", "||ads.example^\n")]);
    let path = path_of(&stage.world, "curl-like");
    let rule = "[[rule]]\naction = \"block\"\nremote = \"other.example\"\n";
    stage.world.profile("curl-like", &profile(&path, "allow", rule));
    let dig = stage.dig("curl-like");
    eventually("the rule is in force", || {
        (dig.ask(&[SERVER, "other.example"]).status() == "NXDOMAIN").then_some(())
    });
    let program = path.to_str().unwrap();
    let explain = |to: &str, more: &[&str]| {
        said(
            &stage.world,
            &[&["explain", "--program", program, "--to", to], more].concat(),
        )
    };
    for (name, verdict, reason, step) in [
        ("x.ads.example", "block", "dns-list", "our-ads"),
        ("other.example", "block", "curl-like#1", "curl-like#1"),
    ] {
        let refusal = dig.ask(&[SERVER, name]).0;
        let refusal = refusal.lines().find(|line| line.contains("EDE: 15")).unwrap();
        assert!(refusal.contains(reason) && refusal.contains(step), "{refusal}");
        let text = explain(&format!("{name}:443"), &[]);
        assert!(text.starts_with(verdict), "{text}");
        assert!(
            text.contains(reason) && text.contains(step) && text.contains(name),
            "{text}"
        );
        let line: Value = serde_json::from_str(&explain(&format!("{name}:443"), &["--json"])).unwrap();
        assert_eq!(line["verdict"], verdict, "{line}");
        assert_eq!(line["domain"], name, "{line}");
        // where the address is known already, of that as well
        let text = explain(&format!("{name}:443"), &["--address", "203.0.113.7"]);
        assert!(
            text.contains("before there is an address") && text.contains("203.0.113.7"),
            "{text}"
        );
    }
    let text = explain("fine.example:443", &["--address", "203.0.113.7"]);
    assert!(
        text.starts_with("allow") && !text.contains("is refused when"),
        "{text}"
    );
    let text = said(&stage.world, &["dns", "explain", "fine.example"]);
    assert!(
        text.contains(&format!("udp://{INTERNET_V4} would be asked")),
        "{text}"
    );
}

/// Another name server has 127.0.0.1: it is named, with what helps; and that helps.
#[test]
fn where_somebody_else_has_the_port_he_is_named_and_our_own_address_serves() {
    let toml = format!("[resolve.upstreams]\nservers = [\"udp://{INTERNET_V4}\"]\n");
    let mut world = World::builder("dns-taken")
        .config_file("dns.toml", &toml)
        .config_file("interceptor.toml", "[firewall]\ndns_v4 = \"127.0.0.17:53\"\n")
        .start();
    let internet: IpAddr = INTERNET_V4.into();
    let records = ["address=/fine.example/203.0.113.7".to_owned()];
    let _names = integration::NameServer::start(&world.internet, &[internet], &records, world.root());
    let mut other = world.host.command("dnsmasq");
    other.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--pid-file=",
    ]);
    other.args([
        "--user=root",
        "--bind-interfaces",
        "--listen-address=127.0.0.1",
        "--cache-size=0",
    ]);
    other.args([
        &format!("--server={INTERNET_V4}"),
        "--address=/only-there.example/192.0.2.1",
    ]);
    let other = Running::start_logged("dnsmasq", other, &world.root().join("other.log"));
    eventually("it listens", || {
        world.host.sh("ss -Hlun").contains("127.0.0.1:53").then_some(())
    });
    world.start_service(Service::Dns);
    let status = String::from_utf8(command(&world, &["status"]).stdout).unwrap();
    let holder = format!("dnsmasq (process {})", other.pid().as_raw_nonzero());
    assert!(
        status.contains("port-taken") && status.contains("127.0.0.1:53"),
        "{status}"
    );
    assert!(
        status.contains(&holder) && status.contains("dns_v4"),
        "{holder}: {status}"
    );
    let dig = stage::Dig::new(&world, "/usr/bin/dig", "asks");
    for server in ["@127.0.0.17", "@203.0.113.53", "@::1", "@127.0.0.1"] {
        for transport in ["+notcp", "+tcp"] {
            let said = dig.ask(&[server, transport, "fine.example"]);
            assert_eq!(
                said.answers(),
                ["203.0.113.7"],
                "{server} {transport}: {}",
                said.0
            );
        }
    }
    let said = dig.ask(&["@203.0.113.53", "only-there.example"]);
    assert_eq!(said.status(), "NXDOMAIN", "ours was asked: {}", said.0);
    // what the other one asks is redirected as well, and does not go round in circles
    let asked = log(&world, &["--app", "dnsmasq", "--domain", "fine.example"]);
    assert!(!asked.is_empty(), "it is known as the one that asks");
}
