use clap::Parser;

use super::*;
use crate::event_json::ProcessJson;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    filter: FilterArgs,
}

fn filter(words: &str) -> FilterArgs {
    Line::parse_from(std::iter::once("test").chain(words.split_whitespace())).filter
}

fn event() -> EventJson {
    EventJson {
        direction: "out".to_owned(),
        protocol: "tcp".to_owned(),
        remote: "93.184.216.34".to_owned(),
        remote_port: Some(443),
        process: Some(ProcessJson {
            path: "/usr/bin/Curl".to_owned(),
            comm: "curl".to_owned(),
            ..ProcessJson::default()
        }),
        uid: Some(1000),
        profile: "curl".to_owned(),
        domain: "www.example.com".to_owned(),
        verdict: "block".to_owned(),
        ..EventJson::default()
    }
}

#[test]
fn without_options_everything_is_wanted() {
    assert!(filter("").matches(&event()));
    assert!(filter("").matches(&EventJson::default()));
}

#[test]
fn every_option_narrows() {
    let good = [
        "--app bin/curl",
        "--verdict block",
        "--verdict allow,block",
        "--direction out",
        "--protocol tcp",
        "--protocol 6",
        "--protocol udp,tcp",
        "--remote 93.184.216.34",
        "--remote 93.184.0.0/16",
        "--remote 0.0.0.0/0",
        "--remote 93.184.216.34:443",
        "--remote ::1 --remote 93.184.216.34",
        "--domain www.example.com.",
        "--domain *.example.com",
        "--domain *.WWW.example.com",
        "--profile curl",
        "--uid 1000 --uid 0",
    ];
    for words in good {
        assert!(filter(words).matches(&event()), "{words}");
    }
    let bad = [
        "--app wget",
        "--verdict allow",
        "--direction in",
        "--protocol udp",
        "--remote 93.184.216.35",
        "--remote 93.185.0.0/16",
        "--remote ::/0",
        "--remote 93.184.216.34:80",
        "--domain example.com",
        "--domain *.ample.com",
        "--profile wget",
        "--uid 0",
        "--app curl --verdict allow",
    ];
    for words in bad {
        assert!(!filter(words).matches(&event()), "{words}");
    }
}

#[test]
fn an_unknown_process_is_no_app() {
    assert!(!filter("--app curl").matches(&EventJson {
        process: None,
        ..event()
    }));
}

#[test]
fn a_protocol_without_a_name_is_found_by_its_number() {
    assert!(filter("--protocol 200").matches(&EventJson {
        protocol: "200".to_owned(),
        ..event()
    }));
}

#[test]
fn patterns_that_mean_nothing_are_refused() {
    for text in [
        "",
        "example.com",
        "1.2.3.4/33",
        "::/129",
        "1.2.3.4/",
        "1.2.3.4:99999",
        "[::1]",
    ] {
        text.parse::<AddressPattern>().unwrap_err();
    }
    for text in ["", ".", "*.", "a.*.b"] {
        text.parse::<DomainPattern>().unwrap_err();
    }
    protocol("256").unwrap_err();
    protocol("tpc").unwrap_err();
}
