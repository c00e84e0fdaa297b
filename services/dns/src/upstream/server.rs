//! One upstream: asks it over its transport, keeps what is known of its health, and counts.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use dns_core::{Name, Question};
use rustls::ClientConfig;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    Answer, Error, Query,
    bootstrap::Bootstrap,
    clock,
    definition::{Definition, Transport},
    health::{Change, Health, Standing},
    link::Link,
    message::{self, Make},
    pool::Pool,
    state::UpstreamState,
    trouble::Trouble,
    udp::{Outcome, Udp},
};

/// How long a probe waits; three unanswered ones are an outage.
const PROBE: Duration = Duration::from_millis(1500);
/// A server that answers nothing for so long, or [`PATIENCE_RTTS`] times its usual time, is helped by the next one.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(1500));
const PATIENCE_RTTS: u32 = 5;
/// Patience with one that was never heard.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Server {
    definition: Arc<Definition>,
    bootstrap: Option<Arc<Bootstrap>>,
    udp: Udp,
    link: Link,
    health: Mutex<Health>,
    room: Semaphore,
    probing: AtomicBool,
    asked: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
}

/// Sees to it that a server that let a query down is looked at, also when nobody waits for the answer any more.
struct Waiting {
    server: Arc<Server>,
    began: Duration,
    answered: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // A little less than the patience after which the next one is asked: the two clocks do not start at once.
        let patience = self.server.patience() * 3 / 4;
        if !self.answered && clock::now().saturating_sub(self.began) >= patience {
            self.server.suspect();
        }
    }
}

impl Server {
    pub(crate) fn new(
        definition: Arc<Definition>,
        tls: Option<Arc<ClientConfig>>,
        bootstrap: Option<Arc<Bootstrap>>,
        room: usize,
    ) -> Self {
        Self {
            bootstrap,
            udp: Udp::new(definition.case_randomisation, definition.cookies),
            link: Link::new(Arc::clone(&definition), definition.transport, tls),
            health: Mutex::default(),
            room: Semaphore::new(room),
            probing: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            definition,
        }
    }

    /// What it is called.
    pub(crate) fn label(&self) -> &Arc<str> {
        &self.definition.label
    }

    /// How it is spoken to.
    pub(crate) fn transport(&self) -> Transport {
        self.definition.transport
    }

    /// Its health; held for no longer than a look.
    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long to wait for it alone.
    pub(crate) fn patience(&self) -> Duration {
        let rtt = self.health().rtt();
        rtt.map_or(FIRST_PATIENCE, |rtt| {
            (rtt * PATIENCE_RTTS).clamp(PATIENCE.0, PATIENCE.1)
        })
    }

    /// Asks it. Waits without end; the caller sets the deadline.
    pub(crate) async fn ask(self: &Arc<Self>, query: &Query) -> Result<Answer, Error> {
        let Ok(_place) = self.room.try_acquire() else {
            let upstream = Arc::clone(self.label());
            return Err(Error::Busy { upstream });
        };
        self.asked.fetch_add(1, Ordering::Relaxed);
        let began = clock::now();
        let mut waiting = Waiting {
            server: Arc::clone(self),
            began,
            answered: false,
        };
        let got = self.exchange(query).await;
        waiting.answered = true;
        self.judge(query, got, began)
    }

