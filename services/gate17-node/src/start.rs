//! Brings the node up: one thread for each processor, each with an event loop and all listening sockets.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use daemon::{
    About, Context,
    ready::{self, Watchdog},
};
use gate17_maps::Web;
use tokio::{
    net::UdpSocket,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    door,
    handover::{self, Sockets},
    limits::Kind,
    listening, metrics,
    node::{Current, Lasting, Node},
    quotes,
};

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
const FIRST: Duration = Duration::from_secs(1);
const COUNT: Duration = Duration::from_secs(1);
/// Figures are written every so many counts.
const WRITTEN: u64 = 15;
const UNREADABLE: &str = "reload-failed";
const REPLACED: &str = "upgrade-failed";
const RESTART: &str = "restart-needed";

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
    let (sockets, before) = match handover::succeed()? {
        Some((sockets, before)) => (sockets, Some(before)),
        None => (listening::all(&config, &status)?, None),
    };
    metrics::show(&status);
    let lasting = Lasting::new(&config, paths, status.clone());
    let current = Current::new(Node::new(&config, &lasting)?);
    let mut reload = signal(SignalKind::hangup()).context("hear of SIGHUP")?;
    let (closed, stop) = (CancellationToken::new(), CancellationToken::new());
    let threads = match config.threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let workers: Vec<_> = (0..threads)
        .map(|number| Worker::start(number, &sockets.listeners, &current, [&closed, &stop]))
        .collect::<Result<_, _>>()?;
    for socket in &sockets.datagrams {
        let socket = UdpSocket::from_std(socket.try_clone()?)?;
        tokio::spawn(quotes::answer(socket, current.clone()));
    }
    let maps = lasting.maps().clone();
    let authorities = config.map_authorities.as_ref();
    let authorities = authorities.map(|file| lasting.paths.config.join(file));
    tokio::spawn(Web::new(config.map_url.clone(), authorities).follow(maps.clone()));
    tokio::spawn(async move { maps.follow().await });
    if let Some(before) = before {
        before.relieve()?;
    }
    status.ready();
    let mut house = Keeping::new(lasting, config, workers);
    let mut tick = tokio::time::interval(COUNT);
    let sockets = Arc::new(sockets);
    let last = loop {
        tokio::select! {
            () = shutdown.cancelled() => {
                ready::stopping();
                break LAST;
            }
            _ = reload.recv() => {
                if house.is_relieved(&sockets).await {
                    break current.get().drain_time();
                }
                house.reload(&current);
            }
            _ = tick.tick() => house.count(),
        }
    };
    closed.cancel();
    current.get().drain();
    let (limits, since) = (house.lasting.limits(), Instant::now());
    // who was let in and did not say yet what he wants has a little time, what is carried more
    let is_quiet = || {
        let is_empty = limits.count(Kind::Connection) == 0 || since.elapsed() > FIRST;
        is_empty && limits.count(Kind::Stream) == 0
    };
    let quiet = async {
        while !is_quiet() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(last, quiet).await;
    stop.cancel();
    Ok(())
}

/// What is done beside the carrying.
struct Keeping {
    lasting: Lasting,
    /// Of the start.
    config: Config,
    workers: Vec<Worker>,
    watchdog: Watchdog,
    counts: u64,
}

impl Keeping {
    fn new(lasting: Lasting, config: Config, workers: Vec<Worker>) -> Self {
        Self {
            lasting,
            config,
            workers,
            watchdog: Watchdog::from_environment(),
            counts: 0,
        }
    }

    /// Whether another program took over: the one that lies where this one lay. One that does not come up changes nothing.
    async fn is_relieved(&self, sockets: &Arc<Sockets>) -> bool {
        let Some(program) = handover::newer_program().filter(|_| ready::is_supervised()) else {
            return false;
        };
        ready::reloading();
        let sockets = Arc::clone(sockets);
        let begun = tokio::task::spawn_blocking(move || handover::begin(&program, &sockets)).await;
        match begun.map_err(anyhow::Error::from).flatten() {
            Ok(()) => {
                tracing::info!("another program takes callers in; this one ends what it carries");
                true
            }
            Err(error) => {
                self.lasting.status.raise(REPLACED, format!("{error:#}"));
                false
            }
        }
    }

    /// The configuration and the files that it names, again. Who comes from now on gets the new one; who came before is
    /// drained. What cannot be used changes nothing, and is said.
    fn reload(&self, current: &Current) {
        ready::reloading();
        let Lasting { status, paths, .. } = &self.lasting;
        let read = daemon::load_config::<Config>(&paths.config, ABOUT.name)
            .map_err(anyhow::Error::from)
            .and_then(|config| Ok((Node::new(&config, &self.lasting)?, config)));
        match read {
            Ok((node, config)) => {
                status.clear(UNREADABLE);
                if self.lasting.needs_restart(&self.config, &config) {
                    let what = "listen, listen_udp, threads, trust, map, map_url, map_authorities and limits but for drain";
                    status.raise(
                        RESTART,
                        format!("some of {what} changed: they hold after a restart"),
                    );
                } else {
                    status.clear(RESTART);
                }
                current.replace(node);
                tracing::info!("read again; connections of before take nothing more");
            }
            Err(error) => status.raise(UNREADABLE, format!("{error:#}")),
        }
        ready::ready("ready");
    }

    fn count(&mut self) {
        let Lasting { status, paths, .. } = &self.lasting;
        for (name, kind) in [
            ("connections_now", Kind::Connection),
            ("handshakes_now", Kind::Handshake),
            ("streams_now", Kind::Stream),
        ] {
            status.counter(name).set(self.lasting.limits().count(kind) as u64);
        }
        if self.counts.is_multiple_of(WRITTEN)
            && let Err(error) = metrics::write(&metrics::place(paths), &status.snapshot())
        {
            tracing::debug!(%error, "the figures are not written");
        }
        self.counts += 1;
        // each loop that takes callers in has turned since the last time
        if self.watchdog.is_due() && self.workers.iter().all(Worker::has_turned) {
            self.workers.iter_mut().for_each(Worker::note);
            self.watchdog.feed();
        }
    }
}

/// A thread with its event loop.
struct Worker {
    thread: thread::JoinHandle<()>,
    turns: Arc<AtomicU64>,
    seen: u64,
}

impl Worker {
    fn start(
        number: usize,
        sockets: &[TcpListener],
        current: &Current,
        [closed, stop]: [&CancellationToken; 2],
    ) -> anyhow::Result<Self> {
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
        let turns = Arc::new(AtomicU64::new(1));
        let (current, turned) = (current.clone(), Arc::clone(&turns));
        let (closed, stop) = (closed.clone(), stop.clone());
        let work = move || {
            runtime.block_on(async {
                for listener in listeners {
                    tokio::spawn(door::attend(listener, current.clone(), closed.clone()));
                }
                let mut tick = tokio::time::interval(COUNT);
                loop {
                    tokio::select! {
                        () = stop.cancelled() => break,
                        _ = tick.tick() => turned.fetch_add(1, Ordering::Relaxed),
                    };
                }
            });
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new()
            .name(format!("node-{number}"))
            .spawn(work)
            .context("start a thread")?;
        Ok(Self {
            thread,
            turns,
            seen: 0,
        })
    }

    fn has_turned(&self) -> bool {
        !self.thread.is_finished() && self.turns.load(Ordering::Relaxed) > self.seen
    }

    fn note(&mut self) {
        self.seen = self.turns.load(Ordering::Relaxed);
    }
}
