//! Whom polkit asks for a password where there is no desktop: a terminal, by polkit's own `pkttyagent`.

use std::{
    fs::File,
    io::IsTerminal as _,
    os::fd::{AsRawFd as _, OwnedFd},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal, kill_process},
};
use tokio::{task::spawn_blocking, time::timeout};

/// It says sooner that it is there, or ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends when dropped, and leaves the terminal as it was.
#[derive(Debug)]
pub(super) struct Agent(Child);

/// Asks on this terminal, unless the session has an agent of its own. `None` where there is nobody to ask or nothing to ask
/// with: polkit then says so itself.
pub(super) async fn start() -> Option<Agent> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return None;
    }
    let (ready, agent) = spawn().ok()?;
    // it closes its end when polkit knows it
    let known = spawn_blocking(move || std::io::copy(&mut File::from(ready), &mut std::io::sink()));
    let _ = timeout(PATIENCE, known).await;
    Some(agent)
}

fn spawn() -> std::io::Result<(OwnedFd, Agent)> {
    let (ready, notify) = pipe_with(PipeFlags::CLOEXEC)?;
    fcntl_setfd(&notify, FdFlags::empty())?;
    let mut command = Command::new("pkttyagent");
    command.args(["--fallback", "--process", &std::process::id().to_string()]);
    command.args(["--notify-fd", &notify.as_raw_fd().to_string()]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    Ok((ready, Agent(child)))
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _gone = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _reaped = self.0.wait();
    }
}
