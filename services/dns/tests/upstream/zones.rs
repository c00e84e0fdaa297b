//! An authoritative server (nsd) with a root of its own: signed zones good and bad, and an unsigned one.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::program::{Program, free_port};

const ALGORITHM: &str = "ECDSAP256SHA256";

/// How a zone below `test` differs from what it should be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// NSEC3 instead of NSEC; no flaw.
    Nsec3,
    /// No signatures and no DS record: not signed, and said to be so.
    Unsigned,
    /// A record was changed after signing.
    Changed,
    /// All signatures ended long ago.
    Expired,
    /// All signatures begin in the future.
    Early,
    /// The parent says that it is signed, and it is not.
    Stripped,
    /// The records that prove what does not exist were taken away.
    NoDenial,
    /// The signature of the one address was taken away.
    NoSignature,
}

const ZONES: [(&str, Flaw); 9] = [
    ("good.test", Flaw::None),
    ("nsec3.test", Flaw::Nsec3),
    ("plain.test", Flaw::Unsigned),
    ("changed.test", Flaw::Changed),
    ("expired.test", Flaw::Expired),
    ("early.test", Flaw::Early),
    ("stripped.test", Flaw::Stripped),
    ("undenied.test", Flaw::NoDenial),
    ("unsigned.test", Flaw::NoSignature),
];

/// The server, and the file with its root's key.
pub(crate) struct Zones {
    pub(crate) address: SocketAddr,
    pub(crate) anchors: PathBuf,
    _keys: TempDir,
    _program: Program,
}

impl Zones {
    pub(crate) fn start() -> Self {
        let (keys, directory) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let mut below_test = String::new();
        for (zone, flaw) in ZONES {
            let alias = "alias CNAME www.good.test.\nwilder CNAME some.wild\ninto CNAME www.plain.test.\n*.wild A 192.0.2.3\n";
            let body = format!("www A 192.0.2.1\nwww TXT \"text\"\n{alias}");
            let ds = make(keys.path(), directory.path(), zone, &body, flaw);
            writeln!(below_test, "{zone}. NS ns.test.\n{ds}").unwrap();
        }
        let below_root = make(keys.path(), directory.path(), "test", &below_test, Flaw::None);
        make(
            keys.path(),
            directory.path(),
            ".",
            &format!("test. NS ns.test.\n{below_root}"),
            Flaw::None,
        );
        let anchors = keys.path().join("anchors");
        std::fs::copy(keys.path().join("root-ksk.key"), &anchors).unwrap();
        let port = free_port();
        let config = config(directory.path(), port);
        let program = Program::start(
            "/usr/sbin/nsd",
            &["-d", "-c", config.to_str().unwrap()],
            directory,
            port,
        );
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            anchors,
            _keys: keys,
            _program: program,
        }
    }
}

fn config(directory: &Path, port: u16) -> PathBuf {
    let place = directory.display();
    let mut text = format!(
        "server:\n ip-address: 127.0.0.1@{port}\n username: \"\"\n chroot: \"\"\n zonesdir: \"{place}\"\n database: \"\"\n \
         pidfile: \"\"\n xfrdfile: \"{place}/xfrd\"\n zonelistfile: \"{place}/zones\"\n server-count: 1\n rrl-ratelimit: 0\n\
         remote-control:\n control-enable: no\n"
    );
    for zone in ZONES.map(|(zone, _)| zone).into_iter().chain(["test", "."]) {
        writeln!(
            text,
            "zone:\n name: {zone}\n zonefile: \"{}.signed\"",
            file_name(zone)
        )
        .unwrap();
    }
    let file = directory.join("nsd.conf");
    std::fs::write(&file, text).unwrap();
    file
}

fn file_name(zone: &str) -> &str {
    if zone == "." { "root" } else { zone }
}

/// Writes a zone, signs it, spoils it; gives back the DS records for its parent.
fn make(keys: &Path, directory: &Path, zone: &str, body: &str, flaw: Flaw) -> String {
    let file = directory.join(file_name(zone));
    let signed = directory.join(format!("{}.signed", file_name(zone)));
    let origin = if zone == "." {
        ".".to_owned()
    } else {
        format!("{zone}.")
    };
    let head = "@ SOA ns.test. root.test. 1 3600 600 86400 60\n@ NS ns.test.\n";
    std::fs::write(&file, format!("$ORIGIN {origin}\n$TTL 300\n{head}{body}")).unwrap();
    if matches!(flaw, Flaw::Unsigned | Flaw::Stripped) {
        std::fs::copy(&file, &signed).unwrap();
    }
    if flaw == Flaw::Unsigned {
        return String::new();
    }
    let (ksk, zsk) = (key(keys, &origin, "ksk", &["-k"]), key(keys, &origin, "zsk", &[]));
    let ds = run(
        "ldns-key2ds",
        &["-n", "-2", ksk.with_extension("key").to_str().unwrap()],
        keys,
    );
    if flaw == Flaw::Stripped {
        return ds;
    }
    let times: &[&str] = match flaw {
        Flaw::Expired => &["-i", "20230101000000", "-e", "20240101000000"],
        Flaw::Early => &["-i", "20900101000000", "-e", "20910101000000"],
        _ => &[],
    };
    let denial: &[&str] = if flaw == Flaw::Nsec3 {
        &["-n", "-t", "0"]
    } else {
        &[]
    };
    let files = [
        file.to_str().unwrap(),
        ksk.to_str().unwrap(),
        zsk.to_str().unwrap(),
    ];
    let output = ["-o", &origin, "-f", signed.to_str().unwrap()];
    run("ldns-signzone", &[times, denial, &output, &files].concat(), keys);
    spoil(&signed, flaw);
    ds
}

/// A key, as the path of its files without their extensions.
fn key(keys: &Path, origin: &str, kind: &str, options: &[&str]) -> PathBuf {
    let made = run(
        "ldns-keygen",
        &[&["-a", ALGORITHM], options, &[origin]].concat(),
        keys,
    );
    let base = keys.join(made.trim());
    let name = if origin == "." {
        "root".to_owned()
    } else {
        origin.replace('.', "_")
    };
    let to = keys.join(format!("{name}-{kind}"));
    for extension in ["key", "private"] {
        let from = format!("{}.{extension}", base.display());
        std::fs::rename(&from, format!("{}.{extension}", to.display()))
            .unwrap_or_else(|error| panic!("{from}: {error}"));
    }
    let _ = std::fs::remove_file(format!("{}.ds", base.display()));
    to
}

fn spoil(signed: &Path, flaw: Flaw) {
    let text = std::fs::read_to_string(signed).unwrap();
    let spoilt: Vec<String> = text
        .lines()
        .filter(|line| match flaw {
            Flaw::NoDenial => !line.contains("\tNSEC\t"),
            Flaw::NoSignature => !(line.starts_with("www.") && line.contains("\tRRSIG\tA ")),
            _ => true,
        })
        .map(|line| match flaw {
            Flaw::Changed => line.replace("192.0.2.1", "192.0.2.66"),
            _ => line.to_owned(),
        })
        .collect();
    assert!(
        !matches!(flaw, Flaw::NoDenial | Flaw::NoSignature | Flaw::Changed)
            || spoilt.join("\n") != text.trim_end(),
        "nothing to spoil in {text}"
    );
    std::fs::write(signed, spoilt.join("\n") + "\n").unwrap();
}

fn run(program: &str, arguments: &[&str], directory: &Path) -> String {
    let done = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .output();
    let done = done.unwrap_or_else(|error| panic!("{program}: {error}; install ldnsutils"));
    assert!(
        done.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).unwrap()
}
