//! The policy service as the owner and its followers see it: files in, snapshots out.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: what fails there fails the test"
)]

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use futures_util::StreamExt as _;
use integration::{Service, World, events::channel, eventually};
use proto::{
    common::v1::{GetStateRequest, Health, ServiceState},
    flow::v1::{Direction, Executable, Flow, Process},
    policy::v1::{
        ExplainRequest, GetRequest, ListRefusedRequest, RefusedFile, Snapshot, WatchRequest,
        policy_client::PolicyClient,
    },
};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

/// A follower and a tool, in one.
struct Client {
    runtime: Runtime,
    policy: PolicyClient<Channel>,
}

impl Client {
    fn new(world: &World) -> Self {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        let policy = runtime.block_on(async { PolicyClient::new(channel(&world.socket(Service::Policy))) });
        Self {
            runtime,
            policy: policy.max_decoding_message_size(proto::MAX_SNAPSHOT),
        }
    }

    fn snapshot(&mut self) -> Snapshot {
        self.runtime
            .block_on(self.policy.get(GetRequest {}))
            .unwrap()
            .into_inner()
    }

    fn state(&mut self) -> ServiceState {
        self.runtime
            .block_on(self.policy.get_state(GetStateRequest {}))
            .unwrap()
            .into_inner()
    }

    fn refused(&mut self) -> Vec<RefusedFile> {
        self.runtime
            .block_on(self.policy.list_refused(ListRefusedRequest {}))
            .unwrap()
            .into_inner()
            .files
    }

    /// `source` of what decides when curl connects to the web.
    fn decided_by(&mut self) -> String {
        let executable = Executable {
            path: "/usr/bin/curl".into(),
            ..Executable::default()
        };
        let flow = Flow {
            direction: Direction::Outgoing.into(),
            protocol: 6,
            local_address: vec![10, 0, 0, 1],
            local_port: 50_000,
            remote_address: vec![93, 184, 216, 34],
            remote_port: 443,
        };
        let process = Process {
            executable: Some(executable),
            ..Process::default()
        };
        let request = ExplainRequest {
            process: Some(process),
            flow: Some(flow),
            domain: String::new(),
        };
        let reply = self
            .runtime
            .block_on(self.policy.explain(request))
            .unwrap()
            .into_inner();
        reply.decision.unwrap().source
    }

    fn problem(&mut self, code: &str) -> Option<String> {
        let problems = self.state().problems.into_iter();
        problems
            .filter(|problem| problem.code == code)
            .map(|problem| problem.text)
            .next()
    }

    #[track_caller]
    fn wait_for_problem(&mut self, code: &str) -> String {
        eventually(&format!("the problem {code} is told"), || self.problem(code))
    }

    #[track_caller]
    fn wait_until_decided_by(&mut self, source: &str) {
        eventually(&format!("{source} decides"), || {
            (self.decided_by() == source).then_some(())
        });
    }
}

/// Policy alone, looking at its files only when it hears of a change.
fn world(label: &str) -> integration::world::Builder {
    World::builder(label)
        .without(Service::Resolver)
        .without(Service::Interceptor)
}

fn curl(rule: &str) -> String {
    format!("[[match]]\npath = \"/usr/bin/curl\"\n[[rule]]\naction = \"{rule}\"\n")
}

#[test]
fn without_any_file_the_shipped_defaults_hold() {
    let world = world("pol").start();
    let mut client = Client::new(&world);
    let snapshot = client.snapshot();
    assert!(snapshot.version > 0 && snapshot.profiles.is_empty());
    assert!(
        snapshot
            .global
            .unwrap()
            .rules
            .iter()
            .all(|rule| rule.source.starts_with("shipped#"))
    );
    assert_eq!(client.decided_by(), "shipped#default_action");
    assert_eq!(client.state().health, i32::from(Health::Ok));
}

