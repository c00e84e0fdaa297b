//! `portmaster try` and `portmaster up`, as people run them.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what fails there fails the test"
)]

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use integration::{Namespace, Running, binary, eventually, require_root};
use rustix::process::Signal;
use serde_json::Value;

/// A world's name that no other test has.
fn name(label: &str) -> String {
    format!("test-{label}-{}", std::process::id())
}

fn portmaster() -> Command {
    require_root();
    let mut command = Command::new(binary("portmaster"));
    command.env_remove("DBUS_SYSTEM_BUS_ADDRESS").env("NO_COLOR", "1");
    command
}

fn nothing_is_left_of(name: &str) {
    for (folder, prefix) in [
        ("/run/netns", format!("portmaster-{name}")),
        ("/run", format!("portmaster-{name}")),
    ] {
        let files = fs::read_dir(folder).unwrap();
        let left: Vec<_> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|file| file.starts_with(&prefix))
            .collect();
        assert!(left.is_empty(), "{left:?} is left in {folder}");
    }
    let place = format!("/run/portmaster-{name}");
    assert_eq!(processes_of(&place), Vec::<String>::new());
}

/// Whoever has `word` in what he was called with, and is no zombie.
fn processes_of(word: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(word))
        .collect()
}

/// The programs as an installation has them, by links; its `portmaster`.
fn installed(prefix: &Path) -> PathBuf {
    let (bin, libexec) = (prefix.join("bin"), prefix.join("libexec/portmaster"));
    for folder in [&bin, &libexec] {
        fs::create_dir_all(folder).unwrap();
    }
    let own = binary("portmaster");
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let others = fs::read_dir(own.parent().unwrap()).unwrap();
    for path in others.map(|file| file.unwrap().path()) {
        if name(&path).starts_with("portmaster-") && path.extension().is_none() {
            fs::hard_link(&path, libexec.join(name(&path))).unwrap();
        }
    }
    fs::hard_link(&own, bin.join("portmaster")).unwrap();
    bin.join("portmaster")
}

#[test]
fn the_tour_comes_out_as_it_should() {
    let name = name("tour");
    let output = portmaster()
        .args(["try", "--name", &name])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}:\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    for word in [
        "Allowed",
        "Blocked",
        "Dropped",
        "Unknown process",
        "Incoming",
        "Changed",
    ] {
        assert!(text.contains(word), "{word} is not in the tour:\n{text}");
    }
    nothing_is_left_of(&name);
}

#[test]
fn a_command_gets_a_world_and_its_exit_status_comes_back() {
    let name = name("status");
    let script = r#"
        curl -4sSf -m 20 http://allowed.example/ && curl -6sSf -m 20 http://www.example/ && [ -d "$PORTMASTER_RUNTIME_DIR" ] &&
        dbus-send --bus="$DBUS_SYSTEM_BUS_ADDRESS" --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.GetId &&
        exit 42"#;
    let output = portmaster()
        .args(["try", "--name", &name, "--", "sh", "-c", script])
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(42), "{said}");
    assert!(
        said.contains("Hello from allowed.example") && said.contains("Hello from www.example"),
        "{said}"
    );
    let status = portmaster()
        .args(["try", "--name", &name, "--", "sh", "-c", "kill -TERM $$"])
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(128 + 15));
    nothing_is_left_of(&name);
}

