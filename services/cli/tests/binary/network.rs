//! `portmaster gate17 network`, `node`, `map`, `token` and `client-key`: what the operator of a network does, of one key and of
//! several.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::run;

/// Standard output of a command that does what it is told.
fn done(arguments: &[&str]) -> String {
    let (code, said, err) = run(arguments);
    assert_eq!(code, 0, "{arguments:?}: {said}{err}");
    said
}

/// What a command says that does not.
fn refused(arguments: &[&str]) -> String {
    let (code, said, err) = run(arguments);
    assert_eq!(code, 1, "{arguments:?}: {said}{err}");
    err
}

fn of(words: &str) -> Vec<&str> {
    words.split_whitespace().collect()
}

fn shown(map: &str, trust: &str) -> serde_json::Value {
    let said = done(&["gate17", "map", "show", map, "--json", "--trust", trust]);
    serde_json::from_str(&said).unwrap()
}

#[test]
fn a_network_is_founded_and_its_map_signed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("network").display().to_string();
    let (code, said, err) = run(&[
        "gate17", "network", "init", &dir, "--name", "ours", "--access", "token",
    ]);
    assert_eq!((code, err.as_str()), (0, ""), "{said}");
    let key = fs::metadata(format!("{dir}/root.key")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777,
        0o600
    );
    let (code, _, err) = run(&["gate17", "network", "init", &dir]);
    assert!(code == 1 && err.contains("already"), "{err}");

    let pin = format!("sha256:{}", "17".repeat(32));
    let add = [
        "gate17", "node", "add", &dir, "--id", "alpha", "--key", &pin, "--region", "de",
    ];
    let (code, _, err) = run(&[
        &add[..],
        &["--address", "5.17.0.1:443", "--address", "5.17.0.1:80"],
    ]
    .concat());
    assert!(code == 1 && err.contains("--relay"), "{err}");
    let (code, said, err) = run(&[
        &add[..],
        &["--address", "5.17.0.1:443", "--address", "5.17.0.1:80", "--exit"],
    ]
    .concat());
    assert_eq!((code, err.as_str()), (0, ""), "{said}");
    let (code, token, _) = run(&["gate17", "network", "token", &dir]);
    assert!(code == 0 && token.trim().len() == 48, "{token}");
    for serial in [1, 2] {
        let (code, said, err) = run(&["gate17", "map", "sign", &dir]);
        assert!(
            code == 0 && said.contains(&format!("map {serial}, 1 nodes")),
            "{said}{err}"
        );
    }
    let map = format!("{dir}/map.json");
    let (code, said, _) = run(&["gate17", "map", "show", &map, "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, &shown["nodes"][0]["addresses"][1]["carrier"]),
        (0, &"upgrade".into())
    );
    assert_eq!(shown["tokens"].as_array().map(Vec::len), Some(1));

    // one octet of it is another
    let text = fs::read_to_string(&map).unwrap();
    let at = text.find("payload\":\"").unwrap() + 30;
    let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
    fs::write(&map, format!("{}{other}{}", &text[..at], &text[at + 1..])).unwrap();
    let (code, _, err) = run(&["gate17", "map", "show", &map]);
    assert!(code == 1 && !err.is_empty(), "{err}");
    let (code, _, err) = run(&["gate17", "node", "remove", &dir, "beta"]);
    assert!(code == 1 && err.contains("beta"), "{err}");
}

/// A network in `folder` of which others hold two of three root keys, `b.key` and `c.key`; it has a node.
fn of_three(folder: &Path) -> String {
    let file = |name: &str| folder.join(name).display().to_string();
    let dir = file("network");
    let mut init = vec!["gate17", "network", "init", &dir, "--name", "ours"];
    let made: Vec<_> = ["b.key", "c.key"]
        .iter()
        .map(|name| {
            done(&["gate17", "network", "new-key", &file(name)])
                .trim()
                .to_owned()
        })
        .collect();
    init.extend(made.iter().flat_map(|key| ["--root-key", key.as_str()]));
    assert!(done(&init).contains("2 of 3 root keys sign"));
    let pin = format!("sha256:{}", "17".repeat(32));
    let add =
        format!("gate17 node add {dir} --id alpha --key {pin} --region de --address 5.17.0.1:443 --exit");
    done(&of(&add));
    dir
}

