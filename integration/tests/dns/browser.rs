//! What a browser does by itself: looks at the names by which a network says that it filters, asks its resolver over HTTPS
//! all the same, and the system when that fails.

use std::process::Command;

use super::{
    encrypted::RESOLVER,
    names::RESOLV,
    stage::{Dig, Stage, path_of},
};

/// Firefox leaves names to the system where `use-application-dns.net` does not exist; Private Relay is off where its two names
/// do not. Whoever insists asks a resolver over HTTPS first.
const BROWSER: &str = r#"
import subprocess

def has(name):
    try:
        return ask(name) != ''
    except SystemExit:
        return False

print('browser', has('use-application-dns.net'))
print('relay', has('mask.icloud.com') or has('mask-h2.icloud.com'))
found = subprocess.run(sys.argv[1:], capture_output=True, text=True).stdout
print('https', found or 'refused')
if not found:
    print('system', ask('near.example'))
"#;

/// What `program` finds, line by line. Its helper `program-net` speaks HTTPS.
pub(super) fn browse(stage: &Stage, program: &str) -> Vec<String> {
    let helper = format!("{program}-net");
    let _copied = Dig::new(&stage.world, "/usr/bin/curl", &helper);
    let mut command: Command = stage.python(program, &format!("{RESOLV}{BROWSER}"));
    command.arg(path_of(&stage.world, &helper));
    command.args([
        "-s",
        "-m",
        "10",
        "-w",
        "%{remote_ip}",
        "-o",
        "/dev/null",
        "--doh-insecure",
    ]);
    command.args([
        "--doh-url",
        &format!("https://{RESOLVER}/dns-query"),
        "http://near.example/",
    ]);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said.lines().map(str::to_owned).collect()
}
