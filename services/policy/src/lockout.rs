//! What a host, or its owner, cannot do without: tried on the policy before and after a change. Pure.
//!
//! Live sessions are found by whoever asks for the change, and come as probes; here is what must work although nobody does it
//! just now.

use std::{net::IpAddr, path::Path};

use verdict::{
    Decision, Direction, Endpoint, Executable, Flow, Process, Protocol,
    policy::{CompiledPolicy, Facts, model::Clocks},
};

/// Something that passes before, and not after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) what: String,
    pub(crate) before: Decision,
    pub(crate) after: Decision,
}

/// Programs, what they do, and whether its loss locks out (else it is a warning).
struct Need {
    what: &'static str,
    programs: &'static [&'static str],
    flows: &'static [(Direction, Protocol, &'static str, u16, &'static str, u16)],
    locks_out: bool,
}

const ANYBODY: &[&str] = &[""];
/// A server of the internet, and a host of the network here: no rule names them.
const FAR: &str = "203.0.113.17";

const NEEDS: [Need; 6] = [
    Need {
        what: "DHCP, by which this host gets its address",
        programs: &[
            "/usr/sbin/dhclient",
            "/usr/sbin/dhcpcd",
            "/usr/sbin/udhcpc",
            "/usr/lib/systemd/systemd-networkd",
            "/usr/sbin/NetworkManager",
        ],
        flows: &[(
            Direction::Outgoing,
            Protocol::UDP,
            "0.0.0.0",
            68,
            "255.255.255.255",
            67,
        )],
        locks_out: true,
    },
    Need {
        what: "DHCP, the servers' answers",
        programs: ANYBODY,
        flows: &[(
            Direction::Incoming,
            Protocol::UDP,
            "192.168.0.17",
            68,
            "192.168.0.1",
            67,
        )],
        locks_out: true,
    },
    Need {
        what: "programs of this host that talk to each other, and to this API",
        programs: ANYBODY,
        flows: &[
            (
                Direction::Outgoing,
                Protocol::TCP,
                "127.0.0.1",
                50_817,
                "127.0.0.1",
                817,
            ),
            (Direction::Outgoing, Protocol::TCP, "::1", 50_817, "::1", 817),
            (
                Direction::Outgoing,
                Protocol::UDP,
                "127.0.0.1",
                50_053,
                "127.0.0.53",
                53,
            ),
        ],
        locks_out: true,
    },
    Need {
        what: "DNS, for the resolver of this host",
        programs: &[
            "/usr/lib/systemd/systemd-resolved",
            "/usr/sbin/unbound",
            "/usr/sbin/dnsmasq",
            "/usr/sbin/named",
        ],
        flows: &[(
            Direction::Outgoing,
            Protocol::UDP,
            "192.168.0.17",
            50_053,
            FAR,
            53,
        )],
        locks_out: true,
    },
    Need {
        what: "new SSH connections to this host",
        programs: &["/usr/sbin/sshd", "/usr/lib/systemd/systemd"],
        flows: &[(
            Direction::Incoming,
            Protocol::TCP,
            "192.168.0.17",
            22,
            FAR,
            50_022,
        )],
        locks_out: false,
    },
    Need {
        what: "the time service",
        programs: &[
            "/usr/lib/systemd/systemd-timesyncd",
            "/usr/sbin/chronyd",
            "/usr/sbin/ntpd",
        ],
        flows: &[(
            Direction::Outgoing,
            Protocol::UDP,
            "192.168.0.17",
            50_123,
            FAR,
            123,
        )],
        locks_out: false,
    },
];

/// What locks out, and what is only to be said. `is_there`: whether the host has this program.
pub(crate) fn lost(
    before: &CompiledPolicy,
    after: &CompiledPolicy,
    is_there: &dyn Fn(&Path) -> bool,
    now: Clocks,
) -> (Vec<Lost>, Vec<String>) {
    let (mut locks, mut warnings) = (Vec::new(), Vec::new());
    for need in &NEEDS {
        let programs = need.programs.iter();
        let programs = programs.filter(|program| program.is_empty() || is_there(Path::new(program)));
        let flows = || need.flows.iter().filter_map(read);
        let mut tries = programs.flat_map(|program| flows().map(move |flow| (*program, flow)));
        let found = tries.find_map(|(program, flow)| {
            let lost = compare(before, after, process(program).as_ref(), flow, &[], now)?;
            Some((program, lost))
        });
        let Some((program, (before, after))) = found else {
            continue;
        };
        let what = match program {
            "" => need.what.to_owned(),
            program => format!("{} ({program})", need.what),
        };
        if need.locks_out {
            locks.push(Lost { what, before, after });
        } else {
            warnings.push(format!("{what} would be refused, by {}", said(&after)));
        }
    }
    (locks, warnings)
}

