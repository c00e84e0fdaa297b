//! Names that mean something by themselves, and what a refused name is answered with.

use std::sync::{Arc, Mutex};

use integration::{Service, eventually, profile, world::INTERNET_V4};

use super::{
    authority::{Asked, Scripted, now},
    stage::path_of,
};

const SERVER: &str = "@127.0.0.1";

/// One record of type HTTPS (RFC 9460) that says where its host may be reached: at an address of this network.
fn hinted(asked: &Asked) -> Vec<u8> {
    let mut message = asked.empty(0);
    message.iter_mut().skip(7).take(1).for_each(|count| *count = 1);
    message.extend([0xc0, 12, 0, 65, 0, 1, 0, 0, 1, 0, 0, 11]);
    // priority, no other target, ipv4hint
    message.extend([0, 1, 0, 0, 4, 0, 4, 192, 168, 17, 1]);
    message
}

#[test]
fn what_registries_keep_is_answered_here_and_asked_of_nobody() {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let all = Arc::clone(&asked);
    let scripted = Scripted::new("dns-special", "", move |asked| {
        all.lock().unwrap().push(asked.name.clone());
        now(match asked.name.as_str() {
            "hinted.example" => hinted(asked),
            _ => asked.addresses(1, 300),
        })
    });
    let dig = scripted.dig("asks");
    let own = scripted.world.link.a;
    for (words, answers) in [
        (["localhost", "A"], &["127.0.0.1"][..]),
        (["localhost", "AAAA"], &["::1"]),
        (["any.localhost", "A"], &["127.0.0.1"]),
        (["1.0.0.127.in-addr.arpa", "PTR"], &["localhost."]),
    ] {
        assert_eq!(
            dig.ask(&[&[SERVER][..], &words].concat()).answers(),
            answers,
            "{words:?}"
        );
    }
    for name in ["any.test", "any.invalid", "any.onion", "invalid"] {
        let said = dig.ask(&[SERVER, name]);
        assert_eq!(said.status(), "NXDOMAIN", "{name}: {}", said.0);
    }
    let host = scripted.world.host.sh("cat /proc/sys/kernel/hostname");
    for address in [own.v4.to_string(), own.v6.to_string()] {
        let said = dig.ask(&[SERVER, "-x", &address]);
        assert_eq!(
            said.answers(),
            [format!("{}.", host.trim())],
            "{address}: {}",
            said.0
        );
    }
    // these belong to the network, and its servers alone would know; here nobody answers
    for name in ["nas.home.arpa", "1.1.168.192.in-addr.arpa"] {
        let said = dig.ask(&[SERVER, "+tries=1", "+time=1", name]);
        assert!(said.answers().is_empty(), "{name}: {}", said.0);
    }
    let said = dig.ask(&[SERVER, "_dns.resolver.arpa", "SVCB"]);
    assert_eq!(
        (said.status(), said.answers().len()),
        ("NOERROR", 0),
        "{}",
        said.0
    );
    assert_eq!(*asked.lock().unwrap(), [""; 0], "nothing of this left the host");

    assert_eq!(dig.ask(&[SERVER, "fine.example"]).answers().len(), 1);
    let said = dig.ask(&[SERVER, "hinted.example", "HTTPS"]);
    assert_eq!(said.status(), "NXDOMAIN", "a hint points inside: {}", said.0);
    assert!(said.0.contains("rebinding"), "{}", said.0);
    assert_eq!(*asked.lock().unwrap(), ["fine.example", "hinted.example"]);
}

#[test]
fn a_refused_name_is_answered_as_the_owner_wants_it_with_the_reason_that_explain_repeats() {
    let mut scripted = Scripted::new("dns-manners", "", |asked| now(asked.addresses(1, 300)));
    let path = path_of(&scripted.world, "bound");
    let rule = "[[rule]]\naction = \"block\"\nremote = \"*.refused.example\"\n";
    scripted.world.profile("bound", &profile(&path, "allow", rule));
    for (word, status, v4, v6) in [
        ("nxdomain", "NXDOMAIN", &[][..], &[][..]),
        ("refused", "REFUSED", &[], &[]),
        ("zero", "NOERROR", &["0.0.0.0"], &["::"]),
    ] {
        scripted.world.stop(Service::Dns);
        let toml = format!(
            "blocked_answer = \"{word}\"\n[resolve.upstreams]\nservers = [\"udp://{INTERNET_V4}\"]\n"
        );
        scripted.world.config_file("dns.toml", &toml);
        scripted.world.start_service(Service::Dns);
        let dig = scripted.dig("bound");
        eventually("the rule is in force", || {
            let said = dig.ask(&[SERVER, "a.refused.example"]);
            (said.status() == status && said.answers() == v4).then_some(())
        });
        let said = dig.ask(&[SERVER, "a.refused.example", "AAAA"]);
        assert_eq!(said.status(), status, "{}", said.0);
        assert_eq!(said.answers(), v6, "{}", said.0);
        assert!(
            said.0.contains("EDE: 15") && said.0.contains("bound#1"),
            "{}",
            said.0
        );
    }
    let mut command = scripted.world.command(integration::binary("portmaster"));
    command
        .args(["dns", "explain", "a.refused.example", "--app"])
        .arg(&path);
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(said.contains("block") && said.contains("bound#1"), "{said}");
}
