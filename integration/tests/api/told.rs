//! What a client hears of the mesh itself and of names, and how it goes on after it was away.

use integration::{Service, sse::Events};
use serde_json::Value;

use super::{
    schema::{cached, names, whole},
    stage::{call, world},
};

#[test]
fn what_becomes_of_the_mesh_is_told_as_it_happens() {
    let mut world = world("events");
    let mut events = Events::open(&world, "Events/Watch", "");
    // first how things are
    let first = events.message();
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
    assert!(
        again.message()["events"].is_null(),
        "it says at once that it heard"
    );
    let again = again.message();
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
        queries.message()["queries"].is_null(),
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
    queries.message();
    assert_eq!(
        queries.message()["dropped"],
        "1",
        "something was missed, and nobody knows how much"
    );
}
