//! What would happen to a connection: for whom, and the same as over gRPC.

use std::{collections::HashMap, path::Path};

use dbus::Policy1Proxy;
use integration::{PATIENCE, Service};
use proto::{
    flow::v1::{Cgroup, Executable, Flow, Process},
    policy::v1::{ExplainReply, ExplainRequest, policy_client::PolicyClient},
};
use zbus::{OwnedVariant, Variant};

use super::Scene;

const UNKNOWN: u32 = u32::MAX;

#[test]
fn what_the_rules_say_is_private() {
    let scene = Scene::new("pbus-priv", &[]);
    for method in ["Explain", "ListRefused", "NoSuchMethod"] {
        let said = scene.call(&[&format!("org.portmaster.Policy1.{method}")]);
        assert!(
            said.contains("AccessDenied") && said.contains("Rejected send message"),
            "{said}"
        );
    }
}

const RULES: &str = r#"
[[match]]
path = "/usr/bin/curl"
[settings]
default_action = "block"
[[rule]]
action = "allow"
remote = "*.example.org"
remote_port = 443
[[rule]]
action = "drop"
remote = "10.0.0.0/8"
"#;
const UNIT: &str = "[[match]]\nunit = \"a.service\"\n[settings]\nblock_incoming = false\n";
const NOT_FOUND: &str = "[[match]]\nunknown = true\n[settings]\ndefault_action = \"block\"\n";

/// A question, and what answers it.
struct Case {
    executable: &'static str,
    uid: u32,
    unit: &'static str,
    incoming: bool,
    protocol: u32,
    remote: (&'static [u8], u16),
    local_port: u16,
    domain: &'static str,
    rule: &'static str,
    why: &'static str,
}

const PLAIN: Case = Case {
    executable: "/usr/bin/curl",
    uid: 1000,
    unit: "",
    incoming: false,
    protocol: 6,
    remote: (&[198, 18, 17, 10], 443),
    local_port: 0,
    domain: "",
    rule: "curl#default_action",
    why: "default-action",
};

#[test]
fn explain_says_the_same_on_the_bus_and_over_grpc() {
    let profiles = [("curl", RULES), ("unit", UNIT), ("lost", NOT_FOUND)];
    let mut scene = Scene::new("pbus-why", &profiles);
    let socket = scene.world.socket(Service::Policy);
    let cases = [
        PLAIN,
        Case {
            domain: "WWW.example.org.",
            rule: "curl#1",
            why: "rule",
            ..PLAIN
        },
        Case {
            remote: (&[10, 1, 2, 3], 443),
            rule: "curl#2",
            why: "rule",
            ..PLAIN
        },
        Case {
            executable: "",
            uid: UNKNOWN,
            protocol: 17,
            remote: (&[0x26, 6, 0, 0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10], 54),
            rule: "lost#default_action",
            ..PLAIN
        },
        Case {
            executable: "",
            unit: "a.service",
            incoming: true,
            remote: (&[198, 18, 17, 10], 0),
            local_port: 22,
            rule: "shipped#default_action",
            ..PLAIN
        },
        Case {
            executable: "/usr/bin/other",
            incoming: true,
            remote: (&[198, 18, 17, 10], 0),
            local_port: 22,
            rule: "shipped#block_incoming",
            why: "block-incoming",
            ..PLAIN
        },
    ];
    scene.on_the_bus(async |policy| {
        for case in cases {
            let told = ask(&policy, &case).await.unwrap();
            let reply = over_grpc(&socket, &case).await;
            let decision = reply.decision.unwrap();
            assert_eq!(
                (told.rule.as_str(), told.why_text.as_str()),
                (case.rule, case.why),
                "{:?}",
                told.steps
            );
            assert_eq!(
                (told.verdict, told.why, &told.rule, &told.profile),
                (
                    u32::try_from(decision.verdict).unwrap(),
                    u32::try_from(decision.why).unwrap(),
                    &decision.source,
                    &decision.profile
                )
            );
            assert_eq!(
                (told.permanent, told.policy_version, &told.steps),
                (decision.permanent, reply.policy_version, &reply.steps)
            );
            assert!(told.extra.is_empty());
        }
    });
}

#[test]
fn a_name_alone_can_be_explained_and_what_makes_no_sense_cannot() {
    let mut scene = Scene::new("pbus-name", &[("curl", RULES)]);
    scene.on_the_bus(async |policy| {
        let name = Case {
            remote: (&[], 443),
            domain: "www.example.org",
            ..PLAIN
        };
        let told = ask(&policy, &name).await.unwrap();
        assert_eq!((told.rule.as_str(), told.verdict), ("curl#1", 1));
        let assumed = told.extra["assumed_address"].try_clone().unwrap();
        assert_eq!(Vec::<u8>::try_from(assumed).unwrap(), [192, 0, 2, 1]);
        let nowhere = Case { domain: "", ..name };
        let error = ask(&policy, &nowhere).await.unwrap_err().to_string();
        assert!(
            error.contains("InvalidArgs") && error.contains("say where"),
            "{error}"
        );
        let more = HashMap::from([("colour".to_owned(), owned("red"))]);
        let (local, remote) = ((vec![], 0), (vec![192, 0, 2, 7], 1));
        let asked = policy.explain("", 0, 1, 6, &local, &remote, "", &more).await;
        let error = asked.unwrap_err().to_string();
        assert!(
            error.contains("InvalidArgs") && error.contains("colour"),
            "{error}"
        );
    });
}

fn owned(text: &str) -> OwnedVariant {
    Variant::from(text).try_to_owned().unwrap()
}

async fn ask(policy: &Policy1Proxy<'_>, case: &Case) -> zbus::Result<dbus::Explanation> {
    let mut more = HashMap::new();
    if !case.unit.is_empty() {
        more.insert("unit".to_owned(), owned(case.unit));
    }
    let (local, remote) = (
        (Vec::new(), case.local_port),
        (case.remote.0.to_vec(), case.remote.1),
    );
    let direction = if case.incoming { 2 } else { 1 };
    policy
        .explain(
            case.executable,
            case.uid,
            direction,
            case.protocol,
            &local,
            &remote,
            case.domain,
            &more,
        )
        .await
}

async fn over_grpc(socket: &Path, case: &Case) -> ExplainReply {
    let process = (case.uid != UNKNOWN).then(|| Process {
        uid: case.uid,
        executable: Some(Executable {
            path: case.executable.to_owned(),
            ..Executable::default()
        }),
        cgroup: Some(Cgroup {
            unit: case.unit.to_owned(),
            ..Cgroup::default()
        }),
        ..Process::default()
    });
    let flow = Flow {
        direction: if case.incoming { 2 } else { 1 },
        protocol: case.protocol,
        local_address: vec![0; case.remote.0.len()],
        local_port: case.local_port.into(),
        remote_address: case.remote.0.to_vec(),
        remote_port: case.remote.1.into(),
    };
    let request = ExplainRequest {
        process,
        flow: Some(flow),
        domain: case.domain.to_owned(),
    };
    let mut client = PolicyClient::new(daemon::grpc::channel(socket));
    let reply = tokio::time::timeout(PATIENCE, client.explain(request)).await;
    reply.unwrap().unwrap().into_inner()
}
