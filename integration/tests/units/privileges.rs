//! What each service may do, looked at in the kernel and tried from inside.

use std::collections::BTreeSet;

use integration::Booted;

use super::{LOCKDOWN, SERVICES};

/// Bits of `capabilities(7)`.
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const SYS_PTRACE: u64 = 1 << 19;
const DAC_READ_SEARCH: u64 = 1 << 2;

/// Where the kernel groups by session, a nice value counts within the group alone, and the group has one too.
#[test]
fn what_packets_wait_for_goes_before_busy_programs_of_every_session() {
    let host = Booted::start("nice");
    for (unit, user) in SERVICES {
        let waited_for = ["portmaster-interceptor", "portmaster-process-resolver"].contains(&user);
        let nice = if waited_for { "-10" } else { "0" };
        let pid = host.property(unit, "MainPID");
        assert_eq!(host.run(&format!("ps -o nice= -p {pid}")).trim(), nice, "{unit}");
        // a kernel without such groups has no such file, and a container whose manager may not raise limits gives no LimitNICE=
        let group = host.run(&format!("cat /proc/{pid}/autogroup 2>/dev/null || true"));
        let may = host
            .run(&format!("grep -c 'nice priority *30' /proc/{pid}/limits || true"))
            .trim()
            == "1";
        let holds = group.is_empty() || group.trim().ends_with(&format!("nice {nice}"));
        let is_told = host.journal(unit).contains("cannot write /proc/self/autogroup");
        assert!(
            if waited_for && !may {
                is_told
            } else {
                holds && !is_told
            },
            "{unit}: {group}, {may}"
        );
    }
}

#[test]
fn each_service_is_its_own_user_with_exactly_its_privileges() {
    let host = Booted::start("users");
    for (unit, user) in SERVICES {
        let capabilities = match user {
            "portmaster-interceptor" => NET_ADMIN | NET_RAW,
            "portmaster-process-resolver" => SYS_PTRACE | DAC_READ_SEARCH,
            _ => 0,
        };
        let groups: &[&str] = match user {
            "portmaster-interceptor" => &["portmaster", "root"],
            _ => &["portmaster"],
        };
        let status = host.run(&format!("cat /proc/{}/status", host.property(unit, "MainPID")));
        let words = |name: &str| -> Vec<String> {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_else(|| panic!("no {name} in\n{status}"));
            line.split_whitespace().map(str::to_owned).collect()
        };
        let id = |kind: &str, name: &str| {
            host.run(&format!("getent {kind} {name} | cut -d: -f3"))
                .trim()
                .to_owned()
        };
        assert_eq!(words("Uid:"), vec![id("passwd", user); 4], "{unit}");
        assert_eq!(words("Gid:"), vec![id("group", user); 4], "{unit}");
        let own = std::iter::once(user).chain(groups.iter().copied());
        let own: BTreeSet<_> = own.map(|group| id("group", group)).collect();
        assert_eq!(
            words("Groups:").into_iter().collect::<BTreeSet<_>>(),
            own,
            "{unit}"
        );
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            let has = u64::from_str_radix(&words(set)[0], 16).unwrap();
            assert_eq!(has, capabilities, "{unit} {set} {has:#x}");
        }
        assert_eq!(words("NoNewPrivs:"), ["1"], "{unit}");
        assert_eq!(words("Seccomp:"), ["2"], "{unit}");
        assert_eq!(host.property(unit, "StatusErrno"), "0", "{unit}");
    }
}

