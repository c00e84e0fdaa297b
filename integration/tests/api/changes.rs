//! What is changed through the API is so: for a real program, at once, and no further than was meant.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    process::Stdio,
    thread,
    time::Duration,
};

use integration::{PATIENCE, World, eventually, profile, world::INTERNET_V4};
use serde_json::{Value, json};

use super::stage::{NOBODY, call, curl, post, world};

const PORT: u16 = 8710;

fn server(world: &World) -> SocketAddr {
    world.internet.echo(INTERNET_V4, PORT)
}

fn ask(world: &World, method: &str, message: &Value) -> Value {
    let answer = call(world, method, &message.to_string());
    assert_eq!(answer.code, 200, "{method} {message}: {answer:?}");
    answer.json()
}

fn refused(world: &World, method: &str, message: &Value, code: u16) -> String {
    let answer = call(world, method, &message.to_string());
    assert_eq!(answer.code, code, "{method} {message}: {answer:?}");
    answer.message()
}

#[test]
fn a_rule_that_is_set_here_is_in_force_for_a_real_program_and_says_so_before() {
    let world = world("changes");
    let server = server(&world);
    let app = world.app("talker");
    let path = app.path().display().to_string();
    let mut open = app.call(&world, server);
    assert!(open.echoes("hello", PATIENCE));
    eventually("the gateway knows the connection", || {
        let listed = call(&world, "Connections/List", "{}").json();
        listed["connections"]
            .as_array()
            .filter(|list| !list.is_empty())
            .map(drop)
    });

    // tried: it says what would be, and nothing is
    let explain = json!({ "executable": path, "uid": 0, "remote": { "address": server.ip().to_string(), "port": PORT } });
    let mut asked = json!({
        "match": { "path": path },
        "rule": { "action": "ACTION_BLOCK", "direction": "DIRECTION_OUTGOING", "remotePorts": [PORT.to_string()] },
        "explain": explain,
        "dryRun": true,
    });
    let tried = ask(&world, "Policy/AddRule", &asked);
    assert_eq!(tried["saved"], Value::Null, "{tried}");
    assert_eq!(tried["explainedBefore"]["decision"]["verdict"], "VERDICT_ALLOW");
    assert_eq!(tried["explainedAfter"]["decision"]["rule"], "talker#1", "{tried}");
    assert_eq!(tried["connectionsChanged"], 1, "{tried}");
    assert!(
        tried["diff"].as_str().unwrap().contains("+action = \"block\""),
        "{tried}"
    );
    assert!(app.connect(&world, server).connected);

    // done: new connections are refused, and so is the one that was open
    asked["dryRun"] = false.into();
    let done = ask(&world, "Policy/AddRule", &asked);
    let revision = done["after"]["revision"].as_str().unwrap().to_owned();
    assert_eq!(
        (&done["saved"], &done["after"]["id"]),
        (&true.into(), &"talker".into())
    );
    eventually("new connections are refused", || {
        (!app.connect(&world, server).connected).then_some(())
    });
    assert!(!open.echoes("again", Duration::from_secs(3)));
    let listed = ask(&world, "Policy/ListProfiles", &json!({}));
    assert_eq!(listed["profiles"][0]["revision"], revision.as_str(), "{listed}");

    // whoever saw another file changes nothing; whoever edits by hand is not run over
    let own = profile(app.path(), "block", "# by hand\n");
    world.profile("talker", &own);
    let remove = json!({ "id": "talker", "number": 1, "expectedRevision": revision });
    let said = refused(&world, "Policy/RemoveRule", &remove, 409);
    let file = ask(&world, "Policy/GetProfile", &json!({ "id": "talker" }));
    assert!(said.contains(file["revision"].as_str().unwrap()), "{said}");
    assert_eq!(file["toml"], own.as_str());
    let set = json!({ "id": "talker", "toml": profile(app.path(), "allow", ""), "expectedRevision": file["revision"] });
    let set = ask(&world, "Policy/SetProfile", &set);
    let kept = std::fs::read_to_string(set["backup"].as_str().unwrap()).unwrap();
    assert_eq!(kept, own);
    eventually("it may again", || {
        app.connect(&world, server).connected.then_some(())
    });

    // what is no profile changes nothing
    let said = refused(
        &world,
        "Policy/SetProfile",
        &json!({ "id": "talker", "toml": "nonsense = 1\n" }),
        400,
    );
    assert!(said.contains("talker.toml:1"), "{said}");
    let said = refused(
        &world,
        "Policy/SetProfile",
        &json!({ "id": "../talker", "toml": own }),
        400,
    );
    assert!(said.contains("no name for a profile"), "{said}");
    let said = refused(
        &world,
        "Policy/RemoveRule",
        &json!({ "id": "talker", "number": 1 }),
        400,
    );
    assert!(said.contains("expected_revision"), "{said}");
    assert!(app.connect(&world, server).connected);
    let gone = ask(&world, "Policy/DeleteProfile", &json!({ "id": "talker" }));
    assert_eq!(gone["after"]["revision"], Value::Null);
    refused(&world, "Policy/GetProfile", &json!({ "id": "talker" }), 404);

    // who did it
    let audit = ask(&world, "Audit/List", &json!({}));
    let entries = audit["entries"].as_array().unwrap();
    let told = |entry: &Value| {
        let word = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        (
            word("method").rsplit_once('/').unwrap().1.to_owned(),
            word("object"),
            !word("refused").is_empty(),
        )
    };
    let told: Vec<_> = entries.iter().map(told).collect();
    assert_eq!(
        told[0],
        ("DeleteProfile".into(), "talker".into(), false),
        "{audit}"
    );
    assert!(
        told.contains(&("AddRule".into(), "talker".into(), false)),
        "{told:?}"
    );
    assert_eq!(
        told.iter().filter(|(.., refused)| *refused).count(),
        4,
        "{told:?}"
    );
    let added = entries
        .iter()
        .find(|entry| entry["method"] == "/portmaster.api.v1.Policy/AddRule")
        .unwrap();
    assert!(
        added["executable"].as_str().unwrap().ends_with("/curl") && added["uid"] == 0,
        "{added}"
    );
    assert!(added["diff"].as_str().unwrap().contains("+action"), "{added}");
}

