//! `portmaster status`: how every service is, also where some are down.

mod report;

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use proto::{
    common::v1::{GetStateRequest, ServiceState},
    interceptor::v1::interceptor_client::InterceptorClient,
    policy::v1::policy_client::PolicyClient,
    resolver::v1::process_resolver_client::ProcessResolverClient,
};
use serde::Serialize;
use tokio::time::timeout;
use tonic::{Response, Status, transport::Channel};

use crate::{
    args::StatusArgs,
    output::print,
    paint::Paint,
    place::{PlaceArgs, Service},
    printable::json_line,
};
use report::{Report, State};

/// A service that does not answer by then is down.
const PATIENCE: Duration = Duration::from_secs(3);

/// Prints the state of all services. Exit status: 0 healthy, 1 with a problem, 3 where one is down.
pub(crate) async fn run(args: StatusArgs, paint: Paint) -> Result<ExitCode> {
    let reports = futures_util::future::join_all(Service::ALL.map(|service| ask(&args.place, service))).await;
    let worst = reports
        .iter()
        .map(|report| report.health)
        .max()
        .unwrap_or(State::Ok);
    let text = if args.json {
        json_line(&Whole {
            health: worst,
            services: &reports,
        })?
    } else {
        reports.iter().map(|report| report.text(paint)).collect()
    };
    print(&text)?;
    Ok(worst.exit_code())
}

#[derive(Serialize)]
struct Whole<'a> {
    health: State,
    services: &'a [Report],
}

async fn ask(place: &PlaceArgs, service: Service) -> Report {
    let socket = place.socket(service).display().to_string();
    match state(place, service).await {
        Ok(state) => Report::of(service, socket, state),
        Err(why) => Report::down(service, socket, why),
    }
}

/// What the service says about itself, or why it says nothing.
pub(crate) async fn state(place: &PlaceArgs, service: Service) -> Result<ServiceState, String> {
    let late = || Status::deadline_exceeded(format!("no answer within {} s", PATIENCE.as_secs()));
    timeout(PATIENCE, get_state(place.channel(service), service))
        .await
        .unwrap_or_else(|_| Err(late()))
        .map(Response::into_inner)
        .map_err(|status| place.why(service, &status))
}

async fn get_state(channel: Channel, service: Service) -> Result<Response<ServiceState>, Status> {
    let request = GetStateRequest {};
    match service {
        Service::Interceptor => InterceptorClient::new(channel).get_state(request).await,
        Service::ProcessResolver => ProcessResolverClient::new(channel).get_state(request).await,
        Service::Policy => PolicyClient::new(channel).get_state(request).await,
    }
}
