//! What an answer holds is judged as the question was: other names behind the one that was asked for, and where they lead.

use integration::{Service, eventually, profile, world::INTERNET_V4};

use super::{
    authority::{Asked, Scripted, now},
    stage::path_of,
};

const SERVER: &str = "@127.0.0.1";
const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const SVCB: u16 = 64;
const HTTPS: u16 = 65;

/// In wire form.
fn wire(name: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        octets.push(u8::try_from(label.len()).unwrap());
        octets.extend(label.bytes());
    }
    octets.push(0);
    octets
}

/// An answer of these records: owner ("" for who was asked about), type, data.
fn answer(asked: &Asked, records: &[(&str, u16, Vec<u8>)]) -> Vec<u8> {
    let mut message = asked.empty(0);
    let count = u8::try_from(records.len()).unwrap();
    message.iter_mut().skip(7).take(1).for_each(|to| *to = count);
    for (owner, kind, data) in records {
        match *owner {
            "" => message.extend([0xc0, 12]),
            owner => message.extend(wire(owner)),
        }
        message.extend(kind.to_be_bytes());
        message.extend([0, 1, 0, 0, 1, 0]);
        message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        message.extend(data);
    }
    message
}

/// A service (RFC 9460): priority, target, and parameters by number.
fn service(priority: u8, target: &str, parameters: &[(u8, &[u8])]) -> Vec<u8> {
    let mut data = [&[0, priority][..], &wire(target)].concat();
    for (number, value) in parameters {
        data.extend([0, *number, 0, u8::try_from(value.len()).unwrap()]);
        data.extend(*value);
    }
    data
}

fn v6(text: &str) -> Vec<u8> {
    text.parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec()
}

const GOOD: [u8; 4] = [203, 0, 113, 7];
const BAD: [u8; 4] = [203, 0, 113, 66];

/// What each name leads to.
fn script(asked: &Asked) -> Vec<u8> {
    let alias = |target: &str| ("", CNAME, wire(target));
    let records = match asked.name.as_str() {
        "cloaked.example" => vec![
            alias("a.cdn.example"),
            ("a.cdn.example", CNAME, wire("x.ads.example")),
            ("x.ads.example", A, GOOD.to_vec()),
        ],
        "plain.example" => vec![alias("a.cdn.example"), ("a.cdn.example", A, GOOD.to_vec())],
        "target.example" => vec![("", asked_kind(asked), service(1, "ads.example", &[]))],
        "alias.example" => vec![("", asked_kind(asked), service(0, "x.ads.example", &[]))],
        "hint4.example" => vec![(
            "",
            asked_kind(asked),
            service(1, "", &[(4, &[GOOD, BAD].concat()[..])]),
        )],
        "hint6.example" => vec![(
            "",
            asked_kind(asked),
            service(1, "", &[(1, &b"\x02h2"[..]), (6, &v6("2001:db8:66::1")[..])]),
        )],
        "fine.example" => vec![(
            "",
            asked_kind(asked),
            service(1, "", &[(1, &b"\x02h2"[..]), (4, &GOOD[..])]),
        )],
        "inside4.example" => vec![("", asked_kind(asked), service(1, "", &[(4, &[10, 0, 0, 1][..])]))],
        "inside6.example" => vec![("", asked_kind(asked), service(1, "", &[(6, &v6("fd00::1")[..])]))],
        "blocked.example" => vec![("", A, GOOD.to_vec()), ("", A, BAD.to_vec())],
        "mapped.example" => vec![("", AAAA, v6("::ffff:192.168.1.1"))],
        "translated.example" => vec![("", AAAA, v6("64:ff9b::192.168.1.1"))],
        "nowhere.example" => vec![("", A, vec![0, 0, 0, 0])],
        "behind.example" => vec![alias("lan.example"), ("lan.example", A, vec![192, 168, 1, 1])],
        _ => vec![("", A, GOOD.to_vec())],
    };
    answer(asked, &records)
}

