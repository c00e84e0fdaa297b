//! Brings the service up.

use anyhow::Context as _;
use daemon::{About, Callers, Context, bus::Desktop, grpc};
use proto::policy::v1::policy_server::PolicyServer;

use crate::{book::Changed, bus, config::Config, keeper::Keeper, kept::Kept, rpc, watcher::Watcher};

/// What this service is.
pub const ABOUT: About = About {
    name: "policy",
    version: env!("CARGO_PKG_VERSION"),
};

/// Octets of a call: ten thousand connections to try a change on.
const LARGEST: usize = 16 << 20;

/// It has no arguments of its own.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Args {}

/// Runs the service.
pub async fn run(context: Context<Config, Args>) -> anyhow::Result<()> {
    let Context {
        config,
        paths,
        status,
        shutdown,
        ..
    } = context;
    let listener = grpc::bind(&paths, &ABOUT)?;
    let folder = paths.config.join("profiles.d");
    let (mut watcher, deaf) = Watcher::new();
    if let Some(error) = deaf {
        tracing::warn!(%error, "changes of profiles are found only by looking from time to time");
    }
    let (mut keeper, board) = Keeper::new(folder.clone(), config, Kept::new(&paths.state), status.clone())?;
    // Watched before it is read: no change falls between.
    keeper.watch(&mut watcher);
    keeper.scan(Changed::All).await?;

    let service = rpc::Service {
        board: board.clone(),
        status: status.clone(),
        folder,
    };
    let server = PolicyServer::new(service).max_decoding_message_size(LARGEST);
    let routes = tonic::service::Routes::new(server);
    let desktop = Desktop::new(ABOUT, status.clone(), shutdown.clone());
    status.ready();
    tokio::select! {
        served = grpc::serve(listener, routes, Callers::default(), status, shutdown.clone()) => served,
        kept = keeper.run(watcher) => kept.context("keep the policy"),
        () = bus::serve(&desktop, &board) => Ok(()),
    }
}
