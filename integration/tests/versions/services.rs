//! A service of the version before this one works with the others, and one takes over from the other.

use std::net::SocketAddr;

use integration::{
    App, Events, NameServer, Service, World, binary, eventually,
    world::{INTERNET_V4, INTERNET_V6},
};
use proto::{flow::v1::Verdict, interceptor::v1::ConnectionEvent};
use serde_json::Value;

use crate::previous;

#[test]
fn an_interceptor_of_the_previous_version_works_with_the_others() {
    beside(Service::Interceptor);
}

#[test]
fn a_policy_of_the_previous_version_works_with_the_others() {
    beside(Service::Policy);
}

#[test]
fn a_resolver_of_the_previous_version_works_with_the_others() {
    beside(Service::Resolver);
}

#[test]
fn a_name_server_of_the_previous_version_works_with_the_others() {
    beside(Service::Dns);
}

#[test]
fn an_entry_of_the_previous_version_works_with_the_others() {
    beside(Service::Gate17Entry);
}

#[test]
fn a_gateway_of_the_previous_version_works_with_the_others() {
    beside(Service::ApiGateway);
}

#[test]
fn the_previous_command_line_works_with_the_services() {
    let Some(program) = previous::program("portmaster") else {
        return;
    };
    let world = World::start("versions");
    let app = world.app("browser");
    let mut call = app.call(&world, world.internet.echo(world.internet_addresses()[0], 443));
    assert!(call.echoes("hello", integration::app::ATTEMPT));
    let run = |words: &[&str]| {
        let output = world.command(&program).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(run(&["connections", "--json"]).contains(app.path().to_str().unwrap()));
    assert!(run(&["status", "--json"]).contains("\"health\":\"ok\""));
}

const ALL: [Service; 6] = [
    Service::Resolver,
    Service::Policy,
    Service::Interceptor,
    Service::Dns,
    Service::Gate17Entry,
    Service::ApiGateway,
];

/// One old service among current ones; then the current one in its place, which finds what the old one kept; then the old
/// one again.
fn beside(old: Service) {
    let Some(program) = previous::program(&old.program()) else {
        return;
    };
    let dns = format!("[resolve.upstreams]\nservers = [\"udp://{INTERNET_V4}\"]\n");
    let mut world = World::builder("versions")
        .without_services()
        .config_file("dns.toml", &dns)
        .start();
    let servers = world
        .internet_addresses()
        .map(|address| world.internet.echo(address, 443));
    let records = [
        format!("address=/fine.example/{INTERNET_V4}"),
        format!("address=/fine.example/{INTERNET_V6}"),
    ];
    let _names = NameServer::start(
        &world.internet,
        &world.internet_addresses(),
        &records,
        world.root(),
    );
    for service in ALL {
        if service == old {
            let command = world.command_of(old, &program);
            world.start_as(service, command);
        } else {
            world.start_service(service);
        }
    }
    assert_eq!(old_ones(&world), [old.name()]);
    works(&world, servers, "first");
    world.stop(old);
    world.start_service(old);
    assert!(old_ones(&world).is_empty());
    works(&world, servers, "upgraded");
    world.stop(old);
    let command = world.command_of(old, &program);
    world.start_as(old, command);
    works(&world, servers, "back");
}

/// Services that say that they are of the previous version.
fn old_ones(world: &World) -> Vec<String> {
    let mut status = world.command(binary("portmaster"));
    let said = status.args(["status", "--json"]).output().unwrap().stdout;
    let said: Value = serde_json::from_slice(&said).unwrap();
    let services = said.get("services").unwrap().as_array().unwrap().iter();
    let old = services.filter(|service| {
        let version = service["version"].as_str();
        version.is_some_and(|version| version.ends_with(&previous::version()))
    });
    old.map(|service| service["service"].as_str().unwrap().to_owned())
        .collect()
}

/// A connection is decided with its program and a reason; a changed profile holds for new and for live ones; all of it is
/// told.
fn works(world: &World, servers: [SocketAddr; 2], name: &str) {
    let (app, events) = (world.app(name), world.events());
    let [server, another] = servers;
    let mut call = app.call(world, server);
    assert!(call.echoes("hello", integration::app::ATTEMPT));
    assert!(app.connect(world, another).connected);
    told(&events, &app, Verdict::Allow, "");
    world.profile(name, &app.profile("block", ""));
    eventually("the live connection is cut off", || {
        (!call.echoes("still there?", std::time::Duration::from_millis(200))).then_some(())
    });
    assert!(!app.connect(world, another).connected);
    told(&events, &app, Verdict::Block, name);
    names_and_doors(world, &app);
}

/// Names are resolved, the tunnel's entry says how it is, and the gateway tells of what was decided.
fn names_and_doors(world: &World, app: &App) {
    let said = |program: &str, words: &[&str]| {
        let output = world.command(program).args(words).output().unwrap();
        assert!(output.status.success(), "{program} {words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let portmaster = binary("portmaster");
    let portmaster = portmaster.to_str().unwrap();
    assert_eq!(
        said("dig", &["+short", "@127.0.0.1", "fine.example"]).trim(),
        INTERNET_V4.to_string()
    );
    assert!(said(portmaster, &["dns", "cache", "--json"]).contains("fine.example"));
    assert!(said(portmaster, &["gate17", "status", "--json"]).contains("streams_now"));
    let list = "http://127.0.0.1:817/portmaster.api.v1.Connections/List?message=%7B%7D";
    let listed = said("curl", &["--silent", "--show-error", "--fail", list]);
    assert!(listed.contains(app.path().to_str().unwrap()), "{listed}");
}

/// With a reason; `profile`: whose.
#[track_caller]
fn told(events: &Events, app: &App, verdict: Verdict, profile: &str) {
    let is = |event: &ConnectionEvent| {
        let connection = event.connection.as_ref()?;
        let executable = connection.process.as_ref()?.executable.as_ref()?;
        let decision = connection.decision.as_ref()?;
        Some(
            executable.path == app.path().to_str()?
                && decision.verdict() == verdict
                && !decision.source.is_empty()
                && decision.profile == profile,
        )
    };
    events.wait_for(&format!("{verdict:?} by profile {profile:?}"), |event| {
        is(event) == Some(true)
    });
}
