//! Programs that open sockets and hold them: Python, and whatever else a test starts.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
};

use integration::{PATIENCE, Running, World};

pub const PYTHON: &str = "/usr/bin/python3";

/// `say` prints a line for [`Play::hear`]; `wait` waits for [`Play::go`].
const PRELUDE: &str = r"
import ctypes, os, signal, struct, sys, time
from socket import *
def say(*words): print(*words, flush=True)
def wait(): sys.stdin.readline()
def port(s): return s.getsockname()[1]
";

/// A running program that can be heard, and told to go on.
pub struct Play {
    mouth: ChildStdin,
    ear: Receiver<String>,
    running: Running,
}

/// Makes a Python script that does `code` and then waits for ever.
pub fn script(path: &Path, code: &str) {
    fs::write(path, format!("#!{PYTHON}\n{PRELUDE}\n{code}\nsignal.pause()\n")).unwrap();
}

impl Play {
    /// Runs `code` in the host's namespace; it then waits for ever.
    pub fn python(world: &World, code: &str) -> Self {
        let mut command = world.host.command(PYTHON);
        command.args(["-c", &format!("{PRELUDE}\n{code}\nsignal.pause()\n")]);
        Self::start(command)
    }

    pub fn start(mut command: Command) -> Self {
        use std::os::unix::process::CommandExt as _;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let (mouth, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
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
            running: Running::adopt("program", child),
        }
    }

    /// The next line that it says.
    #[track_caller]
    pub fn hear(&self) -> String {
        self.ear
            .recv_timeout(PATIENCE)
            .expect("the program says something before it ends")
    }

    /// The next line, as a number: a port, a pid.
    #[track_caller]
    pub fn number<T: std::str::FromStr>(&self) -> T {
        let line = self.hear();
        line.parse().unwrap_or_else(|_| panic!("{line:?} is no number"))
    }

    /// Ends its `wait()`.
    pub fn go(&mut self) {
        self.mouth.write_all(b"\n").unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.running.pid().as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) {
        self.running.wait();
    }

    pub fn kill(self) {
        self.running.kill();
    }
}
