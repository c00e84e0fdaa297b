//! What all connections of a node share, as of one reading of its configuration.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use daemon::{Paths, status::Status};
use gate17_maps::Maps;
use gate17_proto::exit::ExitPolicy;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    access::Access,
    config::Config,
    dns_query,
    identity::Identity,
    known::Known,
    limits::Limits,
    page::Pages,
    quotes::Quotes,
    rates::{Rate, Rates},
    speed::Measuring,
    upstream::Upstream,
};

/// See the fields.
pub struct Node {
    /// Who may have anything carried.
    pub access: Access,
    /// Where to, outside of the network.
    pub rules: ExitPolicy,
    /// Where to, by rules and map.
    pub known: Known,
    /// How much.
    pub limits: Limits,
    /// How often.
    pub opens: Arc<Rates>,
    /// For clients that measure their paths.
    pub measuring: Arc<Measuring>,
    /// For everybody else.
    pub pages: Pages,
    /// In their place.
    pub upstream: Option<Upstream>,
    /// For callers that say nothing.
    pub quotes: Quotes,
    /// Who is asked for names.
    pub resolver: Option<SocketAddr>,
    /// The network's map.
    pub maps: Maps,
    /// What it counts.
    pub status: Status,
    acceptor: TlsAcceptor,
    drain: CancellationToken,
    drain_time: Duration,
}

/// What stays when a configuration is read again.
#[derive(Clone, Debug)]
pub struct Lasting {
    /// Where things lie.
    pub paths: Paths,
    /// What the node counts.
    pub status: Status,
    limits: Limits,
    opens: Arc<Rates>,
    measuring: Arc<Measuring>,
    maps: Maps,
    trust: (PathBuf, Vec<PathBuf>),
}

impl Lasting {
    /// As of the start.
    pub fn new(config: &Config, paths: Paths, status: Status) -> Self {
        let trust = config.map_files(&paths);
        let opens = Rate {
            per_second: config.limits.opens_per_second,
            burst: config.limits.opens_per_second.saturating_mul(4),
        };
        Self {
            limits: Limits::new(config.limits),
            opens: Arc::new(Rates::new(opens, None)),
            measuring: Arc::new(Measuring::new(config.limits.measure)),
            maps: Maps::new(trust.0.clone(), trust.1.clone(), &paths.state, status.clone()),
            trust,
            paths,
            status,
        }
    }

    /// Of the network, as far as there is one.
    pub const fn maps(&self) -> &Maps {
        &self.maps
    }

    /// How much there is.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What a new configuration says of what stays.
    pub fn needs_restart(&self, old: &Config, new: &Config) -> bool {
        old.listen != new.listen
            || old.listen_udp != new.listen_udp
            || old.threads != new.threads
            || old.map_url != new.map_url
            || old.map_authorities != new.map_authorities
            || self.trust != new.map_files(&self.paths)
            || old.limits.but_for_drain() != new.limits.but_for_drain()
    }
}

impl Node {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// Where a file cannot be had.
    pub fn new(config: &Config, lasting: &Lasting) -> anyhow::Result<Arc<Self>> {
        let Lasting { paths, status, .. } = lasting;
        let identity = Identity::load_or_make(config, paths)?;
        tracing::info!(pin = %identity.pin, "this node's key");
        // the page is as old as the node: as if it had come with the web server
        let since =
            std::fs::metadata(&paths.state).and_then(|state| state.created().or_else(|_| state.modified()));
        let since = since.unwrap_or_else(|_| SystemTime::now());
        Ok(Arc::new(Self {
            access: Access::new(&config.access, &lasting.maps, identity.pin),
            rules: ExitPolicy::new(&config.exit, Vec::new())?,
            known: Known::new(lasting.maps.clone(), identity.pin, config.exit.clone())?,
            limits: lasting.limits.clone(),
            opens: Arc::clone(&lasting.opens),
            measuring: Arc::clone(&lasting.measuring),
            pages: Pages::load(config.page.as_deref(), since).context("read the web pages")?,
            upstream: config.upstream.as_deref().map(str::parse).transpose()?,
            quotes: Quotes::load(config.quotes.as_deref(), status).context("read the quotes")?,
            resolver: config.resolver.or_else(dns_query::of_system),
            maps: lasting.maps.clone(),
            status: status.clone(),
            acceptor: identity.acceptor()?,
            drain: CancellationToken::new(),
            drain_time: Duration::from_secs(config.limits.drain),
        }))
    }

    /// For the next caller.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    /// Cancelled when connections of today are to take nothing more.
    pub fn drain_token(&self) -> CancellationToken {
        self.drain.clone()
    }

    /// Its connections take nothing more, and end with their streams.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// That streams have to end, once they are to.
    pub fn drain_time(&self) -> Duration {
        self.drain_time
    }

    /// That a caller has to show what he wants.
    pub fn handshake_time(&self) -> Duration {
        Duration::from_secs(self.limits.bounds().handshake)
    }
}

/// The node that new callers get. Clones are the same.
#[derive(Clone)]
pub struct Current(Arc<Mutex<Arc<Node>>>);

impl Current {
    /// To begin with.
    pub fn new(node: Arc<Node>) -> Self {
        Self(Arc::new(Mutex::new(node)))
    }

    /// As of now.
    pub fn get(&self) -> Arc<Node> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on; whoever came before is drained.
    pub fn replace(&self, node: Arc<Node>) {
        let before = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), node);
        before.drain();
    }
}
