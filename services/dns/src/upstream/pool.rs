//! Several upstreams as one: who is asked, who helps, when it is enough.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Answer, Error, Query,
    bootstrap::Bootstrap,
    clock,
    definition::Transport,
    dnssec::Validator,
    server::Server,
    settings::PoolSettings,
    state::UpstreamState,
    strategy::{Candidate, Plan, Strategy, plan},
    tls::TlsSettings,
};
use crate::route::{Comparison, Reach};

/// How often connections are looked at that nobody uses.
const SWEEP: Duration = Duration::from_secs(5);

/// A set of upstreams. Made inside a tokio runtime; cheap to clone.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
    validator: Option<Arc<Validator>>,
}

pub(crate) struct Inner {
    servers: Vec<Arc<Server>>,
    strategy: Strategy,
    width: usize,
    deadline: Duration,
    plaintext_fallback: bool,
    ticks: AtomicU64,
}

impl Pool {
    /// Checks the settings, reads the certificate authorities and trust anchors that they name; connects to nobody yet.
    ///
    /// # Errors
    /// Names what cannot be used and what to do.
    pub fn new(settings: &PoolSettings) -> anyhow::Result<Self> {
        settings.check()?;
        let bootstrap = match settings.bootstrap.as_slice() {
            [] => None,
            servers => {
                let settings = PoolSettings {
                    servers: servers.to_vec(),
                    plaintext_fallback: true,
                    ..PoolSettings::default()
                };
                Some(Arc::new(Bootstrap::new(Self::new(&settings)?)))
            }
        };
        let mut tls = TlsSettings::default();
        let mut servers = Vec::with_capacity(settings.servers.len());
        for server in &settings.servers {
            let tls = server
                .transport
                .is_encrypted()
                .then(|| tls.of(server))
                .transpose()?;
            let bootstrap = bootstrap.as_ref().filter(|_| server.needs_bootstrap()).cloned();
            let made = Server::new(Arc::new(server.clone()), tls, bootstrap, settings.outstanding);
            servers.push(Arc::new(made));
        }
        let inner = Arc::new(Inner {
            servers,
            strategy: settings.strategy,
            width: settings.race,
            deadline: settings.deadline(),
            plaintext_fallback: settings.plaintext_fallback,
            ticks: AtomicU64::new(0),
        });
        let validator = match settings.dnssec {
            true => Some(Arc::new(Validator::new(
                &inner,
                settings.trust_anchors.as_deref(),
            )?)),
            false => None,
        };
        sweep(&inner);
        Ok(Self { inner, validator })
    }

    /// Asks until somebody answers or the deadline is over. The answer's bytes have the id 0 and the question in small
    /// letters; with DNSSEC on, its AD bit says what was found here.
    ///
    /// # Errors
    /// See [`Error`]; a server's own refusal (SERVFAIL, REFUSED, …) is one, and carries its answer.
    pub async fn exchange(&self, query: &Query) -> Result<Answer, Error> {
        match &self.validator {
            Some(validator) if !query.cd_bit => validator.exchange(query).await,
            _ => self.inner.exchange(query).await,
        }
    }

    /// Whether there is anybody to ask.
    pub fn is_empty(&self) -> bool {
        self.inner.servers.is_empty()
    }

    /// Whether nothing is to be computed for an answer: no handshake, no signature.
    pub fn is_plain(&self) -> bool {
        let is_plain = |server: &Arc<Server>| server.transport() == Transport::Udp;
        self.validator.is_none() && self.inner.servers.iter().all(is_plain)
    }

    /// Whether every encrypted upstream is down, and there is one: one half of what makes a captive portal suspected.
    pub fn encrypted_all_down(&self) -> bool {
        let now = clock::now();
        let mut encrypted = self
            .inner
            .servers
            .iter()
            .filter(|server| server.transport().is_encrypted())
            .peekable();
        encrypted.peek().is_some()
            && encrypted.all(|server| server.health().standing(now) != super::health::Standing::Up)
    }

    /// The network is another one: connections are left, and nobody waits for a pause to end.
    pub fn network_changed(&self) {
        for server in &self.inner.servers {
            server.network_changed();
        }
    }

    /// Where its servers are: each one's addresses, those of bootstrap servers among them. Empty where they are not known.
    pub(crate) fn addresses(&self) -> Vec<Vec<IpAddr>> {
        let mut all = Vec::new();
        for server in &self.inner.servers {
            all.push(server.addresses());
            all.extend(server.bootstrap().map(Self::addresses).into_iter().flatten());
        }
        all
    }

