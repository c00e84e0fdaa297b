//! Runs programs of the host: found without a `PATH` if need be, with a deadline, in English.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

const DEADLINE: Duration = Duration::from_secs(10);
/// Users other than root come without these in `PATH`.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(DIRECTORIES.map(PathBuf::from));
    directories
        .map(|directory| directory.join(name))
        .find(|place| place.is_file())
}

/// What it printed; with an error, what it said instead.
pub(super) async fn run(program: &Path, arguments: &[&str], input: &str) -> Result<String, String> {
    let name = program.display();
    let failed = |error: &dyn std::fmt::Display| format!("{name}: {error}");
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .kill_on_drop(true)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    let stdin = child.stdin.take();
    let talk = async {
        let write = async {
            if let Some(mut stdin) = stdin {
                // a program that ends before it has read everything says why by itself
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        tokio::join!(write, child.wait_with_output()).1
    };
    let output = timeout(DEADLINE, talk)
        .await
        .map_err(|_| failed(&format!("no end within {} s", DEADLINE.as_secs())))?
        .map_err(|error| failed(&error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    Err(failed(&match lines.is_empty() {
        true => output.status.to_string(),
        false => lines.join("; "),
    }))
}