#[test]
fn what_locks_the_owner_out_needs_force_and_settings_are_switches() {
    let world = world("lockout");
    let loopback = json!({ "id": "global", "rule": { "action": "ACTION_DROP", "remotes": ["localhost"] } });
    let said = refused(&world, "Policy/AddRule", &loopback, 400);
    assert!(
        said.contains("lock you out") && said.contains("this API") && said.contains("global#1"),
        "{said}"
    );
    let none = ask(&world, "Settings/Get", &json!({}));
    assert_eq!(
        (&none["revision"], &none["inForce"]["blockIncoming"]),
        (&Value::Null, &true.into())
    );

    let lan = json!({ "settings": { "blockDirect": true, "tunnel": { "hops": 2 } }, "expectedRevision": "" });
    let set = ask(&world, "Settings/Set", &lan);
    let got = ask(&world, "Settings/Get", &json!({}));
    assert_eq!(got["revision"], set["after"]["revision"]);
    assert_eq!(
        (&got["own"]["blockDirect"], &got["own"]["tunnel"]["hops"]),
        (&true.into(), &2.into())
    );
    assert_eq!(got["own"]["blockIncoming"], Value::Null);
    refused(&world, "Settings/Set", &lan, 409);
    let back = json!({ "updateMask": "blockDirect,tunnel.hops" });
    assert!(
        ask(&world, "Settings/Set", &back)["diff"]
            .as_str()
            .unwrap()
            .contains("-block_direct")
    );

    // who decides for programs decides neither for all of them nor against a warning
    let token = ask(
        &world,
        "Tokens/Create",
        &json!({ "name": "decider", "scope": "SCOPE_DECIDE" }),
    );
    let header = format!("authorization: Bearer {}", token["secret"].as_str().unwrap());
    let by_token =
        |method: &str, message: &Value| post(&world, NOBODY, method, &message.to_string(), &[&header]);
    let own = json!({ "match": { "path": "/opt/x" }, "rule": { "action": "ACTION_ALLOW" } });
    assert_eq!(by_token("Policy/AddRule", &own).code, 200);
    let mut forced = own;
    forced["force"] = true.into();
    for (method, message) in [
        ("Policy/AddRule", &forced),
        ("Policy/AddRule", &loopback),
        ("Policy/SetProfile", &json!({ "id": "x", "toml": "" })),
        ("Settings/Set", &back),
    ] {
        let answer = by_token(method, message);
        assert_eq!(answer.code, 403, "{method} {message}: {answer:?}");
    }

    // forced, it is done: this very API cannot be called any more, and the answer itself may not come back
    let mut tried = loopback.clone();
    tried["dryRun"] = true.into();
    let tried = ask(&world, "Policy/AddRule", &tried);
    assert!(
        tried["lockOuts"].as_array().is_some_and(|lost| lost.len() >= 2),
        "{tried}"
    );
    let mut forced = loopback;
    forced["force"] = true.into();
    let mut command = curl(&world, "0");
    command.args(["--max-time", "2", "--json", &forced.to_string()]);
    command.arg("http://127.0.0.1:817/portmaster.api.v1.Policy/AddRule");
    let _ = command.output().unwrap();
    let written = std::fs::read_to_string(world.config_dir().join("profiles.d/global.toml")).unwrap();
    assert!(written.contains("localhost"), "{written}");
    eventually("the warning was true", || {
        let mut command = curl(&world, "0");
        command.args(["--connect-timeout", "1", "http://127.0.0.1:817/openapi.json"]);
        (!command.output().unwrap().status.success()).then_some(())
    });
}

