use proto::{
    flow::v1 as wire,
    interceptor::v1::{Connection, ConnectionEvent, Totals},
    resolver::v1::Miss,
};

use super::*;

fn decided() -> ConnectionEvent {
    let executable = wire::Executable {
        path: "/usr/bin/curl".to_owned(),
        device: 2049,
        inode: 77,
        claimed_path: "/usr/bin/curl".to_owned(),
        sha256: vec![0xab, 0x01],
        ..wire::Executable::default()
    };
    let process = wire::Process {
        pid: 42,
        start_time: 9001,
        uid: 1000,
        executable: Some(executable),
        comm: "curl".to_owned(),
        cmdline: vec!["curl".to_owned(), "https://example.com".to_owned()],
        parents: vec![wire::Parent {
            pid: 1,
            start_time: 3,
            path: "/sbin/init".to_owned(),
            comm: "init".to_owned(),
        }],
        cgroup: Some(wire::Cgroup {
            path: "/user.slice".to_owned(),
            ..wire::Cgroup::default()
        }),
        network_namespace: 5,
        mount_namespace: 6,
        ..wire::Process::default()
    };
    let flow = wire::Flow {
        direction: wire::Direction::Outgoing.into(),
        protocol: 6,
        local_address: vec![10, 0, 0, 1],
        local_port: 40_000,
        remote_address: vec![93, 184, 216, 34],
        remote_port: 443,
    };
    let decision = wire::Decision {
        verdict: wire::Verdict::Allow.into(),
        why: wire::Why::DefaultAction.into(),
        source: "shipped#default_action".to_owned(),
        profile: String::new(),
        permanent: true,
    };
    let time = prost_types::Timestamp {
        seconds: 1_795_415_828,
        nanos: 123_456_000,
    };
    ConnectionEvent {
        kind: EventKind::Decided.into(),
        time: Some(time),
        connection: Some(Connection {
            id: 3,
            flow: Some(flow),
            scope: wire::Scope::Internet.into(),
            started: Some(time),
            process: Some(process),
            domain: "example.com".to_owned(),
            decision: Some(decision),
            ..Connection::default()
        }),
    }
}

/// The contract with people's programs: this text changes only by additions.
#[test]
fn a_decided_event_is_this_very_line() {
    let line = EventJson::from(decided()).to_line();
    let expected = concat!(
        r#"{"kind":"decided","id":3,"time":"2026-11-23T06:37:08.123456Z","started":"2026-11-23T06:37:08.123456Z","#,
        r#""direction":"out","protocol":"tcp","local":"10.0.0.1","local_port":40000,"remote":"93.184.216.34","remote_port":443,"#,
        r#""scope":"internet","process":{"pid":42,"start_time":9001,"uid":1000,"path":"/usr/bin/curl","#,
        r#""claimed_path":"/usr/bin/curl","device":2049,"inode":77,"deleted":false,"sha256":"ab01","script":"","comm":"curl","#,
        r#""cmdline":["curl","https://example.com"],"parents":[{"pid":1,"start_time":3,"path":"/sbin/init","comm":"init"}],"#,
        r#""cgroup":{"path":"/user.slice","unit":"","user_unit":"","slice":"","container":"","flatpak":"","snap":""},"#,
        r#""network_namespace":5,"mount_namespace":6},"miss":"","uid":1000,"profile":"","domain":"example.com","#,
        r#""verdict":"allow","why":"default-action","rule":"shipped#default_action","permanent":true}"#,
        "\n"
    );
    assert_eq!(line, expected);
    assert_eq!(
        serde_json::from_str::<EventJson>(&line).unwrap(),
        EventJson::from(decided())
    );
}

#[test]
fn an_ended_event_has_totals() {
    let mut event = decided();
    event.kind = EventKind::Ended.into();
    let duration = Some(prost_types::Duration {
        seconds: 1,
        nanos: 5_000,
    });
    let totals = Totals {
        sent_bytes: 10,
        sent_packets: 2,
        received_bytes: 30,
        received_packets: 4,
        duration,
    };
    event.connection.as_mut().unwrap().totals = Some(totals);
    let line = EventJson::from(event).to_line();
    let end =
        r#""sent_bytes":10,"sent_packets":2,"received_bytes":30,"received_packets":4,"duration_us":1000005}"#;
    assert!(line.trim_end().ends_with(end), "{line}");
}

#[test]
fn an_unknown_process_is_null_and_says_why() {
    let mut event = decided();
    let connection = event.connection.as_mut().unwrap();
    (connection.process, connection.miss, connection.uid) = (None, Miss::NoSocket.into(), Some(33));
    let event = EventJson::from(event);
    assert_eq!(
        (event.process, event.miss.as_str(), event.uid),
        (None, "no-socket", Some(33))
    );
}

#[test]
fn icmp_has_type_code_and_identifier_instead_of_ports() {
    let mut event = decided();
    let flow = event.connection.as_mut().unwrap().flow.as_mut().unwrap();
    (flow.protocol, flow.local_port, flow.remote_port) = (58, 77, 128 * 256 + 1);
    let event = EventJson::from(event);
    assert_eq!(
        (event.protocol.as_str(), event.local_port, event.remote_port),
        ("icmpv6", None, None)
    );
    assert_eq!(
        (event.icmp_type, event.icmp_code, event.icmp_id),
        (Some(128), Some(1), Some(77))
    );
}

#[test]
fn what_a_newer_service_says_becomes_an_empty_word() {
    let mut event = decided();
    event.kind = 99;
    let connection = event.connection.as_mut().unwrap();
    connection.scope = 99;
    connection.flow.as_mut().unwrap().protocol = 300;
    connection.flow.as_mut().unwrap().remote_address = vec![1, 2, 3];
    connection.decision.as_mut().unwrap().why = 99;
    let event = EventJson::from(event);
    assert_eq!(event.kind, Kind::Unknown);
    assert_eq!(
        (event.scope.as_str(), event.why.as_str(), event.remote.as_str()),
        ("", "", "")
    );
    assert_eq!((event.protocol.as_str(), event.remote_port), ("300", None));
}

#[test]
fn an_empty_event_is_an_object_too() {
    assert!(
        EventJson::from(ConnectionEvent::default())
            .to_line()
            .starts_with(r#"{"kind":"","id":0,"#)
    );
}

#[test]
fn a_live_connection_is_no_event() {
    let live = EventJson::live(decided().connection.unwrap());
    assert_eq!(live.kind, Kind::Live);
    assert_eq!(live.time, live.started);
}
