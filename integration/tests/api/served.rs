//! What is told, in each form.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::Stdio,
    time::Duration,
};

use api::v1::{
    ConnectionEvent, ConnectionEventKind, ConnectionFilter, GetConnectionRequest, ListConnectionsRequest,
    WatchConnectionsRequest, connections_client::ConnectionsClient,
};
use integration::{App, PATIENCE, Service, World, eventually, world::INTERNET_V4};
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};

use super::stage::{call, curl, get, path, world};

fn server() -> SocketAddr {
    (INTERNET_V4, 8710).into()
}

/// A client of ours speaks gRPC from inside the namespace.
async fn grpc() -> ConnectionsClient<Channel> {
    let channel = Endpoint::from_static("http://127.0.0.1:817")
        .connect()
        .await
        .unwrap();
    ConnectionsClient::new(channel)
}

#[test]
fn connections_are_listed_watched_and_found_in_grpc() {
    let mut world = world("grpc");
    world.internet.echo(INTERNET_V4, server().port());
    let app = world.app("talker");
    let mut open = app.call(&world, server());
    assert!(open.echoes("hello", PATIENCE));
    let place = world
        .host
        .enter(|| runtime().block_on(listed_and_watched(&world, &app)));

    // what happened while there was no gateway is told to whoever says where he was
    world.stop(Service::ApiGateway);
    assert!(app.connect(&world, server()).connected);
    world.start_service(Service::ApiGateway);
    world.host.enter(|| runtime().block_on(gone_on(&app, place)));
    drop(open);
}

async fn gone_on(app: &App, place: String) {
    let request = WatchConnectionsRequest {
        resume_after: place,
        ..WatchConnectionsRequest::default()
    };
    let mut events = grpc().await.watch(request).await.unwrap().into_inner();
    let ours = |event: &ConnectionEvent| {
        let process = event
            .connection
            .as_ref()
            .and_then(|connection| connection.process.as_ref());
        event.kind() == ConnectionEventKind::Decided
            && process.is_some_and(|process| process.executable == app.path().to_string_lossy())
    };
    loop {
        let message = tokio::time::timeout(PATIENCE, events.message()).await;
        let message = message.unwrap().unwrap().unwrap();
        assert_eq!(message.dropped, 0);
        if message.events.iter().any(ours) {
            break;
        }
    }
    let list = ListConnectionsRequest::default();
    let listed = grpc().await.list(list).await.unwrap().into_inner().connections;
    assert!(!listed.is_empty(), "the one from before is known as well");
}

