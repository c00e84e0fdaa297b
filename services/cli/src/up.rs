//! `portmaster up`: the whole mesh in the network namespace where it stands, in the foreground.
//!
//! It does what systemd does on a real host: starts the services in order, waits until each says that it is ready, starts
//! a crashed one again, and on SIGTERM or SIGINT stops them in reverse order and removes the rules. No service outlives
//! it, not even when it is killed: then only the rules of this namespace stay (they fail closed).

pub(crate) mod bus;
mod place;
mod unit;

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use proto::{
    common::v1::GetStateRequest, interceptor::v1::interceptor_client::InterceptorClient,
    policy::v1::policy_client::PolicyClient,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{sleep, timeout},
};

use place::Place;
use unit::Unit;

const RESOLVER: &str = "process-resolver";
const POLICY: &str = "policy";
const INTERCEPTOR: &str = "interceptor";
const DNS: &str = "dns";
const ENTRY: &str = "gate17-entry";
const GATEWAY: &str = "api-gateway";

/// How long a service may take until it is ready.
const START: Duration = Duration::from_secs(30);
/// How long the first policy may take on its way to the interceptor.
const FIRST_POLICY: Duration = Duration::from_secs(5);

/// `portmaster up`
#[derive(Clone, Debug, clap::Args)]
pub struct UpArgs {
    /// Folder for sockets, state, the bus and, without --config, configuration
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
    /// Configuration, laid out like /etc/portmaster [default: ROOT/etc/portmaster]
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
    /// Appears when traffic is being decided; removed at the end
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Where a service does not start; what had been started is stopped, and the rules are removed.
pub async fn run(args: UpArgs) -> Result<ExitCode> {
    let mut stop = Stop::new()?;
    let place = Arc::new(Place::prepare(&args)?);
    let mut units = Vec::new();
    let outcome = tokio::select! {
        started = start(&place, &mut units) => started,
        () = stop.asked() => Ok(()),
    };
    if outcome.is_ok() && !stop.was_asked {
        eprintln!("portmaster up: traffic in this network namespace is being decided (stop with Ctrl-C)");
        stop.asked().await;
    }
    place.not_ready();
    stop_all(&place, units).await;
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Bus, resolver and policy first: the interceptor then has all that it decides by. The DNS server and the tunnel's
/// entry are last: what they tell is for the interceptor.
async fn start(place: &Arc<Place>, units: &mut Vec<Unit>) -> Result<()> {
    if place.given_bus.is_none() {
        units.push(Unit::start(bus::unit(place.root())?, place.root())?);
        ready(units).await?;
    }
    units.push(Unit::start(place.service(RESOLVER), place.root())?);
    units.push(Unit::start(place.service(POLICY), place.root())?);
    ready(units).await?;
    units.push(Unit::start(place.service(INTERCEPTOR), place.root())?);
    ready(units).await?;
    units.push(Unit::start(place.service(DNS), place.root())?);
    units.push(Unit::start(place.service(ENTRY), place.root())?);
    units.push(Unit::start(place.service(GATEWAY), place.root())?);
    ready(units).await?;
    if !policy_arrives(place).await {
        eprintln!("portmaster up: the interceptor has not got the policy yet; it decides by its last one");
    }
    place.ready()
}

async fn ready(units: &mut [Unit]) -> Result<()> {
    for unit in units {
        unit.ready(START).await?;
    }
    Ok(())
}

/// True as soon as the interceptor decides by what `policy` has now.
async fn policy_arrives(place: &Place) -> bool {
    let arrives = async {
        loop {
            match tokio::join!(policy_version(place), interceptor_version(place)) {
                (Ok(wanted), Ok(has)) if has >= wanted => break,
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(FIRST_POLICY, arrives).await.is_ok()
}

async fn policy_version(place: &Place) -> Result<u64> {
    let mut client = PolicyClient::new(place.channel(POLICY)?);
    Ok(client
        .get_state(GetStateRequest {})
        .await?
        .into_inner()
        .policy_version)
}

async fn interceptor_version(place: &Place) -> Result<u64> {
    let mut client = InterceptorClient::new(place.channel(INTERCEPTOR)?);
    Ok(client
        .get_state(GetStateRequest {})
        .await?
        .into_inner()
        .policy_version)
}

/// In reverse order; the rules go when nobody decides any more. Goes on whatever fails.
async fn stop_all(place: &Place, units: Vec<Unit>) {
    for unit in units.into_iter().rev() {
        let name = unit.name();
        unit.stop().await;
        if name == INTERCEPTOR {
            clean_up(place).await;
        }
    }
}

async fn clean_up(place: &Place) {
    let mut command = place.command(INTERCEPTOR);
    match timeout(START, command.arg("--cleanup").status()).await {
        Ok(Ok(status)) if status.success() => {}
        Ok(Ok(status)) => eprintln!("portmaster up: removing the rules ended with {status}"),
        Ok(Err(error)) => eprintln!("portmaster up: start portmaster-interceptor --cleanup: {error}"),
        Err(_) => eprintln!(
            "portmaster up: removing the rules takes over {} s: given up",
            START.as_secs()
        ),
    }
}

/// SIGTERM and SIGINT.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    was_asked: bool,
}

impl Stop {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("listen to signals");
        let (terminate, interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        Ok(Self {
            terminate,
            interrupt,
            was_asked: false,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        self.was_asked = true;
    }
}
