//! Brings the service up.

use std::sync::Arc;

use daemon::{
    About, Callers, Context,
    bus::Desktop,
    capabilities::{self, Capability},
    grpc,
};
use proto::resolver::v1::process_resolver_server::ProcessResolverServer;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Semaphore;

use crate::{config::Config, hash::Hashes, ladder::Ladder, probe, rpc};

/// What this service is.
pub const ABOUT: About = About {
    name: "process-resolver",
    version: env!("CARGO_PKG_VERSION"),
};

/// It has no arguments of its own.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Args {}

/// Files whose hash is remembered.
const HASHES: u64 = 4096;

/// Runs the service.
pub async fn run(context: Context<Config, Args>) -> anyhow::Result<()> {
    let Context {
        config,
        paths,
        status,
        shutdown,
        ..
    } = context;
    let descriptors = raise_descriptor_limit();
    // half of them for processes, the rest for everything else
    let processes = u64::from(config.processes).min(descriptors / 2);
    let listener = grpc::bind(&paths, &ABOUT)?;
    let missing = capabilities::missing(&[Capability::SysPtrace, Capability::DacReadSearch]);
    if !missing.is_empty() {
        let text = format!(
            "processes of other users cannot be read: {} is missing",
            missing.join(" and ")
        );
        status.raise("no-ptrace", text);
    }
    let service = rpc::Service {
        ladder: Arc::new(Ladder::new(
            config.socket_lookup,
            processes,
            config.sockets.into(),
            &status,
            shutdown.clone(),
        )),
        hashes: Arc::new(Hashes::new(HASHES, shutdown.clone())),
        searches: Arc::new(Semaphore::new(usize::try_from(config.searches.max(1))?)),
        status: status.clone(),
    };
    let probe = probe::keep_asking(
        Arc::clone(&service.ladder),
        Arc::clone(&service.searches),
        status.clone(),
    );
    let routes = tonic::service::Routes::new(ProcessResolverServer::new(service));
    let desktop = Desktop::new(ABOUT, status.clone(), shutdown.clone());
    status.ready();
    tokio::select! {
        served = grpc::serve(listener, routes, Callers::default(), status, shutdown) => served,
        () = desktop.serve_state() => Ok(()),
        () = probe => Ok(()),
    }
}

/// The soft limit is made for `select(2)`; gives what holds now.
fn raise_descriptor_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(65_536, |maximum| maximum.min(65_536));
    match setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(wanted),
            maximum,
        },
    ) {
        Ok(()) => wanted,
        Err(_) => current.unwrap_or(1024),
    }
}
