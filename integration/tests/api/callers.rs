//! Who may call what.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::Stdio,
    time::{Duration, Instant},
};

use integration::{Service, binary};

use super::stage::{NOBODY, call, curl, get, path, post, simple_post, world};

#[test]
fn the_caller_is_known_by_its_socket() {
    let world = world("who");
    let root = call(&world, "System/WhoAmI", "{}").json();
    assert_eq!(
        (&root["uid"], &root["access"]),
        (&0.into(), &"ACCESS_ADMIN".into())
    );
    assert!(root["executable"].as_str().unwrap().ends_with("/curl"), "{root}");
    assert!(root["pid"].as_u64().is_some());
    let nobody = post(&world, NOBODY, "System/WhoAmI", "{}", &[]).json();
    let uid: u32 = NOBODY.parse().unwrap();
    assert_eq!(
        (&nobody["uid"], &nobody["access"]),
        (&uid.into(), &"ACCESS_ANYBODY".into())
    );
}

#[test]
fn a_stranger_may_ask_for_the_version_and_no_more() {
    let world = world("stranger");
    let version = post(&world, NOBODY, "System/GetVersion", "{}", &[]);
    assert_eq!(version.code, 200);
    assert_eq!(version.json()["packages"][0], "portmaster.api.v1");
    for (method, needs) in [
        ("Connections/List", "group portmaster"),
        ("Connections/Watch", "group portmaster"),
        ("Dns/ListUpstreams", "group portmaster"),
        ("System/Pause", "root"),
        ("Tokens/Create", "root"),
    ] {
        let refused = post(&world, NOBODY, method, "{}", &[]);
        assert_eq!(refused.code, 401, "{method}: {refused:?}");
        assert!(refused.message().contains(needs), "{refused:?}");
    }
    assert_eq!(get(&world, NOBODY, "/metrics", &[]).code, 401);
    let unknown = call(&world, "System/Nonsense", "{}");
    assert_eq!(unknown.code, 404);
    assert!(unknown.message().contains("/openapi.json"));
}

