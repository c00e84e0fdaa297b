//! Applications that a test plays with: copies of nc, each a program of its own as far as a firewall is concerned.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use crate::{Running, World};

/// A program with a path of its own.
#[derive(Clone, Debug)]
pub struct App {
    path: PathBuf,
}

/// How an attempt to connect ended.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// It is connected.
    pub connected: bool,
    /// What the program said.
    pub said: String,
    /// From its start to its end.
    pub took: Duration,
}

/// No attempt waits longer: what is dropped ends then.
pub const ATTEMPT: Duration = Duration::from_secs(5);

impl World {
    /// Makes `ROOT/apps/<name>`.
    ///
    /// # Panics
    /// Where nc is not installed.
    pub fn app(&self, name: &str) -> App {
        let folder = self.root().join("apps");
        fs::create_dir_all(&folder).expect("make the applications' folder");
        let path = folder.join(name);
        fs::copy("/usr/bin/nc", &path).expect("copy /usr/bin/nc (apt-get install netcat-openbsd)");
        App { path }
    }
}

impl App {
    /// The executable.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A profile for this application: its default action, then more TOML.
    pub fn profile(&self, default_action: &str, more: &str) -> String {
        profile(&self.path, default_action, more)
    }

    /// Connects by TCP and closes.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn connect(&self, world: &World, to: SocketAddr) -> Attempt {
        let start = Instant::now();
        let mut command = self.command(world);
        command.args(["-z", "-v", "-w", &ATTEMPT.as_secs().to_string()]);
        command.arg(to.ip().to_string()).arg(to.port().to_string());
        let output = command.stdin(Stdio::null()).output().expect("start nc");
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Attempt {
            connected: output.status.success(),
            said,
            took: start.elapsed(),
        }
    }

    /// Opens a TCP connection that stays, to a server that echoes lines.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn call(&self, world: &World, to: SocketAddr) -> Call {
        let mut command = self.command(world);
        command.arg(to.ip().to_string()).arg(to.port().to_string());
        Call::open(command)
    }

    /// The program in the host's namespace.
    pub fn command(&self, world: &World) -> Command {
        world.host.command(&self.path)
    }
}

/// A profile for a program.
pub fn profile(path: &Path, default_action: &str, more: &str) -> String {
    let path = path.display();
    format!("[[match]]\npath = \"{path}\"\n\n[settings]\ndefault_action = \"{default_action}\"\n\n{more}\n")
}

/// A live connection: lines go out, and come back.
#[derive(Debug)]
pub struct Call {
    mouth: Option<ChildStdin>,
    ear: Receiver<String>,
    running: Running,
}

impl Call {
    /// With a program that connects its standard streams to a server.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn open(mut command: Command) -> Self {
        use std::os::unix::process::CommandExt;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let (mouth, stdout) = (
            child.stdin.take(),
            child.stdout.take().expect("standard output is piped"),
        );
        let (tell, ear) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            mouth,
            ear,
            running: Running::adopt("nc", child),
        }
    }

    /// Says a line, and whether it came back within `patience`. What comes back later is not taken for it.
    pub fn echoes(&mut self, line: &str, patience: Duration) -> bool {
        let sent = self
            .mouth
            .as_mut()
            .is_some_and(|mouth| mouth.write_all(format!("{line}\n").as_bytes()).is_ok());
        let end = Instant::now() + patience;
        let heard = || {
            self.ear
                .recv_timeout(end.saturating_duration_since(Instant::now()))
                .ok()
        };
        sent && std::iter::from_fn(heard).any(|heard| heard == line)
    }

    /// The program.
    pub fn running(&self) -> &Running {
        &self.running
    }
}