/// Gives the place behind the last event.
async fn listed_and_watched(world: &World, app: &App) -> String {
    let mut client = grpc().await;
    let filter = || {
        Some(ConnectionFilter {
            executable: app.path().to_string_lossy().into_owned(),
            ..ConnectionFilter::default()
        })
    };
    let list = ListConnectionsRequest {
        filter: filter(),
        ..ListConnectionsRequest::default()
    };
    // it was decided; that is told a moment later
    let mut listed = Vec::new();
    let end = std::time::Instant::now() + PATIENCE;
    while listed.is_empty() && std::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
        listed = client.list(list.clone()).await.unwrap().into_inner().connections;
    }
    let [connection] = listed.as_slice() else {
        panic!("{listed:?}")
    };
    assert_eq!(
        connection.remote.as_ref().unwrap().address,
        INTERNET_V4.to_string()
    );
    assert_eq!(connection.decision.as_ref().unwrap().reason, "default-action");
    let id = connection.id;
    let got = client
        .get(GetConnectionRequest { id })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(&got, connection);
    let missing = client
        .get(GetConnectionRequest { id: u64::MAX })
        .await
        .unwrap_err();
    assert_eq!(missing.code(), tonic::Code::NotFound);

    let watch = |include_live, resume_after| WatchConnectionsRequest {
        filter: filter(),
        include_live,
        resume_after,
        read_mask: None,
    };
    let mut events = client
        .watch(watch(true, String::new()))
        .await
        .unwrap()
        .into_inner();
    let live = events.message().await.unwrap().unwrap();
    assert_eq!(live.events[0].kind(), ConnectionEventKind::Live);
    let mut place = events.message().await.unwrap().unwrap().event_id;
    drop(events);

    // while nobody watched
    assert!(app.connect(world, server()).connected);
    let mut events = client
        .watch(watch(false, place.clone()))
        .await
        .unwrap()
        .into_inner();
    let mut kinds = Vec::new();
    while kinds.is_empty() {
        let message = tokio::time::timeout(Duration::from_secs(20), events.message()).await;
        let message = message.unwrap().unwrap().unwrap();
        assert_eq!(message.dropped, 0);
        kinds.extend(message.events.iter().map(|event| event.kind()));
        place = message.event_id;
    }
    assert_eq!(kinds[0], ConnectionEventKind::Decided);
    place
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn the_same_in_json_and_as_server_sent_events() {
    let world = world("json");
    world.internet.echo(INTERNET_V4, server().port());
    let app = world.app("talker");
    let mut watching = curl(&world, "0");
    watching.args(["-N", "-H", "accept: text/event-stream"]);
    watching.arg(format!("http://127.0.0.1:817{}", path("Connections/Watch")));
    let mut watching = watching.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    // the first message says that we are heard
    assert!(
        lines
            .by_ref()
            .map(Result::unwrap)
            .any(|line| line.starts_with("data: "))
    );

    let mut open = app.call(&world, server());
    assert!(open.echoes("hello", PATIENCE));
    let data = lines.by_ref().map(Result::unwrap).filter_map(|line| {
        let text = line.strip_prefix("data: ")?;
        serde_json::from_str::<Value>(text).ok()
    });
    let mut events = data.flat_map(|message| message["events"].as_array().cloned().unwrap_or_default());
    let ours = |event: &Value| event["connection"]["process"]["executable"] == app.path().to_str().unwrap();
    let event = events.find(|event| ours(event)).unwrap();
    assert_eq!(event["kind"], "CONNECTION_EVENT_KIND_DECIDED");
    assert_eq!(event["connection"]["decision"]["verdict"], "VERDICT_ALLOW");
    watching.kill().unwrap();
    watching.wait().unwrap();

    let asked = r#"{"filter": {"remotePort": 8710}, "readMask": "id,remote.address"}"#;
    let listed = call(&world, "Connections/List", asked).json();
    let connection = &listed["connections"][0];
    assert_eq!(
        connection["remote"],
        serde_json::json!({ "address": INTERNET_V4.to_string() })
    );
    assert!(
        connection["process"].is_null() && connection["id"].is_string(),
        "{connection}"
    );
    let by_get = get(
        &world,
        "0",
        &format!(
            "{}?message=%7B%22id%22%3A{}%7D",
            path("Connections/Get"),
            connection["id"]
        )
        .replace('"', "%22"),
        &[],
    );
    assert_eq!(by_get.json()["id"], connection["id"]);
    drop(open);

    for (message, part) in [
        (r#"{"filter": {"remote": "nonsense"}}"#, "nonsense"),
        (r#"{"nonsense": 1}"#, "nonsense"),
        (r#"{"readMask": "nonsense"}"#, "nonsense"),
        ("{", "EOF"),
    ] {
        let refused = call(&world, "Connections/List", message);
        assert_eq!(refused.code, 400);
        assert!(refused.message().contains(part), "{refused:?}");
    }
}

#[test]
fn services_their_metrics_and_the_document_are_told() {
    let world = world("services");
    let told = call(&world, "System/ListServices", "{}").json();
    let service = |name: &str| {
        let services = told["services"].as_array().unwrap();
        services
            .iter()
            .find(|service| service["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(service("interceptor")["state"]["health"], "HEALTH_OK");
    assert!(service("dns")["problem"].is_string(), "it does not run here");
    let metrics = get(&world, "0", "/metrics", &[]).text;
    assert!(metrics.contains("portmaster_up{service=\"interceptor\"} 1") && metrics.ends_with("# EOF\n"));
    let document = get(&world, "65534", "/openapi.json", &[]).json();
    assert!(document["paths"][path("System/ListServices")]["post"].is_object());
    let away = call(&world, "Dns/ListUpstreams", "{}");
    assert_eq!(away.code, 503);
    assert!(
        away.message().contains("systemctl status portmaster-dns"),
        "{away:?}"
    );
}

#[test]
fn what_would_happen_is_explained() {
    let world = world("explain");
    world.profile(
        "talker",
        "match = [{ path = \"/usr/bin/talker\" }]\n[settings]\ndefault_action = \"block\"\n",
    );
    let asked = format!(
        r#"{{"executable": "/usr/bin/talker", "remote": {{"address": "{INTERNET_V4}", "port": 443}}}}"#
    );
    eventually("the profile is in force", || {
        let told = call(&world, "Policy/Explain", &asked).json();
        (told["decision"]["verdict"] == "VERDICT_BLOCK").then_some(())
    });
    let valid = |toml: &str| {
        let message = serde_json::json!({ "id": "x", "toml": toml }).to_string();
        call(&world, "Policy/Validate", &message).json()
    };
    assert_eq!(valid("[[match]]\npath = \"/usr/bin/x\"\n"), serde_json::json!({}));
    let error = valid("[[match]]\npath = \"/usr/bin/x\"\nnonsense = 1\n")["error"].to_string();
    assert!(
        error.contains("x.toml:3") && error.contains("nonsense"),
        "{error}"
    );
    let own = call(
        &world,
        "Processes/Lookup",
        &format!("{{\"pid\": {}, \"hash\": true}}", std::process::id()),
    )
    .json();
    assert_eq!(own["process"]["pid"], std::process::id());
    assert_eq!(own["sha256"].as_str().unwrap().len(), 64, "{own}");
    let gone = call(&world, "Processes/Lookup", "{\"pid\": 4000000}").json();
    assert!(gone["unknown"].is_string(), "{gone}");
    assert_eq!(call(&world, "Processes/Lookup", "{}").code, 400);
    let profiles = call(&world, "Policy/Get", "{}").json();
    assert_eq!(profiles["profiles"][0]["id"], "talker");
}

#[test]
fn a_browsers_grpc_is_understood() {
    let world = world("web");
    let mut command = curl(&world, "0");
    // one message without a field: no flag, no octets
    command.args([
        "--data-binary",
        "@-",
        "-i",
        "-H",
        "content-type: application/grpc-web+proto",
    ]);
    command.args(["-H", "x-grpc-web: 1", "-H", "origin: http://localhost:817"]);
    command.arg(format!("http://localhost:817{}", path("System/GetVersion")));
    let mut asking = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    asking.stdin.take().unwrap().write_all(&[0; 5]).unwrap();
    let output = asking.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in [
        "200 OK",
        "application/grpc-web+proto",
        "portmaster.api.v1",
        "grpc-status:0",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
