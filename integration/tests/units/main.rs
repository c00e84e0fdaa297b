//! The real units, on a real systemd: one container for each test.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what fails there fails the test"
)]

mod access;
mod api;
mod attribution;
mod boot;
mod denied;
mod install;
mod legacy;
mod lockout;
mod names;
mod newer;
mod node;
mod pause;
mod privileges;
mod resolver_setup;
mod suspend;
mod unsound;

use integration::Booted;

/// Services that run for long, and the user of each.
const SERVICES: [(&str, &str); 6] = [
    ("portmaster-interceptor.service", "portmaster-interceptor"),
    (
        "portmaster-process-resolver.service",
        "portmaster-process-resolver",
    ),
    ("portmaster-policy.service", "portmaster-policy"),
    ("portmaster-dns.service", "portmaster-dns"),
    ("portmaster-gate17-entry.service", "portmaster-gate17-entry"),
    ("portmaster-api-gateway.service", "portmaster-api-gateway"),
];
const LOCKDOWN: &str = "portmaster-lockdown.service";

/// Rules of both families stand, to their last chain.
#[track_caller]
fn rules_stand(host: &Booted) -> bool {
    let standing = ["iptables-save", "ip6tables-save"].map(|program| {
        let rules = host.run(program);
        [
            "-A OUTPUT -j C17",
            "-A INPUT -j C17",
            "-A OUTPUT -j C170",
            "-A INPUT -j C171",
        ]
        .iter()
        .all(|rule| rules.lines().any(|line| line == *rule))
    });
    assert_eq!(
        standing[0], standing[1],
        "one family has rules and the other has none"
    );
    standing[0]
}

/// A page of the internet, asked for by curl in the host.
#[track_caller]
fn curl(host: &Booted) -> Result<String, String> {
    let (address, _) = integration::booted::INTERNET;
    let output = host.attempt(&format!(
        "curl --silent --show-error --max-time 3 http://{address}:8000/"
    ));
    let said = integration::booted::text(&output);
    if output.status.success() {
        Ok(said)
    } else {
        Err(said)
    }
}

/// Serves one page to whoever asks, on the internet's side; ends with the test.
fn web_server(host: &Booted) {
    use std::io::{Read as _, Write as _};
    let (address, _) = integration::booted::INTERNET;
    let listener = host
        .internet
        .enter(|| std::net::TcpListener::bind((address, 8000)).unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _request = stream.read(&mut [0; 1024]);
            let _gone = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        }
    });
}
