//! A handler with a cache and one plain upstream. Names in `blocked.example` are blocked.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use dns::server::{Account, Client, Flights, Handler, Quick, now};
use dns_core::{
    cache::{Cache, Found, Settings},
    wire::{Age, Answer, Blocked, Bounds, Key, Manner, Query, Response, code, extended},
};
use tokio::{net::UdpSocket, time::timeout};

const PATIENCE: Duration = Duration::from_secs(1);
const BLOCKED: &[u8] = b"\x07blocked\x07example\0";

/// The handler.
#[derive(Debug, Clone)]
pub(crate) struct Stub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cache: Cache,
    flights: Flights<Key, Arc<Answer>>,
    upstream: SocketAddr,
    asked: AtomicU64,
}

impl Stub {
    /// Asks `upstream`; keeps at most `bytes` of answers.
    pub(crate) fn new(upstream: SocketAddr, bytes: usize) -> Self {
        let settings = Settings {
            bytes,
            ..Settings::default()
        };
        Self(Arc::new(Inner {
            cache: Cache::new(&settings, rand::random()),
            flights: Flights::default(),
            upstream,
            asked: AtomicU64::new(0),
        }))
    }

    /// What is kept.
    pub(crate) fn cache(&self) -> &Cache {
        &self.0.cache
    }

    /// How often the upstream was asked.
    #[allow(dead_code, reason = "not every program that includes this module counts")]
    pub(crate) fn asked(&self) -> u64 {
        self.0.asked.load(Relaxed)
    }
}

impl Handler for Stub {
    type Note = ();

    fn quick(&self, query: &Query, client: &Client, now: Duration, out: &mut Vec<u8>) -> Quick<()> {
        if query.name().ends_with(BLOCKED) {
            let blocked = Blocked {
                manner: Manner::NxDomain,
                extended: extended::BLOCKED,
                reason: "an example",
                ttl: 10,
            };
            blocked.write(query, &client.reply, out);
            return Quick::Answered;
        }
        let (answer, age) = match self.0.cache.get(query.key(), now) {
            Found::Fresh { answer, age, .. } => (answer, Age::Fresh(age)),
            Found::Stale(answer) => (answer, Age::Stale),
            Found::Miss => {
                let user = u64::from(client.peer.port());
                let account = Account { user, group: 0 };
                return Quick::Later { account, note: () };
            }
        };
        answer.write(query, age, &client.reply, out);
        Quick::Answered
    }

    async fn slow(&self, query: Query, client: Client, (): ()) -> Vec<u8> {
        let (inner, key) = (Arc::clone(&self.0), query.key().clone());
        let ask = || async move { inner.ask(&key).await };
        let answer = self.0.flights.share(query.key(), ask).await;
        let mut out = Vec::with_capacity(512);
        answer.write(&query, Age::Fresh(0), &client.reply, &mut out);
        out
    }
}

impl Inner {
    async fn ask(&self, key: &Key) -> Arc<Answer> {
        let id = self.asked.fetch_add(1, Relaxed) as u16;
        for _ in 0..2 {
            if let Ok(Some(answer)) = timeout(PATIENCE, self.exchange(key, id)).await {
                return self.cache.insert(key, answer, now());
            }
        }
        let text = "the upstream is silent";
        let failure = Answer::failure(key, code::SERVFAIL, extended::NO_REACHABLE_AUTHORITY, text, 1);
        self.cache.failed(key, failure, now()).0
    }

    async fn exchange(&self, key: &Key, id: u16) -> Option<Answer> {
        let any = SocketAddr::new(
            if self.upstream.is_ipv4() {
                [0; 4].into()
            } else {
                [0; 16].into()
            },
            0,
        );
        let socket = UdpSocket::bind(any).await.ok()?;
        socket.connect(self.upstream).await.ok()?;
        let head = [id, 0x0100, 1, 0, 0, 0].map(u16::to_be_bytes);
        socket
            .send(&[head.as_flattened(), key.question()].concat())
            .await
            .ok()?;
        let mut buffer = vec![0; 8192];
        loop {
            let length = socket.recv(&mut buffer).await.ok()?;
            let response = Response::parse(buffer.get(..length)?).ok()?;
            if response.answers(id, &key.to_question()) {
                return Answer::from_response(&response, key, &Bounds::default()).ok();
            }
        }
    }
}