#[test]
fn a_change_reaches_followers_at_once() {
    let world = world("pol")
        .config_file("policy.toml", "rescan_seconds = 3600\n")
        .start();
    let mut client = Client::new(&world);
    let first = client.snapshot().version;
    let watch = client.policy.watch(WatchRequest { have_version: first });
    let mut news = client.runtime.block_on(watch).unwrap().into_inner();
    let mut next = |client: &Client| client.runtime.block_on(news.next()).unwrap().unwrap();

    world.profile("curl", &curl("block"));
    let added = next(&client);
    assert!(added.version > first);
    assert_eq!((added.profiles.len(), added.profiles[0].id.as_str()), (1, "curl"));
    assert_eq!(client.decided_by(), "curl#1");

    world.profile("curl", &curl("drop"));
    let changed = next(&client);
    assert!(changed.version > added.version);
    assert_ne!(changed.profiles[0].rules, added.profiles[0].rules);

    world.config_file("profiles.d/global.toml", "[settings]\nblock_internet = true\n");
    assert!(next(&client).version > changed.version);
    world.remove_profile("curl");
    assert!(next(&client).profiles.is_empty());
    assert_eq!(client.decided_by(), "global#block_internet");

    // whoever begins to follow gets the newest at once
    let watch = client.policy.watch(WatchRequest { have_version: 0 });
    let mut late = client.runtime.block_on(watch).unwrap().into_inner();
    let newest = client.runtime.block_on(late.next()).unwrap().unwrap();
    assert_eq!(newest, client.snapshot());
}

#[test]
fn a_broken_file_is_refused_with_its_line_and_keeps_its_last_good_content_over_a_crash() {
    let mut world = world("pol")
        .profile("curl", &curl("block"))
        .profile("wget", &curl("allow"))
        .start();
    let mut client = Client::new(&world);
    assert_eq!(client.decided_by(), "curl#1");
    world.profile("curl", &curl("blok"));
    let problem = client.wait_for_problem("profile-refused");
    let path = world.config_dir().join("profiles.d/curl.toml");
    let expected = format!(
        "{}:4: action = \"blok\"; write allow, block, drop, ask or tunnel",
        path.display()
    );
    assert_eq!(problem, expected);
    let refused = client.refused();
    assert_eq!((refused.len(), refused[0].error.as_str()), (1, expected.as_str()));
    assert_eq!(
        (client.snapshot().profiles.len(), client.decided_by().as_str()),
        (2, "curl#1")
    );

    let address = world.bus().address();
    let mut ask = Command::new("dbus-send");
    ask.arg(format!("--bus={address}"))
        .args(["--print-reply", "--dest=org.portmaster.Policy1"]);
    ask.args(["/org/portmaster/Policy1", "org.portmaster.Policy1.ListRefused"]);
    eventually("the desktop bus says so too", || {
        let said = String::from_utf8_lossy(&ask.output().unwrap().stdout).into_owned();
        said.contains("curl.toml:4:").then_some(())
    });

    world.kill(Service::Policy);
    world.start_service(Service::Policy);
    let mut client = Client::new(&world);
    assert_eq!(
        (client.refused().len(), client.decided_by().as_str()),
        (1, "curl#1")
    );
    world.profile("curl", &curl("drop"));
    eventually("the mended file is taken", || {
        client.refused().is_empty().then_some(())
    });
    assert_eq!(client.problem("profile-refused"), None);
    assert_eq!(client.state().health, i32::from(Health::Ok));
}

#[test]
fn an_unreadable_file_is_told_and_costs_the_others_nothing() {
    let mut world = world("pol").without(Service::Policy).start();
    world.profile("curl", &curl("block"));
    world.profile("secret", "[[match]]\nuid = 7\n");
    let secret = world.config_dir().join("profiles.d/secret.toml");
    mode(&secret, 0o000);
    // root reads everything, unless it may not
    let without = "--bounding-set=-dac_override,-dac_read_search";
    let command = wrapped(
        &world.service_command(Service::Policy),
        &["setpriv", without, "--"],
    );
    world.start_as(Service::Policy, command);
    let mut client = Client::new(&world);
    let problem = client.wait_for_problem("profile-refused");
    assert!(problem.contains("secret.toml: cannot be read"), "{problem}");
    assert!(problem.contains("make it readable for the user"), "{problem}");
    assert_eq!(
        (client.snapshot().profiles.len(), client.decided_by().as_str()),
        (1, "curl#1")
    );
    mode(&secret, 0o600);
    eventually("it is read once it can be", || {
        (client.snapshot().profiles.len() == 2).then_some(())
    });
}

