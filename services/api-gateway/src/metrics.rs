//! The services' counters for whoever scrapes (OpenMetrics 1.0 text format).

use std::{collections::BTreeMap, fmt::Write as _};

use api::v1::Service;
use proto::common::v1::Health;

/// Of the text.
pub const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every service's health and counters. Aggregates alone: no name, no address.
pub fn text(services: &[Service]) -> String {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut add = |name: &str, is_gauge, service: &str, value| {
        let family = families
            .entry(format!("portmaster_{}", word(name)))
            .or_insert(Family {
                is_gauge,
                samples: Vec::new(),
            });
        family.samples.push((word_of_label(service), value));
    };
    for service in services {
        let is_well = |state: &proto::common::v1::ServiceState| state.health() == Health::Ok;
        add("up", true, &service.name, service.state.is_some().into());
        add(
            "healthy",
            true,
            &service.name,
            service.state.as_ref().is_some_and(is_well).into(),
        );
        for (name, value) in service.state.iter().flat_map(|state| &state.counters) {
            match name.strip_suffix("_now") {
                Some(name) => add(name, true, &service.name, *value),
                None => add(name, false, &service.name, *value),
            }
        }
    }
    let mut text = String::new();
    for (name, family) in families {
        let (kind, suffix) = if family.is_gauge {
            ("gauge", "")
        } else {
            ("counter", "_total")
        };
        // writing to a String cannot fail
        let _ = writeln!(text, "# TYPE {name} {kind}");
        for (service, value) in family.samples {
            let _ = writeln!(text, "{name}{suffix}{{service=\"{service}\"}} {value}");
        }
    }
    text.push_str("# EOF\n");
    text
}

struct Family {
    is_gauge: bool,
    samples: Vec<(String, u64)>,
}

fn word(name: &str) -> String {
    let fits = |sign: char| if sign.is_ascii_alphanumeric() { sign } else { '_' };
    let name = name.strip_suffix("_total").unwrap_or(name);
    name.chars().map(fits).collect()
}

fn word_of_label(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
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
