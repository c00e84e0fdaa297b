//! Programs that open sockets and hold them: Python, and whatever else a test starts.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::IpAddr,
    path::Path,
    process::{ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
};

use integration::{PATIENCE, Running, World};
use verdict::Flow;

use crate::ask::Asker;

pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// `say` prints a line for [`Play::hear`]; `wait` waits for [`Play::go`].
const PRELUDE: &str = r"
import ctypes, os, signal, struct, sys, time
from socket import *
def say(word): os.write(1, f'{word}\n'.encode())
def wait(): sys.stdin.readline()
def port(s): return s.getsockname()[1]
";

/// A running program that can be heard, and told to go on.
pub(crate) struct Play {
    mouth: ChildStdin,
    ear: Receiver<String>,
    running: Running,
}

/// Makes a Python script that does `code` and then waits for ever.
pub(crate) fn script(path: &Path, code: &str) {
    fs::write(path, format!("#!{PYTHON}\n{PRELUDE}\n{code}\nsignal.pause()\n")).unwrap();
}

impl Play {
    /// Runs `code` in the host's namespace; it then waits for ever.
    pub(crate) fn python(world: &World, code: &str) -> Self {
        let mut command = world.host.command(PYTHON);
        command.args(["-c", &format!("{PRELUDE}\n{code}\nsignal.pause()\n")]);
        Self::start(command)
    }

    pub(crate) fn start(mut command: Command) -> Self {
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
    pub(crate) fn hear(&self) -> String {
        self.ear
            .recv_timeout(PATIENCE)
            .expect("the program says something before it ends")
    }

    /// The next line, as a number: a port, a pid.
    #[track_caller]
    pub(crate) fn number<T: std::str::FromStr>(&self) -> T {
        let line = self.hear();
        line.parse().unwrap_or_else(|_| panic!("{line:?} is no number"))
    }

    /// Ends its `wait()`.
    pub(crate) fn go(&mut self) {
        self.mouth.write_all(b"\n").unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.pid().as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(&mut self) {
        self.running.wait();
    }

    pub(crate) fn kill(self) {
        self.running.kill();
    }
}

/// This host's address of the same family, and another host's.
pub(crate) fn ends(world: &World) -> [(IpAddr, IpAddr); 2] {
    let (a, b) = (world.link.a, world.link.b);
    [(a.v4.into(), b.v4.into()), (a.v6.into(), b.v6.into())]
}

/// The flow's socket is found to be this program's.
#[track_caller]
pub(crate) fn belongs(asker: &mut Asker, flow: Flow, program: &Play, way: &str) {
    let found = asker.lookup(flow).map(|process| process.pid);
    assert_eq!(found, Ok(program.pid()), "{flow} by {way}");
}
