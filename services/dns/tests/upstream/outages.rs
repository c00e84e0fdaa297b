//! Servers that do not answer, and what the pool makes of several.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use dns::upstream::{Error, Pool, Standing};

use super::{
    GENEROUS, addresses, ask,
    liar::{Liar, answer},
    pool, udp,
};

const TRUE: [u8; 4] = [192, 0, 2, 1];

/// A port that swallows everything; closed when the socket is dropped.
fn hole() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

async fn until(pool: &Pool, at: usize, wanted: impl Fn(Standing) -> bool) {
    let end = Instant::now() + GENEROUS;
    while !wanted(pool.states()[at].standing) {
        assert!(Instant::now() < end, "{:?}", pool.states());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_deadline_is_kept_and_the_error_says_who_was_silent() {
    let (_socket, address) = hole();
    let pool = pool(&format!("servers = ['udp://{address}']\ndeadline_ms = 300"));
    let began = Instant::now();
    match ask(&pool, "a.example").await {
        Err(Error::Timeout { upstream }) => assert_eq!(*upstream, *format!("udp://{address}")),
        other => panic!("{other:?}"),
    }
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn where_nothing_listens_the_error_comes_at_once() {
    let (socket, address) = hole();
    drop(socket);
    for scheme in ["udp", "tcp"] {
        let pool = pool(&format!("servers = ['{scheme}://{address}']"));
        assert!(matches!(
            ask(&pool, "a.example").await,
            Err(Error::Unreachable { .. })
        ));
    }
}

#[tokio::test]
async fn a_silent_server_is_helped_by_the_next_and_after_a_while_not_asked() {
    let (_socket, silent) = hole();
    let good = Liar::over_udp(|query| vec![answer(query, TRUE)]).await;
    let pool = pool(&format!("servers = ['udp://{silent}', 'udp://{}']", good.address));
    assert_eq!(addresses(&ask(&pool, "a.example").await.unwrap()), ["192.0.2.1"]);
    until(&pool, 0, |standing| standing != Standing::Up).await;
    let asked = pool.states()[0].asked;
    let quick = ask(&pool, "b.example").await.unwrap();
    assert!(
        quick.took < Duration::from_millis(900),
        "nobody waits for one that is down"
    );
    assert!(pool.states()[0].asked <= asked + 1, "but for a probe");
}

#[tokio::test]
async fn one_that_is_back_is_asked_again() {
    let up = Arc::new(AtomicBool::new(false));
    let is_up = Arc::clone(&up);
    let server = Liar::start(
        move |query| {
            if is_up.load(Ordering::SeqCst) {
                vec![answer(query, TRUE)]
            } else {
                Vec::new()
            }
        },
        |_| Vec::new(),
    )
    .await;
    let pool = pool(&format!(
        "servers = ['udp://{}']\ndeadline_ms = 1200",
        server.address
    ));
    assert!(matches!(
        ask(&pool, "a.example").await,
        Err(Error::Timeout { .. })
    ));
    until(&pool, 0, |standing| standing == Standing::Down).await;
    // Whoever asks while everybody is down is told so at once, but for one query a second.
    let began = Instant::now();
    while !matches!(ask(&pool, "a.example").await, Err(Error::AllDown)) {
        assert!(began.elapsed() < GENEROUS);
    }
    up.store(true, Ordering::SeqCst);
    while ask(&pool, "a.example").await.is_err() {
        assert!(began.elapsed() < GENEROUS);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(pool.states()[0].standing, Standing::Up);
}

#[tokio::test]
async fn names_that_nobody_answers_take_no_server_down() {
    let server = Liar::start(
        |query| {
            if query[13] | 0x20 == b'd' {
                Vec::new()
            } else {
                vec![answer(query, TRUE)]
            }
        },
        |_| Vec::new(),
    )
    .await;
    let pool = pool(&format!(
        "servers = ['udp://{}']\ndeadline_ms = 1100",
        server.address
    ));
    for n in 0..4 {
        assert!(matches!(
            ask(&pool, &format!("dead{n}.example")).await,
            Err(Error::Timeout { .. })
        ));
    }
    assert_eq!(pool.states()[0].standing, Standing::Up);
    assert_eq!(
        addresses(&ask(&pool, "live.example").await.unwrap()),
        ["192.0.2.1"]
    );
}

#[tokio::test]
async fn in_a_race_the_first_answer_counts() {
    let (_socket, silent) = hole();
    let good = Liar::over_udp(|query| vec![answer(query, TRUE)]).await;
    let settings = format!(
        "strategy = 'race'\nservers = ['udp://{silent}', 'udp://{}']",
        good.address
    );
    let pool = pool(&settings);
    for _ in 0..5 {
        assert_eq!(addresses(&ask(&pool, "a.example").await.unwrap()), ["192.0.2.1"]);
    }
    assert!(pool.states().iter().all(|state| state.asked == 5));
}

#[tokio::test]
async fn more_queries_than_may_wait_are_turned_away_and_hurt_nobody() {
    let (_socket, silent) = hole();
    let settings = format!("servers = ['udp://{silent}']\noutstanding = 4\ndeadline_ms = 500");
    let pool = pool(&settings);
    let asked: Vec<_> = (0..10)
        .map(|n| {
            let pool = pool.clone();
            tokio::spawn(async move { ask(&pool, &format!("{n}.example")).await.unwrap_err().kind() })
        })
        .collect();
    let mut kinds = Vec::new();
    for one in asked {
        kinds.push(one.await.unwrap());
    }
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        ["busy"; 6].into_iter().chain(["timeout"; 4]).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn without_servers_the_error_says_so() {
    assert!(matches!(
        ask(&pool(""), "a.example").await,
        Err(Error::NoUpstream)
    ));
    let (_socket, address) = hole();
    assert!(!udp(address).is_empty());
}

#[tokio::test]
async fn a_connection_that_died_in_silence_is_left() {
    // Each connection answers once and then never again, without closing.
    let answered = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&answered);
    let server = Liar::start(
        |_| Vec::new(),
        move |query| match count.fetch_add(1, Ordering::SeqCst) {
            1 => Vec::new(),
            _ => vec![answer(query, TRUE)],
        },
    )
    .await;
    let pool = pool(&format!(
        "servers = ['tcp://{}']\ndeadline_ms = 500",
        server.address
    ));
    assert_eq!(addresses(&ask(&pool, "a.example").await.unwrap()), ["192.0.2.1"]);
    assert!(matches!(
        ask(&pool, "b.example").await,
        Err(Error::Timeout { .. })
    ));
    assert_eq!(addresses(&ask(&pool, "c.example").await.unwrap()), ["192.0.2.1"]);
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_accepts_and_then_says_nothing_or_nonsense_costs_no_more_than_the_deadline() {
    for nonsense in [None, Some("HTTP/1.1 400 Bad Request\r\n\r\n")] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                if let Some(text) = nonsense {
                    tokio::io::AsyncWriteExt::write_all(&mut stream, text.as_bytes())
                        .await
                        .unwrap();
                }
                held.push(stream);
            }
        });
        let good = Liar::over_udp(|query| vec![answer(query, TRUE)]).await;
        for scheme in ["tls", "https", "tcp"] {
            let alone = pool(&format!("servers = ['{scheme}://{address}']\ndeadline_ms = 400"));
            let began = Instant::now();
            let error = ask(&alone, "a.example").await.unwrap_err();
            assert!(began.elapsed() < GENEROUS / 2, "{scheme}: {error}");
            let kind = if nonsense.is_some() && scheme != "tcp" {
                "tls"
            } else {
                "timeout"
            };
            assert_eq!(error.kind(), kind, "{scheme}: {error}");
        }
        let helped = pool(&format!(
            "plaintext_fallback = true\nservers = ['tls://{address}', 'udp://{}']\ndeadline_ms = 2000",
            good.address
        ));
        assert_eq!(
            addresses(&ask(&helped, "a.example").await.unwrap()),
            ["192.0.2.1"]
        );
        serving.abort();
    }
}
