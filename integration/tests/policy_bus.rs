//! `org.portmaster.Policy1`: who may pause, what is told of it, and what would happen to a connection; on a real bus.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what fails there fails the test"
)]

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output},
    time::SystemTime,
};

use dbus::Policy1Proxy;
use futures_util::{Stream, StreamExt as _};
use integration::{PATIENCE, Service, World, binary, eventually};
use proto::{
    flow::v1::{Cgroup, Executable, Flow, Process},
    policy::v1::{ExplainReply, ExplainRequest, policy_client::PolicyClient},
};
use tokio::runtime::Runtime;
use zbus::{Connection, OwnedVariant, Variant, connection::Builder, proxy::CacheProperties};

const NOBODY: &str = "65534";
const UNKNOWN: u32 = u32::MAX;

/// A mesh whose bus others than root reach as well.
struct Scene {
    world: World,
    runtime: Runtime,
}

impl Scene {
    fn new(label: &str, profiles: &[(&str, &str)]) -> Self {
        let mut world = World::builder(label).without_services().start();
        for (id, toml) in profiles {
            world.profile(id, toml);
        }
        fs::set_permissions(world.root(), fs::Permissions::from_mode(0o755)).unwrap();
        world.start_service(Service::Policy);
        let runtime = Runtime::new().unwrap();
        let scene = Self { world, runtime };
        eventually("policy is on the bus", || scene.paused_until());
        scene
    }

    /// Runs with a proxy of root's.
    fn on_the_bus<T>(&mut self, ask: impl AsyncFnOnce(Policy1Proxy<'static>) -> T) -> T {
        let address = self.world.bus().address();
        self.runtime.block_on(async {
            let proxy = proxy(&join(&address).await).await;
            ask(proxy).await
        })
    }

    /// As somebody else reads it.
    fn paused_until(&self) -> Option<u64> {
        let output = self.as_nobody(
            "dbus-send",
            &[
                "--system",
                "--print-reply=literal",
                "--dest=org.portmaster.Policy1",
                "/org/portmaster/Policy1",
                "org.freedesktop.DBus.Properties.Get",
                "string:org.portmaster.Policy1",
                "string:PausedUntil",
            ],
        );
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace().last()?.parse().ok()
    }

    fn as_nobody(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command: Command = self.world.command("setpriv");
        command.args([
            "--reuid",
            NOBODY,
            "--regid",
            NOBODY,
            "--clear-groups",
            "--",
            program,
        ]);
        command.args(arguments).output().unwrap()
    }

    fn call(&self, arguments: &[&str]) -> String {
        let to = [
            "--system",
            "--print-reply",
            "--dest=org.portmaster.Policy1",
            "/org/portmaster/Policy1",
        ];
        let output = self.as_nobody("dbus-send", &[&to, arguments].concat());
        assert!(!output.status.success(), "{arguments:?} is refused");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

async fn join(address: &str) -> Connection {
    Builder::address(address).build().await.unwrap()
}

async fn proxy(connection: &Connection) -> Policy1Proxy<'static> {
    Policy1Proxy::builder(connection)
        .cache_properties(CacheProperties::No)
        .build()
        .await
        .unwrap()
}

/// What the bus tells of `PausedUntil`, from now on.
async fn ends(connection: &Connection) -> impl Stream<Item = u64> + Unpin {
    let properties = zbus::fdo::PropertiesProxy::builder(connection)
        .destination("org.portmaster.Policy1")
        .path("/org/portmaster/Policy1")
        .build()
        .await
        .unwrap();
    let changes = properties.receive_properties_changed().await.unwrap();
    Box::pin(changes.filter_map(async |change| {
        let args = change.args().unwrap();
        let value = args.changed_properties().get("PausedUntil")?;
        Some(u64::try_from(value).unwrap())
    }))
}

#[track_caller]
async fn next(ends: &mut (impl Stream<Item = u64> + Unpin), what: &str) -> u64 {
    let next = tokio::time::timeout(PATIENCE, ends.next()).await;
    next.unwrap_or_else(|_| panic!("not told: {what}")).unwrap()
}

fn microseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

#[test]
fn root_pauses_without_polkit_and_everybody_is_told() {
    let mut scene = Scene::new("pbus-root", &[]);
    assert_eq!(scene.paused_until(), Some(0));
    let until = scene.on_the_bus(async |policy| {
        let mut ends = ends(policy.inner().connection()).await;
        let before = microseconds(SystemTime::now());
        let until = policy.pause(3600).await.unwrap();
        assert!((before..=before + 3_700_000_000).contains(&(until - 3_600_000_000 + 1)));
        assert_eq!(next(&mut ends, "the pause").await, until);
        // counted anew
        let later = policy.pause(7200).await.unwrap();
        assert!(later > until);
        assert_eq!(next(&mut ends, "the longer pause").await, later);
        later
    });
    assert_eq!(scene.paused_until(), Some(until));
    scene.world.bus().restart();
    eventually("the new bus knows of it", || {
        (scene.paused_until() == Some(until)).then_some(())
    });
    scene.on_the_bus(async |policy| {
        let mut ends = ends(policy.inner().connection()).await;
        assert!(policy.resume().await.unwrap());
        assert_eq!(policy.paused_until().await.unwrap(), 0);
        while next(&mut ends, "the end").await != 0 {}
        assert!(!policy.resume().await.unwrap());
    });
}

#[test]
fn a_pause_that_ends_by_itself_is_told_too() {
    let mut scene = Scene::new("pbus-end", &[]);
    scene.on_the_bus(async |policy| {
        let mut ends = ends(policy.inner().connection()).await;
        let until = policy.pause(2).await.unwrap();
        assert_eq!(next(&mut ends, "the pause").await, until);
        assert_eq!(next(&mut ends, "its end").await, 0);
        assert!(microseconds(SystemTime::now()) >= until);
        assert_eq!(policy.paused_until().await.unwrap(), 0);
    });
}

#[test]
fn a_length_without_sense_is_refused_and_changes_nothing() {
    let mut scene = Scene::new("pbus-len", &[]);
    scene.on_the_bus(async |policy| {
        for seconds in [0, 86_401, u64::MAX] {
            let error = policy.pause(seconds).await.unwrap_err().to_string();
            assert!(
                error.contains("InvalidArgs") && error.contains("24 hours"),
                "{error}"
            );
        }
        assert_eq!(policy.paused_until().await.unwrap(), 0);
    });
}

/// No polkit runs on this bus.
#[test]
fn where_there_is_no_polkit_others_are_refused_with_the_remedy() {
    let scene = Scene::new("pbus-none", &[]);
    for call in [
        &["org.portmaster.Policy1.Pause", "uint64:60"][..],
        &["org.portmaster.Policy1.Resume"],
    ] {
        let said = scene.call(call);
        assert!(
            said.contains("AccessDenied") && said.contains("install polkitd") && said.contains("sudo"),
            "{said}"
        );
    }
    let program = binary("portmaster");
    for words in [&["pause", "1m"][..], &["resume"]] {
        let output = scene.as_nobody(program.to_str().unwrap(), words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains("install polkitd") && said.contains("sudo"),
            "{said}"
        );
    }
    assert_eq!(scene.paused_until(), Some(0));
}

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
            remote: (&[0x26, 6, 0, 0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10], 53),
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

async fn over_grpc(socket: &std::path::Path, case: &Case) -> ExplainReply {
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
