//! What becomes of circuits is told through the API, and who was away goes on where he was.

use integration::{Service, eventually, sse::Events};
use serde_json::Value;

use crate::circuits::{Place, output};

const WATCH: &str = "Gate17/WatchCircuits";

/// Calls a method of the API.
fn call(place: &Place, method: &str, message: &str) -> String {
    let mut curl = place.world.host.command("curl");
    curl.args(["-sS", "--max-time", "20", "--json", message]);
    output(curl.arg(format!("http://127.0.0.1:817/portmaster.api.v1.{method}")))
}

/// Up to a message without a circuit: all before it, and that.
fn up_to_here(events: &mut Events) -> (Vec<Value>, Value) {
    let mut before = Vec::new();
    loop {
        let message = events.message();
        if message["circuit"].is_null() {
            return (before, message);
        }
        before.push(message["circuit"].clone());
    }
}

/// Up to what is told of this circuit, in this state.
fn until(events: &mut Events, id: &Value, state: &str) {
    loop {
        let message = events.message();
        assert!(message["dropped"].is_null(), "{message}");
        let circuit = &message["circuit"];
        if circuit["id"] == *id && circuit["state"] == format!("CIRCUIT_STATE_{state}") {
            assert_eq!(message["eventId"], events.id, "it is the event's id too");
            return;
        }
    }
}

#[test]
fn who_watches_circuits_goes_on_where_he_was() {
    let mut place = Place::new("g17-told");
    place.world.start_service(Service::ApiGateway);
    let mut events = Events::open(&place.world, WATCH, "");
    let (present, here) = up_to_here(&mut events);
    assert!(present.is_empty(), "nobody has a circuit yet: {present:?}");
    assert!(
        here["dropped"].is_null() && here["eventId"] == events.id,
        "{here}"
    );
    let begin = events.id.clone();

    let app = place.app("app", "hops = 2\n");
    place.wait_until_carried(&app);
    let path = app.path().to_string_lossy().into_owned();
    let id = loop {
        let circuit = events.message()["circuit"].clone();
        if circuit["app"]["path"] == *path {
            break circuit["id"].clone();
        }
    };
    let built = events.id.clone();
    drop(events);

    // it ends while nobody watches, and there is another gateway then
    let closed = call(&place, "Gate17/CloseCircuit", &format!("{{\"id\": {id}}}"));
    assert_eq!(closed, "{}");
    place.world.stop(Service::ApiGateway);
    place.world.start_service(Service::ApiGateway);
    let mut back = Events::open(&place.world, WATCH, &built);
    let (present, here) = up_to_here(&mut back);
    assert!(present.is_empty(), "not again what he knows: {present:?}");
    assert!(here["eventId"] == *built && here["dropped"].is_null(), "{here}");
    until(&mut back, &id, "CLOSED");
    let mut from_begin = Events::open(&place.world, WATCH, &begin);
    until(&mut from_begin, &id, "READY");
    until(&mut from_begin, &id, "CLOSED");
    drop((back, from_begin));

    // an entry that knows no such place says that something is lost, and what there is
    place.world.stop(Service::Gate17Entry);
    place.world.start_service(Service::Gate17Entry);
    let circuit = eventually("the program is carried again", || {
        place.echoes(&app).then(|| place.circuit_of(&app)).flatten()
    });
    let mut anew = eventually("the gateway is connected again", || {
        let status = call(&place, "Gate17/GetStatus", "{}");
        let is_there = status.contains("CIRCUIT_STATE_READY");
        is_there.then(|| Events::open(&place.world, WATCH, &built))
    });
    let (present, here) = up_to_here(&mut anew);
    let id = Value::String(circuit["id"].to_string());
    assert!(
        present.iter().any(|present| present["id"] == id),
        "{present:?} lacks {circuit}"
    );
    assert_eq!(here["dropped"], "1", "{here}");
    let refused = call(&place, WATCH, r#"{"resumeAfter": "nonsense"}"#);
    assert!(refused.contains("resume_after"), "{refused}");
}
