//! The front of the DNS server by itself, with a cache, lists and one plain upstream: for `dnsperf`. Nobody is asked who asks, and no
//! policy is in force.
//!
//! `serve LISTEN UPSTREAM [THREADS [LIST]]`, both as `address:port`, the list a file of names to block. Says its counters at the end
//! (SIGINT, SIGTERM).

mod stub;

use std::{net::SocketAddr, path::Path};

use anyhow::Context as _;
use dns::server::{Limits, Server, bind};
use dns_core::lists::Lists;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut address = || -> anyhow::Result<SocketAddr> {
        let text = arguments
            .next()
            .context("usage: serve LISTEN UPSTREAM [THREADS [LIST]]")?;
        text.parse().with_context(|| format!("read address {text:?}"))
    };
    let (listen, upstream) = (address()?, address()?);
    let threads = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let lists = arguments
        .next()
        .map_or_else(|| Ok(Lists::default()), |file| stub::read(Path::new(&file)))?;
    let bound = bind(&[listen], threads);
    if let Some(error) = bound.failed.into_iter().next() {
        return Err(error.into());
    }
    let shutdown = CancellationToken::new();
    let stub = stub::Stub::new(upstream, 64 << 20, lists);
    let server = Server::start(
        bound.sockets,
        stub,
        Limits::default(),
        rand::random(),
        shutdown.clone(),
    )?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    shutdown.cancel();
    info!(counters = ?server.counters(), cache = ?server.handler().cache().statistics());
    server.stopped().await;
    Ok(())
}