#[test]
fn no_unit_is_exposed_more_than_2_and_all_are_well_formed() {
    let host = Booted::start("exposure");
    let units: Vec<_> = SERVICES.iter().map(|(unit, _)| *unit).chain([LOCKDOWN]).collect();
    for unit in &units {
        // in tenths; ends with an error where it is more
        let said = host.attempt(&format!(
            "systemd-analyze security --no-pager --threshold=20 {unit}"
        ));
        assert!(
            said.status.success(),
            "{unit}: {}",
            integration::booted::text(&said)
        );
    }
    let files = host
        .run("ls /usr/lib/systemd/system/portmaster*")
        .replace('\n', " ");
    assert!(units.iter().all(|unit| files.contains(unit)), "{files}");
    let said = host.attempt(&format!("systemd-analyze verify --man=no {files}"));
    assert_eq!(integration::booted::text(&said), "");
    assert!(said.status.success());
    // where the newer keys are known they are put beside: not here
    assert_eq!(host.property("portmaster-policy.service", "DropInPaths"), "");
}

/// Tries what no service of ours should get away with, in the sandbox of the unit that it is put into.
pub(super) const INTRUDER: &str = r#"
import ctypes, os, socket
def tried(name, act):
    try:
        act()
        print("INTRUDER", name, "worked", flush=True)
    except Exception as error:
        print("INTRUDER", name, "failed", error, flush=True)
def packet():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendto(b"x", ("198.18.17.10", 9))
def call(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")
tried("python", lambda: 1)
tried("inet", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
tried("inet6", lambda: socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
tried("packet", packet)
tried("ethernet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
tried("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
tried("write-etc", lambda: open("/etc/portmaster/intruder", "w"))
tried("write-usr", lambda: open("/usr/bin/intruder", "w"))
tried("home", lambda: open("/root/secret"))
tried("shadow", lambda: open("/etc/shadow"))
tried("sysctl", lambda: open("/proc/sys/net/ipv4/ip_forward", "w"))
tried("unshare", lambda: call(272, 0x10000000))
tried("ptrace", lambda: call(101, 16, 1, 0, 0))
tried("mount", lambda: call(165, 0, b"/mnt", b"tmpfs", 0, 0))
tried("read-memory", lambda: call(310, os.getppid(), 0, 0, 0, 0, 0))
print("INTRUDER done", flush=True)
"#;

/// Puts it in a service's place.
pub(super) const INTRUDING: &str = "[Service]\nType=oneshot\nRestart=no\nWatchdogSec=0\nExecStart=\n\
    ExecStart=/usr/bin/python3 /usr/lib/intruder.py\nExecStopPost=\n";

#[test]
fn an_intruder_in_a_service_gets_no_further() {
    let mut builder = Booted::builder("intruder")
        .disabled()
        .file("/usr/lib/intruder.py", INTRUDER)
        .file("/root/secret", "x");
    for (unit, _) in SERVICES {
        builder = builder.file(&format!("/etc/systemd/system/{unit}.d/intruder.conf"), INTRUDING);
    }
    let host = builder.start();
    for (unit, user) in SERVICES {
        host.systemctl(&format!("start {unit}"));
        let said = host.journal(unit);
        assert!(said.contains("INTRUDER done"), "{said}");
        let worked: BTreeSet<_> = said
            .lines()
            .filter_map(|line| line.split_once("INTRUDER ")?.1.strip_suffix(" worked"))
            .collect();
        let may: &[&str] = match user {
            // raw sockets for iptables-legacy; nothing leaves through them
            "portmaster-interceptor" => &["python", "netlink", "inet", "inet6"],
            // reads whatever the host has, where the unit leaves it to be seen; never writes
            "portmaster-process-resolver" => &["python", "netlink", "shadow"],
            // asks upstreams, and the kernel whose a socket is
            "portmaster-dns" => &["python", "inet", "inet6", "packet", "netlink"],
            // carries to nodes
            "portmaster-gate17-entry" => &["python", "inet", "inet6", "packet"],
            // answers this host, and asks the kernel whose a socket is
            "portmaster-api-gateway" => &["python", "inet", "inet6", "netlink"],
            _ => &["python"],
        };
        assert_eq!(worked, may.iter().copied().collect(), "{unit}:\n{said}");
    }
}