#[test]
fn events_of_a_command_are_written_as_json_lines() {
    let (name, folder) = (name("events"), tempfile::tempdir().unwrap());
    let (config, events) = (folder.path().join("config"), folder.path().join("events.jsonl"));
    fs::create_dir_all(config.join("profiles.d")).unwrap();
    let curl = Path::new("/usr/bin/curl").canonicalize().unwrap();
    let rule = "[[rule]]\naction = \"block\"\nremote = \"203.0.113.20\"\n";
    fs::write(
        config.join("profiles.d/curl.toml"),
        integration::profile(&curl, "allow", rule),
    )
    .unwrap();
    let script =
        "curl -4sS -m 20 http://allowed.example/; curl -4sS -m 20 http://203.0.113.20/ && exit 1; id -un";
    let mut command = portmaster();
    command
        .args(["try", "--name", &name, "--user", "nobody", "--config"])
        .arg(&config)
        .arg("--events")
        .arg(&events);
    let output = command.args(["--", "sh", "-c", script]).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("nobody"), "{said}");

    let text = fs::read_to_string(&events).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let find = |remote: &str, verdict: &str| {
        lines.iter().any(|event| {
            event["remote"] == remote
                && event["verdict"] == verdict
                && event["process"]["path"] == curl.to_str().unwrap()
                && event["uid"] == 65534
        })
    };
    assert!(find("203.0.113.10", "allow"), "{text}");
    assert!(find("203.0.113.20", "block"), "{text}");
    assert!(
        fs::read_dir(&config).unwrap().count() == 1,
        "the owner's folder is only read"
    );
    nothing_is_left_of(&name);
}

