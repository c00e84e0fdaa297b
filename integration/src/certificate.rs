//! Certificates that nobody vouches for.

use std::{path::Path, process::Command};

use crate::process::run;

/// Makes a key and its self-signed certificate, for two days and as that of a server; `names` as in `subjectAltName`:
/// `DNS:a.example,IP:192.0.2.1`.
///
/// # Panics
/// If openssl cannot, with what it said.
pub fn certificate(key: &Path, certificate: &Path, names: &str) {
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ]);
    openssl.args([
        "-days",
        "2",
        "-subj",
        "/CN=test",
        "-addext",
        &format!("subjectAltName={names}"),
    ]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.arg("-keyout").arg(key).arg("-out").arg(certificate);
    run(&mut openssl);
}
