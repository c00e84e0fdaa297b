//! `portmaster gate17 speed`

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use proto::gate17::v1::{
    MeasureRequest, MeasuredPath, MeasuredWay, gate17_entry_client::Gate17EntryClient, measure_event::Said,
};
use serde_json::{Value, json};

use super::SpeedArgs;
use crate::{
    clock,
    output::print,
    place::Service,
    printable::{json_line, printable},
};

pub(super) async fn speed(args: SpeedArgs) -> Result<ExitCode> {
    let place = &args.plain.place;
    let mut client = Gate17EntryClient::new(place.channel(Service::Gate17Entry));
    let request = MeasureRequest {
        node: args.via.clone().unwrap_or_default(),
        hops: args.hops.unwrap_or_default(),
        profile: args.profile.clone(),
        time: Duration::from_secs(args.seconds).try_into().ok(),
    };
    let mut events = place.answer(Service::Gate17Entry, client.measure(request).await)?;
    let mut found = Found::default();
    loop {
        let event = events.message().await;
        let event = event.map_err(|status| place.unreachable(Service::Gate17Entry, &status))?;
        let Some(said) = event.and_then(|event| event.said) else {
            break;
        };
        // what is known is shown at once: the rest takes seconds
        let line = match said {
            Said::Path(path) => {
                let line = path_line(&path);
                found.path = Some(path);
                line
            }
            Said::Received(way) => {
                found.received = Some(way);
                way_line("received", &way)
            }
            Said::Sent(way) => {
                found.sent = Some(way);
                way_line("sent", &way)
            }
            Said::Problem(problem) => bail!("not measured: {}", printable(&problem)),
        };
        if !args.plain.json {
            print(&line)?;
        }
    }
    if found.sent.is_none() {
        bail!("the entry ended the measurement: is it being restarted? `portmaster status` tells");
    }
    if args.plain.json {
        return print(&json_line(&found.json())?);
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Default)]
struct Found {
    path: Option<MeasuredPath>,
    received: Option<MeasuredWay>,
    sent: Option<MeasuredWay>,
}

impl Found {
    fn json(&self) -> Value {
        let path = self.path.clone().unwrap_or_default();
        json!({
            "hops": path.hops, "building_us": path.building.as_ref().map(clock::microseconds),
            "round_trip_us": path.round_trip.as_ref().map(clock::microseconds),
            "received": self.received.as_ref().map(way_json), "sent": self.sent.as_ref().map(way_json),
        })
    }
}

fn way_json(way: &MeasuredWay) -> Value {
    json!({
        "octets": way.octets, "time_us": way.time.as_ref().map(clock::microseconds),
        "mbit_per_s": megabits(way),
        "round_trip_us": way.round_trip.as_ref().map(clock::microseconds),
        "longest_round_trip_us": way.longest_round_trip.as_ref().map(clock::microseconds),
    })
}

fn path_line(path: &MeasuredPath) -> String {
    let trip = path
        .round_trip
        .as_ref()
        .map_or_else(|| "not measured".to_owned(), span);
    let built = path.building.as_ref().map(span).unwrap_or_default();
    format!(
        "{}: built in {built}, round trip {trip}\n",
        printable(&path.hops.join(" → "))
    )
}

fn way_line(what: &str, way: &MeasuredWay) -> String {
    let time = way.time.as_ref().map(span).unwrap_or_default();
    let trips = match (&way.round_trip, &way.longest_round_trip) {
        (Some(median), Some(longest)) => {
            format!(
                "; round trip meanwhile {}, at most {}",
                span(median),
                span(longest)
            )
        }
        _ => String::new(),
    };
    format!(
        "{what:<8} {:.1} Mbit/s ({} in {time}){trips}\n",
        megabits(way).unwrap_or_default(),
        clock::octets(way.octets),
    )
}

/// Of the octets that were carried for somebody; what wraps them is not counted.
#[expect(
    clippy::cast_precision_loss,
    reason = "figures for people: nine digits are enough"
)]
fn megabits(way: &MeasuredWay) -> Option<f64> {
    let micros = way
        .time
        .as_ref()
        .map(clock::microseconds)
        .filter(|time| *time > 0)?;
    Some(way.octets as f64 * 8.0 / micros as f64)
}

fn span(time: &prost_types::Duration) -> String {
    clock::span(Duration::from_micros(clock::microseconds(time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_told_in_megabits_with_what_the_path_took_meanwhile() {
        let of = |millis| Duration::from_millis(millis).try_into().ok();
        let way = MeasuredWay {
            octets: 25_000_000,
            time: of(2000),
            round_trip: of(12),
            longest_round_trip: of(40),
        };
        let line = way_line("sent", &way);
        assert!(
            line.starts_with("sent     100.0 Mbit/s (") && line.contains("12.0 ms, at most 40.0 ms"),
            "{line}"
        );
        let none = MeasuredWay::default();
        assert_eq!(megabits(&none), None);
        assert!(!way_line("sent", &none).contains("meanwhile"));
    }
}
