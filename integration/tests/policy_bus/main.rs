//! `org.portmaster.Policy1`: who may pause, what is told of it, and what would happen to a connection; on a real bus.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what fails there fails the test"
)]

mod explain;
mod pauses;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output},
};

use dbus::Policy1Proxy;
use integration::{Service, World, eventually};
use tokio::runtime::Runtime;
use zbus::{Connection, connection::Builder, proxy::CacheProperties};

const NOBODY: &str = "65534";

/// A mesh whose bus others than root reach as well.
struct Scene {
    world: World,
    runtime: Runtime,
}

impl Scene {
    fn new(label: &str, profiles: &[(&str, &str)]) -> Self {
        let mut world = World::builder(label).without_services().start();
        for (id, toml) in profiles {
            world.profile(id, toml);
        }
        fs::set_permissions(world.root(), fs::Permissions::from_mode(0o755)).unwrap();
        world.start_service(Service::Policy);
        let runtime = Runtime::new().unwrap();
        let scene = Self { world, runtime };
        eventually("policy is on the bus", || scene.paused_until());
        scene
    }

    /// Runs with a proxy of root's.
    fn on_the_bus<T>(&mut self, ask: impl AsyncFnOnce(Policy1Proxy<'static>) -> T) -> T {
        let address = self.world.bus().address();
        self.runtime.block_on(async {
            let proxy = proxy(&join(&address).await).await;
            ask(proxy).await
        })
    }

    /// As somebody else reads it.
    fn paused_until(&self) -> Option<u64> {
        let output = self.as_nobody(
            "dbus-send",
            &[
                "--system",
                "--print-reply=literal",
                "--dest=org.portmaster.Policy1",
                "/org/portmaster/Policy1",
                "org.freedesktop.DBus.Properties.Get",
                "string:org.portmaster.Policy1",
                "string:PausedUntil",
            ],
        );
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace().last()?.parse().ok()
    }

    fn as_nobody(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command: Command = self.world.command("setpriv");
        command.args([
            "--reuid",
            NOBODY,
            "--regid",
            NOBODY,
            "--clear-groups",
            "--",
            program,
        ]);
        command.args(arguments).output().unwrap()
    }

    fn call(&self, arguments: &[&str]) -> String {
        let to = [
            "--system",
            "--print-reply",
            "--dest=org.portmaster.Policy1",
            "/org/portmaster/Policy1",
        ];
        let output = self.as_nobody("dbus-send", &[&to, arguments].concat());
        assert!(!output.status.success(), "{arguments:?} is refused");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

async fn join(address: &str) -> Connection {
    Builder::address(address).build().await.unwrap()
}

async fn proxy(connection: &Connection) -> Policy1Proxy<'static> {
    Policy1Proxy::builder(connection)
        .cache_properties(CacheProperties::No)
        .build()
        .await
        .unwrap()
}
