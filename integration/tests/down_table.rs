//! What happens when a part is down: each line of the table in ARCHITECTURE.md is a test.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what fails there fails the test"
)]

use std::{
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use integration::{App, PATIENCE, Service, World, eventually};
use proto::{flow::v1::Verdict, interceptor::v1::EventKind};

const AT_ONCE: Duration = Duration::from_secs(3);

/// A world with a connection that lives, and servers of both families.
struct Scene {
    world: World,
    app: App,
    servers: Vec<SocketAddr>,
}

impl Scene {
    fn new(label: &str) -> Self {
        let world = World::start(label);
        let app = world.app("chat");
        let servers = world
            .internet_addresses()
            .map(|address| world.internet.echo(address, 7))
            .to_vec();
        Self { world, app, servers }
    }

    fn calls(&self) -> Vec<integration::Call> {
        let mut calls: Vec<_> = self
            .servers
            .iter()
            .map(|server| self.app.call(&self.world, *server))
            .collect();
        for call in &mut calls {
            assert!(call.echoes("hello", AT_ONCE));
        }
        calls
    }
}

#[test]
fn interceptor_killed_new_connections_are_dropped_and_established_ones_go_on() {
    let mut scene = Scene::new("no-icept");
    let mut calls = scene.calls();
    scene.world.kill(Service::Interceptor);
    for call in &mut calls {
        assert!(call.echoes("still there?", AT_ONCE));
    }
    for server in &scene.servers {
        let attempt = scene.app.connect(&scene.world, *server);
        assert!(
            !attempt.connected && attempt.said.contains("timed out"),
            "{attempt:?}"
        );
    }
    scene.world.start_service(Service::Interceptor);
    for server in &scene.servers {
        assert!(scene.app.connect(&scene.world, *server).connected);
    }
    for call in &mut calls {
        assert!(call.echoes("and now?", AT_ONCE));
    }
}

#[test]
fn resolver_killed_new_connections_are_decided_as_unknown_and_never_hang() {
    let mut scene = Scene::new("no-resolver");
    let mut calls = scene.calls();
    let events = scene.world.events();
    scene.world.kill(Service::Resolver);
    for server in &scene.servers {
        // As shipped, unknown processes get the global default.
        let attempt = scene.app.connect(&scene.world, *server);
        assert!(attempt.connected && attempt.took < AT_ONCE, "{attempt:?}");
    }
    events.wait_for("an unknown process", |event| {
        event.connection.as_ref().is_some_and(|it| it.process.is_none())
    });
    scene.world.profile(
        "unknown",
        "[[match]]\nunknown = true\n\n[settings]\ndefault_action = \"block\"\n",
    );
    for server in &scene.servers {
        eventually("the profile for the unknown decides", || {
            let attempt = scene.app.connect(&scene.world, *server);
            assert!(attempt.took < AT_ONCE, "{attempt:?}");
            (!attempt.connected).then_some(())
        });
    }
    for call in &mut calls {
        assert!(
            call.echoes("still there?", AT_ONCE),
            "an established connection is not concerned"
        );
    }
    scene.world.start_service(Service::Resolver);
    for server in &scene.servers {
        eventually("the process is known again", || {
            scene.app.connect(&scene.world, *server).connected.then_some(())
        });
    }
}

#[test]
fn policy_killed_the_last_snapshot_decides_also_for_a_restarted_interceptor() {
    let mut scene = Scene::new("no-policy");
    let denied = scene.world.app("denied");
    scene.world.profile("denied", &denied.profile("block", ""));
    let server = scene.servers[0];
    eventually("the profile is in force", || {
        (!denied.connect(&scene.world, server).connected).then_some(())
    });
    let mut calls = scene.calls();
    scene.world.kill(Service::Policy);
    for round in ["running", "restarted"] {
        for server in &scene.servers {
            assert!(!denied.connect(&scene.world, *server).connected, "{round}");
            assert!(scene.app.connect(&scene.world, *server).connected, "{round}");
        }
        for call in &mut calls {
            assert!(call.echoes(round, AT_ONCE));
        }
        if round == "running" {
            scene.world.kill(Service::Interceptor);
            scene.world.start_service(Service::Interceptor);
        }
    }
    // Back again, it is followed again.
    scene.world.start_service(Service::Policy);
    scene.world.profile("denied", &denied.profile("allow", ""));
    for server in &scene.servers {
        eventually("the new profile is in force", || {
            denied.connect(&scene.world, *server).connected.then_some(())
        });
    }
}

#[test]
fn bus_killed_nothing_changes_and_after_its_restart_every_name_is_back() {
    let mut scene = Scene::new("no-bus");
    let mut calls = scene.calls();
    scene.world.bus().kill();
    for server in &scene.servers {
        let attempt = scene.app.connect(&scene.world, *server);
        assert!(attempt.connected && attempt.took < AT_ONCE, "{attempt:?}");
    }
    for call in &mut calls {
        assert!(call.echoes("still there?", AT_ONCE));
    }
    scene.world.bus().restart();
    let address = scene.world.bus().address();
    for name in [
        "org.portmaster.Interceptor1",
        "org.portmaster.Policy1",
        "org.portmaster.ProcessResolver1",
    ] {
        eventually(&format!("{name} is owned"), || {
            owned(&address, name).then_some(())
        });
    }
}

#[test]
fn without_a_bus_everything_else_works() {
    let world = World::builder("never-bus").without_bus().start();
    let app = world.app("chat");
    for address in world.internet_addresses() {
        assert!(app.connect(&world, world.internet.echo(address, 7)).connected);
    }
}

/// Whether somebody owns a name.
fn owned(address: &str, name: &str) -> bool {
    let mut command = Command::new("dbus-send");
    command
        .arg(format!("--bus={address}"))
        .args(["--print-reply", "--dest=org.freedesktop.DBus", "/"]);
    command.args(["org.freedesktop.DBus.NameHasOwner", &format!("string:{name}")]);
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains("boolean true")
}

/// Connects again and again on several threads until `stop`; counts what came out.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    connected: AtomicU32,
    refused: AtomicU32,
}