    /// Makes an answer, or an error with the server's name, of what came; and learns from it.
    fn judge(
        self: &Arc<Self>,
        query: &Query,
        got: Result<Vec<u8>, Trouble>,
        began: Duration,
    ) -> Result<Answer, Error> {
        let now = clock::now();
        let took = now.saturating_sub(began);
        let mut bytes = match got {
            Ok(bytes) => bytes,
            Err(trouble) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let error = trouble.at(self.label());
                match error {
                    Error::Timeout { .. } => self.suspect(),
                    _ if error.is_ill_health() => self.note_failure(began, &error),
                    _ => {}
                }
                return Err(error);
            }
        };
        self.answered.fetch_add(1, Ordering::Relaxed);
        let change = self.health().succeeded(now, took);
        self.tell(change, None);
        let encrypted = self.transport().is_encrypted();
        message::settle(&mut bytes, &query.question, encrypted);
        match message::code(&bytes) {
            // The answer, that there is no such name, or a word about dynamic updates that no query gets.
            0 | 3 => Ok(Answer {
                message: bytes,
                upstream: Arc::clone(self.label()),
                took,
                secure: None,
                encrypted,
            }),
            code => Err(Error::Refused {
                upstream: Arc::clone(self.label()),
                code,
                message: bytes.into(),
            }),
        }
    }

    async fn exchange(&self, query: &Query) -> Result<Vec<u8>, Trouble> {
        let looked_up;
        let addresses: &[SocketAddr] = if self.definition.needs_bootstrap() {
            looked_up = self.look_up().await?;
            &looked_up
        } else {
            &self.definition.addresses
        };
        if self.transport() == Transport::Udp {
            let rtt = self.health().rtt();
            match self.udp.exchange(addresses, query, rtt).await? {
                Outcome::Answer(answer) => return Ok(answer),
                Outcome::AskTcp => {}
            }
        }
        self.over_stream(addresses, query).await
    }

    async fn over_stream(&self, addresses: &[SocketAddr], query: &Query) -> Result<Vec<u8>, Trouble> {
        let edns = self.udp.manners().uses_edns(clock::now());
        let answer = self
            .link
            .exchange(addresses, &self.stream_query(query, edns))
            .await?;
        if !edns || !message::dislikes_edns(&answer) {
            return Ok(answer);
        }
        if self.udp.manners().edns_refused(clock::now()) {
            tracing::debug!(upstream = %self.label(), "it does not know EDNS: asked without for an hour");
        }
        self.link
            .exchange(addresses, &self.stream_query(query, false))
            .await
    }

    /// Letters as they are and no cookie: nobody who cannot read a stream can write into it.
    fn stream_query(&self, query: &Query, edns: bool) -> Vec<u8> {
        let make = Make {
            id: 0,
            dnssec_ok: query.do_bit,
            checking_disabled: query.cd_bit,
            edns,
            cookie: None,
            pad: self.transport().is_encrypted(),
            case: &[],
        };
        message::query(&query.question, &make)
    }

    async fn look_up(&self) -> Result<Arc<[SocketAddr]>, Trouble> {
        let Some(bootstrap) = &self.bootstrap else {
            return Err(Trouble::io(format_args!(
                "the address of {} is not known; give `addresses`, or `bootstrap` servers",
                self.definition.name
            )));
        };
        bootstrap
            .look_up(&self.definition.name, self.definition.port)
            .await
    }

    /// Something took too long. Whether that is the server, or only the name that was asked for, a question tells that
    /// every server can answer.
    fn suspect(self: &Arc<Self>) {
        if self.probing.swap(true, Ordering::AcqRel) {
            return;
        }
        let server = Arc::clone(self);
        tokio::spawn(async move {
            while !server.probe().await && server.health().standing(clock::now()) == Standing::Up {}
            server.probing.store(false, Ordering::Release);
        });
    }

    /// Asks for the root's name servers; any answer is a sign of life.
    async fn probe(self: &Arc<Self>) -> bool {
        let query = Query {
            question: Question {
                name: Name::root(),
                kind: 2,
                class: 1,
            },
            do_bit: false,
            cd_bit: false,
        };
        let began = clock::now();
        match timeout(PROBE, Box::pin(self.exchange(&query)))
            .await
            .unwrap_or(Err(Trouble::Timeout))
        {
            Ok(_) => {
                let change = self
                    .health()
                    .succeeded(clock::now(), clock::now().saturating_sub(began));
                self.tell(change, None);
                true
            }
            Err(trouble) => {
                self.note_failure(began, &trouble.at(self.label()));
                false
            }
        }
    }

    fn note_failure(&self, began: Duration, error: &Error) {
        if let Some(bootstrap) = self
            .bootstrap
            .as_ref()
            .filter(|_| self.definition.needs_bootstrap())
        {
            bootstrap.doubt(&self.definition.name);
        }
        let change = self.health().failed(began, clock::now());
        self.tell(change, Some(error));
    }

    /// Each outage is one line in the log, and its end another.
    fn tell(&self, change: Option<Change>, error: Option<&Error>) {
        match change {
            None => {}
            Some(Change::WentDown) => {
                let why = error.map(ToString::to_string).unwrap_or_default();
                tracing::warn!(upstream = %self.label(), why, "upstream does not answer");
            }
            Some(Change::CameUp { after }) => {
                tracing::info!(upstream = %self.label(), seconds = after.as_secs(), "upstream answers again");
            }
        }
    }

    /// The network is another one.
    pub(crate) fn network_changed(&self) {
        self.link.reset();
        self.udp.close_idle();
        self.health().forget_pauses(clock::now());
    }

    /// There is no way to it any more.
    pub(crate) fn cut_off(&self) {
        if self.health().cut_off(clock::now()).is_some() {
            tracing::warn!(upstream = %self.label(), "upstream is not reached any more: no interface that runs leads to it");
        }
    }

    /// Where it is, as far as that is known, and where its name is looked up.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let looked_up = self
            .bootstrap
            .as_ref()
            .map(|bootstrap| bootstrap.known_of(&self.definition.name));
        let known = self.definition.addresses.iter().map(SocketAddr::ip);
        known.chain(looked_up.into_iter().flatten()).collect()
    }

    /// Of its bootstrap servers.
    pub(crate) fn bootstrap(&self) -> Option<&Pool> {
        Some(self.bootstrap.as_ref()?.pool())
    }

    /// Closes what nobody uses.
    pub(crate) fn close_idle(&self) {
        self.link.close_idle();
        self.udp.close_idle();
    }

    /// For `portmaster dns upstreams`.
    pub(crate) fn state(&self) -> UpstreamState {
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let health = self.health();
        UpstreamState {
            label: Arc::clone(self.label()),
            transport: self.transport(),
            standing: health.standing(clock::now()),
            rtt: health.rtt(),
            asked: count(&self.asked),
            answered: count(&self.answered),
            failed: count(&self.failed),
            ignored: self.udp.ignored.total(),
            connections: self.link.dialled(),
        }
    }
}
