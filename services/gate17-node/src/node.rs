//! What all connections of a node share.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use daemon::{Paths, status::Status};
use gate17_proto::exit::ExitPolicy;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    access::Access, config::Config, dns_query, identity::Identity, limits::Limits, page::Pages,
    quotes::Quotes,
};

/// See the fields.
pub struct Node {
    /// Who may have anything carried.
    pub access: Access,
    /// Where to.
    pub rules: ExitPolicy,
    /// How much.
    pub limits: Limits,
    /// For everybody else.
    pub pages: Pages,
    /// For callers that say nothing.
    pub quotes: Quotes,
    /// Who is asked for names.
    pub resolver: Option<SocketAddr>,
    /// What it counts.
    pub status: Status,
    acceptor: Mutex<TlsAcceptor>,
    drain: Mutex<CancellationToken>,
}

impl Node {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// Where a file cannot be had.
    pub fn new(config: &Config, paths: &Paths, status: Status) -> anyhow::Result<Arc<Self>> {
        let identity = Identity::load_or_make(config, paths)?;
        tracing::info!(pin = %identity.pin, "this node's key");
        Ok(Arc::new(Self {
            access: Access::new(&config.access),
            rules: ExitPolicy::new(&config.exit, Vec::new())?,
            limits: Limits::new(config.limits),
            pages: Pages::load(config.page.as_deref()).context("read the web pages")?,
            quotes: Quotes::load(config.quotes.as_deref()).context("read the quotes")?,
            resolver: config.resolver.or_else(dns_query::of_system),
            status,
            acceptor: Mutex::new(identity.acceptor()?),
            drain: Mutex::default(),
        }))
    }

    /// For the next caller.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads key and certificate again.
    ///
    /// # Errors
    /// Where they cannot be used; the old ones stay.
    pub fn renew(&self, config: &Config, paths: &Paths) -> anyhow::Result<()> {
        let acceptor = Identity::load_or_make(config, paths)?.acceptor()?;
        *self.acceptor.lock().unwrap_or_else(PoisonError::into_inner) = acceptor;
        Ok(())
    }

    /// Cancelled when connections of today are to take nothing more.
    pub fn drain_token(&self) -> CancellationToken {
        self.drain.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections of today take nothing more; new ones are welcome.
    pub fn drain(&self) {
        let mut now = self.drain.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *now).cancel();
    }

    /// That streams have to end, once they are to.
    pub fn drain_time(&self) -> Duration {
        Duration::from_secs(self.limits.bounds().drain)
    }

    /// That a caller has to show what he wants.
    pub fn handshake_time(&self) -> Duration {
        Duration::from_secs(self.limits.bounds().handshake)
    }
}