#[test]
fn two_of_three_holders_sign_in_turn_and_rotate_the_root() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let dir = of_three(folder.path());
    let (map, pending, trust) = (
        format!("{dir}/map.json"),
        format!("{dir}/map-pending.json"),
        format!("{dir}/trust.json"),
    );
    let said = done(&["gate17", "map", "sign", &dir]);
    assert!(said.contains("signed by 1 of the 2"), "{said}");
    assert!(!Path::new(&map).exists());
    let said = refused(&["gate17", "map", "show", &pending]);
    assert!(said.contains("signed by 1 root keys of 2"), "{said}");
    let said = refused(&["gate17", "map", "sign", &dir]);
    assert!(said.contains("--anew"), "{said}");
    done(&["gate17", "map", "sign", &dir, "--anew"]);

    // another holder, elsewhere; nobody signs what he does not know the root of
    let away = file("away.json");
    fs::copy(&pending, &away).unwrap();
    let said = refused(&["gate17", "map", "sign", &away, "--key", &file("b.key")]);
    assert!(said.contains("--trust"), "{said}");
    done(&["gate17", "network", "new-key", &file("stranger.key")]);
    let said = refused(&[
        "gate17",
        "map",
        "sign",
        &away,
        "--trust",
        &trust,
        "--key",
        &file("stranger.key"),
    ]);
    assert!(said.contains("stranger.key is no root key"), "{said}");
    let before = refused(&["gate17", "network", "take", &dir, &away]);
    assert!(before.contains("have the others sign it"), "{before}");
    let said = done(&[
        "gate17",
        "map",
        "sign",
        &away,
        "--trust",
        &trust,
        "--key",
        &file("b.key"),
    ]);
    assert!(said.contains("the signatures that it needs"), "{said}");
    done(&["gate17", "network", "take", &dir, &away]);
    assert!(!Path::new(&pending).exists());
    let said = done(&["gate17", "map", "show", &map]);
    assert!(
        said.contains("map 2 of") && said.contains("signed by 2 of root 1, 3 keys of which 2 sign"),
        "{said}"
    );

    // one holder leaves, and the operator makes one more key
    let said = refused(&["gate17", "network", "rotate-root", &dir]);
    assert!(said.contains("--new-keys"), "{said}");
    let said = refused(&[
        "gate17",
        "network",
        "rotate-root",
        &dir,
        "--new-keys",
        "1",
        "--threshold",
        "5",
    ]);
    assert!(said.contains("5 of 4 root keys"), "{said}");
    assert!(
        !Path::new(&format!("{dir}/root-1.key")).exists(),
        "nothing was made"
    );
    let leaves = file("c.key");
    let said = done(&[
        "gate17",
        "network",
        "rotate-root",
        &dir,
        "--new-keys",
        "1",
        "--remove",
        &leaves,
    ]);
    assert!(
        said.contains("root-1.key") && said.contains("signed by 3 of the 4"),
        "{said}"
    );
    assert_eq!(shown(&map, &trust)["root"]["version"], 1);
    let rotation = format!("{dir}/rotation-pending.json");
    let said = done(&["gate17", "map", "sign", &rotation, "--key", &file("b.key")]);
    assert!(said.contains("root 2: 2 of 3 keys sign from now on"), "{said}");
    let said = refused(&["gate17", "map", "sign", &dir, "--key", &leaves]);
    assert!(said.contains("c.key is no root key"), "{said}");
    done(&["gate17", "map", "sign", &dir]);
    for trust in ["trust.json", "trust-1.json"] {
        let map = shown(&map, &format!("{dir}/{trust}"));
        assert_eq!(
            (&map["serial"], &map["root"]["version"]),
            (&3.into(), &2.into()),
            "{trust}"
        );
    }
    // all at once: copies that were signed apart, of a map that nobody signed here
    let said = done(&["gate17", "map", "sign", &dir, "--draft"]);
    assert!(said.contains("signed by 0 of the 2"), "{said}");
    let copies = ["b.json", "own.json"].map(&file);
    for (copy, key) in copies.iter().zip([file("b.key"), format!("{dir}/root.key")]) {
        fs::copy(&pending, copy).unwrap();
        let said = done(&["gate17", "map", "sign", copy, "--trust", &trust, "--key", &key]);
        assert!(said.contains("signed by 1 of the 2"), "{said}");
    }
    let said = refused(&["gate17", "network", "take", &dir, &copies[0], &away]);
    assert!(said.contains("away.json is no copy of"), "{said}");
    refused(&["gate17", "network", "take", &dir, &copies[0]]);
    done(&["gate17", "network", "take", &dir, &copies[0], &copies[1]]);
    assert_eq!(shown(&map, &trust)["serial"], 4);

    // a map of before is not put back
    let said = refused(&["gate17", "network", "take", &dir, &away]);
    assert!(said.contains("away.json"), "{said}");
}

