//! What the service counts, as metrics have it. Nothing is counted twice, and nothing here is on the way of a query.

use daemon::{
    metrics::{Also, CACHE_LOOKUPS, EVENTS_DROPPED, Metric},
    status::Status,
};

use crate::{
    log::{Log, Origin},
    lookup::Lookup,
};

const LOOKUP: Metric = Metric {
    name: "dns.lookup.duration",
    unit: "s",
    description: "How long a question took that went to upstreams",
};
const ANSWERS: Metric = Metric {
    name: "portmaster.dns.answers",
    unit: "{answer}",
    description: "Answers, by where they came from",
};
const CODES: Metric = Metric {
    name: "portmaster.dns.responses",
    unit: "{answer}",
    description: "Answers, by response code",
};
const QUERIES: Metric = Metric {
    name: "portmaster.dns.queries",
    unit: "{query}",
    description: "Queries that came in",
};
const UNANSWERED: Metric = Metric {
    name: "portmaster.dns.unanswered",
    unit: "{query}",
    description: "Queries without a useful answer, by the reason",
};
const WAITING: Metric = Metric {
    name: "portmaster.dns.waiting",
    unit: "{query}",
    description: "Queries that wait now",
};
const ENTRIES: Metric = Metric {
    name: "portmaster.cache.entries",
    unit: "{entry}",
    description: "What is remembered now",
};

const CACHE: (&str, &str) = ("portmaster.cache", "answers");

/// What is counted plainly, and is a metric's series as well.
const ALSO: [Also; 17] = [
    ("queries_udp_received", QUERIES, &[("network.transport", "udp")]),
    ("queries_tcp_received", QUERIES, &[("network.transport", "tcp")]),
    ("queries_noerror", CODES, &[("dns.response.code", "noerror")]),
    ("queries_nxdomain", CODES, &[("dns.response.code", "nxdomain")]),
    ("queries_servfail", CODES, &[("dns.response.code", "servfail")]),
    ("queries_refused", CODES, &[("dns.response.code", "refused")]),
    ("queries_other", CODES, &[("dns.response.code", "other")]),
    ("queries_dropped", UNANSWERED, &[("portmaster.why", "dropped")]),
    (
        "queries_overflowed",
        UNANSWERED,
        &[("portmaster.why", "overflowed")],
    ),
    (
        "queries_malformed",
        UNANSWERED,
        &[("portmaster.why", "malformed")],
    ),
    ("queries_foreign", UNANSWERED, &[("portmaster.why", "foreign")]),
    (
        "lookups_turned_away",
        UNANSWERED,
        &[("portmaster.why", "turned-away")],
    ),
    ("queries_outstanding_now", WAITING, &[]),
    ("cache_entries_now", ENTRIES, &[CACHE]),
    (
        "cache_hits",
        CACHE_LOOKUPS,
        &[CACHE, ("portmaster.result", "hit")],
    ),
    (
        "cache_misses",
        CACHE_LOOKUPS,
        &[CACHE, ("portmaster.result", "miss")],
    ),
    ("bus_events_dropped", EVENTS_DROPPED, &[("portmaster.to", "bus")]),
];

/// In the service's state from now on.
pub fn show(status: &Status, lookup: &Lookup) {
    status.show_also(&ALSO);
    status.show(LOOKUP, &[], lookup.asking());
    for origin in Origin::ALL {
        status.counted(ANSWERS, &[("portmaster.dns.source", origin.text())]);
    }
}

/// What the log counted meanwhile.
pub fn count(status: &Status, log: &Log) {
    for (origin, count) in log.counts() {
        let answers = status.counted(ANSWERS, &[("portmaster.dns.source", origin.text())]);
        answers.set(count);
    }
}
