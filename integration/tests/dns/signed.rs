//! DNSSEC from end to end: an authoritative server (nsd) with a root of its own, our server, and clients that look at
//! signatures, or validate themselves (delv).

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use integration::{Running, Service, World, eventually, world::INTERNET_V4};
use tempfile::TempDir;

use super::stage::Dig;

const SERVER: &str = "@127.0.0.1";
const ADDRESS: &str = "203.0.113.7";
const ZONES: [&str; 3] = ["example", "broken", "."];

/// A world with signed zones on its internet; in `broken.` a record was changed after signing.
struct Signed {
    world: World,
    /// For delv.
    anchors: PathBuf,
    _nsd: Running,
    _folder: TempDir,
}

impl Signed {
    fn new(label: &str, validates: bool) -> Self {
        let folder = TempDir::new().unwrap();
        let place = folder.path();
        let body = format!("www A {ADDRESS}\n");
        let mut below_root = String::new();
        for zone in ["example", "broken"] {
            let ds = sign(place, zone, &body);
            writeln!(below_root, "{zone}. NS ns.example.\n{ds}").unwrap();
        }
        sign(place, ".", &below_root);
        let broken = place.join("broken.signed");
        let text = fs::read_to_string(&broken).unwrap();
        fs::write(&broken, text.replace(ADDRESS, "203.0.113.66")).unwrap();
        // as zone files have it: owner, time to live, class, type, flags, protocol, algorithm, key
        let key = fs::read_to_string(place.join("root-ksk.key")).unwrap();
        let words: Vec<&str> = key
            .split_whitespace()
            .skip_while(|word| *word != "DNSKEY")
            .collect();
        let anchors = place.join("delv.keys");
        let text = format!(
            "trust-anchors {{ . static-key {} {} {} \"{}\"; }};\n",
            words[1], words[2], words[3], words[4]
        );
        fs::write(&anchors, text).unwrap();
        let toml = format!(
            "[resolve.upstreams]\nservers = [\"udp://{INTERNET_V4}\"]\ndnssec = {validates}\ntrust_anchors = {:?}\n",
            place.join("root-ksk.key")
        );
        let world = World::builder(label)
            .config_file("dns.toml", &toml)
            .with(Service::Dns)
            .start();
        let nsd = serve(&world, place);
        Self {
            world,
            anchors,
            _nsd: nsd,
            _folder: folder,
        }
    }

    fn dig(&self) -> Dig<'_> {
        Dig::new(&self.world, "/usr/bin/dig", "asks")
    }

    /// What delv says, which has the root's key and asks our server.
    fn delv(&self, name: &str) -> String {
        let mut command = self.world.host.command("delv");
        command
            .args([SERVER, "-a"])
            .arg(&self.anchors)
            .args(["+root=.", name, "A"]);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}

fn serve(world: &World, place: &Path) -> Running {
    let here = place.display();
    let mut text = format!(
        "server:\n ip-address: {INTERNET_V4}\n username: \"\"\n chroot: \"\"\n zonesdir: \"{here}\"\n database: \"\"\n \
         pidfile: \"\"\n xfrdfile: \"{here}/xfrd\"\n zonelistfile: \"{here}/zones\"\n server-count: 1\n rrl-ratelimit: 0\n\
         remote-control:\n control-enable: no\n"
    );
    for zone in ZONES {
        let file = file_name(zone);
        writeln!(text, "zone:\n name: {zone}\n zonefile: \"{file}.signed\"").unwrap();
    }
    let config = place.join("nsd.conf");
    fs::write(&config, text).unwrap();
    let mut command = world.internet.command("/usr/sbin/nsd");
    command.arg("-d").arg("-c").arg(&config);
    let mut running = Running::start_logged("nsd", command, &place.join("nsd.log"));
    eventually("the authoritative server listens", || {
        assert!(running.ended().is_none(), "nsd ended: {}", running.output());
        world.internet.sh("ss -Hlun").contains(":53 ").then_some(())
    });
    running
}

fn file_name(zone: &str) -> &str {
    if zone == "." { "root" } else { zone }
}

