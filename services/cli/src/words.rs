//! A connection in words for people. Everything from outside passes [`printable`].

use std::time::Duration;

use crate::{
    clock,
    event_json::{EventJson, Kind, ProcessJson},
    paint::Tone,
    printable::printable,
};

/// Program and process id: `curl[1234]`, with the local port where it is the one that is asked for.
pub(crate) fn app(event: &EventJson) -> String {
    let name = match &event.process {
        Some(process) => process_name(process),
        None => unknown(event),
    };
    match event.local_port {
        Some(port) if event.direction == "in" => format!("{name} :{port}"),
        _ => name,
    }
}

/// `curl[1234]`
pub(crate) fn process_name(process: &ProcessJson) -> String {
    format!("{}[{}]", printable(process.label()), process.pid)
}

fn unknown(event: &EventJson) -> String {
    let miss = if event.miss.is_empty() {
        "unknown"
    } else {
        &event.miss
    };
    match event.uid {
        Some(uid) => format!("? {miss}, uid {uid}"),
        None => format!("? {miss}"),
    }
}

/// `→ example.com:443 (93.184.216.34)`; the arrow points to where the connection goes.
pub(crate) fn remote(event: &EventJson) -> String {
    let arrow = if event.direction == "in" { '←' } else { '→' };
    let detail = match (event.remote_port, event.icmp_type, event.icmp_code) {
        (Some(port), ..) => format!(":{port}"),
        (None, Some(kind), Some(0) | None) => format!(" type {kind}"),
        (None, Some(kind), Some(code)) => format!(" type {kind} code {code}"),
        (None, None, _) => String::new(),
    };
    if event.domain.is_empty() {
        let bracketed = event.remote.contains(':') && event.remote_port.is_some();
        let address = if bracketed {
            format!("[{}]", event.remote)
        } else {
            event.remote.clone()
        };
        return format!("{arrow} {address}{detail}");
    }
    format!("{arrow} {}{detail} ({})", printable(&event.domain), event.remote)
}

/// `default-action global#default_action`; where it goes through Gate17, by which nodes, or why it does not; at the end what
/// went through.
pub(crate) fn reason(event: &EventJson) -> String {
    let rule = printable(&event.rule);
    let mut reason = match event.kind {
        Kind::Ended => return totals(event),
        Kind::Redecided => format!("changed: {} {rule}", event.why).trim_end().to_owned(),
        _ => format!("{} {rule}", event.why).trim_end().to_owned(),
    };
    if !event.hops.is_empty() {
        reason += &format!(" by {}", printable(&event.hops.join(", ")));
    }
    if !event.tunnel_problem.is_empty() {
        reason += &format!(" ({})", printable(&event.tunnel_problem));
    }
    reason
}

fn totals(event: &EventJson) -> String {
    let (Some(sent), Some(received)) = (event.sent_bytes, event.received_bytes) else {
        return String::new();
    };
    let (sent, received) = (clock::octets(sent), clock::octets(received));
    match event.duration_us {
        Some(micros) => format!(
            "{sent} out, {received} in, {}",
            clock::span(Duration::from_micros(micros))
        ),
        None => format!("{sent} out, {received} in"),
    }
}

/// `allow`, …; `ended` at the end.
pub(crate) fn fate(event: &EventJson) -> (Tone, &str) {
    match event.kind {
        Kind::Ended => (Tone::Faint, "ended"),
        _ => (
            tone(&event.verdict),
            if event.verdict.is_empty() {
                "?"
            } else {
                &event.verdict
            },
        ),
    }
}

/// How a verdict looks.
pub(crate) fn tone(verdict: &str) -> Tone {
    match verdict {
        "allow" => Tone::Good,
        "block" | "drop" => Tone::Bad,
        "tunnel" | "redirect-dns" => Tone::Special,
        _ => Tone::Warning,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> EventJson {
        EventJson {
            kind: Kind::Decided,
            direction: "out".to_owned(),
            remote: "2001:db8::7".to_owned(),
            remote_port: Some(443),
            process: Some(ProcessJson {
                pid: 12,
                path: "/usr/bin/cu\x1b[31mrl".to_owned(),
                ..ProcessJson::default()
            }),
            verdict: "allow".to_owned(),
            why: "rule".to_owned(),
            rule: "curl#2".to_owned(),
            ..EventJson::default()
        }
    }

    #[test]
    fn an_outgoing_connection_in_words() {
        assert_eq!(app(&event()), "cu\\u{1b}[31mrl[12]");
        assert_eq!(remote(&event()), "→ [2001:db8::7]:443");
        assert_eq!(reason(&event()), "rule curl#2");
        assert_eq!(fate(&event()), (Tone::Good, "allow"));
        let named = EventJson {
            domain: "a.example\n".to_owned(),
            ..event()
        };
        assert_eq!(remote(&named), "→ a.example\\n:443 (2001:db8::7)");
        let tunnelled = EventJson {
            hops: vec!["alpha".to_owned(), "beta".to_owned()],
            ..event()
        };
        assert_eq!(reason(&tunnelled), "rule curl#2 by alpha, beta");
        let refused = EventJson {
            tunnel_problem: "beta: no\n".to_owned(),
            ..event()
        };
        assert_eq!(reason(&refused), "rule curl#2 (beta: no\\n)");
    }

    #[test]
    fn an_incoming_connection_shows_the_port_that_is_asked_for() {
        let event = EventJson {
            direction: "in".to_owned(),
            local_port: Some(22),
            process: None,
            miss: "no-socket".to_owned(),
            ..event()
        };
        assert_eq!(app(&event), "? no-socket :22");
        assert_eq!(remote(&event), "← [2001:db8::7]:443");
        assert_eq!(
            app(&EventJson {
                uid: Some(0),
                ..event
            }),
            "? no-socket, uid 0 :22"
        );
    }

    #[test]
    fn a_ping_has_a_type_and_no_port() {
        let ping = EventJson {
            remote_port: None,
            icmp_type: Some(128),
            icmp_code: Some(0),
            ..event()
        };
        assert_eq!(remote(&ping), "→ 2001:db8::7 type 128");
        assert_eq!(
            remote(&EventJson {
                icmp_code: Some(4),
                ..ping
            }),
            "→ 2001:db8::7 type 128 code 4"
        );
    }

    #[test]
    fn the_end_says_what_went_through() {
        let end = EventJson {
            kind: Kind::Ended,
            sent_bytes: Some(120),
            received_bytes: Some(4_500),
            duration_us: Some(1_200_000),
            ..event()
        };
        assert_eq!(reason(&end), "120 B out, 4.5 kB in, 1.2 s");
        assert_eq!(fate(&end), (Tone::Faint, "ended"));
    }
}