/// Both decisions, where the connection passes before and is refused afterwards.
pub(crate) fn compare(
    before: &CompiledPolicy,
    after: &CompiledPolicy,
    process: Option<&Process>,
    flow: Flow,
    domains: &[&str],
    now: Clocks,
) -> Option<(Decision, Decision)> {
    let facts = facts(process, flow, domains, now);
    let was = before.decide(before.profile_for(process), &facts);
    let is = after.decide(after.profile_for(process), &facts);
    (was.verdict.passes() && !is.verdict.passes()).then_some((was, is))
}

pub(crate) fn facts<'a>(
    process: Option<&Process>,
    flow: Flow,
    domains: &'a [&'a str],
    now: Clocks,
) -> Facts<'a> {
    Facts {
        flow,
        scope: flow.scope(),
        uid: process.map(|process| process.uid),
        domains,
        dns_is_served: true,
        now,
    }
}

/// By which rule or setting, in words.
pub(crate) fn said(decision: &Decision) -> String {
    format!("{} ({})", decision.source, decision.why)
}

/// "": a process of root that no profile is for.
fn process(program: &str) -> Option<Process> {
    Some(Process {
        executable: Executable {
            path: (!program.is_empty()).then(|| Path::new(program).to_owned()),
            ..Executable::default()
        },
        ..Process::default()
    })
}

fn read(flow: &(Direction, Protocol, &str, u16, &str, u16)) -> Option<Flow> {
    let (direction, protocol, local, local_port, remote, remote_port) = *flow;
    let (local, remote): (IpAddr, IpAddr) = (local.parse().ok()?, remote.parse().ok()?);
    Some(Flow {
        direction,
        protocol,
        local: Endpoint::new(local, local_port),
        remote: Endpoint::new(remote, remote_port),
    })
}

#[cfg(test)]
mod tests {
    use verdict::policy::{file, model::Snapshot};

    use super::*;

    fn policy(global: &str, profiles: &[(&str, &str)]) -> CompiledPolicy {
        let none = |_: &str| None;
        let shipped = verdict::policy::shipped().unwrap();
        let global = file::parse_global("global.toml", global, &none).unwrap();
        let profiles = profiles
            .iter()
            .map(|(id, text)| file::parse_profile(id, id, text, &none).unwrap());
        CompiledPolicy::new(Snapshot {
            global,
            profiles: profiles.collect(),
            ..shipped
        })
        .unwrap()
    }

    fn words(global: &str, profiles: &[(&str, &str)]) -> String {
        let shipped = [DHCP, SSH];
        let (before, after) = (policy("", &shipped), policy(global, profiles));
        let (locks, warnings) = lost(&before, &after, &|_| true, daemon::clock::now());
        let locks = locks.iter().map(|lost| format!("LOCK {}", lost.what));
        locks.chain(warnings).collect::<Vec<_>>().join("\n")
    }

    const DHCP: (&str, &str) = ("dhcp", include_str!("../../../config/profiles.d/dhcp.toml"));
    const SSH: (&str, &str) = ("ssh", include_str!("../../../config/profiles.d/ssh.toml"));

    #[test]
    fn every_flow_can_be_read() {
        for flow in NEEDS.iter().flat_map(|need| need.flows) {
            assert!(read(flow).is_some(), "{flow:?}");
        }
    }

    #[test]
    fn what_is_lost_is_named_and_what_is_not_is_not() {
        assert_eq!(
            words("[settings]\nblock_lan = true\n", &[DHCP, SSH]),
            "",
            "DHCP and loopback are rules"
        );
        let dhcp = "[[match]]\npath = \"/usr/sbin/dhclient\"\n[settings]\ndefault_action = \"block\"\n";
        assert!(words("", &[SSH, ("dhcp", dhcp)]).contains("LOCK DHCP"));
        let loopback = "[[rule]]\naction = \"drop\"\nremote = \"localhost\"\n";
        assert!(words(loopback, &[DHCP, SSH]).contains("LOCK programs of this host"));
        let all = "shipped_rules = false\n[settings]\ndefault_action = \"block\"\n";
        let all = words(all, &[SSH]);
        assert!(
            all.contains("LOCK DHCP") && all.contains("LOCK programs of") && all.contains("the time service"),
            "{all}"
        );
        let dns = "[[rule]]\naction = \"block\"\nremote_port = 53\n";
        assert!(words(dns, &[DHCP, SSH]).contains("LOCK DNS"));
        let said = words("", &[DHCP]);
        assert!(
            said.contains("new SSH connections") && !said.contains("LOCK"),
            "{said}"
        );
    }
}
