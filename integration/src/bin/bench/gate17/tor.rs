//! A private Tor network: three relays, each of them a directory authority and an exit, and a client.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use integration::{Namespace, Running, World, process::run};

use super::peers::{ADDRESSES, Peer, folder, log, logged};

/// Where its client listens.
pub(super) const SOCKS: u16 = 7500;
const ONION: u16 = 9001;
const DIRECTORY: u16 = 9030;
/// For the authorities to agree, and the client to build its first circuit.
const PATIENCE: Duration = Duration::from_secs(240);

const COMMON: &str = "TestingTorNetwork 1\nPathsNeededToBuildCircuits 0.67\nTestingMinExitFlagThreshold 0\nLog notice stdout\n\
    SafeLogging 0\nControlPort 0\nNumCPUs 1\n";
const AUTHORITY: &str = "AuthoritativeDirectory 1\nV3AuthoritativeDirectory 1\nContactInfo bench@authority.example\nSOCKSPort 0\n\
    AssumeReachable 1\nExitRelay 1\nExitPolicyRejectPrivate 0\nExitPolicy accept *:*\nTestingV3AuthInitialVotingInterval 20\n\
    TestingV3AuthInitialVoteDelay 4\nTestingV3AuthInitialDistDelay 4\nV3AuthVotingInterval 20\nV3AuthVoteDelay 4\nV3AuthDistDelay 4\n\
    TestingDirAuthVoteExit *\nTestingDirAuthVoteGuard *\nTestingDirAuthVoteHSDir *\nRelayBandwidthRate 2000 MBytes\n\
    RelayBandwidthBurst 2000 MBytes\nBandwidthRate 2000 MBytes\nBandwidthBurst 2000 MBytes\nAddressDisableIPv6 1\n";

/// Three relays are one path: first, middle, last.
const PATH: &str =
    "EntryNodes bench0\nMiddleNodes bench1\nExitNodes bench2\nStrictNodes 1\nConfluxEnabled 0\n";

/// Returns when its client has a circuit; None where Tor is not there, or its network does not come to be.
pub(super) fn start(world: &World, hosts: &[Namespace]) -> Option<Peer> {
    let bin = folder().join("debian/usr/bin");
    if !bin.join("tor").exists() {
        return None;
    }
    let root = world.root().join("tor");
    let lines: Vec<String> = (0..3).map(|place| authority(&bin, &root, place)).collect();
    let lines = lines.concat();
    let relays: Vec<Running> = (0..3)
        .map(|place| {
            let data = data(&root, place);
            let own = format!("{COMMON}{AUTHORITY}{lines}{}", identity(&data, place));
            tor(world, &bin, &hosts[place], &format!("tor-{place}"), &data, &own)
        })
        .collect();
    let data = root.join("client");
    let own = format!(
        "{COMMON}{lines}DataDirectory {}\nSOCKSPort 127.0.0.1:{SOCKS}\n{PATH}",
        data.display()
    );
    let client = tor(world, &bin, &world.host, "tor-client", &data, &own);
    let begun = Instant::now();
    while !client.output().contains("Bootstrapped 100%") {
        if begun.elapsed() > PATIENCE {
            let said = fs::read_to_string(log(world.root(), "tor-client")).unwrap_or_default();
            let tail: Vec<&str> = said.lines().rev().take(5).collect();
            eprintln!("Tor's network does not come to be: {tail:#?}");
            return None;
        }
        thread::sleep(Duration::from_millis(200));
    }
    Some(Peer::new(client, relays))
}

fn data(root: &Path, place: usize) -> PathBuf {
    root.join(format!("authority-{place}"))
}

fn identity(data: &Path, place: usize) -> String {
    let address: Ipv4Addr = ADDRESSES[place];
    format!(
        "Nickname bench{place}\nAddress {address}\nORPort {address}:{ONION}\nDirPort {address}:{DIRECTORY}\nDataDirectory {}\n",
        data.display()
    )
}

/// Makes an authority's keys, and returns the line by which others know it.
fn authority(bin: &Path, root: &Path, place: usize) -> String {
    let data = data(root, place);
    let keys = data.join("keys");
    fs::create_dir_all(&keys).expect("make a folder");
    private(&data);
    private(&keys);
    let address = ADDRESSES[place];
    let mut command = Command::new("sh");
    command
        .args([
            "-ec",
            "echo benchmark | \"$0\" --create-identity-key -m 12 -a \"$1\" --passphrase-fd 0",
        ])
        .arg(bin.join("tor-gencert"))
        .arg(format!("{address}:{DIRECTORY}"))
        .current_dir(&keys)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    assert!(
        command.status().expect("start tor-gencert").success(),
        "tor-gencert makes no keys"
    );
    let certificate = fs::read_to_string(keys.join("authority_certificate")).expect("read a certificate");
    let v3 = certificate
        .lines()
        .find_map(|line| line.strip_prefix("fingerprint "))
        .expect("it has a fingerprint");
    let file = root.join(format!("list-{place}"));
    fs::write(&file, identity(&data, place)).expect("write a configuration");
    let said = run(Command::new(bin.join("tor"))
        .args(["--quiet", "--list-fingerprint", "-f"])
        .arg(&file)
        .args(["--defaults-torrc", "/dev/null"]));
    let fingerprint = said
        .split_once(' ')
        .expect("a nickname and a fingerprint")
        .1
        .replace(' ', "");
    format!(
        "DirAuthority bench{place} orport={ONION} v3ident={v3} {address}:{DIRECTORY} {}\n",
        fingerprint.trim()
    )
}

/// Tor wants it so.
fn private(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).expect("make a folder private");
}

fn tor(world: &World, bin: &Path, host: &Namespace, name: &str, data: &Path, own: &str) -> Running {
    fs::create_dir_all(data).expect("make a folder");
    private(data);
    let file = data.join("torrc");
    fs::write(&file, own).expect("write a configuration");
    let mut command = host.command(bin.join("tor"));
    command.args(["--defaults-torrc", "/dev/null", "-f"]).arg(&file);
    logged(world, name, command)
}