    /// The ways to some servers changed, or broke. True: one is reached another way.
    pub(crate) fn ways_changed(&self, comparison: &Comparison<'_>) -> bool {
        let mut changed = false;
        for server in &self.inner.servers {
            changed |= server
                .bootstrap()
                .is_some_and(|pool| pool.ways_changed(comparison));
            match comparison.reach(&server.addresses()) {
                Reach::Same => {}
                Reach::CutOff => server.cut_off(),
                Reach::Changed => {
                    server.network_changed();
                    changed = true;
                }
            }
        }
        changed
    }

    /// What is known of each upstream, in the owner's order.
    pub fn states(&self) -> Vec<UpstreamState> {
        self.inner.servers.iter().map(|server| server.state()).collect()
    }
}

impl Inner {
    /// How long one question may take.
    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Without validation.
    pub(crate) async fn exchange(&self, query: &Query) -> Result<Answer, Error> {
        if self.servers.is_empty() {
            return Err(Error::NoUpstream);
        }
        let until = Instant::now() + self.deadline;
        let encrypted = self
            .servers
            .iter()
            .any(|server| server.transport().is_encrypted());
        if !encrypted {
            return self.ask_some(query, true, until).await;
        }
        let clear = self.plaintext_fallback
            && self
                .servers
                .iter()
                .any(|server| !server.transport().is_encrypted());
        // Part of the time is kept for those that the owner allowed to help.
        let first = if clear {
            Instant::now() + self.deadline / 2
        } else {
            until
        };
        match self.ask_some(query, false, first).await {
            Err(error) if clear && (error.is_ill_health() || matches!(error, Error::AllDown)) => {
                self.ask_some(query, true, until).await
            }
            other => other,
        }
    }

    /// Asks those that are encrypted, or those that are not.
    async fn ask_some(&self, query: &Query, clear: bool, until: Instant) -> Result<Answer, Error> {
        let plan = self.plan(clear);
        let Some(first) = plan.order.first().and_then(|at| self.servers.get(*at)) else {
            return Err(Error::AllDown);
        };
        let mut last = Arc::clone(first);
        let mut rest = plan.order.iter().filter_map(|at| self.servers.get(*at));
        let mut under_way = FuturesUnordered::new();
        for server in plan.probes.iter().filter_map(|at| self.servers.get(*at)) {
            under_way.push(server.ask(query));
        }
        for server in rest.by_ref().take(plan.width) {
            under_way.push(server.ask(query));
        }
        let mut worst = None;
        loop {
            tokio::select! {
                biased;
                ended = under_way.next() => match ended {
                    Some(Ok(answer)) => return Ok(answer),
                    Some(Err(error)) if error.is_final() => return Err(error),
                    Some(Err(error)) => worst = Some(graver(worst, error)),
                    None => return Err(worst.unwrap_or(Error::AllDown)),
                },
                () = sleep(last.patience()), if rest.size_hint().1 != Some(0) => {}
                () = sleep_until(until) => {
                    let upstream = Arc::clone(last.label());
                    return Err(worst.unwrap_or(Error::Timeout { upstream }));
                }
            }
            // Somebody failed, or is slow: the next one helps.
            if let Some(server) = rest.next() {
                last = Arc::clone(server);
                under_way.push(server.ask(query));
            }
        }
    }

    fn plan(&self, clear: bool) -> Plan {
        let now = clock::now();
        let candidates: Vec<Candidate> = self
            .servers
            .iter()
            .map(|server| {
                let health = server.health();
                Candidate {
                    standing: health.standing(now),
                    urgent: health.is_urgent(now),
                    rtt: health.rtt(),
                    encrypted: server.transport().is_encrypted(),
                }
            })
            .collect();
        let tick = self.ticks.fetch_add(1, Ordering::Relaxed);
        let made = plan(self.strategy, self.width, &candidates, clear, tick);
        for server in made
            .order
            .iter()
            .chain(&made.probes)
            .filter_map(|at| self.servers.get(*at))
        {
            server.health().claim_probe(now);
        }
        made
    }
}

/// Of two errors the one that says more: a server's own word, then who it is not, then silence.
fn graver(before: Option<Error>, error: Error) -> Error {
    let weight = |error: &Error| match error {
        Error::Refused { .. } => 4,
        Error::Tls { .. } => 3,
        Error::Nonsense { .. } => 2,
        Error::Timeout { .. } | Error::Unreachable { .. } => 1,
        _ => 0,
    };
    match before {
        Some(before) if weight(&before) >= weight(&error) => before,
        _ => error,
    }
}

/// Closes idle connections for as long as somebody holds the pool.
fn sweep(pool: &Arc<Inner>) {
    let pool = Arc::downgrade(pool);
    tokio::spawn(async move {
        loop {
            sleep(SWEEP).await;
            let Some(pool) = pool.upgrade() else { return };
            for server in &pool.servers {
                server.close_idle();
            }
        }
    });
}
