//! A service of the version before this one works with the others, and one takes over from the other.

use std::net::SocketAddr;

use integration::{App, Events, Service, World, binary, eventually};
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

/// One old service among current ones; then the current one in its place, which finds what the old one kept; then the old
/// one again.
fn beside(old: Service) {
    let Some(program) = previous::program(&old.program()) else {
        return;
    };
    let mut world = World::builder("versions").without_services().start();
    let servers = world
        .internet_addresses()
        .map(|address| world.internet.echo(address, 443));
    for service in Service::ALL {
        if service == old {
            let command = world.program_command(&program);
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
    let command = world.program_command(&program);
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