/// Writes a zone and signs it; gives back the DS records for its parent.
fn sign(place: &Path, zone: &str, body: &str) -> String {
    let (name, origin) = (
        file_name(zone),
        if zone == "." {
            ".".to_owned()
        } else {
            format!("{zone}.")
        },
    );
    let head = format!(
        "$ORIGIN {origin}\n$TTL 300\n@ SOA ns.example. root.example. 1 3600 600 86400 60\n@ NS ns.example.\n"
    );
    fs::write(place.join(name), head + body).unwrap();
    for (kind, options) in [("ksk", &["-k"][..]), ("zsk", &[])] {
        let words = [&["-a", "ECDSAP256SHA256"], options, &[&origin]].concat();
        let base = run(place, "ldns-keygen", &words);
        for extension in ["key", "private"] {
            let from = place.join(format!("{}.{extension}", base.trim()));
            fs::rename(from, place.join(format!("{name}-{kind}.{extension}"))).unwrap();
        }
    }
    let (ksk, zsk) = (format!("{name}-ksk"), format!("{name}-zsk"));
    let signed = format!("{name}.signed");
    run(
        place,
        "ldns-signzone",
        &["-o", &origin, "-f", &signed, name, &ksk, &zsk],
    );
    run(place, "ldns-key2ds", &["-n", "-2", &format!("{ksk}.key")])
}

fn run(place: &Path, program: &str, words: &[&str]) -> String {
    integration::process::run(Command::new(program).args(words).current_dir(place))
}

#[test]
fn signatures_pass_and_what_was_proved_is_said_to_whoever_asks() {
    let signed = Signed::new("dns-signed", true);
    let dig = signed.dig();
    let flags = |said: &str| {
        let line = said
            .lines()
            .find(|line| line.starts_with(";; flags:"))
            .unwrap_or_default();
        line.split(';').nth(2).unwrap_or_default().trim().to_owned()
    };
    for transport in ["+notcp", "+tcp"] {
        let said = dig.ask(&[SERVER, transport, "+dnssec", "www.example"]);
        assert!(said.0.contains("RRSIG\tA 13 2"), "{}", said.0);
        assert!(flags(&said.0).ends_with(" ad"), "{}", said.0);
        let said = dig.ask(&[SERVER, transport, "+dnssec", "missing.example"]);
        assert_eq!(said.status(), "NXDOMAIN", "{}", said.0);
        assert!(
            said.0.contains("NSEC\t") && flags(&said.0).ends_with(" ad"),
            "{}",
            said.0
        );
        let said = dig.ask(&[SERVER, transport, "www.example"]);
        assert_eq!(
            (flags(&said.0).as_str(), said.answers()),
            ("flags: qr rd ra ad", vec![ADDRESS.to_owned()])
        );
        let said = dig.ask(&[SERVER, transport, "+noadflag", "www.example"]);
        assert_eq!(
            (flags(&said.0).as_str(), said.answers()),
            ("flags: qr rd ra", vec![ADDRESS.to_owned()])
        );
        let said = dig.ask(&[SERVER, transport, "www.broken"]);
        assert_eq!(said.status(), "SERVFAIL", "{}", said.0);
        assert!(said.0.contains("EDE: 6"), "{}", said.0);
        let said = dig.ask(&[SERVER, transport, "+cdflag", "www.broken"]);
        assert_eq!(said.answers(), ["203.0.113.66"], "{}", said.0);
        assert!(!flags(&said.0).contains(" ad"), "{}", said.0);
    }
}

#[test]
fn who_validates_himself_can_do_so_through_us() {
    for validates in [true, false] {
        let signed = Signed::new("dns-delv", validates);
        let said = signed.delv("www.example");
        assert!(
            said.contains("; fully validated") && said.contains(ADDRESS),
            "{validates}: {said}"
        );
        let said = signed.delv("missing.example");
        assert!(
            said.contains("; negative response, fully validated"),
            "{validates}: {said}"
        );
        let said = signed.delv("www.broken");
        assert!(
            !said.contains("203.0.113.66") || said.contains("failed"),
            "{validates}: {said}"
        );
        assert!(!said.contains("; fully validated"), "{validates}: {said}");
    }
}
