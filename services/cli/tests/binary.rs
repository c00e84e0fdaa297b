//! The program itself, where no service runs: what it prints, and what it exits with.
#![expect(clippy::unwrap_used, reason = "a test: what fails here fails the test")]

#[path = "binary/network.rs"]
mod network;

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

fn portmaster(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portmaster"));
    for name in ["PORTMASTER_ROOT", "PORTMASTER_RUNTIME_DIR", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = portmaster(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn help_and_version_are_no_mistakes_and_wrong_usage_is_64() {
    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, 0);
    for command in [
        "monitor",
        "connections",
        "rules",
        "explain",
        "start",
        "status",
        "stop",
        "token",
        "try",
        "up",
        "upgrade-check",
        "completions",
        "confirm",
        "man",
    ] {
        assert!(out.contains(command), "{command} is not in the help:\n{out}");
    }
    assert_eq!(
        run(&["--version"]),
        (
            0,
            format!("portmaster {}\n", env!("CARGO_PKG_VERSION")),
            String::new()
        )
    );
    for wrong in [
        &["nonsense"][..],
        &[],
        &["monitor", "--verdict", "perhaps"],
        &["monitor", "--remote", "example.com"],
        &["rules", "check"],
    ] {
        let (code, out, err) = run(wrong);
        assert_eq!((code, out.as_str()), (64, ""), "{wrong:?}");
        assert!(!err.is_empty());
    }
}

#[test]
fn without_services_every_command_says_what_is_missing() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().to_str().unwrap();
    for command in ["monitor", "connections"] {
        let (code, out, err) = run(&[command, "--root", root]);
        let socket = format!("{root}/run/portmaster/interceptor.sock");
        let expected = format!(
            "portmaster: cannot reach interceptor at {socket}: there is no such socket: is it running? `portmaster status` tells\n"
        );
        assert_eq!((code, out.as_str(), err), (1, "", expected));
    }
    let (code, _, err) = run(&["explain", "--root", root, "--unknown", "--to", "192.0.2.1:443"]);
    assert_eq!(code, 1);
    assert!(err.contains("cannot reach policy at"), "{err}");
    let (code, _, err) = run(&["explain", "--root", root, "--pid", "1", "--to", "192.0.2.1:443"]);
    assert_eq!(code, 1);
    assert!(err.contains("cannot reach process-resolver at"), "{err}");
}

#[test]
fn name_servers_below_a_root_are_set_and_put_back() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let was = "search lan\nnameserver 192.0.2.1\n";
    let path = write(&root.path().join("etc"), "resolv.conf", was);
    let dns = |words: &[&str]| {
        let words: Vec<&str> = ["dns"].iter().chain(words).copied().collect();
        run(&[&words[..], &["--root", root.path().to_str().unwrap()]].concat())
    };
    let (code, out, _) = dns(&["enable", "--dry-run"]);
    assert!(
        code == 0 && out.starts_with("disabled\n  /etc/resolv.conf: "),
        "{out}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), was);
    let (code, out, err) = dns(&["enable", "--json"]);
    let whole: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, err.as_str(), whole["state"].as_str()),
        (0, "", Some("enabled"))
    );
    assert_eq!(whole["places"][0]["path"], "/etc/resolv.conf");
    let ours = fs::read_to_string(&path).unwrap();
    assert!(ours.ends_with("\nnameserver 127.0.0.17\nsearch lan\n"), "{ours}");
    assert_eq!(dns(&["enable"]).0, 0, "twice is no error");
    fs::write(&path, ours + "options rotate\n").unwrap();
    assert!(dns(&["enable", "--dry-run"]).1.starts_with("edited\n"));
    let (code, out, err) = dns(&["disable"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("/etc/resolv.conf was edited since"), "{err}");
    assert_eq!(dns(&["disable", "--force"]).0, 0);
    assert_eq!(fs::read_to_string(&path).unwrap(), was);
    assert_eq!(dns(&["disable"]), (0, "disabled\n".to_owned(), String::new()));
}

#[test]
fn the_runtime_folder_comes_from_the_environment_too() {
    let output = portmaster(&["connections"])
        .env("PORTMASTER_RUNTIME_DIR", "/nonexistent/pm")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/pm/interceptor.sock"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn status_shows_what_is_down_and_why() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().to_str().unwrap();
    let (code, out, err) = run(&["status", "--root", root]);
    assert_eq!((code, err.as_str()), (3, ""));
    for service in ["interceptor", "process-resolver", "policy"] {
        let line = out.lines().find(|line| line.starts_with(service)).unwrap();
        assert!(
            line.contains("down") && line.contains("there is no such socket"),
            "{line}"
        );
    }
    let (code, out, _) = run(&["status", "--json", "--root", root]);
    let whole: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (
            code,
            whole["health"].as_str(),
            whole["services"].as_array().unwrap().len()
        ),
        (3, Some("down"), 3)
    );
    assert_eq!(whole["services"][0]["pid"], serde_json::Value::Null);
}

