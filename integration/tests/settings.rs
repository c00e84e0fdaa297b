//! A wrong setting is refused before anything is done, by its file, line and key.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what fails there fails the test"
)]

use std::{
    fs,
    process::{Command, Output},
};

use integration::{Service, binary};

/// Exit code for usage and configuration.
const USAGE: i32 = 64;

/// Runs the program of a service with these files below its configuration folder.
fn run(service: Service, files: &[(&str, &str)], arguments: &[&str]) -> Output {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("etc/portmaster");
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let mut command = Command::new(binary(&service.program()));
    // relative, so that what is said of two runs is the same
    command
        .current_dir(&root)
        .args(["--root", "."])
        .args(arguments)
        .output()
        .unwrap()
}

/// What it says as it refuses, whether it was only to check or to start.
///
/// It never gets to starting: that would need a namespace of its own.
fn refused(service: Service, files: &[(&str, &str)]) -> String {
    let [checked, started] = [&["--check-config"][..], &["--print-rules"][..]].map(|arguments| {
        let arguments = match service {
            Service::Interceptor => arguments,
            _ => &["--check-config"],
        };
        let output = run(service, files, arguments);
        assert_eq!(output.status.code(), Some(USAGE), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    });
    assert_eq!(checked, started, "a check says what a start says");
    checked
}

#[test]
fn marks_that_do_not_fit_are_refused_where_they_are_written() {
    let said = refused(
        Service::Interceptor,
        &[("interceptor.toml", "[marks]\nshift = 16\nmask = 255\n")],
    );
    assert!(said.contains("interceptor.toml:3: marks.mask: "), "{said}");
}

#[test]
fn a_drop_in_that_spoils_a_good_file_is_named_itself() {
    let said = refused(
        Service::Interceptor,
        &[
            ("interceptor.toml", "[marks]\nmask = 0x07ff0000\nshift = 16\n"),
            ("interceptor.d/10-fine.toml", "on_crash = 'open'\n"),
            ("interceptor.d/20-vpn.toml", "# for the VPN\n\nmarks.mask = 255\n"),
        ],
    );
    assert!(
        said.contains("interceptor.d/20-vpn.toml:3: marks.mask: ")
            && said.contains("leave out marks.mask and marks.shift"),
        "{said}"
    );
}

#[test]
fn a_redirect_to_another_host_is_refused_by_its_key() {
    let said = refused(
        Service::Interceptor,
        &[(
            "interceptor.toml",
            "[firewall]\n# the router\ndns_v4 = '192.0.2.1:53'\n",
        )],
    );
    assert!(
        said.contains("interceptor.toml:3: firewall.dns_v4: ") && said.contains("127.0.0.0/8"),
        "{said}"
    );
}

#[test]
fn root_is_never_taken_for_the_mesh() {
    let said = refused(
        Service::Interceptor,
        &[("interceptor.toml", "mesh_users = [\n  'root',\n]\n")],
    );
    assert!(
        said.contains("interceptor.toml:1: mesh_users: \"root\""),
        "{said}"
    );
}

#[test]
fn every_service_names_an_unknown_key() {
    let others = [Service::Dns, Service::Gate17Entry, Service::ApiGateway];
    for service in Service::ALL.into_iter().chain(others) {
        let file = format!("{}.toml", service.name());
        let said = refused(service, &[(file.as_str(), "\nfrobnicate = 1\n")]);
        assert!(
            said.contains(&format!("{file}:2: ")) && said.contains("frobnicate"),
            "{said}"
        );
    }
}

#[test]
fn files_that_are_right_only_together_are_taken() {
    let files = [
        ("interceptor.toml", "[marks]\nshift = 16\n"),
        ("interceptor.d/mask.toml", "marks.mask = 0x07ff0000\n"),
    ];
    let output = run(Service::Interceptor, &files, &["--check-config"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_log_filter_that_is_none_is_wrong_usage() {
    let output = run(
        Service::Policy,
        &[],
        &["--check-config", "--log", "interceptor=loud"],
    );
    assert_eq!(output.status.code(), Some(USAGE), "{output:?}");
}
