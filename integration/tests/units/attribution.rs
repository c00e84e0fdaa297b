//! Programs of the host are what they are, also where the services are hardened and see little of it.

use std::{fs, process::Stdio};

use integration::{Booted, Running, eventually};
use serde_json::Value;

use super::{curl, web_server};

#[test]
fn a_curl_is_seen_named_and_decided_by_its_profile() {
    let host = Booted::start("curl");
    web_server(&host);
    let events = follow(&host);
    let page = "systemd-run --quiet --pipe --wait --unit=fetches-a-page curl --silent --max-time 3 http://198.18.17.10:8000/";
    assert_eq!(host.run(page), "hello");
    let seen = events.wait_for("curl is seen", |event| {
        event["process"]["path"] == "/usr/bin/curl"
    });
    assert_eq!(seen["verdict"], "allow");
    assert_eq!(seen["process"]["cgroup"]["unit"], "fetches-a-page.service");
    assert_eq!(seen["process"]["uid"], 0);

    host.profile(
        "curl",
        "[[match]]\npath = \"/usr/bin/curl\"\n\n[settings]\ndefault_action = \"block\"\n",
    );
    eventually("the profile is in force", || curl(&host).err());
    let refused = events.wait_for("curl is refused", |event| event["verdict"] == "block");
    assert_eq!(
        (&refused["profile"], &refused["process"]["path"]),
        (&"curl".into(), &"/usr/bin/curl".into())
    );
    // another program's is its own
    host.run("python3 -c \"import urllib.request as r; assert r.urlopen('http://198.18.17.10:8000/', timeout=3).read() == b'hello'\"");
}

#[test]
fn a_resolver_that_hangs_is_ended_and_programs_are_named_again() {
    const RESOLVER: &str = "portmaster-process-resolver.service";
    let host = Booted::builder("hangs")
        // idle for longer than the watchdog waits: it is fed all the same
        .file(
            &format!("/etc/systemd/system/{RESOLVER}.d/watchdog.conf"),
            "[Service]\nWatchdogSec=2s\n",
        )
        .start();
    web_server(&host);
    assert!(
        host.systemctl(&format!("cat {RESOLVER}"))
            .contains("\nWatchdogSec=10s\n")
    );
    let before = host.property(RESOLVER, "MainPID");
    std::thread::sleep(std::time::Duration::from_secs(6));
    assert_eq!(host.property(RESOLVER, "MainPID"), before, "idle is no hanging");
    host.systemctl(&format!("kill --signal=STOP --kill-whom=main {RESOLVER}"));
    eventually("the watchdog ended it, and another one runs", || {
        let now = host.property(RESOLVER, "MainPID");
        let active = host.property(RESOLVER, "ActiveState") == "active";
        (now != before && now != "0" && active).then_some(())
    });
    let events = follow(&host);
    let page = "curl --silent --max-time 3 http://198.18.17.10:8000/";
    assert_eq!(host.run(page), "hello");
    events.wait_for("curl is named", |event| {
        event["process"]["path"] == "/usr/bin/curl"
    });
}

#[test]
fn a_program_of_somebodys_own_home_is_named_and_cannot_pose_as_another() {
    let host = Booted::start("posing");
    web_server(&host);
    host.run("useradd --create-home eve");
    host.profile(
        "curl",
        "[[match]]\npath = \"/usr/bin/curl\"\n\n[settings]\ndefault_action = \"allow\"\n",
    );
    host.profile("global", "[settings]\ndefault_action = \"block\"\n");
    eventually("the profiles are in force", || curl(&host).ok());
    let events = follow(&host);
    let fetch = "--silent --max-time 3 http://198.18.17.10:8000/";
    host.run_as("eve", "cp /usr/bin/curl /home/eve/mine");
    assert!(
        !host
            .attempt_as("eve", &format!("/home/eve/mine {fetch}"))
            .status
            .success()
    );
    events.wait_for("the copy is named", |event| {
        event["process"]["path"] == "/home/eve/mine"
    });
    // in a mount namespace of her own she puts it where the real one is
    let posing = format!(
        "unshare --mount --map-root-user sh -ec 'mount --bind /home/eve/mine /usr/bin/curl; exec /usr/bin/curl {fetch}'"
    );
    let output = host.attempt_as("eve", &posing);
    assert!(!output.status.success(), "{}", integration::booted::text(&output));
    let posed = events.wait_for("the impostor is seen", |event| {
        event["process"]["claimed_path"] == "/usr/bin/curl" && event["process"]["path"] != "/usr/bin/curl"
    });
    assert_eq!(posed["verdict"], "block");
}

#[test]
fn a_hardened_service_that_asks_first_after_long_is_found_in_its_unit() {
    let host = Booted::start("weather");
    let events = follow(&host);
    // not by a guess: it began long before others, and its socket is not among its first
    let code = "import socket, time\nmany = [open('/dev/null') for _ in range(30)]\ntime.sleep(2)\n\
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'x', ('198.18.17.10', 8000)); time.sleep(1000)";
    let file = "/run/weather.py";
    host.run(&format!(
        "cat >{file} <<'END'\n{code}\nEND\nln -s {file} /run/link.py"
    ));
    host.run("systemd-run --quiet --unit=weather --uid=nobody --property=PrivateTmp=yes --property=ProtectSystem=strict python3 /run/link.py");
    let seen = events.wait_for("it is seen", |event| event["remote_port"] == 8000);
    let process = &seen["process"];
    let python = host.run("realpath /usr/bin/python3");
    assert_eq!(process["path"], python.trim(), "{process}");
    assert_eq!(process["script"], file);
    assert_eq!(process["cgroup"]["unit"], "weather.service");
    let status: Value = serde_json::from_str(&host.run("portmaster status --json")).unwrap();
    let counted = status.to_string();
    assert!(counted.contains("\"holders_cgroup\":1"), "{counted}");
    assert!(!counted.contains("no-host-view"), "{counted}");
}

/// What `portmaster monitor --json` prints.
struct Events {
    file: std::path::PathBuf,
    _monitor: Running,
}

fn follow(host: &Booted) -> Events {
    let mut command = host.command("portmaster");
    command.args(["monitor", "--json"]).stdin(Stdio::null());
    let file = host.root().join("run/events");
    let monitor = Running::start_logged("portmaster monitor", command, &file);
    let events = Events {
        file,
        _monitor: monitor,
    };
    // it follows as soon as it shows something
    eventually("the monitor follows", || {
        let _refused = host.attempt("curl --silent --max-time 1 http://198.18.17.10:1/");
        (!events.all().is_empty()).then_some(())
    });
    fs::write(&events.file, "").unwrap();
    events
}

impl Events {
    fn all(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line.trim_start_matches('\0')).ok())
            .collect()
    }

    #[track_caller]
    fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || {
            self.all()
                .into_iter()
                .find(|event| event["kind"] == "decided" && event["remote_port"] == 8000 && wanted(event))
        })
    }
}
