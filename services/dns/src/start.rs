//! Brings the service up: sockets first, so that no query is refused, and all that is known before the first answer.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use daemon::{
    About, Callers, Context,
    bus::Desktop,
    grpc, policies,
    ready::{self, Watchdog},
    socket_owner,
    status::Status,
};
use dns_core::{Name, cache::Cache};
use proto::{dns::v1::dns_server::DnsServer, interceptor::v1::names_server::NamesServer};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::error;
use verdict::policy::CompiledPolicy;

use crate::{
    attribution::Attribution,
    bus,
    clients::Clients,
    config::Config,
    figures,
    front::Front,
    judge::Judge,
    kept::Kept,
    link::{self, Link},
    listening,
    lists::Keeper,
    log::Log,
    lookup::Lookup,
    names::Names,
    route::{Files, Opening, Router, Sources},
    rpc,
    server::{self, Limits, OwnAddresses, Server},
    tunnel::Tunnel,
};

/// What this service is.
pub const ABOUT: About = About {
    name: "dns",
    version: env!("CARGO_PKG_VERSION"),
};

/// Its own arguments.
pub use socket_owner::Args;

/// Names that are over are forgotten so often, and what is known is written down.
const TIDY: Duration = Duration::from_secs(300);
/// Between two attempts to reach the system's bus, for the servers that it knows.
const BUS_LATER: Duration = Duration::from_secs(5);
/// Of the service's health.
const PORTAL: &str = "captive-portal";
/// Between two looks at what is counted.
const COUNT: Duration = Duration::from_secs(1);

/// Runs the service.
pub async fn run(context: Context<Config, Args>) -> anyhow::Result<()> {
    let Context {
        config,
        paths,
        status,
        shutdown: ending,
        args,
        ..
    } = context;
    args.apply()?;
    // what queries need is there until the last of them is answered
    let shutdown = CancellationToken::new();
    let listener = grpc::bind(&paths, &ABOUT)?;
    let sockets = listening::sockets(&config, &status)?;
    let kept_policy = policies::Kept::new(&paths.state);
    let (in_force, mut policy) = watch::channel(Arc::new(kept_policy.load(&status)?));
    // queries wait in the sockets meanwhile
    policies::first(
        grpc::channel(&paths.socket("policy")),
        &kept_policy,
        &status,
        &in_force,
    )
    .await;

    let cache = Arc::new(Cache::new(&config.cache(), rand::random()));
    let kept = Kept::new(&paths.state);
    kept.load_cache(&cache);
    let router = Router::new(&config.resolve).context("set up upstreams")?;
    let mut lists = Keeper::new(&config.lists, &paths, status.clone());
    let names = Names::new(&config.resolvers, Duration::from_secs(config.names_hold.into()));
    kept.load_names(&names);
    let (attribution, link) = (Attribution::default(), Link::default());
    let judge = Arc::new(Judge {
        clients: Clients::new(attribution.clone(), link.clone()),
        policy: ArcSwap::new(Arc::clone(&policy.borrow_and_update())),
        lists: ArcSwap::from_pointee(lists.load()),
        cache: Arc::clone(&cache),
        lookup: Lookup::new(Arc::clone(&cache), router.clone(), config.bounds(), server::now),
        tunnel: Tunnel::new(
            grpc::channel(&paths.socket("gate17-entry")),
            config.bounds(),
            server::now,
        ),
        names: names.clone(),
        link: link.clone(),
        log: Log::default(),
        settings: config.settings(host_name()),
        own: OwnAddresses::new(),
        clock: server::now,
    });
    figures::show(&status, &judge.lookup);
    let service = rpc::Service {
        judge: Arc::clone(&judge),
        kept: kept.clone(),
        status: status.clone(),
        shutdown: shutdown.clone(),
    };
    let told = link::Service::new(link.clone(), names, status.clone());
    let routes = tonic::service::Routes::new(DnsServer::new(service)).add_service(NamesServer::new(told));
    let desktop = Desktop::new(ABOUT, status.clone(), shutdown.clone());
    let unpublished = status.counter("bus_events_dropped");
    let mut serving = tokio::spawn(grpc::serve(
        listener,
        routes,
        Callers::default(),
        status.clone(),
        shutdown.clone(),
    ));
    let resolver = paths.socket("process-resolver");
    let is_there = resolver.exists();
    tokio::spawn(
        attribution
            .clone()
            .run(grpc::channel(&resolver), status.clone(), shutdown.clone()),
    );
    // queries wait in the sockets meanwhile: the first of them are to be known as well, and who asks them
    if is_there {
        attribution.reached().await;
    }
    if paths.socket("interceptor").exists() {
        link.listens().await;
    }
    let front = Front::new(Arc::clone(&judge));
    let server = Server::start(sockets, front, Limits::default(), kept.secret(), ending.clone())
        .context("serve queries")?;

    let published = bus::start(desktop, Arc::clone(&judge), kept.clone(), unpublished)
        .context("publish on the desktop bus")?;
    status.ready();

    let beside = async {
        tokio::join!(
            policies::follow(
                grpc::channel(&paths.socket("policy")),
                kept_policy,
                status.clone(),
                in_force,
                shutdown.clone()
            ),
            follow_policy(&judge, policy),
            lists.follow(&judge, &shutdown),
            follow_system(&router, &shutdown),
            follow_ways(&router, &cache, &shutdown),
            tell_portal(&router, &status, &shutdown),
            keep(&judge, &kept, &shutdown),
            count(&server, &judge, &status, &shutdown),
            feed(&server, &ending),
        );
        std::future::pending().await
    };
    let ended = tokio::select! {
        served = &mut serving => served?,
        ended = beside => ended,
        _ended = published => Ok(()),
        () = server.drained() => {
            shutdown.cancel();
            // calls that were begun
            serving.await?
        }
    };
    shutdown.cancel();
    ending.cancel();
    server.stopped().await;
    kept.save(&judge);
    ended
}

