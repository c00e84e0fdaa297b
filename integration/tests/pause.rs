//! A pause lets pass what would be refused, and ends: by word, by time, and also where policy is dead by then.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what fails there fails the test"
)]

use std::{
    net::SocketAddr,
    process::{Command, Output},
    time::Duration,
};

use integration::{App, PATIENCE, Service, World, binary, eventually};
use proto::flow::v1::Why;

const AT_ONCE: Duration = Duration::from_secs(3);

struct Scene {
    world: World,
    app: App,
    server: SocketAddr,
}

impl Scene {
    /// An application that may connect nowhere.
    fn new(label: &str) -> Self {
        let world = World::start(label);
        let app = world.app("refused");
        let server = world.internet.echo(world.internet_addresses()[0], 7);
        world.profile("refused", &app.profile("block", ""));
        let scene = Self { world, app, server };
        scene.is_refused();
        scene
    }

    fn is_refused(&self) {
        eventually("it is refused", || {
            (!self.app.connect(&self.world, self.server).connected).then_some(())
        });
    }

    fn passes(&self) {
        eventually("it passes", || {
            self.app.connect(&self.world, self.server).connected.then_some(())
        });
    }

    fn portmaster(&self, words: &[&str]) -> Output {
        let mut command = Command::new(binary("portmaster"));
        command.args(words).arg("--root").arg(self.world.root());
        command.output().unwrap()
    }

    #[track_caller]
    fn pause(&self, length: &str) {
        let output = self.portmaster(&["pause", length]);
        assert!(output.status.success(), "{output:?}");
        self.passes();
    }
}

#[test]
fn what_was_opened_in_a_pause_ends_with_it() {
    let scene = Scene::new("pause");
    let events = scene.world.events();
    scene.pause("1h");
    events.wait_for("the pause is the reason", |event| {
        let decision = event.connection.as_ref().and_then(|it| it.decision.as_ref());
        decision.is_some_and(|decision| decision.why() == Why::Paused)
    });
    let mut call = scene.app.call(&scene.world, scene.server);
    assert!(call.echoes("one", PATIENCE) && call.echoes("two", PATIENCE));
    let output = scene.portmaster(&["resume"]);
    assert!(output.status.success(), "{output:?}");
    scene.is_refused();
    assert!(!call.echoes("three", AT_ONCE), "it flows on");
}

#[test]
fn a_pause_outlives_policy_and_ends_without_it() {
    let mut scene = Scene::new("pause-down");
    scene.pause("8s");
    scene.world.kill(Service::Policy);
    scene.world.start_service(Service::Policy);
    scene.passes();
    scene.world.kill(Service::Policy);
    scene.passes();
    scene.is_refused();
}

/// The firewall is named by its folder: the bus of the machine itself is not asked instead.
#[test]
fn only_root_may_pause_where_there_is_no_bus_to_ask_on() {
    let scene = Scene::new("pause-who");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]);
    command.arg(binary("portmaster")).args(["pause", "1m", "--root"]);
    let output = command.arg(scene.world.root()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("needs root"),
        "{output:?}"
    );
    scene.is_refused();
}