#[test]
fn when_the_folder_is_gone_the_last_good_state_stays_and_that_is_told() {
    let mut world = world("pol").profile("curl", &curl("block")).start();
    let mut client = Client::new(&world);
    let version = client.snapshot().version;
    let (folder, away) = (
        world.config_dir().join("profiles.d"),
        world.config_dir().join("away"),
    );
    fs::rename(&folder, &away).unwrap();
    let problem = client.wait_for_problem("profiles-lost");
    assert!(
        problem.contains("profiles.d cannot be read") && problem.contains("stay in force"),
        "{problem}"
    );
    assert_eq!(
        (client.decided_by().as_str(), client.snapshot().version),
        ("curl#1", version)
    );

    world.kill(Service::Policy);
    world.start_service(Service::Policy);
    let mut client = Client::new(&world);
    client.wait_for_problem("profiles-lost");
    assert_eq!(
        (client.decided_by().as_str(), client.snapshot().version),
        ("curl#1", version)
    );

    fs::rename(&away, &folder).unwrap();
    eventually("all is well again", || {
        client.problem("profiles-lost").is_none().then_some(())
    });
    world.profile("curl", &curl("drop"));
    eventually("changes are heard again", || {
        (client.snapshot().version > version).then_some(())
    });
}

#[test]
fn a_profile_for_a_link_is_for_the_program_that_it_leads_to() {
    let world = world("pol").start();
    let link = world.root().join("link");
    std::os::unix::fs::symlink("/usr/bin/env", &link).unwrap();
    let program = link.canonicalize().unwrap();
    let text = curl("block").replace("/usr/bin/curl", &link.to_string_lossy());
    world.profile("env", &text);
    let mut client = Client::new(&world);
    let paths = eventually("the profile is in force", || {
        let profile = client.snapshot().profiles.pop()?;
        Some(
            profile
                .matchers
                .into_iter()
                .map(|matcher| matcher.path)
                .collect::<Vec<_>>(),
        )
    });
    let expected = [link, program].map(|path| path.to_string_lossy().into_owned());
    assert_eq!(paths, expected);
}

#[test]
fn ten_thousand_files_are_in_force_and_one_change_among_them_is_found() {
    let builder = world("pol")
        .without(Service::Policy)
        .config_file("policy.toml", "rescan_seconds = 3600\n");
    let mut world = builder.start();
    let folder = world.config_dir().join("profiles.d");
    fs::create_dir_all(&folder).unwrap();
    for number in 0..10_000 {
        let rule = "[[rule]]\naction = \"allow\"\nremote = [\"*.example.org\", \"lan\"]\nremote_port = 443\n";
        let text =
            format!("[[match]]\npath = \"/opt/app{number}\"\n[settings]\ndefault_action = \"block\"\n{rule}");
        fs::write(folder.join(format!("app{number}.toml")), text).unwrap();
    }
    world.start_service(Service::Policy);
    let mut client = Client::new(&world);
    let snapshot = client.snapshot();
    assert_eq!(snapshot.profiles.len(), 10_000);
    assert_eq!(client.state().counters["profile_files_now"], 10_000);
    let kept = world.state_dir(Service::Policy).join("snapshot.bin");
    println!(
        "10,000 profiles are {} octets on the wire",
        fs::metadata(kept).unwrap().len()
    );
    world.profile("app5000", &curl("drop"));
    client.wait_until_decided_by("app5000#1");
    assert_eq!(client.snapshot().profiles.len(), 10_000);
}

