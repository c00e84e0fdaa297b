//! Brings the node up: one thread for each processor, each with an event loop and all listening sockets.

use std::{net::TcpListener, sync::Arc, thread, time::Duration};

use anyhow::Context as _;
use daemon::{
    About, Context,
    ready::{self, Watchdog},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{config::Config, door, limits::Kind, listening, node::Node};

/// What this service is.
pub const ABOUT: About = About {
    name: "gate17-node",
    version: env!("CARGO_PKG_VERSION"),
};

/// Its own arguments.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Args {
    /// Print what the network's map says of this node, for `portmaster gate17 node add`, and end
    #[arg(long)]
    print_descriptor: bool,
}

/// At the end, what is being carried has so long.
const LAST: Duration = Duration::from_secs(4);
const COUNT: Duration = Duration::from_secs(1);

/// Runs the service.
pub async fn run(context: Context<Config, Args>) -> anyhow::Result<()> {
    let Context {
        config,
        paths,
        status,
        shutdown,
        args,
        ..
    } = context;
    if args.print_descriptor {
        return crate::identity::print_descriptor(&config, &paths);
    }
    let sockets = listening::sockets(&config.listen, &status)?;
    let node = Node::new(&config, &paths, status.clone())?;
    let mut reload = signal(SignalKind::hangup()).context("hear of SIGHUP")?;
    let stop = CancellationToken::new();
    let threads = match config.threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let workers: Vec<_> = (0..threads)
        .map(|number| start_worker(number, &sockets, &node, &stop))
        .collect::<Result<_, _>>()?;
    status.ready();
    let mut watchdog = Watchdog::from_environment();
    let mut tick = tokio::time::interval(COUNT);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = reload.recv() => {
                match node.renew(&config, &paths) {
                    Ok(()) => status.clear(UNREADABLE),
                    Err(error) => status.raise(UNREADABLE, format!("{error:#}")),
                }
                tracing::info!("connections of today take nothing more");
                node.drain();
            }
            _ = tick.tick() => {
                for (name, kind) in [
                    ("connections_now", Kind::Connection),
                    ("handshakes_now", Kind::Handshake),
                    ("streams_now", Kind::Stream),
                ] {
                    status.counter(name).set(node.limits.count(kind) as u64);
                }
                if workers.iter().all(|worker| !worker.is_finished()) {
                    watchdog.feed();
                }
            }
        }
    }
    ready::stopping();
    node.drain();
    let quiet = async {
        while node.limits.count(Kind::Stream) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(LAST, quiet).await;
    stop.cancel();
    Ok(())
}

const UNREADABLE: &str = "reload-failed";

fn start_worker(
    number: usize,
    sockets: &[TcpListener],
    node: &Arc<Node>,
    stop: &CancellationToken,
) -> anyhow::Result<thread::JoinHandle<()>> {
    let sockets = sockets
        .iter()
        .map(TcpListener::try_clone)
        .collect::<Result<Vec<_>, _>>()
        .context("share the sockets")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listeners = {
        let _inside = runtime.enter();
        sockets
            .into_iter()
            .map(tokio::net::TcpListener::from_std)
            .collect::<Result<Vec<_>, _>>()?
    };
    let (node, stop) = (Arc::clone(node), stop.clone());
    let work = move || {
        runtime.block_on(async {
            for listener in listeners {
                tokio::spawn(door::attend(listener, Arc::clone(&node)));
            }
            stop.cancelled().await;
        });
        runtime.shutdown_background();
    };
    thread::Builder::new()
        .name(format!("node-{number}"))
        .spawn(work)
        .context("start a thread")
}
