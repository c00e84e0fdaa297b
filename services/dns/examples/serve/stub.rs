//! A handler with a cache, lists, and one plain upstream.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context as _;
use dns::server::{Account, Client, Flights, Handler, Quick, now};
use dns_core::{
    cache::{Cache, Found, Settings},
    lists::{Builder, Covers, Lists, Reader},
    wire::{Age, Answer, Blocked, Bounds, Key, Manner, Query, Response, code, extended},
};
use tokio::{net::UdpSocket, time::timeout};

const PATIENCE: Duration = Duration::from_secs(1);

/// The handler.
#[derive(Debug, Clone)]
pub(crate) struct Stub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cache: Cache,
    flights: Flights<Key, Arc<Answer>>,
    lists: Lists,
    upstream: SocketAddr,
    asked: AtomicU64,
}

impl Stub {
    /// Asks `upstream`, but for names of `lists`; keeps at most `bytes` of answers.
    pub(crate) fn new(upstream: SocketAddr, bytes: usize, lists: Lists) -> Self {
        let settings = Settings {
            bytes,
            ..Settings::default()
        };
        Self(Arc::new(Inner {
            cache: Cache::new(&settings, rand::random()),
            flights: Flights::default(),
            lists,
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

/// A file of names to block, in whatever form.
pub(crate) fn read(file: &Path) -> anyhow::Result<Lists> {
    let text = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let mut builder = Builder::new(rand::random());
    builder.begin("list".into(), Vec::new())?;
    let mut reader = Reader::new(Covers::Zone);
    reader.feed(&text, |name, covers, says| builder.add(name, covers, says));
    reader.finish(|name, covers, says| builder.add(name, covers, says));
    Ok(builder.finish())
}

impl Handler for Stub {
    type Note = ();
    type Turn = ();

    fn quick(
        &self,
        query: &Query,
        client: &Client,
        now: Duration,
        (): &mut (),
        out: &mut Vec<u8>,
    ) -> Quick<()> {
        let mut is_blocked = false;
        self.0
            .lists
            .find(&query.to_question().name, |_| is_blocked = true);
        if is_blocked {
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
