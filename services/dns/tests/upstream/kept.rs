//! What of upstreams' answers is kept, and what a client is told of their failures.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use dns::{
    lookup::Lookup,
    route::{Domain, Link, RouteSettings, Router, Source, System},
    server::now,
};
use dns_core::{
    cache::{Cache, Settings},
    wire::{Bounds, Query},
};

use super::{
    GENEROUS,
    liar::{Liar, answer, refusal, with_option},
};

fn lookup(router: &Router) -> Lookup {
    let cache = Arc::new(Cache::new(&Settings::default(), [7; 16]));
    Lookup::new(cache, router.clone(), Bounds::default(), now)
}

fn router(settings: &str) -> Router {
    let settings: RouteSettings = toml::from_str(settings).unwrap();
    Router::new(&settings).unwrap()
}

/// A client's question for an address.
fn client(name: &str) -> Query {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(dns_core::Name::parse(name).unwrap().as_wire());
    bytes.extend_from_slice(&[0, 1, 0, 1]);
    Query::parse(&bytes).unwrap()
}

#[tokio::test]
async fn what_a_portal_says_is_not_kept() {
    let network = Liar::over_udp(|query| vec![answer(query, [192, 0, 2, 1])]).await;
    let encrypted = super::program::free_port();
    let router = router(&format!("upstreams.servers = ['tls://127.0.0.1:{encrypted}']"));
    let link = Link {
        servers: vec![network.address],
        default_route: true,
        ..Link::default()
    };
    router.set_system(System {
        source: None,
        links: vec![link],
    });
    router.open_for(Duration::from_secs(60));
    let lookup = lookup(&router);
    for asked in 1..3 {
        let looked = lookup.answer(&client("login.hotel.example"), 0).await;
        assert_eq!(looked.answer.code(), 0);
        assert_eq!(network.over_udp.load(Ordering::SeqCst), asked);
    }
}

#[tokio::test]
async fn what_upstreams_say_is_kept() {
    let network = Liar::over_udp(|query| vec![answer(query, [192, 0, 2, 1])]).await;
    let router = router(&format!("upstreams.servers = ['udp://{}']", network.address));
    let lookup = lookup(&router);
    for _ in 0..2 {
        lookup.answer(&client("www.example.org"), 0).await;
        assert_eq!(network.over_udp.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_validators_word_is_told_and_no_older_answer_is_given_instead() {
    let bogus = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_bogus = Arc::clone(&bogus);
    let server = Liar::over_udp(move |query| {
        if is_bogus.load(Ordering::SeqCst) {
            return vec![with_option(refusal(query, 2), 15, &[0, 7], 0)];
        }
        let mut short = answer(query, [192, 0, 2, 1]);
        let ttl = short.len() - 10;
        short[ttl..ttl + 4].copy_from_slice(&1_u32.to_be_bytes());
        vec![short]
    })
    .await;
    let router = router(&format!("upstreams.servers = ['udp://{}']", server.address));
    let lookup = lookup(&router);
    let asked = client("www.example.org");
    assert_eq!(lookup.answer(&asked, 0).await.answer.code(), 0);
    bogus.store(true, Ordering::SeqCst);
    let end = std::time::Instant::now() + GENEROUS;
    let refused = loop {
        let looked = lookup.answer(&asked, 0).await;
        if looked.answer.code() == 2 {
            break looked;
        }
        assert!(
            std::time::Instant::now() < end,
            "the old answer is given for ever"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(refused.answer.extended_error().map(|(code, _)| code), Some(7));
}

#[tokio::test]
async fn who_is_asked_for_which_zones_is_told() {
    let router = router(concat!(
        "upstreams.servers = ['udp://192.0.2.1']\n",
        "[[zones]]\nnames = ['lab.corp.example', 'corp.example']\nupstreams.servers = ['udp://10.0.0.1']\n",
    ));
    let link = Link {
        servers: vec!["10.8.0.1:53".parse().unwrap()],
        domains: vec![Domain {
            name: dns_core::Name::parse("vpn.example").unwrap(),
            route_only: true,
        }],
        ..Link::default()
    };
    router.set_system(System {
        source: Some(Source::Resolved),
        links: vec![link],
    });
    let told: Vec<_> = router
        .states()
        .into_iter()
        .map(|set| {
            (
                set.source,
                set.zones.join(" "),
                set.upstreams[0].label.to_string(),
            )
        })
        .collect();
    let told: Vec<_> = told
        .iter()
        .map(|(source, zones, name)| (*source, zones.as_str(), name.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("configured", "", "udp://192.0.2.1"),
            ("configured", "corp.example lab.corp.example", "udp://10.0.0.1"),
            ("systemd-resolved", "vpn.example", "udp://10.8.0.1"),
        ]
    );
}
