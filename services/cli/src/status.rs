//! `portmaster status`: how every service is, also where some are down.

mod report;

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use daemon::grpc;
use proto::common::v1::ServiceState;
use serde::Serialize;
use tokio::time::timeout;
use tonic::Status;

use crate::{
    args::StatusArgs,
    clock, host,
    output::print,
    paint::{Paint, Tone},
    pause,
    place::{PlaceArgs, Service},
    printable::json_line,
};
use report::{Report, State};

/// A service that does not answer by then is down.
const PATIENCE: Duration = Duration::from_secs(3);

/// Prints the state of all services. Exit status: 0 healthy, 1 with a problem, 3 where one is down.
pub(crate) async fn run(args: StatusArgs, paint: Paint) -> Result<ExitCode> {
    let asked = args.place.services().into_iter();
    let reports = futures_util::future::join_all(asked.map(|service| ask(&args.place, service)));
    let (reports, paused_until) = tokio::join!(reports, paused(&args.place));
    let worst = reports
        .iter()
        .map(|report| report.health)
        .max()
        .unwrap_or(State::Ok);
    let text = if args.json {
        json_line(&Whole {
            health: worst,
            paused_until,
            services: &reports,
        })?
    } else {
        let stopped = match is_stopped(&args.place, &reports).await {
            true => "it is stopped, and everything passes: `portmaster start` starts it\n",
            false => "",
        };
        let reports = reports
            .iter()
            .map(|report| report.text(paint))
            .chain([stopped.to_owned()]);
        paused_until
            .map(|until| pause_text(&until, paint))
            .into_iter()
            .chain(reports)
            .collect()
    };
    print(&text)?;
    Ok(worst.exit_code())
}

/// All are down, since their owner has it so on this host.
async fn is_stopped(place: &PlaceArgs, reports: &[Report]) -> bool {
    let all_down = reports.iter().all(|report| report.health == State::Down);
    all_down && place.is_of_host() && host::is_stopped().await.unwrap_or(false)
}

#[derive(Serialize)]
struct Whole<'a> {
    health: State,
    /// RFC 3339; null: not paused, or the policy service does not say.
    paused_until: Option<String>,
    services: &'a [Report],
}

/// The end of the pause in force. A service of before there were pauses, or one that is down, has none.
async fn paused(place: &PlaceArgs) -> Option<String> {
    timeout(PATIENCE, pause::in_force(place)).await.ok().flatten()
}

fn pause_text(until: &str, paint: Paint) -> String {
    let (paused, until) = (
        paint.text(Tone::Warning, "paused", 0),
        clock::second_of_day(until),
    );
    format!("{paused} until {until}: what would be refused passes (`portmaster resume` ends it)\n")
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
    timeout(PATIENCE, grpc::state(service.name(), place.channel(service)))
        .await
        .unwrap_or_else(|_| Err(late()))
        .map_err(|status| place.why(service, &status))
}