#[test]
fn a_killed_try_leaves_nothing_behind() {
    let name = name("killed");
    let mut command = portmaster();
    command
        .args(["try", "--name", &name, "--", "sleep", "600"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let running = Running::start("portmaster try", command);
    let namespace = format!("portmaster-{name}");
    let sleeper = eventually("the command runs", || {
        let output = Command::new("ip")
            .args(["netns", "pids", &namespace])
            .output()
            .unwrap();
        let pids = String::from_utf8_lossy(&output.stdout).into_owned();
        pids.split_whitespace()
            .map(str::to_owned)
            .find(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "sleep\n"))
    });
    running.signal(Signal::KILL);
    drop(running);
    eventually("all of it is gone", || {
        (!Path::new(&format!("/run/portmaster-{name}.lock")).exists()).then_some(())
    });
    nothing_is_left_of(&name);
    // Reaped by whoever adopts orphans here; dead is what counts.
    let alive = fs::read_to_string(format!("/proc/{sleeper}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    assert!(!alive);
}

#[test]
fn a_network_in_a_box_shows_a_direct_and_a_tunnelled_path_side_by_side() {
    let name = name("box");
    require_root();
    // beside the programs: links do not lead to other file systems
    let prefix = tempfile::tempdir_in(binary("portmaster").parent().unwrap()).unwrap();
    let mut command = Command::new(installed(prefix.path()));
    command.env_remove("DBUS_SYSTEM_BUS_ADDRESS").env("NO_COLOR", "1");
    let output = command
        .args(["try", "--gate17", "--name", &name])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}:\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let line = |begin: &str| {
        let found = text.lines().find(|line| line.trim_start().starts_with(begin));
        found
            .unwrap_or_else(|| panic!("no {begin:?}:\n{text}"))
            .to_owned()
    };
    let path = line("path ");
    let hops: Vec<_> = path.rsplit_once("this host → ").unwrap().1.split(" → ").collect();
    assert_eq!(hops.len(), 4, "three nodes and the server: {path}");
    let seen: Vec<_> = line("the server sees")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let (direct, tunnelled) = (&seen[3], &seen[4]);
    assert_eq!(direct, "10.17.0.2");
    let exit = line(&format!("{} ", hops[2]));
    assert!(
        exit.contains("exit") && exit.contains(&format!("{tunnelled}:443")),
        "{exit}: {tunnelled}"
    );
    assert!(
        text.contains("gate17 map sign") && text.contains("network box, map 1"),
        "{text}"
    );
    // where there is no distance, nobody is to take what was measured for one
    let netem = Command::new("unshare")
        .args([
            "--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "5ms",
        ])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let said = if netem {
        "ms each way (netem)"
    } else {
        "this kernel has no netem"
    };
    assert!(text.contains(said), "{said}: {text}");
    nothing_is_left_of(&name);
}

#[test]
fn a_command_goes_through_the_network_in_a_box_and_nothing_is_left_of_it_when_killed() {
    let name = name("boxed");
    let mut command = portmaster();
    let script = "curl -4sSf -m 20 http://allowed.example/address && echo done && exec sleep 600";
    command.args(["try", "--gate17", "--name", &name, "--", "sh", "-c", script]);
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start_logged("portmaster try", command, &folder.path().join("log"));
    eventually("the command is carried", || {
        running.output().contains("done").then_some(())
    });
    let said = running.output();
    assert!(
        said.contains("10.104.0.2") || said.contains("10.105.0.2"),
        "{said}"
    );
    running.signal(Signal::KILL);
    drop(running);
    eventually("all of it is gone", || {
        (!Path::new(&format!("/run/portmaster-{name}.lock")).exists()).then_some(())
    });
    nothing_is_left_of(&name);
}

/// Ctrl-C on a terminal goes to all that runs there.
#[test]
fn ctrl_c_ends_the_network_in_a_box_wherever_it_is_and_nothing_is_left_of_it() {
    for (place, command, until) in [
        ("founded", &[][..], "They are a network because of"),
        ("told", &[], "Side by side"),
        (
            "run",
            &["--", "sh", "-c", "echo running; exec sleep 600"],
            "running",
        ),
    ] {
        let (name, folder) = (name(&format!("stop-{place}")), tempfile::tempdir().unwrap());
        let mut own = portmaster();
        own.args(["try", "--gate17", "--name", &name]).args(command);
        let mut running = Running::start_logged("portmaster try", own, &folder.path().join("log"));
        eventually(until, || running.output().contains(until).then_some(()));
        rustix::process::kill_process_group(running.pid(), Signal::INT).unwrap();
        let status = running.wait();
        assert!(!status.success(), "{place}: {status}");
        eventually("all of it is gone", || {
            (!Path::new(&format!("/run/portmaster-{name}.lock")).exists()).then_some(())
        });
        nothing_is_left_of(&name);
    }
}

#[test]
fn two_worlds_of_one_name_are_refused() {
    let name = name("taken");
    let mut command = portmaster();
    command
        .args(["try", "--name", &name, "--", "sleep", "600"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let first = Running::start("portmaster try", command);
    let lock = format!("/run/portmaster-{name}.lock");
    eventually("the first one is there", || {
        Path::new(&lock).exists().then_some(())
    });
    thread::sleep(Duration::from_millis(200));
    let second = portmaster()
        .args(["try", "--name", &name, "--", "true"])
        .output()
        .unwrap();
    assert!(!second.status.success());
    assert!(
        String::from_utf8_lossy(&second.stderr).contains("already"),
        "{second:?}"
    );
    first.signal(Signal::TERM);
    drop(first);
    eventually("all of it is gone", || (!Path::new(&lock).exists()).then_some(()));
}

#[test]
fn an_uplink_leads_out_instead_of_to_the_playground() {
    let routes = Command::new("ip")
        .args(["route", "show", "default"])
        .output()
        .unwrap()
        .stdout;
    let name = name("uplink");
    let script = "ip route show default | grep -q . && [ ! -e /run/netns/portmaster-$0-internet ] && iptables-save | grep -q C170";
    let mut command = portmaster();
    let output = command
        .args([
            "try", "--name", &name, "--uplink", "--", "sh", "-c", script, &name,
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if routes.is_empty() {
        assert!(
            !output.status.success() && said.contains("route"),
            "a machine without a route cannot lead out: {said}"
        );
    } else {
        assert!(output.status.success(), "{said}");
    }
    nothing_is_left_of(&name);
}

#[test]
fn without_root_try_says_what_it_needs() {
    require_root();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    // Where a user may reach it: a build folder is often below somebody's home.
    let folder = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    let program = folder.path().join("portmaster");
    fs::copy(binary("portmaster"), &program).unwrap();
    let output = command
        .arg(&program)
        .args(["try", "--", "true"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("root"), "{said}");
}

/// `portmaster up` in a namespace of the test's own.
fn up(namespace: &Namespace, root: &Path) -> Running {
    let mut command = namespace.command(binary("portmaster"));
    command
        .arg("up")
        .arg("--root")
        .arg(root)
        .arg("--ready-file")
        .arg(root.join("ready"));
    command.env_remove("DBUS_SYSTEM_BUS_ADDRESS").env("NO_COLOR", "1");
    Running::start_logged("portmaster up", command, &root.join("up.log"))
}

fn ready(running: &mut Running, root: &Path) {
    eventually("traffic is decided", || {
        assert!(running.ended().is_none(), "it ended:\n{}", running.output());
        root.join("ready").exists().then_some(())
    });
}

fn pid_of(namespace: &Namespace, program: &str) -> Option<i32> {
    let output = Command::new("ip")
        .args(["netns", "pids", namespace.name()])
        .output()
        .unwrap();
    let pids = String::from_utf8_lossy(&output.stdout).into_owned();
    let has = |pid: &&str| {
        fs::read_link(format!("/proc/{pid}/exe"))
            .is_ok_and(|path| path.file_name().is_some_and(|name| name == program))
    };
    pids.split_whitespace().find(has).and_then(|pid| pid.parse().ok())
}

#[test]
fn up_decides_traffic_until_it_is_told_to_stop_and_removes_its_rules() {
    let (namespace, root) = (Namespace::new("up"), tempfile::tempdir().unwrap());
    let mut running = up(&namespace, root.path());
    ready(&mut running, root.path());
    for program in ["iptables-save", "ip6tables-save"] {
        assert!(namespace.sh(program).contains("C170"), "{program}");
    }
    let mut status = namespace.command(binary("portmaster"));
    let status = status
        .arg("status")
        .env("PORTMASTER_RUNTIME_DIR", root.path().join("run/portmaster"))
        .output()
        .unwrap();
    assert!(
        status.status.success(),
        "{}",
        String::from_utf8_lossy(&status.stdout)
    );

    let mut second = up(&namespace, root.path());
    assert!(!second.wait().success());
    assert!(second.output().contains("already running"), "{}", second.output());
    assert!(root.path().join("ready").exists(), "the first one goes on");

    let status: ExitStatus = running.stop();
    assert_eq!(status, ExitStatus::from_raw(0));
    assert!(!root.path().join("ready").exists());
    for program in ["iptables-save", "ip6tables-save"] {
        assert!(!namespace.sh(program).contains("C17"), "{program}");
    }
    assert_eq!(
        Command::new("ip")
            .args(["netns", "pids", namespace.name()])
            .output()
            .unwrap()
            .stdout,
        b""
    );
}

#[test]
fn up_starts_a_crashed_service_again() {
    let (namespace, root) = (Namespace::new("up-crash"), tempfile::tempdir().unwrap());
    let mut running = up(&namespace, root.path());
    ready(&mut running, root.path());
    for program in [
        "portmaster-process-resolver",
        "portmaster-policy",
        "portmaster-interceptor",
    ] {
        let before = pid_of(&namespace, program).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(before).unwrap(), Signal::KILL).unwrap();
        eventually(&format!("{program} is back"), || {
            pid_of(&namespace, program).filter(|pid| *pid != before)
        });
    }
    assert!(running.stop().success());
}

#[test]
fn up_that_is_killed_takes_its_services_along() {
    let (namespace, root) = (Namespace::new("up-kill"), tempfile::tempdir().unwrap());
    let mut running = up(&namespace, root.path());
    ready(&mut running, root.path());
    running.signal(Signal::KILL);
    let _status = running.wait();
    eventually("no process is left", || {
        let pids = Command::new("ip")
            .args(["netns", "pids", namespace.name()])
            .output()
            .unwrap()
            .stdout;
        pids.is_empty().then_some(())
    });
}

#[test]
fn up_with_a_broken_configuration_says_so_and_ends() {
    let (namespace, root) = (Namespace::new("up-broken"), tempfile::tempdir().unwrap());
    fs::create_dir_all(root.path().join("etc/portmaster")).unwrap();
    fs::write(
        root.path().join("etc/portmaster/interceptor.toml"),
        "no_such_key = 1\n",
    )
    .unwrap();
    let mut running = up(&namespace, root.path());
    assert!(!running.wait().success());
    let said = running.output();
    assert!(
        said.contains("interceptor.toml") && said.contains("no_such_key"),
        "{said}"
    );
    assert!(!namespace.sh("iptables-save").contains("C17"));
}
