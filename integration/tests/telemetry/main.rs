//! What leaves by OTLP: one connection is one trace across services, and nobody's name is in it unless the owner says so.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests: what fails there fails the test"
)]

mod booted;
mod collector;
mod everything;

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    time::{Duration, Instant},
};

use collector::{Collector, Received, service, word};
use integration::{Service, World, eventually};
use opentelemetry_proto::tonic::trace::v1::Span;

/// The collector stands beside the services: what they send there is a connection of their own host.
const COLLECTOR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4317);
/// curl's exit code.
const NOT_CONNECTED: i32 = 7;
const PROFILE: &str = "secretive";
/// Far longer than a service's own bound for its last words (1 s), shorter than the exporter's time-out (10 s).
const PROMPT: Duration = Duration::from_secs(8);

/// A world without services, whose internet can be connected to by curl.
fn world(label: &str) -> World {
    let program = "[[match]]\npath = '/usr/bin/curl'\n\n[settings]\ndefault_action = 'block'\n";
    World::builder(label)
        .without_services()
        .profile(PROFILE, program)
        .start()
}

fn start(world: &mut World, settings: &[(&str, &str)]) {
    for name in Service::ALL {
        let mut command = world.service_command(name);
        exports(&mut command, &format!("http://{COLLECTOR}"));
        command.envs(settings.iter().copied());
        world.start_as(name, command);
    }
}

/// Often, so that no test waits.
fn exports(command: &mut std::process::Command, to: &str) {
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", to)
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .env("OTEL_BLRP_SCHEDULE_DELAY", "100")
        .env("OTEL_METRIC_EXPORT_INTERVAL", "200")
        .env("PORTMASTER_LOG", "info");
}

/// Connections of the real curl, until one is refused: by then the profile is in force.
fn curl_is_blocked(world: &World) {
    let to = world.internet.echo(world.internet_addresses()[0], 443);
    eventually("curl is blocked", || {
        let mut command = world.host.command("/usr/bin/curl");
        command.args(["--silent", "--max-time", "5", &format!("http://{to}/")]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        // where it is let through it complains of what an echo answers
        (command.status().unwrap().code() == Some(NOT_CONNECTED)).then_some(())
    });
}

/// The whole trace of the first connection that was blocked, once all of it is there.
fn blocked_trace(received: &Received) -> Option<Vec<(String, Span)>> {
    let blocked = received.spans().find(|(_, span)| {
        span.name == "connection" && word(&span.attributes, "portmaster.verdict") == Some("block")
    })?;
    let trace: Vec<_> = received
        .spans()
        .filter(|(_, span)| span.trace_id == blocked.1.trace_id)
        .map(|(service, span)| (service.to_owned(), span.clone()))
        .collect();
    (trace.len() >= 6).then_some(trace)
}

fn one<'a>(trace: &'a [(String, Span)], service: &str, name: &str) -> &'a Span {
    let of: Vec<_> = trace
        .iter()
        .filter(|(of, span)| of == service && span.name == name)
        .collect();
    let [(_, span)] = of[..] else {
        panic!("one span {name:?} of {service} in {trace:#?}");
    };
    span
}

#[test]
fn one_connection_is_one_trace_across_services_and_names_nobody() {
    let mut world = world("otlp");
    let collector = Collector::start(&world.host, COLLECTOR);
    start(&mut world, &[]);
    curl_is_blocked(&world);
    let trace = collector.until("the trace is there", blocked_trace);

    let connection = one(&trace, "portmaster-interceptor", "connection");
    let attribution = one(&trace, "portmaster-interceptor", "attribution");
    let decide = one(&trace, "portmaster-interceptor", "decide");
    let resolve = one(&trace, "portmaster-process-resolver", "resolve");
    assert!(connection.parent_span_id.is_empty(), "{connection:#?}");
    assert_eq!(attribution.parent_span_id, connection.span_id);
    assert_eq!(decide.parent_span_id, connection.span_id);
    assert_eq!(resolve.parent_span_id, attribution.span_id);
    for whom in ["subscribers", "bus"] {
        let publish = trace
            .iter()
            .map(|(_, span)| span)
            .find(|span| span.name == "publish" && word(&span.attributes, "portmaster.to") == Some(whom));
        let publish = publish.unwrap_or_else(|| panic!("published to {whom}: {trace:#?}"));
        assert_eq!(publish.parent_span_id, connection.span_id);
        assert_eq!(publish.start_time_unix_nano, connection.end_time_unix_nano);
        assert!(publish.start_time_unix_nano <= publish.end_time_unix_nano);
    }
    assert_eq!(word(&connection.attributes, "network.transport"), Some("tcp"));
    assert_eq!(word(&connection.attributes, "network.type"), Some("ipv4"));
    assert_eq!(
        word(&connection.attributes, "portmaster.why"),
        Some("default-action")
    );
    assert_eq!(word(&resolve.attributes, "portmaster.answer"), Some("process"));
    assert!(connection.start_time_unix_nano <= connection.end_time_unix_nano);

    for of in Service::ALL {
        let program = of.program();
        collector.until(&format!("metrics and logs of {program} are there"), |received| {
            let metrics = received
                .metrics
                .iter()
                .flat_map(|request| &request.resource_metrics);
            let logs = received.logs.iter().flat_map(|request| &request.resource_logs);
            (metrics.into_iter().any(|of| {
                service(of.resource.as_ref()) == program && format!("{of:?}").contains("portmaster.health")
            }) && logs
                .into_iter()
                .any(|of| service(of.resource.as_ref()) == program))
            .then_some(())
        });
    }
    collector.until("the decision is counted", |received| {
        format!("{:?}", received.metrics)
            .contains("connections_decided")
            .then_some(())
    });

    for service in Service::ALL {
        world.stop(service); // says its last words
    }
    let text = collector.until("all is said", |received| Some(received.text()));
    let root = world.root().display().to_string();
    let server = world.internet_addresses()[0].to_string();
    let own = world.link.a.v4.to_string();
    for secret in ["curl", PROFILE, "/usr/bin", &root, &server, &own] {
        assert!(!text.contains(secret), "{secret:?} left: {text}");
    }
}

