//! All services at once: each exports, and what is exported and scraped has the shape that the documentation says.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use integration::{NameServer, Running, Service, World, binary, world::INTERNET_V4};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data};

use crate::{
    COLLECTOR, PROFILE,
    collector::{Collector, Received, word},
    curl_is_blocked, exports, one,
};

pub(crate) const ALL: [Service; 6] = [
    Service::Resolver,
    Service::Policy,
    Service::Interceptor,
    Service::Dns,
    Service::Gate17Entry,
    Service::ApiGateway,
];
const NAME: &str = "a-secret-name.example";
/// Parses as strictly as the specification is, and prints the families.
const PARSE: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as families
for family in families(sys.stdin.read()):
    print(family.type, family.name, family.unit or '-', len(family.samples))
";

/// What each service is to tell: its metrics, and `h` for a histogram, `c` for a counter, `g` for a gauge.
const TOLD: [(&str, &[(&str, char)]); 7] = [
    (
        "portmaster-interceptor",
        &[
            ("portmaster.decisions", 'c'),
            ("portmaster.stage.duration", 'h'),
            ("portmaster.queue.depth", 'g'),
            ("portmaster.packets.dropped", 'c'),
            ("portmaster.events.dropped", 'c'),
        ],
    ),
    (
        "portmaster-process-resolver",
        &[
            ("portmaster.attributions", 'c'),
            ("portmaster.stage.duration", 'h'),
            ("portmaster.cache.entries", 'g'),
        ],
    ),
    ("portmaster-policy", &[("portmaster.health", 'g')]),
    (
        "portmaster-dns",
        &[
            ("portmaster.dns.queries", 'c'),
            ("portmaster.dns.answers", 'c'),
            ("portmaster.cache.lookups", 'c'),
            ("dns.lookup.duration", 'h'),
        ],
    ),
    (
        "portmaster-gate17-entry",
        &[
            ("portmaster.gate17.circuits", 'g'),
            ("portmaster.gate17.io", 'c'),
            ("portmaster.gate17.circuit.build.duration", 'h'),
        ],
    ),
    ("portmaster-gate17-node", &[("portmaster.gate17.streams", 'g')]),
    (
        "portmaster-api-gateway",
        &[
            ("http.server.request.duration", 'h'),
            ("portmaster.api.calls", 'c'),
        ],
    ),
];

fn kind(metric: &Metric) -> char {
    match &metric.data {
        Some(Data::Histogram(_)) => 'h',
        Some(Data::Sum(sum)) if sum.is_monotonic => 'c',
        Some(Data::Gauge(_)) => 'g',
        _ => '?',
    }
}

/// How many times a stage was gone through, as the last export has it.
fn count(metric: &Metric, stage: &str) -> u64 {
    let Some(Data::Histogram(histogram)) = &metric.data else {
        return 0;
    };
    let mut of_stage = histogram
        .data_points
        .iter()
        .filter(|point| word(&point.attributes, "portmaster.stage").is_none_or(|is| is == stage));
    of_stage.next().map_or(0, |point| {
        assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        point.count
    })
}

/// One world, since starting it is what takes the time.
#[test]
fn every_service_exports_figures_of_the_same_shape_and_names_nobody() {
    let mut world = World::builder("otlp-all")
        .without_services()
        .profile(
            PROFILE,
            "[[match]]\npath = '/usr/bin/curl'\n\n[settings]\ndefault_action = 'block'\n",
        )
        .profile(
            "through",
            "[[match]]\npath = '/usr/bin/nc.openbsd'\n\n[settings]\ndefault_action = 'tunnel'\n",
        )
        .config_file(
            "dns.toml",
            &format!("[resolve.upstreams]\nservers = [\"udp://{INTERNET_V4}\"]\n"),
        )
        .config_file(
            "gate17-node.toml",
            "access = 'none'\nlisten = ['127.0.0.1:17', '127.0.0.1:443']\n",
        )
        .start();
    let addresses = world.internet_addresses();
    let records = [format!("address=/{NAME}/{INTERNET_V4}")];
    let _names = NameServer::start(&world.internet, &addresses, &records, world.root());
    let collector = Collector::start(&world.host, COLLECTOR);
    let socket = world.root().join("otlp.sock");
    collector.also_at(&socket);
    for service in ALL {
        let mut command = world.service_command(service);
        // as well by the file that services without a network use
        let by_file = service == Service::Policy || service == Service::Dns;
        let to = match by_file {
            true => format!("unix://{}", socket.display()),
            false => format!("http://{COLLECTOR}"),
        };
        exports(&mut command, &to);
        world.start_as(service, command);
    }
    let node = start_node(&world);

    curl_is_blocked(&world);
    let mut dig = world.host.command("dig");
    let answered = dig.args(["@127.0.0.1", "+short", NAME]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&answered.stdout).trim(),
        INTERNET_V4.to_string()
    );
    the_query_is_a_trace(&collector);
    the_tunnel_is_part_of_the_trace(&world, &collector);
    the_metrics_have_their_shape(&collector);

    let scraped = world
        .host
        .command("curl")
        .args(["-sS", "--max-time", "10", "http://127.0.0.1:817/metrics"])
        .output();
    // the world's policy has curl blocked from the internet, not from this host
    let scraped = String::from_utf8(scraped.unwrap().stdout).unwrap();
    let families = parsed(&scraped);
    for family in [
        "counter portmaster_decisions - ",
        "histogram portmaster_stage_duration_seconds seconds ",
        "histogram dns_lookup_duration_seconds seconds ",
        "counter portmaster_gate17_io_bytes bytes ",
        "gauge portmaster_up - 6",
    ] {
        assert!(families.contains(family), "{family:?} in\n{families}");
    }
    let file = world.root().join("run/portmaster/gate17-node/metrics.prom");
    let figures = integration::eventually("the node writes its figures", || {
        std::fs::read_to_string(&file).ok()
    });
    assert!(
        parsed(&figures).contains("gauge portmaster_gate17_streams - 1"),
        "{figures}"
    );

    drop(node);
    for service in ALL {
        world.stop(service); // says its last words
    }
    let text = collector.until("all is said", |received| Some(received.text()));
    let root = world.root().display().to_string();
    let own = world.link.a.v4.to_string();
    let server = INTERNET_V4.to_string();
    for secret in [
        "curl",
        "dig",
        "openbsd",
        PROFILE,
        "a-secret-name",
        "/usr/bin",
        &root,
        &server,
        &own,
    ] {
        assert!(!text.contains(secret), "{secret:?} left: {text}");
        assert!(!scraped.contains(secret), "{secret:?} is scraped: {scraped}");
        assert!(!figures.contains(secret), "{secret:?} is written: {figures}");
    }
}

