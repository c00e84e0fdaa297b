//! Who may pause, by a real polkit.

use integration::{Booted, booted::text, eventually};

use super::{curl, web_server};

/// Of an administrator who trusts one user.
const RULE: &str = r#"
polkit.addRule(function(action, subject) {
    if (action.id == "org.portmaster.policy.pause" && subject.user == "trusted") { return polkit.Result.YES; }
});
"#;
const RULES: &str = "/etc/polkit-1/rules.d/10-test.rules";
const CALL: &str =
    "busctl --system call org.portmaster.Policy1 /org/portmaster/Policy1 org.portmaster.Policy1";
const UNTIL: &str = "busctl --system get-property org.portmaster.Policy1 /org/portmaster/Policy1 org.portmaster.Policy1 PausedUntil";

fn booted(label: &str) -> Booted {
    let host = Booted::builder(label).file(RULES, RULE).start();
    host.profile(
        "curl",
        "[[match]]\npath = \"/usr/bin/curl\"\n[settings]\ndefault_action = \"block\"\n",
    );
    web_server(&host);
    eventually("curl is refused", || curl(&host).err());
    eventually("policy is on the bus", || {
        host.attempt(UNTIL).status.success().then_some(())
    });
    host
}

/// As anybody reads it.
fn is_paused(host: &Booted) -> bool {
    host.run_as("games", UNTIL).trim() != "t 0"
}

#[test]
fn polkit_decides_about_who_calls() {
    let host = booted("polkit");
    host.run("useradd trusted; useradd member; usermod -aG portmaster member; useradd stranger");
    host.run_as("trusted", "portmaster pause 1h");
    assert!(is_paused(&host));
    eventually("curl passes", || curl(&host).ok());
    let status = host.attempt("portmaster status");
    assert!(text(&status).contains("paused until"), "{}", text(&status));
    let status = text(&host.attempt("portmaster status --json"));
    assert!(status.contains("\"paused_until\":\"20"), "{status}");
    assert_eq!(host.run_as("trusted", "portmaster resume"), "the pause is over\n");
    eventually("curl is refused", || curl(&host).err());
    assert!(!text(&host.attempt("portmaster status")).contains("paused"));

    // who may look may not pause
    for user in ["member", "stranger"] {
        let refused = host.attempt_as(user, "portmaster pause 1h");
        let said = text(&refused);
        assert!(
            !refused.status.success() && said.contains("wants authentication") && said.contains("sudo"),
            "{said}"
        );
        let quiet = format!("{CALL} --allow-interactive-authorization=no Pause t 60");
        let said = text(&host.attempt_as(user, &quiet));
        assert!(
            said.contains("authentication") && said.contains("allow it to ask"),
            "{said}"
        );
    }
    assert!(!is_paused(&host));

    // root needs no polkit; others are told what is missing
    host.systemctl("mask --now polkit.service");
    let said = text(&host.attempt_as("trusted", "portmaster pause 1h"));
    assert!(said.contains("install polkitd"), "{said}");
    assert!(!is_paused(&host));
    host.run(&format!("{CALL} Pause t 3600"));
    assert!(is_paused(&host));
}

/// As docs/profiles.md shows it.
const EXPLAIN: &str =
    "Explain 'suuu(ayq)(ayq)sa{sv}' /usr/bin/curl 1000 1 6  0 0  4 192 0 2 7 443  example.org  0";

#[test]
fn the_group_is_told_what_would_happen_and_strangers_are_not() {
    let host = booted("explain");
    host.run("useradd member; usermod -aG portmaster member; useradd stranger");
    for user in ["root", "member"] {
        let told = host.run_as(user, &format!("{CALL} {EXPLAIN}"));
        assert!(
            told.contains("2 7 \"default-action\" \"curl#default_action\" \"curl\""),
            "{told}"
        );
    }
    let said = text(&host.attempt_as("stranger", &format!("{CALL} {EXPLAIN}")));
    assert!(said.contains("Access denied"), "{said}");
}

/// Types the password where it is asked for.
const TYPE: &str = r#"
import os, pty, sys, termios, time
password = sys.argv[1].encode() + b"\n"
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("portmaster", ["portmaster", "pause", "1h"])
said = b""
while True:
    try:
        more = os.read(terminal, 1024)
    except OSError:
        break
    if not more:
        break
    said += more
    if b"assword" in said and password:
        # what is typed before the echo is off is thrown away
        while termios.tcgetattr(terminal)[3] & termios.ECHO:
            time.sleep(0.01)
        os.write(terminal, password)
        password = b""
print(said.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn an_administrator_on_a_terminal_is_asked_for_the_password() {
    let host = booted("agent");
    host.run("useradd --create-home --groups sudo owner; echo owner:right | chpasswd");
    host.file("/usr/lib/type.py", TYPE);
    host.file(
        "/usr/lib/d.py",
        &TYPE.replace(
            "\"portmaster\", [\"portmaster\", \"pause\", \"1h\"]",
            "\"sh\", [\"sh\", \"-c\", sys.argv[2]]",
        ),
    );
    // in a session of its own, as logind makes it
    let typed = |password: &str| {
        host.attempt(&format!(
            "timeout 60 runuser --login owner --command 'python3 /usr/lib/type.py {password}'"
        ))
    };
    let refused = typed("wrong");
    let said = text(&refused);
    assert!(
        !refused.status.success() && said.contains("FAILED") && said.contains("authentication failed"),
        "{said}"
    );
    assert!(!is_paused(&host), "{said}");
    let done = typed("right");
    let said = text(&done);
    assert!(
        said.contains("Authentication is required to pause the firewall"),
        "{said}"
    );
    assert!(done.status.success() && said.contains("paused until"), "{said}");
    assert!(is_paused(&host), "{said}");
}
