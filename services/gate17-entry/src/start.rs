//! Brings the entry up: sockets first, so that nothing is refused, then the map, then the interceptor's calls.

use std::{sync::Arc, time::Duration};

use daemon::{
    About, Callers, Context,
    bus::{Desktop, Publisher},
    grpc, policies, ready, socket_owner,
};
use gate17_proto::padding::Grid;
use proto::gate17::v1::{gate17_entry_server::Gate17EntryServer, tunnel_server::TunnelServer};
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{Semaphore, watch},
};

use crate::{
    announced::Announced,
    bus,
    circuits::{Circuits, Credentials},
    config::Config,
    guards,
    link::{self, Link},
    listening,
    map_keeper::{Maps, Sources},
    opening::Opening,
    rpc,
    splice::Carried,
    tcp::{self, Doorman},
    udp::{self, Relay, Times},
};

/// What this service is.
pub const ABOUT: About = About {
    name: "gate17-entry",
    version: env!("CARGO_PKG_VERSION"),
};

/// Its own arguments.
pub use socket_owner::Args;

/// Between two looks at circuits that nobody uses, or that are to be built.
const TIDY: Duration = Duration::from_secs(1);

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
    args.apply()?;
    let listener = grpc::bind(&paths, &ABOUT)?;
    let sockets = listening::sockets(&config.listen)?;
    let kept_policy = policies::Kept::new(&paths.state);
    let (in_force, policy) = watch::channel(Arc::new(kept_policy.load(&status)?));
    let files = config.map.iter().map(|file| paths.config.join(file)).collect();
    let maps = Maps::new(
        paths.config.join(&config.trust),
        files,
        &paths.state,
        status.clone(),
    );
    let file = |name: &Option<std::path::PathBuf>| name.as_ref().map(|file| paths.config.join(file));
    let (token, key) = (file(&config.token), file(&config.client_key));
    let circuits = Circuits::new(
        maps,
        Credentials::read(token.as_deref(), key.as_deref())?,
        Grid::new(config.padding),
        guards::File::new(&paths.state),
    );
    circuits.figures().show(&status);
    let sources = Sources {
        urls: config.map_url.clone(),
        authorities: file(&config.map_authorities),
        nodes: config.map_from_nodes,
    };
    let link = Link::default();
    link.is_expected();
    let opening = Opening {
        circuits: circuits.clone(),
        policy,
        announced: Announced::default(),
    };
    let carried = Carried {
        sent: status.counter("octets_sent"),
        received: status.counter("octets_received"),
    };
    let doorman = Doorman {
        opener: opening.clone(),
        announced: opening.announced.clone(),
        link: link.clone(),
        counters: tcp::Counters {
            carried: carried.clone(),
            strangers: status.counter("connections_of_strangers"),
            crowded: status.counter("connections_too_many"),
        },
        places: Arc::new(Semaphore::new(config.connections)),
    };
    let service = rpc::Service {
        opening: opening.clone(),
        carried: carried.clone(),
        measuring: Arc::new(Semaphore::new(1)),
        status: status.clone(),
        shutdown: shutdown.clone(),
    };
    let tunnel = link::Service::new(link.clone(), opening.clone(), status.clone());
    let routes =
        tonic::service::Routes::new(Gate17EntryServer::new(service)).add_service(TunnelServer::new(tunnel));
    let desktop = Desktop::new(ABOUT, status.clone(), shutdown.clone());
    let publisher = Publisher::counting(status.counter("bus_events_dropped"));
    for socket in sockets.tcp {
        tokio::spawn(
            doorman
                .clone()
                .accept(TcpListener::from_std(socket)?, shutdown.clone()),
        );
    }
    let flows = udp::Now::new(status.counter("datagram_flows_now"));
    for socket in sockets.udp {
        let counters = udp::Counters {
            carried: carried.clone(),
            strangers: status.counter("datagrams_of_strangers"),
            crowded: status.counter("datagrams_too_many"),
            now: flows.clone(),
        };
        let socket = UdpSocket::from_std(socket)?;
        let relay = Relay::new(
            socket,
            opening.clone(),
            link.clone(),
            Times::of_kernel(),
            counters,
        )?;
        tokio::spawn(relay.run(shutdown.clone()));
    }

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
            circuits.maps().follow(),
            sources.follow(circuits.clone()),
            doorman.tidy(),
            upkeep(&circuits),
            ready::feed_until(&shutdown),
        );
        std::future::pending().await
    };
    tokio::select! {
        served = grpc::serve(listener, routes, Callers::default(), status.clone(), shutdown.clone()) => served,
        ended = beside => ended,
        () = bus::serve(&desktop, &opening, &carried, &publisher) => Ok(()),
    }
}

async fn upkeep(circuits: &Circuits) {
    loop {
        tokio::time::sleep(TIDY).await;
        circuits.upkeep(std::time::Instant::now());
    }
}
