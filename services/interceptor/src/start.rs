//! Brings the service up and down: queues first, rules last, so that no rule ever waits for a reader.

use std::{pin::pin, sync::Arc, thread, time::Duration};

use anyhow::Context as _;
use daemon::{
    About, Callers, Context,
    bus::{Desktop, Publisher},
    capabilities::{self, Capability},
    grpc, policies,
    status::Status,
};
use proto::interceptor::v1::interceptor_server::InterceptorServer;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use verdict::{mark::MarkScheme, policy::CompiledPolicy};

use crate::{
    ahead::{self, Ahead},
    bus,
    closing::Closer,
    commands::{self, Command},
    config::Config,
    confine,
    conntrack::Conntrack,
    firewall::{Firewall, Report},
    handover,
    hub::Hub,
    journal::Journal,
    judge::{Event, Judge},
    kernel, marks, names,
    nfqueue::QueueNumber,
    plane, rpc,
    told::Names,
    tunnel, wire,
};

/// What this service is.
pub const ABOUT: About = About {
    name: "interceptor",
    version: env!("CARGO_PKG_VERSION"),
};

/// Its own arguments: each does one thing and ends.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(multiple = false)]
pub struct Args {
    /// Print the firewall rules and end; needs no privileges
    #[arg(long)]
    print_rules: bool,
    /// Load the firewall rules and end: until the service decides, nothing new passes
    #[arg(long)]
    apply_rules: bool,
    /// Remove all our firewall rules and end
    #[arg(long)]
    cleanup: bool,
    /// For `ExecStopPost=`: remove the rules if UNIT was stopped for good, by what systemd says, and end
    #[arg(long, value_name = "UNIT")]
    after_stop: Option<String>,
    /// One more user whose traffic is the mesh's own; for `portmaster up`, where all services run as root
    #[arg(long, value_name = "UID", hide = true)]
    mesh_uid: Option<u32>,
}

impl Args {
    fn command(&self) -> Option<Command> {
        let after_stop = self.after_stop.clone().map(|unit| Command::AfterStop { unit });
        let flags = [
            (self.print_rules, Command::PrintRules),
            (self.apply_rules, Command::ApplyRules),
            (self.cleanup, Command::Cleanup),
        ];
        after_stop.or_else(|| {
            flags
                .into_iter()
                .find_map(|(given, command)| given.then_some(command))
        })
    }

    /// Rules stand, and can be taken away, on a host whose configuration is broken too.
    pub const fn are_indispensable(&self) -> bool {
        self.apply_rules || self.cleanup || self.after_stop.is_some()
    }
}

/// Events on their way from the packet path.
const EVENTS: usize = 65_536;
/// At the end, for events that the desktop bus has not taken yet.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// Octets of receive buffer for ends of connections.
const ENDINGS_BUFFER: usize = 8 << 20;

/// Runs the service, or the one thing that its arguments name.
pub async fn run(context: Context<Config, Args>) -> anyhow::Result<()> {
    let scheme = context.config.scheme().context("setting marks")?;
    match context.args.command() {
        Some(command) => commands::run(command, &context, scheme).await,
        None => Box::pin(serve(context, scheme)).await,
    }
}

async fn serve(context: Context<Config, Args>, scheme: MarkScheme) -> anyhow::Result<()> {
    let Context {
        config,
        paths,
        status,
        shutdown,
        args,
        ..
    } = context;
    require_net_admin()?;
    let listener = grpc::bind(&paths, &ABOUT)?;
    let kept = policies::Kept::new(&paths.state);
    let (policies, in_force) = watch::channel(Arc::new(kept.load(&status)?));
    let options = config.queue_options();
    let queues = QueueNumber::ALL
        .into_iter()
        .map(|number| handover::queue(number, &options))
        .collect::<Result<Vec<_>, _>>()?;
    kernel::count_traffic(&status);
    // packets wait in the queues meanwhile
    policies::first(grpc::channel(&paths.socket("policy")), &kept, &status, &policies).await;

    let (events, events_out) = mpsc::channel(EVENTS);
    let (listed, listed_out) = mpsc::channel(4);
    let first = first_id();
    let hub = Hub::new(Journal::open(), ahead::take(), first);
    let ahead = Ahead::create(hub.position(), hub.journaled());
    let told = Names::default();
    let parts = plane::Parts {
        judge: judge(&config, args.mesh_uid, scheme, &in_force, told.clone(), first),
        restored: hub.live(),
        ahead,
        queues,
        conntrack: Conntrack::open().context("open conntrack")?,
        endings: handover::endings(ENDINGS_BUFFER).context("listen to conntrack")?,
        marks: marks::start(Conntrack::open()?, scheme, listed, status.clone())?,
        events,
        policies: in_force,
        listed: listed_out,
        resolver: paths.socket("process-resolver"),
        entry: paths.socket(tunnel::ENTRY),
        status: status.clone(),
        shutdown: shutdown.clone(),
    };
    handover::close_strangers();
    let plane = start_plane(parts)?;
    let (firewall, problems) = Firewall::load(&config.firewall, scheme, &paths.runtime).await?;
    for problem in problems {
        status.raise(problem.code, problem.text);
    }

    let publisher = Publisher::counting(status.counter("bus_events_dropped"));
    let service = rpc::Service {
        hub: hub.clone(),
        status: status.clone(),
        closer: Closer::open().context("open sockets to end connections by")?,
    };
    let names = names::Follower::new(told.clone(), Conntrack::open()?, &paths.state);
    let routes = tonic::service::Routes::new(InterceptorServer::new(service));
    let (policy, dns) = (grpc::channel(&paths.socket("policy")), paths.socket("dns"));
    status.ready();

    let reports = status.clone();
    let path_ended = async { plane.await.context("the packet path ended")? };
    let serving = grpc::serve(
        listener,
        routes,
        Callers::default(),
        status.clone(),
        shutdown.clone(),
    );
    let beside = async {
        tokio::join!(
            policies::follow(policy, kept, status.clone(), policies, shutdown.clone()),
            kernel::watch_queues(status.clone(), shutdown.clone()),
            names::tidy(told, status.clone(), shutdown.clone()),
            names.run(&dns, status.clone(), shutdown.clone()),
            firewall.watch(shutdown.clone(), move |report| tell(&reports, &report)),
        );
        // all of them end when the service does
        std::future::pending().await
    };
    let work = async {
        tokio::select! {
            ended = async { tokio::try_join!(path_ended, serving) } => ended.map(|_| ()),
            ended = beside => ended,
        }
    };
    let mut telling = pin!(tell_all(&hub, events_out, &status, &publisher));
    tokio::select! {
        ended = work => {
            // what was decided is written down and told before the process ends; the packet path ends now, if it has not
            shutdown.cancel();
            if tokio::time::timeout(LAST_WORDS, telling).await.is_err() {
                tracing::warn!("ended before the desktop bus had taken every event");
            }
            ended
        }
        () = &mut telling => Ok(()),
    }
}

