//! From what the services of the mesh say to what the API says.

use api::v1::{Connection, Decision, DnsQuery, Endpoint, Process, Traffic};
use proto::{
    convert::{address_text, miss_text},
    dns::v1 as dns,
    flow::v1 as flow,
    interceptor::v1 as interceptor,
};
use verdict::Why;

/// A connection.
pub fn connection(from: interceptor::Connection) -> Connection {
    let (scope, miss) = (from.scope, from.miss());
    let flow = from.flow.unwrap_or_default();
    Connection {
        id: from.id,
        direction: flow.direction,
        protocol: flow.protocol,
        local: Some(endpoint(&flow.local_address, flow.local_port)),
        remote: Some(endpoint(&flow.remote_address, flow.remote_port)),
        scope,
        domain: from.domain,
        started: from.started,
        process_unknown: if from.process.is_none() {
            miss_text(miss)
        } else {
            ""
        }
        .to_owned(),
        process: from.process.map(process),
        uid: from.uid,
        decision: from.decision.map(decision),
        hops: from.hops,
        tunnel_problem: from.tunnel_problem,
        lasted: from.totals.and_then(|totals| totals.duration),
        traffic: from.totals.map(|totals| Traffic {
            sent_bytes: totals.sent_bytes,
            sent_packets: totals.sent_packets,
            received_bytes: totals.received_bytes,
            received_packets: totals.received_packets,
        }),
    }
}

/// A process.
pub fn process(from: flow::Process) -> Process {
    let (executable, cgroup) = (
        from.executable.unwrap_or_default(),
        from.cgroup.unwrap_or_default(),
    );
    Process {
        pid: from.pid,
        start_time: from.start_time,
        uid: from.uid,
        executable: executable.path,
        claimed_executable: executable.claimed_path,
        executable_deleted: executable.deleted,
        script: from.script,
        comm: from.comm,
        command_line: from.cmdline,
        parents: from.parents.into_iter().map(|parent| parent.path).collect(),
        cgroup: cgroup.path,
        unit: cgroup.unit,
        user_unit: cgroup.user_unit,
        container: cgroup.container,
        flatpak: cgroup.flatpak,
        snap: cgroup.snap,
    }
}

/// A decision.
pub fn decision(from: flow::Decision) -> Decision {
    let why = Option::<Why>::from(from.why());
    Decision {
        verdict: from.verdict,
        why: from.why,
        reason: why.map_or("", Why::text).to_owned(),
        rule: from.source,
        profile: from.profile,
        permanent: from.permanent,
    }
}

/// A DNS query.
pub fn query(from: dns::Query) -> DnsQuery {
    DnsQuery {
        id: from.id,
        time: from.time,
        process: from.process.map(process),
        uid: from.uid,
        name: from.name,
        record_type: from.kind,
        response_code: from.code,
        addresses: from.addresses.iter().map(|octets| address_text(octets)).collect(),
        origin: from.origin,
        upstream: from.upstream,
        decision: from.decision.map(decision),
        list: from.list,
        took: from.took,
        tcp: from.tcp,
        redirected: from.redirected,
    }
}

fn endpoint(address: &[u8], port: u32) -> Endpoint {
    Endpoint {
        address: address_text(address),
        port,
    }
}
