//! The services' counters, gauges and histograms for whoever scrapes, and the gateway's own.

use api::v1::Service;
pub use daemon::open_metrics::KIND;
use daemon::{
    metrics::{Also, EVENTS_DROPPED, Histogram, Metric},
    open_metrics::Text,
    status::Status,
};
use proto::common::v1::Health;

const REQUEST: Metric = Metric {
    name: "http.server.request.duration",
    unit: "s",
    description: "From a request to the head of its answer",
};
const CALLS: Metric = Metric {
    name: "portmaster.api.calls",
    unit: "{call}",
    description: "Calls of methods, by whether they were let in",
};
const REFUSED: Metric = Metric {
    name: "portmaster.api.connections.refused",
    unit: "{connection}",
    description: "Connections that were closed at once",
};

/// What is counted plainly, and is a metric's series as well.
const ALSO: [Also; 5] = [
    ("calls", CALLS, &[("portmaster.result", "asked")]),
    ("calls_refused", CALLS, &[("portmaster.result", "refused")]),
    (
        "connections_of_strangers",
        REFUSED,
        &[("portmaster.why", "stranger")],
    ),
    ("connections_too_many", REFUSED, &[("portmaster.why", "too-many")]),
    ("events_lost", EVENTS_DROPPED, &[("portmaster.to", "gateway")]),
];

/// How long requests of each form took.
#[derive(Clone, Debug)]
pub struct Requests {
    /// gRPC and gRPC-web.
    pub grpc: Histogram,
    /// All else.
    pub http: Histogram,
}

/// In the service's state from now on.
pub fn show(status: &Status) -> Requests {
    status.show_also(&ALSO);
    let form = |form| status.histogram(REQUEST, &[("portmaster.form", form)]);
    Requests {
        grpc: form("grpc"),
        http: form("http"),
    }
}

/// Every service's health and figures. Aggregates alone: no name, no address.
pub fn text(services: &[Service]) -> String {
    let mut text = Text::default();
    for service in services {
        let labels = [("service", service.name.as_str())];
        let is_well = service
            .state
            .as_ref()
            .is_some_and(|state| state.health() == Health::Ok);
        text.gauge("portmaster_up", &labels, service.state.is_some().into());
        text.gauge("portmaster_healthy", &labels, is_well.into());
        if let Some(state) = &service.state {
            text.state("portmaster", &labels, state);
        }
    }
    text.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::common::v1::ServiceState;

    #[test]
    fn counters_and_gauges_are_told_apart() {
        let state = ServiceState {
            health: Health::Ok.into(),
            counters: [("events".to_owned(), 7), ("streams_now".to_owned(), 2)].into(),
            ..ServiceState::default()
        };
        let services = [
            Service {
                name: "dns".into(),
                state: Some(state),
                problem: String::new(),
            },
            Service {
                name: "policy".into(),
                ..Service::default()
            },
        ];
        let expected = "# TYPE portmaster_events counter\nportmaster_events_total{service=\"dns\"} 7\n\
             # TYPE portmaster_healthy gauge\nportmaster_healthy{service=\"dns\"} 1\nportmaster_healthy{service=\"policy\"} 0\n\
             # TYPE portmaster_streams gauge\nportmaster_streams{service=\"dns\"} 2\n\
             # TYPE portmaster_up gauge\nportmaster_up{service=\"dns\"} 1\nportmaster_up{service=\"policy\"} 0\n# EOF\n";
        assert_eq!(text(&services), expected);
    }
}
