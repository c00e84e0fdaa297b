//! What a client hears of the mesh itself and of names, and how it goes on after it was away.

use std::{
    io::{BufRead as _, BufReader, Lines},
    process::{Child, ChildStdout, Stdio},
};

use integration::{Service, World};
use serde_json::Value;

use super::{
    schema::{cached, names, whole},
    stage::{call, curl, path, world},
};

/// Server-sent events.
struct Events {
    curl: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Behind what was read.
    id: String,
}

impl Events {
    /// Goes on behind `id`, as a browser does; empty: from the beginning.
    fn open(world: &World, method: &str, id: &str) -> Self {
        let mut command = curl(world, "0");
        command.args(["-N", "--max-time", "60"]);
        if !id.is_empty() {
            command.args(["-H", &format!("last-event-id: {id}")]);
        }
        command.arg(format!("http://127.0.0.1:817{}", path(method)));
        let mut curl = command.stdout(Stdio::piped()).spawn().unwrap();
        Self {
            lines: BufReader::new(curl.stdout.take().unwrap()).lines(),
            curl,
            id: id.to_owned(),
        }
    }

    fn next(&mut self) -> Value {
        loop {
            let line = self.lines.next().unwrap().unwrap();
            if let Some(id) = line.strip_prefix("id: ") {
                id.clone_into(&mut self.id);
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).unwrap();
            }
        }
    }

    /// Reads until each of these holds for something that came, in whichever order; gives what the first of them held for.
    fn until(&mut self, of: &str, wanted: &[&dyn Fn(&Value) -> bool]) -> Value {
        let mut found = vec![None; wanted.len()];
        while found.iter().any(Option::is_none) {
            let message = self.next();
            for one in message[of].as_array().into_iter().flatten() {
                let places = found.iter_mut().zip(wanted).filter(|(place, _)| place.is_none());
                for (place, _) in places.filter(|(_, is)| is(one)) {
                    *place = Some(one.clone());
                }
            }
        }
        found.remove(0).unwrap()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}

#[test]
fn what_becomes_of_the_mesh_is_told_as_it_happens() {
    let mut world = world("events");
    let mut events = Events::open(&world, "Events/Watch", "");
    // first how things are
    let first = events.next();
    let list = first["events"].as_array().unwrap();
    let interceptor = list
        .iter()
        .find(|event| event["service"]["name"] == "interceptor");
    let state = &interceptor.unwrap()["service"]["state"];
    assert_eq!(state["health"], "HEALTH_OK");
    assert!(state["counters"].is_null(), "figures are no news: {state}");
    let policy = list.iter().find(|event| event["policy"].is_object()).unwrap();
    let version: u64 = policy["policy"]["version"].as_str().unwrap().parse().unwrap();

    let changed = |event: &Value, method: &str| {
        let said = event["change"]["method"].as_str().unwrap_or_default();
        said.ends_with(method)
    };
    let is_policy_gone =
        |event: &Value| event["service"]["name"] == "policy" && event["service"]["state"].is_null();
    let is_other_policy = |event: &Value| {
        let other = event["policy"]["version"].as_str();
        other.is_some_and(|other| other.parse::<u64>().unwrap() > version)
    };
    assert_eq!(call(&world, "System/Pause", r#"{"seconds": "60"}"#).code, 200);
    let pause = events.until(
        "events",
        &[&|event| event["pause"]["until"].is_string(), &|event| {
            changed(event, "System/Pause")
        }],
    );
    assert!(pause["time"].is_string());
    let place = events.id.clone();
    assert_eq!(call(&world, "System/Resume", "{}").code, 200);
    events.until(
        "events",
        &[
            &|event| event["pause"].is_object() && event["pause"]["until"].is_null(),
            &|event| changed(event, "System/Resume"),
        ],
    );
    world.profile("talker", "match = [{ path = \"/usr/bin/talker\" }]\n");
    events.until("events", &[&is_other_policy]);
    world.stop(Service::Policy);
    let gone = events.until("events", &[&is_policy_gone]);
    assert!(gone["service"]["problem"].is_string(), "{gone}");

    // who was away hears what he missed, and not again how things were
    let missed = Events::open(&world, "Events/Watch", &place).until(
        "events",
        &[
            &|event| changed(event, "System/Resume"),
            &is_other_policy,
            &is_policy_gone,
        ],
    );
    assert!(missed["change"].is_object());
    let mut again = Events::open(&world, "Events/Watch", &place);
    assert!(again.next()["events"].is_null(), "it says at once that it heard");
    let again = again.next();
    let list = again["events"].as_array().unwrap();
    assert!(again["dropped"].is_null(), "{again}");
    assert!(
        !list.iter().any(|event| changed(event, "System/Pause")),
        "{again}"
    );
    let refused = call(&world, "Events/Watch", r#"{"resumeAfter": "nonsense"}"#);
    assert!(refused.message().contains("resume_after"), "{refused:?}");
}

#[test]
fn who_watches_names_goes_on_where_he_was() {
    let world = whole("names");
    let _names = names(&world);
    let ask = |name: &str| {
        let mut dig = world.host.command("dig");
        dig.args(["@127.0.0.1", "+short", name]).output().unwrap();
    };
    let is = |name: &'static str| move |query: &Value| query["name"] == name;
    cached(&world);
    let mut queries = Events::open(&world, "Dns/WatchQueries", "");
    assert!(
        queries.next()["queries"].is_null(),
        "it says at once where it begins"
    );
    let begin = queries.id.clone();
    ask("one.example");
    queries.until("queries", &[&is("one.example")]);
    let place = queries.id.clone();
    drop(queries);
    ask("two.example");
    for (from, first) in [(&begin, "one.example"), (&place, "two.example")] {
        let mut queries = Events::open(&world, "Dns/WatchQueries", from);
        let query = queries.until("queries", &[&|query| query["name"] != "cached.example"]);
        assert_eq!(query["name"], first);
    }
    // a place of another run
    let (numbering, sequence) = place.rsplit_once('-').unwrap();
    let other = format!("{:x}-{sequence}", u64::from_str_radix(numbering, 16).unwrap() ^ 1);
    let mut queries = Events::open(&world, "Dns/WatchQueries", &other);
    queries.next();
    assert_eq!(
        queries.next()["dropped"],
        "1",
        "something was missed, and nobody knows how much"
    );
}
