//! Brings the gateway up: sockets first, so that nothing is refused, then whom it asks.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use api::v1::{
    audit_server::AuditServer, dns_server::DnsServer, events_server::EventsServer,
    gate17_server::Gate17Server, policy_server::PolicyServer, processes_server::ProcessesServer,
    settings_server::SettingsServer, system_server::SystemServer, tokens_server::TokensServer,
};
use daemon::{About, Callers, Context, bus::Desktop, grpc, ready, socket_owner};
use proto::gateway::v1::gateway_server::GatewayServer;
use tokio::{net::TcpListener, sync::mpsc};
use tonic::service::Routes;
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
};

use crate::{
    audit::Audit,
    caller::Owners,
    config::Config,
    door::{Counters, Door},
    gate::{Gate, Guarded},
    hub::Hub,
    limits::Limits,
    listening,
    methods::Methods,
    metrics, open_api,
    page::session::Sessions,
    rpc::{self, connections::Watching, system::Mesh},
    tokens::Tokens,
    web::Doorkeeper,
};

/// At the beginning, for the interceptor to say what is live. Where it is not there, calls are answered all the same.
const KNOWN_BY_THEN: Duration = Duration::from_secs(1);
/// At the end, for those who are connected.
const LAST_CALLS: Duration = Duration::from_secs(1);

/// What this service is.
pub const ABOUT: About = About {
    name: "api-gateway",
    version: env!("CARGO_PKG_VERSION"),
};

/// Its own arguments.
pub use socket_owner::Args;

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
    let addresses: Vec<SocketAddr> = sockets
        .iter()
        .map(std::net::TcpListener::local_addr)
        .collect::<Result<_, _>>()?;
    let tokens = Arc::new(Tokens::load(&paths.state)?);
    let methods = Methods::new()?;
    let to = |service| grpc::channel_unless_stopped(&paths.socket(service), service);
    let mesh = Mesh {
        interceptor: to("interceptor"),
        resolver: to("process-resolver"),
        policy: to("policy"),
        dns: to("dns"),
        gate17: to("gate17-entry"),
    };
    let hub = Hub::default();
    let descriptor = methods
        .message("portmaster.api.v1.Connection")
        .context("the public contracts lack Connection")?;
    let system = rpc::system::Service {
        mesh: mesh.clone(),
        status: status.clone(),
        tokens: Arc::clone(&tokens),
    };
    let health = health(&methods).await;
    let (reflection, reflection_before) = (
        reflection(&methods).build_v1().context("set up reflection")?,
        reflection(&methods)
            .build_v1alpha()
            .context("set up reflection")?,
    );
    let open_api = open_api::document(&methods, ABOUT.version).to_string().into();
    let audit = Audit::load(&paths.state);
    let events = rpc::events::Service::new(system.clone(), audit.clone());
    let limits = Limits::new(
        config.connections,
        config.connections_per_user,
        config.calls_per_second,
    );
    let gate = Gate::new(
        methods,
        Arc::clone(&tokens),
        Sessions::load(&paths.state)?,
        limits.clone(),
        mesh.resolver.clone(),
        &status,
        audit.clone(),
    );
    let policy = rpc::policy::Service {
        channel: mesh.policy.clone(),
        gate: gate.clone(),
        hub: hub.clone(),
    };
    let connections = rpc::connections::Service::new(hub.clone(), descriptor, mesh.interceptor.clone());
    let routes = Routes::new(Watching::new(connections))
        .add_service(AuditServer::new(rpc::audit::Service { audit }))
        .add_service(EventsServer::new(events.clone()))
        .add_service(DnsServer::new(rpc::dns::Service {
            channel: mesh.dns.clone(),
        }))
        .add_service(Gate17Server::new(rpc::gate17::Service {
            channel: mesh.gate17.clone(),
        }))
        .add_service(PolicyServer::new(policy.clone()))
        .add_service(SettingsServer::new(policy))
        .add_service(ProcessesServer::new(rpc::processes::Service {
            channel: mesh.resolver.clone(),
        }))
        .add_service(SystemServer::new(system.clone()))
        .add_service(TokensServer::new(system.clone()))
        .add_service(health)
        .add_service(reflection)
        // what clients from before 2023 ask, grpcio's own among them
        .add_service(reflection_before);
    let (open, mut all_closed) = mpsc::channel(1);
    let door = Door {
        owners: Arc::new(Owners::open()?),
        limits,
        keeper: Doorkeeper::new(config.hosts(&addresses), config.origins.clone()),
        methods: Guarded { gate, routes },
        system: system.clone(),
        open_api,
        counters: Counters {
            connections: status.counter("connections"),
            strangers: status.counter("connections_of_strangers"),
            crowded: status.counter("connections_too_many"),
            requests: metrics::show(&status),
        },
        shutdown: shutdown.clone(),
        open,
    };
    let listeners = sockets
        .into_iter()
        .map(TcpListener::from_std)
        .collect::<Result<Vec<_>, _>>()?;
    let opened = async {
        // callers wait in the sockets meanwhile: who is answered is not told that there is nothing
        let _late = tokio::time::timeout(KNOWN_BY_THEN, hub.knows()).await;
        for listener in listeners {
            tokio::spawn(door.clone().accept(listener));
        }
        drop(door);
        status.ready();
        std::future::pending::<()>().await;
    };

    let desktop = Desktop::new(ABOUT, status.clone(), shutdown.clone());
    // root and the mesh alone: nobody has passed the gate
    let own = Routes::new(GatewayServer::new(rpc::own::Service {
        status: status.clone(),
    }))
    .add_service(TokensServer::new(system));
    let ended = tokio::select! {
        () = opened => Ok(()),
        served = grpc::serve(listener, own, Callers { group: false }, status.clone(), shutdown.clone()) => served,
        () = hub.follow(mesh.interceptor, status.clone(), shutdown.clone()) => Ok(()),
        () = hub.tell(shutdown.clone()) => Ok(()),
        () = events.follow(shutdown.clone()) => Ok(()),
        () = desktop.serve_state() => Ok(()),
        () = ready::feed_until(&shutdown) => Ok(()),
    };
    shutdown.cancel();
    // calls that were begun, or are on their way; new ones wait in the sockets
    let _all = tokio::time::timeout(LAST_CALLS, all_closed.recv()).await;
    ended
}

/// Well as long as we are there, for each public service as well.
async fn health(methods: &Methods) -> HealthServer<impl Health> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", ServingStatus::Serving).await;
    for service in methods.services() {
        reporter.set_service_status(service, ServingStatus::Serving).await;
    }
    health
}

/// Of what can be called; messages of the mesh's own contracts are described, and their services are not offered.
fn reflection(methods: &Methods) -> tonic_reflection::server::Builder<'static> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(api::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("grpc.health.v1.Health");
    let names = methods.services().into_iter();
    names.fold(builder, |builder, name| builder.with_service_name(name))
}
