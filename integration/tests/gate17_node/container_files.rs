//! The files of `docker/` by rules of our own, and by `docker compose` where there is one.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{image::instructions, place::text};

const COMPOSED: [&str; 3] = ["node", "network", "mesh"];
const DOCKERFILES: [&str; 2] = ["docker/node.Dockerfile", "docker/mesh.Dockerfile"];

/// Where the sources are.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A compose file as JSON, with what it merges.
pub(crate) fn compose(file: &str) -> Value {
    let script = "import json, sys, yaml\njson.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", script]).arg(repository().join(file));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{file}: {}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A list of words.
pub(crate) fn words(list: &Value) -> Vec<&str> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).collect()
}

#[test]
fn compose_files_give_no_more_than_they_must_and_name_what_is_there() {
    for name in COMPOSED {
        let file = format!("docker/compose.{name}.yaml");
        let project = compose(&file);
        for (service, settings) in project["services"].as_object().unwrap() {
            let at = format!("{file}: {service}");
            is_confined(&at, service, settings);
            names_what_is_there(&at, &project, settings);
        }
        by_docker(&file);
    }
}

fn is_confined(at: &str, service: &str, settings: &Value) {
    let is_mesh = matches!(service, "portmaster" | "client");
    let shares_the_host = settings["network_mode"] == "host";
    assert_eq!(words(&settings["cap_drop"]), ["ALL"], "{at}");
    assert!(settings["privileged"].is_null(), "{at}");
    assert!(
        words(&settings["security_opt"]).contains(&"no-new-privileges:true"),
        "{at}"
    );
    // the client's configuration is written where it runs
    assert!(settings["read_only"] == true || service == "client", "{at}");
    assert!(
        is_mesh || service == "init" || settings["cap_add"].is_null(),
        "{at}"
    );
    assert_eq!(
        shares_the_host,
        matches!(service, "portmaster" | "collector"),
        "{at}"
    );
    assert_eq!(settings["pid"] == "host", service == "portmaster", "{at}");
    assert!(settings["restart"].is_string(), "{at}: what when it ends?");
    assert!(!shares_the_host || settings["mem_limit"].is_string(), "{at}");
}

fn names_what_is_there(at: &str, project: &Value, settings: &Value) {
    let image = settings["image"].as_str().unwrap();
    assert!(!image.ends_with(":latest"), "{at}: of which day?");
    if let Some(build) = settings["build"].as_object() {
        let dockerfile = build["dockerfile"].as_str().unwrap();
        assert_eq!(build["context"], "..", "{at}");
        let arguments: BTreeSet<_> = instructions(dockerfile)
            .into_iter()
            .filter(|(name, _)| name == "ARG")
            .map(|(_, rest)| rest.split('=').next().unwrap().to_owned())
            .collect();
        for argument in build["args"].as_object().unwrap().keys() {
            assert!(
                arguments.contains(argument),
                "{at}: {dockerfile} knows no {argument}"
            );
        }
    } else {
        assert!(
            image.contains(':') || image.contains("portmaster"),
            "{at}: which version?"
        );
    }
    for volume in words(&settings["volumes"]) {
        let from = volume.split(':').next().unwrap();
        if let Some(path) = from.strip_prefix("./") {
            let path = repository().join("docker").join(path);
            assert!(path.exists(), "{at}: {} is not there", path.display());
        } else if !from.starts_with('/') {
            assert!(
                project["volumes"].get(from).is_some(),
                "{at}: there is no volume {from}"
            );
        }
    }
    for (kind, named) in [("networks", "networks"), ("depends_on", "services")] {
        for name in settings[kind].as_object().into_iter().flat_map(|of| of.keys()) {
            assert!(project[named].get(name).is_some(), "{at}: {named} lack {name}");
        }
    }
}

