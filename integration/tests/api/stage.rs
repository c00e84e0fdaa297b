//! A world with a gateway, and curl as who one likes.

use std::process::{Command, Stdio};

use integration::{Service, World};
use serde_json::Value;

/// In no group that matters.
pub(crate) const NOBODY: &str = "65534";
const BASE: &str = "http://127.0.0.1:817";

/// All services that it asks, and the gateway.
pub(crate) fn world(label: &str) -> World {
    let mut world = World::builder(label).start();
    world.start_service(Service::ApiGateway);
    world
}

/// What curl was told.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Of an error.
    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// A method, by its service and name.
pub(crate) fn path(method: &str) -> String {
    format!("/portmaster.api.v1.{method}")
}

/// Calls a method as root.
pub(crate) fn call(world: &World, method: &str, message: &str) -> Answer {
    post(world, "0", method, message, &[])
}

/// Calls a method as a user, with headers.
pub(crate) fn post(world: &World, uid: &str, method: &str, message: &str, headers: &[&str]) -> Answer {
    let mut command = curl(world, uid);
    command.args(["-d", message, "-H", "content-type: application/json"]);
    for header in headers {
        command.args(["-H", header]);
    }
    ask(command, &path(method))
}

/// As root, in the form that a page of anybody's may send without asking.
pub(crate) fn simple_post(world: &World, method: &str, message: &str) -> Answer {
    let mut command = curl(world, "0");
    command.args(["-d", message, "-H", "content-type: text/plain"]);
    ask(command, &path(method))
}

/// GETs a path as a user.
pub(crate) fn get(world: &World, uid: &str, path: &str, headers: &[&str]) -> Answer {
    let mut command = curl(world, uid);
    for header in headers {
        command.args(["-H", header]);
    }
    ask(command, path)
}

fn ask(mut command: Command, path: &str) -> Answer {
    command
        .args(["-w", "\n%{http_code}"])
        .arg(format!("{BASE}{path}"));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (text, code) = said
        .rsplit_once('\n')
        .unwrap_or_else(|| panic!("curl: {output:?}"));
    Answer {
        code: code.parse().unwrap(),
        text: text.to_owned(),
    }
}

/// curl as this user and nobody else.
pub(crate) fn curl(world: &World, uid: &str) -> Command {
    let mut command = world.host.command("setpriv");
    command.args([
        &format!("--reuid={uid}"),
        &format!("--regid={uid}"),
        "--clear-groups",
    ]);
    command.args(["curl", "-sS", "--max-time", "20"]);
    command.stdin(Stdio::null());
    command
}
