//! Servers, and those who pretend to be one, that do not answer as they should.

use std::sync::{
    Mutex, OnceLock,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use dns::upstream::{Error, Transport};

use super::{
    addresses, ask,
    liar::{Liar, answer, cookie_of, refusal, with_option},
    pool, udp,
};

const TRUE: [u8; 4] = [192, 0, 2, 1];
const FORGED: [u8; 4] = [203, 0, 113, 6];

#[tokio::test]
async fn forged_answers_are_left_unread_and_the_true_one_counts() {
    let server = Liar::over_udp(|query| {
        let mut other_id = answer(query, FORGED);
        other_id[0] ^= 1;
        let mut other_question = answer(query, FORGED);
        other_question[13] = b'x';
        let mut a_query = answer(query, FORGED);
        a_query[2] &= 0x7f;
        vec![
            b"garbage".to_vec(),
            Vec::new(),
            other_id,
            other_question,
            a_query,
            answer(query, TRUE),
        ]
    })
    .await;
    let pool = udp(server.address);
    let got = ask(&pool, "www.example.org").await.unwrap();
    assert_eq!(addresses(&got), ["192.0.2.1"]);
    assert_eq!(pool.states()[0].ignored, 5);
    assert_eq!(server.over_tcp.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_answer_from_another_address_never_arrives() {
    let forger = std::net::UdpSocket::bind("127.0.0.9:0").unwrap();
    let own = std::sync::Arc::new(OnceLock::new());
    let server_port = std::sync::Arc::clone(&own);
    let server = Liar::over_udp(move |query| {
        // The forger sees every query, id and letters and all, and knows the port that it came from.
        let ports = ports_connected_to(*server_port.get().unwrap());
        assert_eq!(ports.len(), 1);
        forger
            .send_to(&answer(query, FORGED), ("127.0.0.1", ports[0]))
            .unwrap();
        vec![answer(query, TRUE)]
    })
    .await;
    own.set(server.address.port()).unwrap();
    let got = ask(&udp(server.address), "www.example.org").await.unwrap();
    assert_eq!(addresses(&got), ["192.0.2.1"]);
}

/// The local ports of this host's UDP sockets that are connected to a port on loopback.
fn ports_connected_to(port: u16) -> Vec<u16> {
    let table = std::fs::read_to_string("/proc/self/net/udp").unwrap();
    let remote = format!("0100007F:{port:04X}");
    let local = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (_, local) = words.next()?.split_once(':')?;
        (words.next()? == remote).then(|| u16::from_str_radix(local, 16).ok())?
    };
    table.lines().skip(1).filter_map(local).collect()
}

#[tokio::test]
async fn many_guesses_send_the_question_over_tcp() {
    let server = Liar::over_udp(|query| {
        let guess = |n: u8| {
            let mut guess = answer(query, FORGED);
            guess[1] ^= n;
            guess
        };
        (1..40).map(guess).collect()
    })
    .await;
    let got = ask(&udp(server.address), "www.example.org").await.unwrap();
    assert_eq!(addresses(&got), ["192.0.2.99"], "the one over TCP");
}

#[tokio::test]
async fn a_cut_answer_is_fetched_over_tcp() {
    let server = Liar::over_udp(|query| {
        let mut cut = answer(query, FORGED);
        cut[2] |= 2;
        vec![cut]
    })
    .await;
    let got = ask(&udp(server.address), "www.example.org").await.unwrap();
    assert_eq!(addresses(&got), ["192.0.2.99"]);
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn letters_are_varied_and_a_server_that_does_not_repeat_them_is_asked_over_tcp_then_without() {
    let seen = std::sync::Arc::new(Mutex::new(Vec::new()));
    let told = std::sync::Arc::clone(&seen);
    let server = Liar::over_udp(move |query| {
        let lower = query[12..40].to_ascii_lowercase();
        told.lock().unwrap().push(query[12..40] != lower[..]);
        let mut message = answer(query, TRUE);
        message[12..40].copy_from_slice(&lower);
        vec![message]
    })
    .await;
    let pool = udp(server.address);
    for at in 0..6 {
        let got = ask(&pool, "some.rather.long.name.example").await.unwrap();
        let expected = if at < 3 { "192.0.2.99" } else { "192.0.2.1" };
        assert_eq!(addresses(&got), [expected], "query {at}");
        assert_eq!(
            &got.message[12..18],
            b"\x04some\x06",
            "what is handed on has small letters"
        );
    }
    assert_eq!(*seen.lock().unwrap(), [true, true, true, false, false, false]);
}

#[tokio::test]
async fn a_server_that_gives_cookies_is_held_to_them() {
    let forge = std::sync::Arc::new(AtomicBool::new(false));
    let forging = std::sync::Arc::clone(&forge);
    let server = Liar::over_udp(move |query| {
        let cookie = cookie_of(query).expect("a query carries a cookie");
        let good = with_option(
            answer(query, TRUE),
            10,
            &[&cookie[..8], b"servercookie0001"].concat(),
            0,
        );
        if !forging.load(Ordering::SeqCst) {
            return vec![good];
        }
        assert_eq!(cookie.len(), 24, "the server's part comes back to it");
        let wrong = with_option(answer(query, FORGED), 10, b"xxxxxxxxservercookie0001", 0);
        vec![wrong, answer(query, FORGED)]
    })
    .await;
    let pool = udp(server.address);
    assert_eq!(addresses(&ask(&pool, "a.example").await.unwrap()), ["192.0.2.1"]);
    forge.store(true, Ordering::SeqCst);
    let got = ask(&pool, "b.example").await.unwrap();
    assert_eq!(addresses(&got), ["192.0.2.99"], "asked again over TCP");
    assert_eq!(pool.states()[0].ignored, 2);
}

#[tokio::test]
async fn a_server_that_wants_its_newest_cookie_gets_it() {
    let turn = AtomicUsize::new(0);
    let server = Liar::over_udp(move |query| {
        let cookie = cookie_of(query).unwrap();
        let ours = [&cookie[..8], b"newcookie"].concat();
        if turn.fetch_add(1, Ordering::SeqCst) == 0 {
            let mut bad = with_option(refusal(query, 7), 10, &ours, 1);
            bad[3] = 0x87; // 16 + 7: BADCOOKIE
            return vec![bad];
        }
        assert_eq!(&cookie[8..], b"newcookie");
        vec![with_option(answer(query, TRUE), 10, &ours, 0)]
    })
    .await;
    let got = ask(&udp(server.address), "a.example").await.unwrap();
    assert_eq!(addresses(&got), ["192.0.2.1"]);
    assert_eq!(server.over_tcp.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_server_without_edns_is_asked_without() {
    let old = |query: &[u8]| {
        if query[11] == 1 {
            return vec![refusal(query, 1)];
        }
        vec![answer(query, TRUE)]
    };
    let server = Liar::start(old, old).await;
    let pool = udp(server.address);
    for _ in 0..2 {
        assert_eq!(addresses(&ask(&pool, "a.example").await.unwrap()), ["192.0.2.1"]);
    }
    assert_eq!(
        server.over_udp.load(Ordering::SeqCst),
        2,
        "the second time at once"
    );
    assert_eq!(server.over_tcp.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_lost_datagram_is_sent_again_under_another_id() {
    let ids = std::sync::Arc::new(Mutex::new(Vec::new()));
    let told = std::sync::Arc::clone(&ids);
    let server = Liar::over_udp(move |query| {
        let mut ids = told.lock().unwrap();
        ids.push([query[0], query[1]]);
        if ids.len() == 1 {
            Vec::new()
        } else {
            vec![answer(query, TRUE)]
        }
    })
    .await;
    let pool = udp(server.address);
    assert_eq!(addresses(&ask(&pool, "a.example").await.unwrap()), ["192.0.2.1"]);
    let ids = ids.lock().unwrap();
    assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
}

#[tokio::test]
async fn a_refusal_says_who_and_why_and_the_next_one_is_asked() {
    let refuses = Liar::over_udp(|query| vec![refusal(query, 5)]).await;
    match ask(&udp(refuses.address), "a.example").await {
        Err(Error::Refused {
            code: 5,
            upstream,
            message,
        }) => {
            assert_eq!(*upstream, *format!("udp://{}", refuses.address));
            assert_eq!(message[3] & 15, 5);
        }
        other => panic!("{other:?}"),
    }
    let good = Liar::over_udp(|query| vec![answer(query, TRUE)]).await;
    let both = pool(&format!(
        "servers = ['udp://{}', 'udp://{}']",
        refuses.address, good.address
    ));
    assert_eq!(addresses(&ask(&both, "a.example").await.unwrap()), ["192.0.2.1"]);
}

#[tokio::test]
async fn a_validators_word_that_a_name_is_bogus_is_final() {
    let validates = Liar::over_udp(|query| vec![with_option(refusal(query, 2), 15, &[0, 6], 0)]).await;
    let believes = Liar::over_udp(|query| vec![answer(query, FORGED)]).await;
    let both = pool(&format!(
        "servers = ['udp://{}', 'udp://{}']",
        validates.address, believes.address
    ));
    assert!(matches!(
        ask(&both, "a.example").await,
        Err(Error::Refused { code: 2, .. })
    ));
    assert_eq!(believes.over_udp.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn over_tcp_answers_come_in_any_order_and_foreign_ones_are_left_unread() {
    let held = Mutex::new(Vec::new());
    let server = Liar::start(
        |_| Vec::new(),
        move |query| {
            let mut held = held.lock().unwrap();
            let mut foreign = answer(query, FORGED);
            foreign[13] = b'x';
            held.push(answer(query, [192, 0, 2, query[13] - b'a']));
            if held.len() < 8 {
                return vec![foreign];
            }
            held.drain(..).rev().collect()
        },
    )
    .await;
    let pool = pool(&format!("servers = ['tcp://{}']", server.address));
    let asked = (0..8).map(|n| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let name = format!("{}.example", char::from(b'a' + n));
            addresses(&ask(&pool, &name).await.unwrap()) == [format!("192.0.2.{n}")]
        })
    });
    for right in asked.collect::<Vec<_>>() {
        assert!(right.await.unwrap());
    }
    assert_eq!(
        server.connections.load(Ordering::SeqCst),
        1,
        "one connection for all of them"
    );
}

#[tokio::test]
async fn a_connection_that_was_closed_in_the_meantime_is_opened_again() {
    let server = Liar::start(|_| Vec::new(), |query| vec![answer(query, TRUE), Vec::new()]).await;
    let pool = pool(&format!("servers = ['tcp://{}']", server.address));
    for at in 1..4 {
        assert_eq!(addresses(&ask(&pool, "a.example").await.unwrap()), ["192.0.2.1"]);
        assert_eq!(server.connections.load(Ordering::SeqCst), at);
    }
    let state = &pool.states()[0];
    assert_eq!(
        (state.transport, state.answered, state.failed),
        (Transport::Tcp, 3, 0)
    );
}