/// Events to their journal, subscribers and the desktop bus, until the packet path has ended and all is told.
async fn tell_all(
    hub: &Hub,
    events: mpsc::Receiver<Event>,
    status: &Status,
    publisher: &Publisher<dbus::ConnectionEvent>,
) {
    // not the service's own: the bus is needed until the last event
    let desktop = Desktop::new(ABOUT, status.clone(), CancellationToken::new());
    let told = async {
        let publish = |event: &Event| publisher.push(wire::bus_event(event));
        hub.clone().run(events, status.clone(), publish).await;
        publisher.sent().await;
    };
    tokio::select! {
        () = told => {}
        () = bus::serve(&desktop, hub, publisher) => {}
    }
}

fn tell(status: &Status, report: &Report) {
    let repairs = status.counter("firewall_repairs");
    match report {
        Report::Repaired { family, deviations } => {
            repairs.add(1);
            let found = deviations
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ");
            tracing::warn!(%family, found, "somebody changed the firewall rules; repaired");
        }
        Report::Conflict { family, deviations } => {
            let last = deviations.first().map(ToString::to_string).unwrap_or_default();
            let text =
                format!("another program keeps changing the {family} rules ({last}): find it and stop it");
            status.raise("firewall-conflict", text);
        }
        Report::Settled { family } => {
            tracing::info!(%family, "firewall rules are undisturbed again");
            status.clear("firewall-conflict");
            status.clear("firewall-broken");
        }
        Report::Failed { problem, .. } => status.raise(problem.code, problem.text.clone()),
        Report::Up { family } => tracing::info!(%family, "rules loaded"),
    }
}

/// The packet path has a thread and a runtime of its own.
fn start_plane(parts: plane::Parts) -> anyhow::Result<oneshot::Receiver<anyhow::Result<()>>> {
    let (ended, end) = oneshot::channel();
    // which boot this is stands in a file, and is read once: by a thread that may
    let _now = daemon::clock::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::Builder::new().name("packets".into()).spawn(move || {
        let local = tokio::task::LocalSet::new();
        // what reads strangers' packets can do nothing else, whatever they make of it
        for weaker in confine::this_thread() {
            tracing::warn!("the packet path is confined less than it should be: {weaker}");
        }
        // nobody listens any more when the service stops
        let _ = ended.send(local.block_on(&runtime, plane::run(parts)));
    })?;
    Ok(end)
}

fn require_net_admin() -> anyhow::Result<()> {
    let missing = capabilities::missing(&[Capability::NetAdmin]);
    let [] = missing[..] else {
        anyhow::bail!(
            "the capability {} is missing: packets cannot be queued; start the unit, or be root",
            missing.join(", ")
        );
    };
    Ok(())
}

/// Connections are numbered from the nanoseconds since boot: no earlier run of this service got as far.
fn first_id() -> u64 {
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(boot.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(boot.tv_nsec).unwrap_or(0)
}

fn judge(
    config: &Config,
    mesh_uid: Option<u32>,
    scheme: MarkScheme,
    in_force: &watch::Receiver<Arc<CompiledPolicy>>,
    names: Names,
    first: u64,
) -> Judge {
    let mesh_uids = config
        .mesh_users
        .0
        .iter()
        .filter_map(|name| daemon::users::uid(name))
        .chain(mesh_uid)
        .filter(|uid| *uid != 0);
    Judge::new(
        config.limits(),
        scheme,
        Arc::clone(&in_force.borrow()),
        mesh_uids.collect(),
        names,
        first,
    )
}