#[test]
fn names_and_addresses_leave_where_the_owner_says_so() {
    let mut world = world("otlp-names");
    let collector = Collector::start(&world.host, COLLECTOR);
    start(&mut world, &[("PORTMASTER_EXPORT_NAMES", "1")]);
    curl_is_blocked(&world);
    let trace = collector.until("the trace is there", blocked_trace);
    let connection = one(&trace, "portmaster-interceptor", "connection");
    let attribute = |key| word(&connection.attributes, key).map(str::to_owned);
    let server = world.internet_addresses()[0].to_string();
    assert_eq!(
        attribute("process.executable.path").as_deref(),
        Some("/usr/bin/curl")
    );
    assert_eq!(attribute("network.peer.address"), Some(server));
    assert_eq!(attribute("portmaster.profile").as_deref(), Some(PROFILE));
    collector.until("log lines have their words", |received| {
        format!("{:?}", received.logs)
            .contains("StringValue(\"ready\")")
            .then_some(())
    });
}

#[test]
fn what_is_not_sampled_is_not_traced() {
    let mut world = world("otlp-off");
    let collector = Collector::start(&world.host, COLLECTOR);
    start(&mut world, &[("OTEL_TRACES_SAMPLER", "always_off")]);
    curl_is_blocked(&world);
    collector.until("the decision is counted", |received| {
        format!("{:?}", received.metrics)
            .contains("connections_decided")
            .then_some(())
    });
    for service in Service::ALL {
        world.stop(service);
    }
    let spans = collector.until("all is said", |received| Some(received.spans().count()));
    assert_eq!(spans, 0);
}

#[test]
fn a_collector_that_is_not_there_costs_one_line() {
    let mut world = world("otlp-gone");
    start(&mut world, &[]);
    let line = "the OTLP collector takes nothing";
    curl_is_blocked(&world);
    eventually("it is said", || {
        world.output(Service::Interceptor).contains(line).then_some(())
    });
    stops_promptly(&mut world);
    let output = world.output(Service::Interceptor);
    assert_eq!(output.matches(line).count(), 1, "{output}");
}

/// A listener that nobody accepts from: connections are made, and nothing is ever answered.
#[test]
fn a_collector_that_hangs_holds_nobody_up() {
    let mut world = world("otlp-hangs");
    let _hangs = world
        .host
        .enter(|| std::net::TcpListener::bind(COLLECTOR))
        .unwrap();
    start(&mut world, &[]);
    curl_is_blocked(&world);
    stops_promptly(&mut world);
}

fn stops_promptly(world: &mut World) {
    for service in Service::ALL {
        let begun = Instant::now();
        world.stop(service);
        assert!(
            begun.elapsed() < PROMPT,
            "{} took {:?} to stop",
            service.name(),
            begun.elapsed()
        );
    }
}

#[test]
fn an_endpoint_that_is_none_does_not_keep_a_firewall_from_starting() {
    let mut world = world("otlp-bad");
    let mut command = world.service_command(Service::Policy);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url");
    world.start_as(Service::Policy, command);
    assert!(
        world.output(Service::Policy).contains("nothing is exported"),
        "{}",
        world.output(Service::Policy)
    );
}
