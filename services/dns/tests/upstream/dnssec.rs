//! Validation, against a root of the test's own.

use dns::upstream::{Answer, Error, Pool};
use hickory_proto::{op::Message, rr::RecordType};

use super::{addresses, ask, liar::Liar, pool, query, query_for, zones::Zones};

fn validating(zones: &Zones) -> Pool {
    let (address, anchors) = (zones.address, zones.anchors.display());
    pool(&format!(
        "servers = ['udp://{address}']\ndnssec = true\ntrust_anchors = '{anchors}'"
    ))
}

fn is_authentic(answer: &Answer) -> bool {
    answer.message[3] & 0x20 != 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_signed_is_proved_what_is_not_is_told_so_and_what_is_broken_is_refused() {
    let zones = Zones::start();
    let pool = validating(&zones);
    for name in [
        "www.good.test",
        "www.nsec3.test",
        "alias.nsec3.test",
        "any.wild.good.test",
        "any.wild.nsec3.test",
    ] {
        let got = ask(&pool, name)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(got.secure, Some(true), "{name}");
        assert!(is_authentic(&got) && addresses(&got).len() == 1, "{name}");
    }
    for name in ["www.plain.test", "into.good.test", "alias.plain.test"] {
        let got = ask(&pool, name)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(got.secure, Some(false), "{name}");
        assert!(!is_authentic(&got), "{name}");
    }
    for (name, code) in [("no.good.test", 3), ("no.nsec3.test", 3), ("no.plain.test", 3)] {
        let got = ask(&pool, name)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            (got.secure, got.message[3] & 15),
            (Some(!name.contains("plain")), code),
            "{name}"
        );
    }
    let nothing = pool.exchange(&query_for("www.good.test", 28)).await.unwrap();
    assert_eq!((nothing.secure, nothing.message[3] & 15), (Some(true), 0));
    for (name, wanted) in [
        ("www.changed.test", 6),
        ("www.expired.test", 7),
        ("www.early.test", 8),
        ("www.stripped.test", 10),
        ("www.unsigned.test", 10),
        ("no.undenied.test", 12),
    ] {
        match ask(&pool, name).await {
            Err(Error::Bogus { ede, reason }) => assert_eq!(ede, wanted, "{name}: {reason}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wants_signatures_gets_them_and_who_validates_himself_gets_all() {
    let zones = Zones::start();
    let pool = validating(&zones);
    let signatures = |answer: &Answer| {
        let message = Message::from_vec(&answer.message).unwrap();
        message
            .answers
            .iter()
            .filter(|record| record.record_type() == RecordType::RRSIG)
            .count()
    };
    let mut asked = query("www.good.test");
    assert_eq!(signatures(&pool.exchange(&asked).await.unwrap()), 0);
    asked.do_bit = true;
    assert_eq!(signatures(&pool.exchange(&asked).await.unwrap()), 1);
    let mut asked = query("www.changed.test");
    asked.cd_bit = true;
    let got = pool.exchange(&asked).await.unwrap();
    assert_eq!(
        (addresses(&got), got.secure),
        (vec!["192.0.2.66".to_owned()], None)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forger_on_the_way_is_caught() {
    let zones = Zones::start();
    let server = zones.address;
    let forger = Liar::start(
        move |query| {
            let relay = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            relay.send_to(query, server).unwrap();
            let mut bytes = [0; 4096];
            let length = relay.recv(&mut bytes).unwrap();
            let at = bytes[..length]
                .windows(4)
                .position(|window| window == [192, 0, 2, 1]);
            if let Some(at) = at {
                bytes[at + 3] = 66;
            }
            vec![bytes[..length].to_vec()]
        },
        |_| Vec::new(),
    )
    .await;
    let settings = |dnssec| {
        format!(
            "servers = ['udp://{}']\ndnssec = {dnssec}\ntrust_anchors = '{}'",
            forger.address,
            zones.anchors.display()
        )
    };
    let believed = ask(&pool(&settings(false)), "www.good.test").await.unwrap();
    assert_eq!(addresses(&believed), ["192.0.2.66"]);
    assert!(matches!(
        ask(&pool(&settings(true)), "www.good.test").await,
        Err(Error::Bogus { .. })
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_cannot_be_fetched_are_an_outage_and_no_forgery() {
    let zones = Zones::start();
    let server = zones.address;
    let partial = Liar::start(
        move |query| {
            let kind = &query[super::liar::question_end(query) - 4..][..2];
            if kind == [0, 48] {
                return Vec::new();
            }
            let relay = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            relay.send_to(query, server).unwrap();
            let mut bytes = [0; 4096];
            let length = relay.recv(&mut bytes).unwrap();
            vec![bytes[..length].to_vec()]
        },
        |_| Vec::new(),
    )
    .await;
    let settings = format!(
        "servers = ['udp://{}']\ndnssec = true\ndeadline_ms = 1000\ntrust_anchors = '{}'",
        partial.address,
        zones.anchors.display()
    );
    let got = ask(&pool(&settings), "www.good.test").await;
    assert!(matches!(got, Err(Error::Timeout { .. })), "{got:?}");
}