#[test]
fn a_token_lets_do_what_it_says_until_it_is_revoked() {
    let mut world = world("token");
    let made = call(
        &world,
        "Tokens/Create",
        r#"{"name": "bar", "scope": "SCOPE_READ"}"#,
    )
    .json();
    let secret = made["secret"].as_str().unwrap().to_owned();
    let header = format!("authorization: Bearer {secret}");
    let cookie = format!("cookie: portmaster={secret}");
    for shown in [&header, &cookie] {
        let listed = post(&world, NOBODY, "Connections/List", "{}", &[shown]);
        assert_eq!(listed.code, 200, "{listed:?}");
    }
    let me = post(&world, NOBODY, "System/WhoAmI", "{}", &[&header]).json();
    assert_eq!(
        (&me["token"], &me["access"]),
        (&"bar".into(), &"ACCESS_READ".into())
    );
    let refused = post(&world, NOBODY, "System/Pause", r#"{"seconds": "60"}"#, &[&header]);
    assert_eq!(refused.code, 403);
    assert!(refused.message().contains("\"bar\" is not enough"), "{refused:?}");

    let decide = r#"{"name": "decider", "scope": "SCOPE_DECIDE", "ttlSeconds": "3600"}"#;
    let decide = call(&world, "Tokens/Create", decide).json();
    assert!(decide["token"]["expires"].is_string());
    let decide = format!("authorization: Bearer {}", decide["secret"].as_str().unwrap());
    let paused = post(&world, NOBODY, "System/Pause", r#"{"seconds": "60"}"#, &[&decide]);
    assert!(paused.json()["until"].is_string(), "{paused:?}");
    let resumed = post(&world, NOBODY, "System/Resume", "{}", &[&decide]);
    assert_eq!(resumed.code, 200);
    let log = world.output(Service::ApiGateway);
    assert!(
        log.contains("/portmaster.api.v1.System/Pause") && log.contains("decider"),
        "changes are noted"
    );
    assert!(!log.contains(&secret), "secrets are not");

    // over a restart, and no longer than until it is revoked
    world.stop(Service::ApiGateway);
    world.start_service(Service::ApiGateway);
    assert_eq!(
        post(&world, NOBODY, "Connections/List", "{}", &[&header]).code,
        200
    );
    assert_eq!(
        call(&world, "Tokens/List", "{}").json()["tokens"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(call(&world, "Tokens/Revoke", r#"{"name": "bar"}"#).code, 200);
    let revoked = post(&world, NOBODY, "Connections/List", "{}", &[&header]);
    assert_eq!(revoked.code, 401);
    assert!(revoked.message().contains("revoked"), "{revoked:?}");
}

#[test]
fn a_stream_ends_when_its_token_does_and_nobody_elses() {
    let world = world("token-stream");
    let made = |message: &str| {
        let made = call(&world, "Tokens/Create", message).json();
        made["secret"].as_str().unwrap().to_owned()
    };
    let watch = |method: &str, secret: &str| {
        let mut command = curl(&world, NOBODY);
        command.args(["-N", "-H", &format!("authorization: Bearer {secret}")]);
        command.arg(format!("http://127.0.0.1:817{}", path(method)));
        let mut curl = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut told = BufReader::new(curl.stdout.take().unwrap());
        // it has begun
        told.read_line(&mut String::new()).unwrap();
        (curl, told)
    };
    let bar = made(r#"{"name": "bar", "scope": "SCOPE_READ"}"#);
    let short = made(r#"{"name": "short", "scope": "SCOPE_READ", "ttlSeconds": "2"}"#);
    let other = made(r#"{"name": "other", "scope": "SCOPE_READ"}"#);
    let (mut goes_on, _told) = watch("Connections/Watch", &other);
    let ended = [
        watch("Connections/Watch", &bar),
        watch("Events/Watch", &bar),
        watch("Connections/Watch", &short),
    ];
    assert_eq!(call(&world, "Tokens/Revoke", r#"{"name": "bar"}"#).code, 200);
    let before = Instant::now();
    for (mut curl, mut told) in ended {
        let mut said = String::new();
        told.read_to_string(&mut said).unwrap();
        curl.wait().unwrap();
        let (_, error) = said.rsplit_once("event: error\ndata: ").expect(&said);
        assert!(
            error.contains("\"unauthenticated\"") && error.contains("revoked"),
            "{error}"
        );
    }
    assert!(
        before.elapsed() < Duration::from_secs(10),
        "{:?}",
        before.elapsed()
    );
    assert!(goes_on.try_wait().unwrap().is_none(), "another's goes on");
    goes_on.kill().unwrap();
    goes_on.wait().unwrap();
}

#[test]
fn pages_of_others_and_names_of_others_stay_outside() {
    let world = world("pages");
    let ours = post(
        &world,
        "0",
        "System/WhoAmI",
        "{}",
        &["origin: http://127.0.0.1:817"],
    );
    assert_eq!(ours.code, 200);
    for header in [
        "origin: http://evil.example",
        "origin: null",
        "host: rebound.example:817",
        "sec-fetch-site: cross-site",
    ] {
        let refused = post(&world, "0", "System/WhoAmI", "{}", &[header]);
        assert_eq!(refused.code, 403, "{header}: {refused:?}");
    }
    let simple = simple_post(&world, "System/Pause", "{\"seconds\": \"60\"}");
    assert_eq!(
        simple.code, 400,
        "what a page may send without asking is not read: {simple:?}"
    );
    let changing = get(&world, "0", "/portmaster.api.v1.System/Pause?message=%7B%7D", &[]);
    assert_eq!(changing.code, 400);
    assert!(changing.message().contains("POST alone"));
}

#[test]
fn tokens_are_made_listed_and_revoked_by_command() {
    let world = world("command");
    let run = |words: &[&str]| {
        let output = world
            .command(binary("portmaster"))
            .arg("token")
            .args(words)
            .output()
            .unwrap();
        let said =
            [&output.stdout[..], &output.stderr[..]].map(|text| String::from_utf8_lossy(text).into_owned());
        (output.status.success(), said[0].clone(), said[1].clone())
    };
    let (made, secret, _) = run(&["create", "--name", "bar", "--scope", "read", "--ttl", "90d"]);
    assert!(made);
    let header = format!("authorization: Bearer {}", secret.trim());
    assert_eq!(
        post(&world, NOBODY, "Connections/List", "{}", &[&header]).code,
        200
    );
    let (again, _, error) = run(&["create", "--name", "bar", "--scope", "read"]);
    assert!(!again && error.contains("\"bar\" already"), "{error}");
    let (_, list, _) = run(&["list"]);
    assert!(
        list.contains("bar") && list.contains("read") && !list.contains(secret.trim()),
        "{list}"
    );
    assert!(run(&["revoke", "bar"]).0);
    assert_eq!(
        post(&world, NOBODY, "Connections/List", "{}", &[&header]).code,
        401
    );
    let (revoked, _, error) = run(&["revoke", "bar"]);
    assert!(!revoked && error.contains("no token \"bar\""), "{error}");
}