fn asked_kind(asked: &Asked) -> u16 {
    let end = 12 + asked.name.len() + 2;
    let octets = asked.query.get(end..end + 2).unwrap_or_default();
    u16::from_be_bytes(octets.try_into().unwrap())
}

#[test]
fn what_stands_behind_a_name_is_refused_as_if_it_had_been_asked_for() {
    let mut scripted = Scripted::new("dns-behind", "", |asked| now(script(asked)));
    let path = path_of(&scripted.world, "bound");
    let rule = format!(
        "[[rule]]\naction = \"block\"\nremote = [\"{}.{}.{}.{}\", \"2001:db8:66::/48\"]\n",
        BAD[0], BAD[1], BAD[2], BAD[3]
    );
    scripted.world.profile("bound", &profile(&path, "allow", &rule));
    let free = path_of(&scripted.world, "free");
    let unfiltered = profile(&free, "allow", "").replace("[settings]\n", "[settings]\nblock_lists = []\n");
    scripted.world.profile("free", &unfiltered);
    scripted.world.config_file("lists/ads", "||ads.example^\n");
    scripted.world.stop(Service::Dns);
    let settings = format!(
        "[[list]]\nname = \"our-ads\"\ncategories = [\"ads\"]\nfile = \"lists/ads\"\n\
         [resolve.upstreams]\nservers = [\"udp://{INTERNET_V4}\"]\n"
    );
    scripted.world.config_file("dns.toml", &settings);
    scripted.world.start_service(Service::Dns);
    let (bound, free) = (scripted.dig("bound"), scripted.dig("free"));
    eventually("the rules are in force", || {
        let said = bound.ask(&[SERVER, "blocked.example"]);
        let other = free.ask(&[SERVER, "ads.example"]);
        (said.status() == "NXDOMAIN" && other.status() == "NOERROR").then_some(())
    });
    for (name, kinds, why) in [
        ("cloaked.example", &[A][..], "our-ads"),
        ("target.example", &[HTTPS, SVCB], "our-ads"),
        ("alias.example", &[HTTPS, SVCB], "our-ads"),
        ("hint4.example", &[HTTPS, SVCB], "bound#1"),
        ("hint6.example", &[HTTPS, SVCB], "bound#1"),
        ("blocked.example", &[A], "bound#1"),
        ("inside4.example", &[HTTPS], "rebinding"),
        ("inside6.example", &[HTTPS], "rebinding"),
        ("mapped.example", &[AAAA], "rebinding"),
        ("translated.example", &[AAAA], "rebinding"),
        ("nowhere.example", &[A], "rebinding"),
        ("behind.example", &[A], "rebinding"),
    ] {
        for kind in kinds {
            let words = [SERVER, name, &format!("TYPE{kind}")];
            let said = bound.ask(&words);
            assert_eq!(said.status(), "NXDOMAIN", "{name} {kind}: {}", said.0);
            assert!(
                said.answers().is_empty() && said.0.contains("EDE: 15") && said.0.contains(why),
                "{name} {kind}: {}",
                said.0
            );
            // out of the cache it is judged as well
            assert_eq!(bound.ask(&words).status(), "NXDOMAIN", "{name} {kind}");
            let said = free.ask(&words);
            let is_told = why != "rebinding";
            assert_eq!(
                said.status() == "NOERROR",
                is_told,
                "another program, {name}: {}",
                said.0
            );
        }
    }
    for (name, kind) in [
        ("plain.example", A),
        ("fine.example", HTTPS),
        ("fine.example", SVCB),
    ] {
        let said = bound.ask(&[SERVER, name, &format!("TYPE{kind}")]);
        assert_eq!(said.status(), "NOERROR", "{name}: {}", said.0);
        assert!(!said.answers().is_empty(), "{name}: {}", said.0);
    }
}
