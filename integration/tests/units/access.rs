//! Who may talk to the services, and who hears what they say.

use std::process::Stdio;

use integration::{Booted, Running, eventually};

use super::{SERVICES, curl};

#[test]
fn sockets_are_for_the_group() {
    let host = Booted::start("sockets");
    assert_eq!(
        host.run("stat -c '%a %U %G' /run/portmaster"),
        "750 root portmaster\n"
    );
    for (unit, _) in SERVICES {
        let name = unit
            .trim_start_matches("portmaster-")
            .trim_end_matches(".service");
        let stat = host.run(&format!("stat -c '%F %a %U %G' /run/portmaster/{name}.sock"));
        assert_eq!(stat, "socket 660 root portmaster\n", "{name}");
        // one of systemd's, not one that the service made
        let socket = unit.replace(".service", ".socket");
        assert_eq!(host.property(&socket, "SubState"), "running", "{name}");
    }
}

#[test]
fn a_service_without_its_socket_says_what_to_start() {
    let host = Booted::builder("socketless").disabled().start();
    let program = "/usr/libexec/portmaster/portmaster-policy";
    let said = host.attempt_as("portmaster-policy", &format!("timeout 10 {program}"));
    let text = integration::booted::text(&said);
    assert!(
        !said.status.success() && text.contains("systemctl start portmaster-policy.socket"),
        "{text}"
    );
}

#[test]
fn a_member_of_the_group_calls_and_hears_and_nobody_else_does() {
    let host = Booted::start("members");
    host.run("useradd member; useradd stranger; usermod -aG portmaster member");
    assert!(
        host.attempt_as("member", "portmaster connections")
            .status
            .success()
    );
    let refused = host.attempt_as("stranger", "portmaster connections");
    let said = integration::booted::text(&refused);
    assert!(
        !refused.status.success() && said.contains("join group portmaster"),
        "{said}"
    );
    // nor by the socket itself
    let direct = "import socket; socket.socket(socket.AF_UNIX).connect('/run/portmaster/interceptor.sock')";
    let said = integration::booted::text(&host.attempt_as("stranger", &format!("python3 -c \"{direct}\"")));
    assert!(said.contains("Permission denied"), "{said}");

    let listeners: Vec<_> = ["member", "stranger"]
        .map(|user| listen(&host, user))
        .into_iter()
        .collect();
    for (user, _) in ["member", "stranger"].iter().zip(&listeners) {
        // the bus greets whoever listens
        eventually(&format!("{user} listens"), || {
            heard(&host, user).contains("NameAcquired").then_some(())
        });
    }
    eventually("the member hears of a connection", || {
        let _refused = curl(&host);
        heard(&host, "member")
            .contains("member=ConnectionsChanged")
            .then_some(())
    });
    assert!(
        !heard(&host, "stranger").contains("org.portmaster"),
        "{}",
        heard(&host, "stranger")
    );
    // the state is everybody's
    let state = "busctl --system get-property org.portmaster.Interceptor1 /org/portmaster/Interceptor1 org.portmaster.Service1 Version";
    assert!(host.run_as("stranger", state).starts_with("s \""));
}

fn listen(host: &Booted, user: &str) -> Running {
    let script =
        "exec stdbuf -oL dbus-monitor --system \"type='signal',interface='org.portmaster.Interceptor1'\"";
    let mut command = host.command_as(user, "sh");
    command.args(["-ec", script]).stdin(Stdio::null());
    let log = host.root().join(format!("run/heard-by-{user}"));
    Running::start_logged(user, command, &log)
}

fn heard(host: &Booted, user: &str) -> String {
    std::fs::read_to_string(host.root().join(format!("run/heard-by-{user}"))).unwrap_or_default()
}
