//! Stop, restart, crash: what becomes of the rules, and of what a program asks for meanwhile.

use std::{thread, time::Duration};

use integration::{Booted, Running, booted::INTERNET, eventually};

const UNIT: &str = "portmaster-interceptor.service";

fn rules_stand(host: &Booted) -> bool {
    host.run("iptables-save; ip6tables-save")
        .contains("-A OUTPUT -j C17")
}

/// Whether a connection to a server outside is made.
fn connects(host: &Booted, port: u16) -> bool {
    let script = format!("nc -z -w 2 {} {port}", INTERNET.0);
    host.attempt(&script).status.success()
}

/// Dies at once and does not come back.
fn crash_for_good(host: &Booted) {
    host.file(
        &format!("/etc/systemd/system/{UNIT}.d/once.conf"),
        "[Service]\nRestart=no\n",
    );
    host.systemctl("daemon-reload");
    host.systemctl(&format!("kill --signal=KILL --kill-whom=main {UNIT}"));
    host.wait_for(UNIT, "failed");
}

#[test]
fn a_stop_opens_the_host_and_a_start_closes_it() {
    let host = Booted::start("stop");
    let server = host.internet.echo(INTERNET.0, 7);
    assert!(rules_stand(&host) && connects(&host, server.port()));
    host.systemctl(&format!("stop {UNIT}"));
    assert!(!rules_stand(&host), "its owner stopped it");
    assert!(connects(&host, server.port()));
    host.systemctl(&format!("start {UNIT}"));
    assert!(rules_stand(&host) && connects(&host, server.port()));
    host.systemctl("stop portmaster.target");
    // systemd does not wait for what the target holds
    eventually("the rules are gone", || (!rules_stand(&host)).then_some(()));
    assert!(connects(&host, server.port()));
}

#[test]
fn a_restart_keeps_the_rules_all_the_time() {
    let host = Booted::start("keep");
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut monitor = host.command("stdbuf");
    monitor.args(["-oL", "nft", "monitor", "ruleset"]);
    let monitor = Running::start_logged("nft", monitor, log.path());
    thread::sleep(Duration::from_millis(300));
    // it hears what happens
    host.run("nft add table ip heard");
    eventually("a change is heard", || {
        monitor.output().contains("heard").then_some(())
    });
    host.systemctl(&format!("restart {UNIT}"));
    host.run("nft delete table ip heard");
    eventually("all of it is heard", || {
        monitor.output().contains("delete table ip heard").then_some(())
    });
    assert!(rules_stand(&host));
    let chains = monitor.output();
    assert!(
        !chains.contains("delete chain") && !chains.contains("delete table ip filter"),
        "{chains}"
    );
}

#[test]
fn after_a_crash_the_host_is_closed() {
    let host = Booted::start("closed");
    let server = host.internet.echo(INTERNET.0, 7);
    crash_for_good(&host);
    assert!(
        rules_stand(&host),
        "on_crash is \"closed\" unless the owner says otherwise"
    );
    assert!(!connects(&host, server.port()));
    host.systemctl(&format!("start {UNIT}"));
    assert!(connects(&host, server.port()));
}

#[test]
fn after_a_crash_the_host_is_open_where_its_owner_wants_that() {
    let host = Booted::builder("open")
        .file("/etc/portmaster/interceptor.toml", "on_crash = \"open\"\n")
        .start();
    let server = host.internet.echo(INTERNET.0, 7);
    assert!(rules_stand(&host));
    crash_for_good(&host);
    eventually("the rules are gone", || (!rules_stand(&host)).then_some(()));
    assert!(connects(&host, server.port()));
    host.systemctl(&format!("start {UNIT}"));
    assert!(rules_stand(&host) && connects(&host, server.port()));
}

#[test]
fn strangers_in_the_store_are_closed_and_named() {
    let host = Booted::start("strangers");
    let server = host.internet.echo(INTERNET.0, 7);
    // a file under the name of a queue, a socket under the name of the journal, and something under no name of ours
    let script = "import os, socket, array\n\
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
        notify.connect(os.environ['NOTIFY_SOCKET'])\n\
        def store(name, fd):\n\
        \x20   notify.sendmsg([f'FDSTORE=1\\nFDNAME={name}'.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [fd]))])\n\
        store('queue-17040', os.open('/etc/passwd', os.O_RDONLY))\n\
        pair = socket.socketpair()\n\
        store('journal-a', pair[0].fileno())\n\
        store('nobody', pair[1].fileno())\n";
    host.file("/opt/strange.py", script);
    host.file(
        &format!("/etc/systemd/system/{UNIT}.d/strange.conf"),
        "[Service]\nNotifyAccess=all\nExecStartPost=/usr/bin/python3 /opt/strange.py\n",
    );
    host.systemctl("daemon-reload");
    // a stop empties the store: what comes is strange alone
    host.systemctl(&format!("stop {UNIT}"));
    host.systemctl(&format!("start {UNIT}"));
    host.systemctl(&format!("restart {UNIT}"));
    let said = host.journal(UNIT);
    assert!(
        said.contains("what the service manager kept cannot be used"),
        "{said}"
    );
    assert!(said.contains("nobody"), "{said}");
    assert!(connects(&host, server.port()));
}