async fn follow_policy<L>(judge: &Judge<L>, mut policy: watch::Receiver<Arc<CompiledPolicy>>) {
    while policy.changed().await.is_ok() {
        judge.policy.store(Arc::clone(&policy.borrow_and_update()));
    }
    std::future::pending::<()>().await;
}

/// The system's servers, from files at once, and from the bus as soon as there is one.
async fn follow_system(router: &Router, shutdown: &CancellationToken) {
    let follow = async {
        let without = router.follow(Sources::start(Files::default(), None));
        let bus = async {
            loop {
                if let Ok(bus) = zbus::Connection::system().await {
                    return bus;
                }
                tokio::time::sleep(BUS_LATER).await;
            }
        };
        let bus = tokio::select! {
            () = without => return std::future::pending().await,
            bus = bus => bus,
        };
        router.follow(Sources::start(Files::default(), Some(bus))).await;
        std::future::pending::<()>().await;
    };
    let _stopped: Option<()> = shutdown.run_until_cancelled(Box::pin(follow)).await;
}

/// What failed over the network of before may be asked again.
async fn follow_ways(router: &Router, cache: &Cache, shutdown: &CancellationToken) {
    let follow = router.follow_ways(|| cache.forget_failures());
    let _stopped = shutdown.run_until_cancelled(Box::pin(follow)).await;
}

/// Whoever looks at the service's health learns why names fail, and what helps.
async fn tell_portal(router: &Router, status: &Status, shutdown: &CancellationToken) {
    while shutdown
        .run_until_cancelled(tokio::time::sleep(COUNT))
        .await
        .is_some()
    {
        match router.opening().0 {
            Opening::Checks => status.raise(
                PORTAL,
                "a captive portal is suspected: no encrypted upstream answers. Log in with a browser; where its page does not open, \
                 `portmaster dns open 5m` has names asked at the network's own servers meanwhile",
            ),
            Opening::Everything => status.raise(
                PORTAL,
                "all names are asked in the clear at the network's own servers, as the owner wants it for a time; \
                 `portmaster dns open 0s` ends it",
            ),
            Opening::Closed => status.clear(PORTAL),
        }
    }
}

async fn keep<L>(judge: &Judge<L>, kept: &Kept, shutdown: &CancellationToken) {
    // that it is time, or that somebody wants it
    let due = || tokio::time::timeout(TIDY, kept.wanted());
    while shutdown.run_until_cancelled(due()).await.is_some() {
        judge.names.tidy();
        kept.save(judge);
    }
}

async fn count<L: crate::filter::Lists + Send + Sync + 'static>(
    server: &Server<Front<L>>,
    judge: &Judge<L>,
    status: &Status,
    shutdown: &CancellationToken,
) {
    while shutdown
        .run_until_cancelled(tokio::time::sleep(COUNT))
        .await
        .is_some()
    {
        figures::count(status, &judge.log);
        let (served, cache) = (server.counters(), judge.cache.statistics());
        let waiting = judge.lookup.under_way();
        let (told_aside, told_waited) = judge.link.told();
        for (name, value) in served.by_name() {
            status.counter(name).set(value);
        }
        for (name, value) in [
            ("cache_entries_now", cache.entries),
            ("cache_octets_now", cache.bytes),
            ("cache_hits", cache.hits),
            ("cache_stale", cache.stale),
            ("cache_misses", cache.misses),
            ("cache_evicted", cache.evicted),
            ("lookups_now", waiting.now() as u64),
            ("lookups_turned_away", waiting.turned_away()),
            ("names_told_aside", told_aside),
            ("names_told_waited", told_waited),
        ] {
            status.counter(name).set(value);
        }
    }
}

/// Proves by queries of our own, through sockets, that answers are being given.
async fn feed<L: crate::filter::Lists + Send + Sync + 'static>(
    server: &Server<Front<L>>,
    ending: &CancellationToken,
) {
    let mut watchdog = Watchdog::from_environment();
    let Some(pause) = watchdog.pause() else { return };
    let mut was_well = true;
    while ending
        .run_until_cancelled(tokio::time::sleep(pause))
        .await
        .is_some()
    {
        let is_well = server.is_well().await;
        if is_well {
            watchdog.feed();
        } else if was_well {
            error!(
                "a thread that answers queries hangs: the service manager is no longer told that all is well"
            );
        }
        was_well = is_well;
    }
    ready::stopping();
}

/// For the reverse look-up of this host's addresses.
fn host_name() -> Name {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().parse().unwrap_or_else(|_| Name::root())
}