fn start_node(world: &World) -> Running {
    let mut command = world.program_command(&binary("portmaster-gate17-node"));
    exports(&mut command, &format!("http://{COLLECTOR}"));
    Running::start_logged("the node", command, &world.root().join("node.log"))
}

fn the_query_is_a_trace(collector: &Collector) {
    let trace = collector.until("the query's trace is there", |received| {
        let (_, query) = received.spans().find(|(service, span)| {
            *service == "portmaster-dns"
                && span.name == "query"
                && word(&span.attributes, "portmaster.dns.source") == Some("upstream")
        })?;
        let trace: Vec<_> = received
            .spans()
            .filter(|(_, span)| span.trace_id == query.trace_id)
            .map(|(service, span)| (service.to_owned(), span.clone()))
            .collect();
        (trace.len() >= 4).then_some(trace)
    });
    let query = one(&trace, "portmaster-dns", "query");
    let attribution = one(&trace, "portmaster-dns", "attribution");
    let lookup = one(&trace, "portmaster-dns", "lookup");
    let resolve = one(&trace, "portmaster-process-resolver", "resolve");
    assert!(query.parent_span_id.is_empty());
    assert_eq!(attribution.parent_span_id, query.span_id);
    assert_eq!(lookup.parent_span_id, query.span_id);
    assert_eq!(resolve.parent_span_id, attribution.span_id);
}

/// The entry has no map here, and says so: that is an answer, and a span.
fn the_tunnel_is_part_of_the_trace(world: &World, collector: &Collector) {
    let mut nc = world.host.command("/usr/bin/nc.openbsd");
    nc.args(["-w", "3", &INTERNET_V4.to_string(), "443"]);
    let refused = nc.stdin(Stdio::null()).stderr(Stdio::null()).status();
    assert!(!refused.unwrap().success());
    let trace = collector.until("the tunnelled connection's trace is there", |received| {
        let (_, open) = received
            .spans()
            .find(|(service, span)| *service == "portmaster-gate17-entry" && span.name == "open")?;
        let trace: Vec<_> = received
            .spans()
            .filter(|(_, span)| span.trace_id == open.trace_id)
            .map(|(service, span)| (service.to_owned(), span.clone()))
            .collect();
        (trace.len() >= 8).then_some(trace)
    });
    let connection = one(&trace, "portmaster-interceptor", "connection");
    let tunnel = one(&trace, "portmaster-interceptor", "tunnel");
    let open = one(&trace, "portmaster-gate17-entry", "open");
    assert_eq!(tunnel.parent_span_id, connection.span_id);
    assert_eq!(open.parent_span_id, tunnel.span_id);
    assert!(
        word(&open.attributes, "portmaster.gate17.refused").is_some(),
        "{open:#?}"
    );
    assert_eq!(
        word(&connection.attributes, "portmaster.why"),
        Some("tunnel-unavailable")
    );
}

fn the_metrics_have_their_shape(collector: &Collector) {
    for (service, metrics) in TOLD {
        collector.until(&format!("all metrics of {service} are there"), |received| {
            let known = received.metrics(service);
            metrics
                .iter()
                .all(|(name, is)| known.get(*name).is_some_and(|metric| kind(metric) == *is))
                .then_some(())
        });
    }
    let stages = |service: &'static str, name: &'static str, stages: &'static [&'static str]| {
        let went = move |received: &Received| {
            let known = received.metrics(service);
            let metric = known.get(name)?;
            assert_eq!(metric.unit, "s");
            stages.iter().all(|stage| count(metric, stage) > 0).then_some(())
        };
        collector.until(&format!("every stage of {service} took its time"), went);
    };
    let stage = "portmaster.stage.duration";
    stages(
        "portmaster-interceptor",
        stage,
        &["attribution", "decide", "publish", "publish-bus"],
    );
    stages("portmaster-process-resolver", stage, &["resolve"]);
    stages("portmaster-dns", "dns.lookup.duration", &[""]);
    collector.until("the refusal is counted by verdict and why", |received| {
        let known = received.metrics("portmaster-interceptor");
        let Some(Data::Sum(decisions)) = &known.get("portmaster.decisions")?.data else {
            return None;
        };
        let refused = decisions.data_points.iter().any(|point| {
            word(&point.attributes, "portmaster.verdict") == Some("block")
                && word(&point.attributes, "portmaster.why") == Some("default-action")
        });
        refused.then_some(())
    });
}

/// Its families, a line for each.
fn parsed(text: &str) -> String {
    let mut parser = Command::new(Path::new("/usr/bin/python3"));
    parser
        .args(["-c", PARSE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut parser = parser.stderr(Stdio::piped()).spawn().unwrap();
    parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = parser.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}\nin\n{text}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