#[test]
fn a_service_that_hangs_is_ended_and_packets_wait() {
    let host = Booted::start("frozen");
    let server = host.internet.echo(INTERNET.0, 7);
    let before = host.property(UNIT, "MainPID");
    host.systemctl(&format!("kill --signal=STOP --kill-whom=main {UNIT}"));
    eventually("the watchdog ended it, and another one runs", || {
        let now = host.property(UNIT, "MainPID");
        let active = host.property(UNIT, "ActiveState") == "active";
        (now != before && now != "0" && active).then_some(())
    });
    assert!(rules_stand(&host) && connects(&host, server.port()));
}

#[test]
fn suspended_for_a_while_all_goes_on() {
    let host = Booted::start("suspend");
    let server = host.internet.echo(INTERNET.0, 7);
    let services = "portmaster-interceptor portmaster-process-resolver portmaster-policy";
    // all at once, and shorter than the watchdog: as when the host slept
    host.systemctl(&format!("kill --signal=STOP {services}"));
    thread::sleep(Duration::from_secs(2));
    host.systemctl(&format!("kill --signal=CONT {services}"));
    assert!(connects(&host, server.port()));
    for service in services.split(' ') {
        assert_eq!(
            host.property(&format!("{service}.service"), "NRestarts"),
            "0",
            "{service}"
        );
    }
}

/// Opens a connection, does something, and has a line echoed over that connection still.
fn an_open_connection_goes_on(host: &Booted, port: u16, meanwhile: &str) {
    let script = format!(
        "exec 3<>/dev/tcp/{}/{port}; echo before >&3; read -t 10 said <&3; [ \"$said\" = before ]; {meanwhile}; \
         echo after >&3; read -t 10 said <&3; [ \"$said\" = after ]",
        INTERNET.0
    );
    host.run(&format!("bash -ec '{script}'"));
}

/// Also before systemd keeps anything, and after its owner has it keep nothing: what waits in a restart is lost then, no more.
#[test]
fn an_empty_store_costs_what_waits_and_nothing_else() {
    let host = Booted::start("emptied");
    let server = host.internet.echo(INTERNET.0, 7);
    let drop_in = format!("/etc/systemd/system/{UNIT}.d/store.conf");
    host.file(&drop_in, "[Service]\nFileDescriptorStoreMax=0\n");
    host.systemctl("daemon-reload");
    // a stop empties it
    host.systemctl(&format!("stop {UNIT}"));
    host.systemctl(&format!("start {UNIT}"));
    for _ in 0..2 {
        assert_eq!(host.property(UNIT, "NFileDescriptorStore"), "0");
        an_open_connection_goes_on(&host, server.port(), &format!("systemctl restart {UNIT}"));
        assert!(rules_stand(&host) && connects(&host, server.port()));
    }
    host.run(&format!("rm {drop_in}"));
    host.systemctl("daemon-reload");
    host.systemctl(&format!("restart {UNIT}"));
    assert!(connects(&host, server.port()));
    assert_ne!(host.property(UNIT, "NFileDescriptorStore"), "0");
    assert_eq!(host.property(UNIT, "NRestarts"), "0");
}

#[test]
fn what_is_missing_in_the_store_is_made_anew_and_the_rest_taken_up() {
    let host = Booted::start("half");
    let server = host.internet.echo(INTERNET.0, 7);
    let script = "import os, socket\n\
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
        notify.connect(os.environ['NOTIFY_SOCKET'])\n\
        for name in ('queue-17040', 'conntrack', 'journal-a', 'journal-b', 'ahead-a'):\n\
        \x20   notify.send(f'FDSTOREREMOVE=1\\nFDNAME={name}'.encode())\n";
    host.file("/opt/forget.py", script);
    let drop_in = format!("/etc/systemd/system/{UNIT}.d/forget.conf");
    host.file(
        &drop_in,
        "[Service]\nNotifyAccess=all\nExecStartPost=/usr/bin/python3 /opt/forget.py\n",
    );
    host.systemctl("daemon-reload");
    host.systemctl(&format!("restart {UNIT}"));
    host.run(&format!(
        "rm {drop_in}; journalctl --rotate; journalctl --vacuum-time=1ms"
    ));
    host.systemctl("daemon-reload");
    an_open_connection_goes_on(&host, server.port(), &format!("systemctl restart {UNIT}"));
    let said = host.journal(UNIT);
    let taken_up =
        |queue: u16| said.contains(&format!("queue taken up from the process before queue={queue}"));
    assert!(!taken_up(17040) && taken_up(17140) && taken_up(17060), "{said}");
    assert!(connects(&host, server.port()));
}