impl Load {
    /// On a thread that stands in the host's namespace.
    fn run_here(&self, server: SocketAddr) {
        while !self.stop.load(Ordering::Relaxed) {
            let connected = TcpStream::connect_timeout(&server, PATIENCE).is_ok();
            let counter = if connected { &self.connected } else { &self.refused };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn more(&self, than: u32) {
        eventually("connections go on", || {
            (self.connected.load(Ordering::Relaxed) > than + 50).then_some(())
        });
    }

    fn count(&self) -> u32 {
        self.connected.load(Ordering::Relaxed)
    }
}

#[test]
fn a_storm_goes_on_while_each_service_is_killed_in_turn() {
    let mut world = World::start("storm");
    let server = world.internet.echo(world.internet_addresses()[0], 7);
    let load = std::sync::Arc::new(Load::default());
    let path = world.host.path();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (load, path) = (std::sync::Arc::clone(&load), path.clone());
            std::thread::spawn(move || integration::namespace::enter(&path, || load.run_here(server)))
        })
        .collect();
    load.more(0);
    for service in [Service::Resolver, Service::Policy] {
        world.kill(service);
        load.more(load.count());
        world.start_service(service);
        load.more(load.count());
    }
    assert_eq!(
        load.refused.load(Ordering::Relaxed),
        0,
        "neither of these two may cost a connection"
    );
    // Dead, it lets nothing new through; TCP asks again, and is answered when it is back.
    world.kill(Service::Interceptor);
    world.start_service(Service::Interceptor);
    load.more(load.count());
    let refused = load.refused.load(Ordering::Relaxed);
    load.stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(refused, 0, "a restart takes less than TCP's patience");
}

#[test]
fn a_redecided_connection_is_told_apart_from_a_new_one() {
    let scene = Scene::new("again");
    let events = scene.world.events();
    let mut calls = scene.calls();
    scene.world.profile("chat", &scene.app.profile("block", ""));
    let event = events.wait_for("decided anew", |event| {
        event.kind() == EventKind::Redecided
            && event
                .connection
                .as_ref()
                .and_then(|it| it.decision.as_ref())
                .is_some_and(|it| it.verdict() == Verdict::Block)
    });
    let id = event.connection.unwrap().id;
    let first = events.wait_for("the same before", |event| {
        event.kind() == EventKind::Decided && event.connection.as_ref().is_some_and(|it| it.id == id)
    });
    assert_eq!(
        first.connection.unwrap().decision.unwrap().verdict(),
        Verdict::Allow
    );
    assert!(
        calls
            .iter_mut()
            .all(|call| !call.echoes("still there?", Duration::from_secs(1)))
    );
}