#[test]
fn a_socket_that_we_may_not_use_names_the_group() {
    if !rustix::process::geteuid().is_root() {
        return; // needs somebody to become
    }
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("run/portmaster");
    fs::create_dir_all(&folder).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(folder.join("interceptor.sock")).unwrap();
    let program = root.path().join("portmaster");
    fs::copy(env!("CARGO_BIN_EXE_portmaster"), &program).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(root.path(), open).unwrap();
    fs::set_permissions(
        folder.join("interceptor.sock"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"])
        .arg(&program);
    let output = command
        .args(["connections", "--root"])
        .arg(root.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("join group portmaster"), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, out, err) = run(&["completions", shell]);
        assert_eq!((code, err.as_str()), (0, ""), "{shell}");
        assert!(out.contains("portmaster") && out.contains("monitor"), "{shell}");
    }
    let script = run(&["completions", "bash"]).1;
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "portmaster.bash", &script);
    assert!(
        Command::new("bash")
            .args(["-n", &path])
            .status()
            .unwrap()
            .success(),
        "bash reads it"
    );
}

#[test]
fn there_is_a_man_page_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man");
    let (code, _, err) = run(&["man", "--out", out.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""));
    let mut names: Vec<_> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let commands = [
        "check-host",
        "completions",
        "confirm",
        "connections",
        "dns-cache",
        "dns-disable",
        "dns-enable",
        "dns-explain",
        "dns-flush",
        "dns-lists",
        "dns-log",
        "dns-open",
        "dns-upstreams",
        "dns",
        "explain",
        "gate17-circuits",
        "gate17-client-key-add",
        "gate17-client-key-list",
        "gate17-client-key-new",
        "gate17-client-key-remove",
        "gate17-client-key",
        "gate17-close",
        "gate17-map-show",
        "gate17-map-sign",
        "gate17-map",
        "gate17-network-access",
        "gate17-network-init",
        "gate17-network-new-key",
        "gate17-network-rotate-root",
        "gate17-network-take",
        "gate17-network",
        "gate17-node-add",
        "gate17-node-edit",
        "gate17-node-list",
        "gate17-node-remove",
        "gate17-node",
        "gate17-nodes",
        "gate17-ping",
        "gate17-route",
        "gate17-speed",
        "gate17-status",
        "gate17-token-list",
        "gate17-token-new",
        "gate17-token-remove",
        "gate17-token",
        "gate17",
        "man",
        "monitor",
        "pause",
        "resume",
        "rules-check",
        "rules-default",
        "rules",
        "start",
        "status",
        "stop",
        "token-create",
        "token-list",
        "token-revoke",
        "token",
        "try",
        "up",
        "upgrade-check",
    ];
    let mut expected: Vec<_> = commands
        .iter()
        .map(|command| format!("portmaster-{command}.1"))
        .collect();
    expected.push("portmaster.1".to_owned());
    assert_eq!(names, expected);
    let page = fs::read_to_string(out.join("portmaster-rules-check.1")).unwrap();
    assert!(
        page.contains(".TH portmaster-rules-check 1") && page.contains(".SH SYNOPSIS"),
        "{page}"
    );
    let (_, main, _) = run(&["man"]);
    assert_eq!(main, fs::read_to_string(out.join("portmaster.1")).unwrap());
    assert!(main.contains("portmaster\\-monitor(1)"), "{main}");
}

#[test]
fn the_shipped_rules_are_good_rules() {
    let (code, text, _) = run(&["rules", "default"]);
    assert_eq!(code, 0);
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "global.toml", &text);
    let (code, out, err) = run(&["rules", "check", &path]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.starts_with(&format!("{path}: good, settings for all programs, ")),
        "{out}"
    );
}

#[test]
fn a_refused_file_is_named_with_its_line_and_the_others_are_still_checked() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(
        folder.path(),
        "good.toml",
        "name = \"Good\"\n[[match]]\npath = \"/usr/bin/curl\"\n",
    );
    let bad = write(
        folder.path(),
        "bad.toml",
        "[[match]]\npath = \"/bin/x\"\n\n[[rule]]\naction = \"allow\"\nremote = \"300.1.2.3/99\"\n",
    );
    let (code, out, err) = run(&["rules", "check", &bad, "/nonexistent.toml", &good]);
    assert_eq!(code, 1);
    assert_eq!(
        out,
        format!("{good}: good, profile \"Good\", 1 matcher, 0 rules\n")
    );
    assert!(err.contains(&format!("{bad}:6:")), "{err}");
    assert!(err.contains("read /nonexistent.toml"), "{err}");
    let (code, out, _) = run(&["rules", "check", folder.path().to_str().unwrap()]);
    assert_eq!((code, out.lines().count()), (1, 1));
}

#[test]
fn explain_answers_from_files_without_any_service() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "sh.toml",
        "[[match]]\npath = \"/opt/x\"\n[settings]\ndefault_action = \"block\"\n",
    );
    let config = folder.path().to_str().unwrap();
    let (code, out, err) = run(&[
        "explain",
        "--config",
        config,
        "--program",
        "/opt/x",
        "--to",
        "192.0.2.1:443",
        "--json",
    ]);
    assert_eq!(code, 0, "{err}");
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    let fields =
        ["verdict", "why", "rule", "profile", "remote", "scope"].map(|field| answer[field].as_str().unwrap());
    assert_eq!(
        fields,
        [
            "block",
            "default-action",
            "sh#default_action",
            "sh",
            "192.0.2.1",
            "internet"
        ]
    );
    assert_eq!(answer["port"], 443);
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let mut child = portmaster(&["man"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}