#[test]
fn members_and_nodes_come_and_go_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let dir = file("network");
    done(&["gate17", "network", "init", &dir]);
    let (map, trust) = (format!("{dir}/map.json"), format!("{dir}/trust.json"));
    let said = refused(&["gate17", "token", "new", &dir, "ann"]);
    assert!(said.contains("network access"), "{said}");
    done(&["gate17", "network", "access", &dir, "token"]);
    let token = done(&["gate17", "token", "new", &dir, "ann"]);
    done(&["gate17", "token", "new", &dir]);
    let said = refused(&["gate17", "token", "new", &dir, "ann"]);
    assert!(said.contains("called ann already"), "{said}");
    let said = done(&["gate17", "token", "list", &dir]);
    assert!(said.contains("ann") && !said.contains(token.trim()), "{said}");
    assert!(refused(&["gate17", "token", "remove", &dir, "bob"]).contains("\"bob\""));
    done(&["gate17", "token", "remove", &dir, "ann"]);

    let key = file("client.key");
    let public = done(&["gate17", "client-key", "new", &key]);
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(refused(&["gate17", "client-key", "new", &key]).contains("not written over"));
    done(&["gate17", "client-key", "add", &dir, "laptop", public.trim()]);
    let said = refused(&["gate17", "client-key", "add", &dir, "other", &key]);
    assert!(said.contains("\"laptop\""), "{said}");
    done(&["gate17", "network", "access", &dir, "key"]);

    let pin = |octet: &str| format!("sha256:{}", octet.repeat(32));
    let add = |id: &str, octet: &str, address: &str| {
        let pin = pin(octet);
        format!("gate17 node add {dir} --id {id} --key {pin} --region de --address {address} --relay")
    };
    done(&of(&add("alpha", "17", "5.17.0.1:443")));
    for (words, why) in [
        (add("alpha", "18", "6.17.0.1:443"), "node edit"),
        (add("beta", "17", "6.17.0.1:443"), "the key of node alpha"),
        (add("beta", "18", "5.17.0.1:443"), "where node alpha is"),
        (
            format!("gate17 node edit {dir} alpha --relay no"),
            "carries nothing",
        ),
        (
            format!("gate17 node edit {dir} beta --relay no"),
            "no node \"beta\"",
        ),
        (format!("gate17 node edit {dir} alpha --region x"), "two letters"),
    ] {
        let said = refused(&of(&words));
        assert!(said.contains(why), "{words}: {said}");
    }
    done(&of(&format!(
        "gate17 node edit {dir} alpha --exit yes --region fr --capacity 900"
    )));
    let said = done(&["gate17", "node", "list", &dir]);
    assert!(
        said.contains("relay, exit") && said.contains("900 Mbit/s"),
        "{said}"
    );
    done(&["gate17", "map", "sign", &dir]);
    let said = shown(&map, &trust);
    assert_eq!(
        (&said["access"], &said["nodes"][0]["region"]),
        (&"key".into(), &"fr".into())
    );
    assert_eq!(said["client_keys"], serde_json::json!([public.trim()]));
    assert_eq!(said["tokens"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        said["nodes"][0]["keys"],
        serde_json::json!([pin("17")]),
        "what was not named stays"
    );

    // several at once lose nothing of each other
    done(&["gate17", "network", "access", &dir, "token"]);
    let names: Vec<_> = (0..6).map(|number| format!("host-{number}")).collect();
    let started = names.iter().map(|name| {
        let mut command = super::portmaster(&["gate17", "token", "new", &dir, name]);
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        command.spawn().unwrap()
    });
    for mut child in started.collect::<Vec<_>>() {
        assert!(child.wait().unwrap().success());
    }
    let said = done(&["gate17", "token", "list", &dir]);
    assert!(names.iter().all(|name| said.contains(name.as_str())), "{said}");

    // what cannot be written leaves what was there
    let before = fs::read(format!("{dir}/network.toml")).unwrap();
    fs::create_dir(format!("{dir}/.network.toml.new")).unwrap();
    let said = refused(&["gate17", "client-key", "remove", &dir, "laptop"]);
    assert!(said.contains("write") && said.contains("network.toml"), "{said}");
    assert_eq!(fs::read(format!("{dir}/network.toml")).unwrap(), before);
}
