//! Which connections a change is tried on before it is made: the one that was asked about, the caller's own, and all that live.

use api::v1::{Connection, Endpoint, Process};
use bytes::Bytes;
use prost::Message as _;
use proto::{
    convert::octets,
    flow::v1 as flow,
    policy::v1::{ExplainRequest, Probe},
};

use crate::caller::Peer;

/// As many as the policy service takes.
const MOST: usize = 10_000;
const SSH: u32 = 22;
/// What serves an SSH session, by its file's name.
const SSH_SERVERS: [&str; 4] = ["sshd", "sshd-session", "sshd-auth", "dropbear"];

/// The probes, and which live connection each was made of, as it goes out. The first is the one that was asked about, where one was.
pub(super) fn of(
    asked: Option<ExplainRequest>,
    caller: Option<&flow::Process>,
    peer: &Peer,
    live: Vec<(u64, Bytes)>,
) -> (Vec<Probe>, Vec<Option<Bytes>>) {
    let mut probes = Vec::with_capacity(live.len() + 2);
    let mut made_of = Vec::with_capacity(live.len() + 2);
    if let Some(question) = asked {
        probes.push(Probe {
            question: Some(question),
            vital: String::new(),
        });
        made_of.push(None);
    }
    if let Some(process) = caller {
        probes.push(own(process, peer));
        made_of.push(None);
    }
    for (_, octets) in live.into_iter().take(MOST - probes.len()) {
        let Ok(connection) = Connection::decode(octets.clone()) else {
            continue;
        };
        let Some(question) = again(&connection) else {
            continue;
        };
        probes.push(Probe {
            question: Some(question),
            vital: session(&connection).unwrap_or_default(),
        });
        made_of.push(Some(octets));
    }
    (probes, made_of)
}

/// Who calls must be able to call again: to take the change back.
fn own(process: &flow::Process, peer: &Peer) -> Probe {
    let program = process.executable.as_ref().map_or("", |file| file.path.as_str());
    Probe {
        question: Some(ExplainRequest {
            process: Some(process.clone()),
            flow: Some(flow::Flow {
                direction: flow::Direction::Outgoing.into(),
                protocol: 6,
                local_address: octets(peer.address.ip()),
                local_port: peer.address.port().into(),
                remote_address: octets(peer.local.ip()),
                remote_port: peer.local.port().into(),
            }),
            domain: String::new(),
        }),
        vital: format!("this API, for the program that asks for the change ({program})"),
    }
}

/// Somebody may sit at the other end of it, and nowhere else.
fn session(connection: &Connection) -> Option<String> {
    let local = connection.local.as_ref()?;
    let remote = connection.remote.as_ref()?;
    let is_incoming = connection.direction() == flow::Direction::Incoming;
    let program = connection.process.as_ref().map_or("", |process| {
        process.executable.rsplit('/').next().unwrap_or_default()
    });
    let serves = SSH_SERVERS.contains(&program) || (local.port == SSH && connection.protocol == 6);
    (is_incoming && serves).then(|| format!("the SSH session from {}", remote.address))
}

/// The question that was decided when it began. None: it is no address that it came with.
fn again(connection: &Connection) -> Option<ExplainRequest> {
    let end = |end: &Option<Endpoint>| {
        let end = end.as_ref()?;
        Some((octets(end.address.parse().ok()?), end.port))
    };
    let ((local_address, local_port), (remote_address, remote_port)) =
        (end(&connection.local)?, end(&connection.remote)?);
    Some(ExplainRequest {
        process: connection.process.as_ref().map(identity),
        flow: Some(flow::Flow {
            direction: connection.direction,
            protocol: connection.protocol,
            local_address,
            local_port,
            remote_address,
            remote_port,
        }),
        domain: connection.domain.clone(),
    })
}

/// What profiles match by; the rest is for display.
fn identity(process: &Process) -> flow::Process {
    flow::Process {
        pid: process.pid,
        uid: process.uid,
        executable: Some(flow::Executable {
            path: process.executable.clone(),
            ..flow::Executable::default()
        }),
        script: process.script.clone(),
        cgroup: Some(flow::Cgroup {
            path: process.cgroup.clone(),
            unit: process.unit.clone(),
            user_unit: process.user_unit.clone(),
            container: process.container.clone(),
            flatpak: process.flatpak.clone(),
            snap: process.snap.clone(),
            ..flow::Cgroup::default()
        }),
        ..flow::Process::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(direction: flow::Direction, port: u32, program: &str) -> Connection {
        Connection {
            direction: direction.into(),
            protocol: 6,
            local: Some(Endpoint {
                address: "10.0.0.1".into(),
                port,
            }),
            remote: Some(Endpoint {
                address: "10.0.0.2".into(),
                port: 50_000,
            }),
            process: Some(Process {
                executable: program.into(),
                ..Process::default()
            }),
            ..Connection::default()
        }
    }

    #[test]
    fn a_session_of_ssh_is_vital_and_nothing_else_is() {
        use flow::Direction::{Incoming, Outgoing};
        let vital = |direction, port, program: &str| session(&connection(direction, port, program));
        assert_eq!(
            vital(Incoming, 22, "/usr/sbin/other").as_deref(),
            Some("the SSH session from 10.0.0.2")
        );
        assert!(vital(Incoming, 2222, "/usr/sbin/sshd").is_some());
        assert!(vital(Outgoing, 22, "/usr/sbin/sshd").is_none());
        assert!(vital(Incoming, 80, "/usr/sbin/nginx").is_none());
    }

    #[test]
    fn what_was_asked_stands_first() {
        let asked = ExplainRequest {
            domain: "asked.example".into(),
            ..ExplainRequest::default()
        };
        let local = "127.0.0.1:817".parse().unwrap();
        let peer = Peer::new("127.0.0.1:5000".parse().unwrap(), local, Some(0));
        let one = connection(flow::Direction::Incoming, 22, "").encode_to_vec();
        let live = std::iter::repeat_n((1, one.into()), MOST + 5).collect();
        let (probes, made_of) = of(Some(asked), Some(&flow::Process::default()), &peer, live);
        assert_eq!((probes.len(), made_of.len()), (MOST, MOST));
        assert_eq!(probes[0].question.as_ref().unwrap().domain, "asked.example");
        assert!(probes[1].vital.contains("this API") && made_of[1].is_none());
        assert!(probes[2].vital.contains("SSH") && made_of[2].is_some());
    }
}
