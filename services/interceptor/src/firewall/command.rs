//! Runs the programs of the iptables package: found without a `PATH` if need be, with a deadline, in English.

use std::{
    env,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use super::Error;

/// Longer than the five seconds for which a program waits for the lock of xtables.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where distributions keep them; units and containers often come without these in `PATH`.
const DIRECTORIES: [&str; 6] = [
    "/usr/sbin",
    "/sbin",
    "/usr/local/sbin",
    "/usr/bin",
    "/bin",
    "/run/current-system/sw/bin",
];

const LOCK: &str = "XTABLES_LOCKFILE";

/// The first of these programs that is there.
pub(super) fn find(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories: Vec<_> = env::split_paths(&path)
        .chain(DIRECTORIES.map(PathBuf::from))
        .collect();
    names.iter().find_map(|name| {
        let mut places = directories.iter().map(|directory| directory.join(name));
        places.find(|place| place.is_file())
    })
}

/// A lock file of our own, where the one that everybody uses cannot be written.
pub(super) fn own_lock(directory: &Path) -> Option<PathBuf> {
    let root = rustix::process::geteuid().is_root();
    let chosen = env::var_os(LOCK).is_some();
    (!root && !chosen && !writable(Path::new("/run/xtables.lock"))).then(|| directory.join("xtables.lock"))
}

fn writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

/// What a program said on its standard output. A failure carries what it said on the other.
pub(super) async fn run(
    program: &Path,
    arguments: &[&str],
    input: &str,
    lock: Option<&Path>,
) -> Result<String, Error> {
    let start = |source| Error::Start {
        program: program.to_owned(),
        source,
    };
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").kill_on_drop(true);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(lock) = lock {
        command.env(LOCK, lock);
    }
    let mut child = command.spawn().map_err(start)?;
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
    let output = match timeout(DEADLINE, talk).await {
        Ok(output) => output.map_err(start)?,
        Err(_) => {
            let program = program.to_owned();
            return Err(Error::Timeout {
                program,
                seconds: DEADLINE.as_secs(),
            });
        }
    };
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = said(output.status, &output.stderr);
        Err(Error::Failed {
            program: program.to_owned(),
            said,
        })
    }
}

fn said(status: ExitStatus, stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() {
        status.to_string()
    } else {
        lines.join("; ")
    }
}