#[test]
fn a_full_disk_is_told_and_stops_nothing() {
    let mut world = world("pol")
        .without(Service::Policy)
        .profile("curl", &curl("block"))
        .start();
    let state = world.state_dir(Service::Policy);
    fs::create_dir_all(&state).unwrap();
    let full = format!(
        "mount -t tmpfs -o size=64k pm-full {0}; dd if=/dev/zero of={0}/filler 2>/dev/null || true",
        state.display()
    );
    let script = format!("{full}; exec \"$@\"");
    let wrapper = ["unshare", "--mount", "--", "sh", "-c", &script, "sh"];
    let command = wrapped(&world.service_command(Service::Policy), &wrapper);
    world.start_as(Service::Policy, command);
    let mut client = Client::new(&world);
    let problem = client.wait_for_problem("policy-not-kept");
    assert!(
        problem.contains("No space left") && problem.contains("make room"),
        "{problem}"
    );
    assert_eq!(client.decided_by(), "curl#1");
    let before = client.snapshot().version;
    world.profile("curl", &curl("drop"));
    eventually("a change takes effect all the same", || {
        (client.snapshot().version > before).then_some(())
    });

    let pid = client.state().pid;
    let there = |name: &str| format!("/proc/{pid}/root{}/{name}", state.display());
    fs::remove_file(there("filler")).unwrap();
    world.profile("curl", &curl("block"));
    eventually("it is kept once there is room", || {
        client.problem("policy-not-kept").is_none().then_some(())
    });
    assert!(Path::new(&there("snapshot.bin")).exists());
}

#[test]
fn versions_grow_over_restarts_and_stay_where_nothing_changed() {
    let mut world = world("pol").profile("curl", &curl("block")).start();
    let first = Client::new(&world).snapshot();
    world.stop(Service::Policy);
    world.start_service(Service::Policy);
    let second = Client::new(&world).snapshot();
    assert_eq!(
        (second.version, &second.profiles),
        (first.version, &first.profiles)
    );
    world.kill(Service::Policy);
    world.profile("curl", &curl("drop"));
    world.start_service(Service::Policy);
    let third = Client::new(&world).snapshot();
    assert!(third.version > second.version);
    assert_ne!(third.profiles, second.profiles);
}

#[test]
fn a_damaged_state_file_is_told_and_the_files_count() {
    let mut world = world("pol").profile("curl", &curl("block")).start();
    let before = Client::new(&world).snapshot().version;
    world.stop(Service::Policy);
    fs::write(
        world.state_dir(Service::Policy).join("snapshot.bin"),
        b"\xff\xffdamaged",
    )
    .unwrap();
    world.start_service(Service::Policy);
    let mut client = Client::new(&world);
    assert_eq!(client.decided_by(), "curl#1");
    assert!(client.snapshot().version >= before);
    assert!(world.output(Service::Policy).contains("policy-kept-damaged"));
}

#[test]
fn when_a_rule_expires_followers_get_a_new_version() {
    let world = world("pol").start();
    let mut client = Client::new(&world);
    let expires = SystemTime::now() + Duration::from_secs(3);
    let seconds = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let time = date(seconds);
    world.profile("curl", &format!("{}expires = \"{time}\"\n", curl("block")));
    client.wait_until_decided_by("curl#1");
    let before = client.snapshot();
    let watch = client.policy.watch(WatchRequest {
        have_version: before.version,
    });
    let mut news = client.runtime.block_on(watch).unwrap().into_inner();
    let after = client.runtime.block_on(news.next()).unwrap().unwrap();
    assert!(after.version > before.version);
    assert_eq!(after.profiles, before.profiles);
    assert_eq!(client.decided_by(), "shipped#default_action");
}

#[test]
fn a_second_one_says_who_holds_the_socket() {
    let world = world("pol").start();
    let output = world.service_command(Service::Policy).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("already running") && said.contains("policy.sock"),
        "{said}"
    );
}

#[test]
fn an_unknown_key_in_the_configuration_ends_it_with_64() {
    let world = world("pol")
        .without(Service::Policy)
        .config_file("policy.toml", "\nrescan = 3\n")
        .start();
    let output = world
        .service_command(Service::Policy)
        .arg("--check-config")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(
        said.contains("policy.toml:2:") && said.contains("rescan_seconds"),
        "{said}"
    );
}

/// The same command behind another one.
fn wrapped(command: &Command, wrapper: &[&str]) -> Command {
    let mut outer = Command::new(wrapper[0]);
    outer
        .args(&wrapper[1..])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

fn mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// RFC 3339, by coreutils.
fn date(seconds: u64) -> String {
    let mut command = Command::new("date");
    command.args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"]);
    integration::process::run(&mut command).trim().to_owned()
}
