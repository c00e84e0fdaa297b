//! Unbound, over everything that it speaks.

use std::time::{Duration, Instant};

use dns::upstream::Error;
use hickory_proto::op::Message;

use super::{
    GENEROUS, addresses, ask,
    certificates::{Certificates, NAME},
    pool,
    program::Unbound,
    query_for,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unbound_answers_over_udp_tcp_tls_and_https() {
    let certificates = Certificates::new();
    let server = Unbound::start(&certificates, "server");
    let ca = certificates.path("ca.pem");
    for (settings, encrypted) in [
        (format!("servers = ['udp://{}']", server.plain), false),
        (format!("servers = ['tcp://{}']", server.plain), false),
        (
            Unbound::upstream(&format!("tls://127.0.0.1:{}#{NAME}", server.tls), &ca),
            true,
        ),
        (
            Unbound::upstream(&format!("tls://127.0.0.1:{}", server.tls), &ca),
            true,
        ),
        (
            Unbound::upstream(
                &format!("https://127.0.0.1:{}/dns-query#{NAME}", server.https),
                &ca,
            ),
            true,
        ),
    ] {
        let pool = pool(&settings);
        let got = ask(&pool, "host.example")
            .await
            .unwrap_or_else(|error| panic!("{settings}: {error}"));
        assert_eq!(addresses(&got), ["192.0.2.7"], "{settings}");
        assert_eq!((got.encrypted, got.secure), (encrypted, None), "{settings}");
        let nothing = ask(&pool, "nothing.example").await.unwrap();
        assert_eq!(nothing.message[3] & 15, 3, "NXDOMAIN is an answer");
        let large = pool.exchange(&query_for("large.example", 16)).await.unwrap();
        assert_eq!(
            Message::from_vec(&large.message).unwrap().answers.len(),
            40,
            "{settings}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_queries_share_one_connection() {
    let certificates = Certificates::new();
    let server = Unbound::start(&certificates, "server");
    let ca = certificates.path("ca.pem");
    for url in [
        format!("tls://127.0.0.1:{}#{NAME}", server.tls),
        format!("https://127.0.0.1:{}#{NAME}", server.https),
    ] {
        let pool = pool(&Unbound::upstream(&url, &ca));
        ask(&pool, "host.example").await.unwrap();
        let asked: Vec<_> = (0..60)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move { addresses(&ask(&pool, "host.example").await.unwrap()) })
            })
            .collect();
        for one in asked {
            assert_eq!(one.await.unwrap(), ["192.0.2.7"]);
        }
        assert_eq!(pool.states()[0].connections, 1, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_prove_the_name_is_asked_nothing() {
    let certificates = Certificates::new();
    let good = Unbound::start(&certificates, "server");
    let expired = Unbound::start(&certificates, "expired");
    let (ours, other) = (certificates.path("ca.pem"), Certificates::new());
    let others = other.path("ca.pem");
    for (url, ca) in [
        (format!("tls://127.0.0.1:{}#another.example", good.tls), &ours),
        (format!("https://127.0.0.1:{}#another.example", good.https), &ours),
        (format!("tls://127.0.0.1:{}#{NAME}", good.tls), &others),
        (format!("https://127.0.0.1:{}#{NAME}", good.https), &others),
        (format!("tls://127.0.0.1:{}#{NAME}", expired.tls), &ours),
        (format!("https://127.0.0.1:{}#{NAME}", expired.https), &ours),
    ] {
        let got = ask(&pool(&Unbound::upstream(&url, ca)), "host.example").await;
        assert!(matches!(got, Err(Error::Tls { .. })), "{url}: {got:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_clear_only_where_the_owner_said_so() {
    let certificates = Certificates::new();
    let server = Unbound::start(&certificates, "server");
    let wrong = format!("tls://127.0.0.1:{}#another.example", server.tls);
    let ca = certificates.path("ca.pem");
    let mixed = format!(
        "{}[[servers]]\nserver = 'udp://{}'\n",
        Unbound::upstream(&wrong, &ca),
        server.plain
    );
    let allowed = pool(&format!("plaintext_fallback = true\n{mixed}"));
    let got = ask(&allowed, "host.example").await.unwrap();
    assert!(!got.encrypted);
    let settings: dns::upstream::PoolSettings = toml::from_str(&mixed).unwrap();
    let refused = dns::upstream::Pool::new(&settings).err().unwrap().to_string();
    assert!(refused.contains("plaintext_fallback"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_encrypted_one_answers_nothing_goes_in_the_clear() {
    let certificates = Certificates::new();
    let server = Unbound::start(&certificates, "server");
    let clear = super::liar::Liar::over_udp(|query| vec![super::liar::answer(query, [192, 0, 2, 66])]).await;
    for strategy in ["failover", "race", "fastest"] {
        let settings = format!(
            "strategy = '{strategy}'\nplaintext_fallback = true\n{}[[servers]]\nserver = 'udp://{}'\n",
            Unbound::upstream(
                &format!("tls://127.0.0.1:{}#{NAME}", server.tls),
                &certificates.path("ca.pem")
            ),
            clear.address
        );
        let pool = pool(&settings);
        for _ in 0..70 {
            assert_eq!(
                addresses(&ask(&pool, "host.example").await.unwrap()),
                ["192.0.2.7"]
            );
        }
    }
    assert_eq!(clear.over_udp.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_restarted_is_connected_again() {
    let certificates = Certificates::new();
    let server = Unbound::start(&certificates, "server");
    let (plain, tls, https) = (server.plain.port(), server.tls, server.https);
    let ca = certificates.path("ca.pem");
    let pools: Vec<_> = [
        format!("tls://127.0.0.1:{tls}#{NAME}"),
        format!("https://127.0.0.1:{https}#{NAME}"),
    ]
    .iter()
    .map(|url| pool(&Unbound::upstream(url, &ca)))
    .collect();
    for pool in &pools {
        ask(pool, "host.example").await.unwrap();
    }
    drop(server);
    let _server = Unbound::start_on(&certificates, "server", plain, tls, https);
    for pool in &pools {
        let end = Instant::now() + GENEROUS;
        while let Err(error) = ask(pool, "host.example").await {
            assert!(Instant::now() < end, "{error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_looked_up_at_the_bootstrap_servers_and_nothing_else() {
    let certificates = Certificates::new();
    let server = Unbound::start(&certificates, "server");
    let bootstrap = super::liar::Liar::over_udp(|query| match query[query.len().min(13)] | 0x20 {
        b'r' => vec![super::liar::answer(query, [127, 0, 0, 1])],
        _ => Vec::new(),
    })
    .await;
    let settings = format!(
        "bootstrap = ['udp://{}']\n{}",
        bootstrap.address,
        Unbound::upstream(
            &format!("tls://{NAME}:{}", server.tls),
            &certificates.path("ca.pem")
        )
    );
    let pool = pool(&settings);
    for _ in 0..3 {
        assert_eq!(
            addresses(&ask(&pool, "host.example").await.unwrap()),
            ["192.0.2.7"]
        );
    }
    let asked = bootstrap.over_udp.load(std::sync::atomic::Ordering::SeqCst);
    assert!(asked <= 2, "A and AAAA of the server's name, once; seen {asked}");
}