#[test]
fn a_connection_is_ended_whatever_its_program_does() {
    let world = world("close");
    let address: SocketAddr = (INTERNET_V4, PORT).into();
    // a download without an end
    let listener = world.internet.enter(|| TcpListener::bind(address).unwrap());
    let sending = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 1024];
        let _ = stream.read(&mut head);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")
            .unwrap();
        while stream.write_all(&[b'x'; 1024]).is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let mut download = world.host.command("curl");
    download
        .args(["-sSN", "-o", "/dev/null", "--max-time", "60"])
        .arg(format!("http://{address}/"));
    let download = download.stderr(Stdio::piped()).spawn().unwrap();
    let id = eventually("the gateway knows it", || {
        let listed = call(&world, "Connections/List", r#"{"filter": {"remotePort": 8710}}"#).json();
        listed["connections"][0]["id"].as_str().map(str::to_owned)
    });
    let stranger = post(
        &world,
        NOBODY,
        "Connections/Close",
        &json!({ "id": id }).to_string(),
        &[],
    );
    assert_eq!(stranger.code, 401, "{stranger:?}");
    let closed = ask(&world, "Connections/Close", &json!({ "id": id }));
    assert_eq!(closed["sockets"], 1);
    let output = download.wait_with_output().unwrap();
    assert!(
        !output.status.success() && output.status.code() != Some(28),
        "{output:?}"
    );
    // the other end had a reset
    sending.join().unwrap();

    refused(&world, "Connections/Close", &json!({ "id": "1" }), 404);
    let none = json!({ "local": { "address": "10.0.0.1", "port": 1 }, "remote": { "address": "10.0.0.2", "port": 2 } });
    refused(&world, "Connections/Close", &none, 404);
    refused(&world, "Connections/Close", &json!({}), 400);
    // no listener goes instead of a connection that is not there
    let listens = json!({ "local": { "address": "127.0.0.1", "port": 817 }, "remote": { "address": "127.0.0.1", "port": 9 } });
    refused(&world, "Connections/Close", &listens, 404);
    assert_eq!(call(&world, "System/GetVersion", "{}").code, 200);
}