/// What the services of the mesh export to is what the collector listens at, and its pipelines are of parts that it has.
#[test]
fn the_collector_takes_what_the_mesh_exports() {
    let config = compose("docker/mesh/collector.yaml");
    let listens = config["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].as_str();
    let mesh = &compose("docker/compose.mesh.yaml")["services"]["portmaster"]["environment"];
    let exports = mesh["OTEL_EXPORTER_OTLP_ENDPOINT"].as_str().unwrap();
    assert_eq!(exports.strip_prefix("http://"), listens);
    let pipelines = config["service"]["pipelines"].as_object().unwrap();
    let signals: Vec<_> = pipelines.keys().map(String::as_str).collect();
    assert_eq!(signals, ["logs", "metrics", "traces"]);
    for pipeline in pipelines.values() {
        for kind in ["receivers", "processors", "exporters"] {
            let parts = words(&pipeline[kind]);
            assert!(!parts.is_empty(), "{pipeline} has no {kind}");
            for part in parts {
                assert!(config[kind].get(part).is_some(), "{kind} lack {part}");
            }
        }
    }
}

/// Its own opinion, where it is installed; no engine has to run for that.
fn by_docker(file: &str) {
    let mut version = Command::new("docker");
    version
        .args(["compose", "version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if !version.status().is_ok_and(|status| status.success()) {
        return;
    }
    let mut command = Command::new("docker");
    command.args(["compose", "-f"]).arg(repository().join(file));
    let output = command.args(["config", "--quiet"]).output().unwrap();
    assert!(output.status.success(), "{file}: {}", text(&output));
}

#[test]
fn dockerfiles_say_what_they_are_made_of_and_how_it_is_started() {
    for file in DOCKERFILES {
        let all = instructions(file);
        let mut stages = BTreeSet::new();
        for (name, rest) in &all {
            is_sound(file, name, rest, &mut stages);
        }
        let value = |name: &str| {
            let last = all.iter().rev().find(|(is, _)| is == name);
            last.map(|(_, rest)| rest.as_str())
        };
        assert!(
            value("HEALTHCHECK").is_some() && value("ENTRYPOINT").is_some(),
            "{file}"
        );
        // the mesh is root, without root's capabilities
        let user = file.contains("node").then_some("65532:65532");
        assert_eq!(value("USER"), user, "{file}");
    }
    let ignored = fs::read_to_string(repository().join(".dockerignore")).unwrap();
    for folder in ["target", ".git"] {
        assert!(
            ignored.lines().any(|line| line == folder),
            "{folder} would be sent to the engine"
        );
    }
    for script in ["docker/network/network.sh", "docker/mesh/start.sh"] {
        let mut command = Command::new("sh");
        let output = command.arg("-n").arg(repository().join(script)).output().unwrap();
        assert!(output.status.success(), "{script}: {}", text(&output));
    }
}

fn is_sound(file: &str, name: &str, rest: &str, stages: &mut BTreeSet<String>) {
    match name {
        "FROM" => {
            let mut words = rest.split(' ');
            let image = words.next().unwrap();
            assert!(
                image.starts_with("${"),
                "{file}: {image} is not for its builder to choose"
            );
            stages.extend(words.nth(1).map(str::to_owned));
        }
        "COPY" => {
            if let Some(from) = rest.strip_prefix("--from=") {
                let stage = from.split(' ').next().unwrap();
                assert!(stages.contains(stage), "{file}: no stage {stage}");
            }
        }
        "RUN" if rest.contains("apt-get install") => {
            assert!(rest.contains("--no-install-recommends"), "{file}: {rest}");
            assert!(rest.contains("rm -rf /var/lib/apt/lists"), "{file}: {rest}");
        }
        // as words, so that signals arrive
        "ENTRYPOINT" | "CMD" => drop(serde_json::from_str::<Vec<String>>(rest).unwrap()),
        _ => {
            assert_ne!(name, "ADD", "{file}: COPY fetches and unpacks nothing");
            assert!(!rest.ends_with(":latest"), "{file}: {rest}: of which day?");
        }
    }
}
