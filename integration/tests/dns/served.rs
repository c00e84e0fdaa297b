//! Who asks anybody is answered by the local server.

use integration::{Service, eventually, world::INTERNET_V4, world::INTERNET_V6};

use super::stage::{ELSEWHERE_V4, ELSEWHERE_V6, Stage};

#[test]
fn the_local_server_answers_on_all_its_addresses() {
    let stage = Stage::new("dns", &[], "");
    let dig = stage.dig("asks");
    for server in ["@127.0.0.1", "@::1", "@127.0.0.17"] {
        for transport in ["+notcp", "+tcp"] {
            let said = dig.ask(&[server, transport, "fine.example", "A"]);
            assert_eq!(
                said.answers(),
                [INTERNET_V4.to_string()],
                "{server} {transport}: {}",
                said.0
            );
        }
        let said = dig.ask(&[server, "fine.example", "AAAA"]);
        assert_eq!(said.answers(), [INTERNET_V6.to_string()], "{}", said.0);
        let said = dig.ask(&[server, "missing.example", "A"]);
        assert_eq!(said.status(), "NXDOMAIN", "{}", said.0);
    }
    assert_eq!(
        stage.nameserver.asked("fine.example"),
        2,
        "each type once, the rest comes from the cache"
    );
}

#[test]
fn a_query_to_any_other_server_is_answered_by_ours() {
    let stage = Stage::new("dns-stray", &[], "");
    let dig = stage.dig("strays");
    for server in [ELSEWHERE_V4, ELSEWHERE_V6] {
        for transport in ["+notcp", "+tcp"] {
            let said = dig.ask(&[&format!("@{server}"), transport, "fine.example", "A"]);
            assert_eq!(
                said.answers(),
                [INTERNET_V4.to_string()],
                "{server} {transport}: {}",
                said.0
            );
            assert!(
                said.0.contains(&format!("SERVER: {server}#53")),
                "none the wiser: {}",
                said.0
            );
        }
    }
    // the name server itself is asked by the service alone
    let said = dig.ask(&[&format!("@{INTERNET_V4}"), "second.example", "A"]);
    assert_eq!(said.answers(), [INTERNET_V4.to_string()], "{}", said.0);
    let said = dig.ask(&[&format!("@{INTERNET_V4}"), "second.example", "A"]);
    assert_eq!(said.answers(), [INTERNET_V4.to_string()], "{}", said.0);
    assert_eq!(
        stage.nameserver.asked("second.example"),
        1,
        "the second time, the cache knew it"
    );
}

#[test]
fn other_hosts_are_not_answered() {
    let stage = Stage::new("dns-others", &[], "");
    let host = stage.world.link.a.v4;
    // even where the owner lets everybody in
    stage.world.profile(
        "dns",
        "[[match]]\npath = \"/**\"\n[settings]\nblock_incoming = false\n[[rule]]\naction = \"allow\"\n",
    );
    let mut command = stage.world.internet.command("dig");
    command.args(["+tries=1", "+time=2", &format!("@{host}"), "fine.example"]);
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(!said.contains("status: NOERROR"), "{said}");
}

#[test]
fn while_the_service_is_away_names_wait_or_fail_and_connections_go_on() {
    let mut stage = Stage::new("dns-down", &[], "");
    let asks = ["@127.0.0.1", "fine.example", "A"];
    assert_eq!(stage.dig("asks").ask(&asks).answers(), [INTERNET_V4.to_string()]);
    stage.world.kill(Service::Dns);
    let server = stage.world.internet.echo(stage.world.internet_addresses()[0], 7);
    let app = stage.world.app("connects");
    assert!(app.connect(&stage.world, server).connected);
    // a stray query is not let out instead
    let dig = stage.dig("asks");
    let said = dig.ask(&["+tries=1", "+time=2", &format!("@{INTERNET_V4}"), "other.example"]);
    assert_eq!(said.status(), "", "{}", said.0);
    assert_eq!(stage.nameserver.asked("other.example"), 0);
    stage.world.start_service(Service::Dns);
    eventually("names are answered again", || {
        (stage.dig("asks").ask(&asks).answers() == [INTERNET_V4.to_string()]).then_some(())
    });
}
