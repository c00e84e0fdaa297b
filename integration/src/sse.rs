//! Server-sent events of the API gateway, read by curl as root.

use std::{
    io::{BufRead as _, BufReader, Lines},
    process::{Child, ChildStdout, Stdio},
};

use serde_json::Value;

use crate::World;

/// A stream of the gateway.
#[derive(Debug)]
pub struct Events {
    curl: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Behind what was read.
    pub id: String,
}

impl Events {
    /// Goes on behind `id`, as a browser does; empty: from the beginning.
    pub fn open(world: &World, method: &str, id: &str) -> Self {
        let mut command = world.host.command("curl");
        command.args(["-sSN", "--max-time", "60"]);
        if !id.is_empty() {
            command.args(["-H", &format!("last-event-id: {id}")]);
        }
        command.arg(format!("http://127.0.0.1:817/portmaster.api.v1.{method}"));
        let mut curl = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start curl");
        Self {
            lines: BufReader::new(curl.stdout.take().expect("it was asked for")).lines(),
            curl,
            id: id.to_owned(),
        }
    }

    /// What comes next; waits for it.
    pub fn message(&mut self) -> Value {
        loop {
            let line = self
                .lines
                .next()
                .expect("the stream goes on")
                .expect("it is text");
            if let Some(id) = line.strip_prefix("id: ") {
                id.clone_into(&mut self.id);
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).expect("an event is JSON");
            }
        }
    }

    /// Reads until each of these holds for something that came, in whichever order; gives what the first of them held for.
    pub fn until(&mut self, of: &str, wanted: &[&dyn Fn(&Value) -> bool]) -> Value {
        let mut found = vec![None; wanted.len()];
        while found.iter().any(Option::is_none) {
            let message = self.message();
            for one in message.get(of).and_then(Value::as_array).into_iter().flatten() {
                let places = found.iter_mut().zip(wanted).filter(|(place, _)| place.is_none());
                for (place, _) in places.filter(|(_, is)| is(one)) {
                    *place = Some(one.clone());
                }
            }
        }
        found.remove(0).expect("all were found")
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}
