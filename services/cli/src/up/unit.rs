//! One process that is kept running: what systemd's `Type=notify`, `Restart=always` does.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    net::UnixDatagram,
    process::{Child, Command},
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// From SIGTERM to SIGKILL.
const STOP: Duration = Duration::from_secs(10);
/// Back-off between a crash and the next start.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How to run it.
pub(super) struct Spec {
    pub(super) name: &'static str,
    pub(super) readiness: Readiness,
    pub(super) command: Box<dyn Fn() -> Command + Send>,
}

/// How it shows that it is ready.
pub(super) enum Readiness {
    /// `READY=1` to `NOTIFY_SOCKET`.
    Notified,
    /// This file is there.
    Exists(PathBuf),
}

#[derive(Clone)]
enum State {
    Starting,
    Ready,
    /// It ended before it was ever ready.
    Failed(ExitStatus),
}

/// A running unit.
pub(super) struct Unit {
    name: &'static str,
    state: watch::Receiver<State>,
    stop: oneshot::Sender<()>,
    keeper: JoinHandle<()>,
}

/// A command whose process is killed when ours ends, however that happens, and that a Ctrl-C meant for us does not reach.
pub(super) fn dies_with_us(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command.process_group(0).kill_on_drop(true);
    command
}

impl Unit {
    /// Starts it, and keeps it running until [`Unit::stop`]. `root`: folder of the mesh.
    pub(super) fn start(spec: Spec, root: &Path) -> Result<Self> {
        let notify = Notify::bind(&root.join("run").join(format!("{}.notify", spec.name)))?;
        let (tell, state) = watch::channel(State::Starting);
        let (stop, stopped) = oneshot::channel();
        let name = spec.name;
        let child = spawn(&spec, &notify)?;
        let keeper = tokio::spawn(Keeper { spec, notify, tell }.keep(child, stopped));
        Ok(Self {
            name,
            state,
            stop,
            keeper,
        })
    }

    /// As it is called in messages and files.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Returns once it is ready for the first time.
    pub(super) async fn ready(&mut self, limit: Duration) -> Result<()> {
        let waited = timeout(
            limit,
            self.state.wait_for(|state| !matches!(state, State::Starting)),
        )
        .await;
        match waited {
            Ok(Ok(state)) => match &*state {
                State::Failed(status) => bail!(
                    "{} ended with {status} before it was ready: its log says why",
                    self.name
                ),
                _ => Ok(()),
            },
            Ok(Err(_)) => bail!("{} is not watched any more", self.name),
            Err(_) => bail!(
                "{} is not ready after {} s: its log says what it waits for",
                self.name,
                limit.as_secs()
            ),
        }
    }

    /// SIGTERM, then SIGKILL. Returns when it is gone.
    pub(super) async fn stop(self) {
        let _keeper_is_gone = self.stop.send(());
        let _ended = self.keeper.await;
    }
}

struct Keeper {
    spec: Spec,
    notify: Notify,
    tell: watch::Sender<State>,
}

impl Keeper {
    async fn keep(mut self, mut child: Child, mut stopped: oneshot::Receiver<()>) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let started = Instant::now();
            tokio::select! {
                _ = &mut stopped => return end(&mut child, self.spec.name).await,
                status = self.until_it_ends(&mut child) => {
                    if matches!(*self.tell.borrow(), State::Starting) {
                        self.tell.send_replace(State::Failed(status));
                        return;
                    }
                    pause = if started.elapsed() > LONGEST_PAUSE { SHORTEST_PAUSE } else { pause };
                    eprintln!("portmaster up: {} ended with {status}; next start in {pause:?}", self.spec.name);
                }
            }
            tokio::select! {
                _ = &mut stopped => return,
                () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
            child = match self.again(&mut stopped).await {
                Some(child) => child,
                None => return,
            };
        }
    }

    /// Starts it once more, as often as it takes.
    async fn again(&mut self, stopped: &mut oneshot::Receiver<()>) -> Option<Child> {
        loop {
            match spawn(&self.spec, &self.notify) {
                Ok(child) => return Some(child),
                Err(error) => eprintln!("portmaster up: {error:#}; next start in {LONGEST_PAUSE:?}"),
            }
            tokio::select! {
                _ = &mut *stopped => return None,
                () = sleep(LONGEST_PAUSE) => {}
            }
        }
    }

    async fn until_it_ends(&mut self, child: &mut Child) -> ExitStatus {
        tokio::select! {
            status = child.wait() => status.unwrap_or_default(),
            never = becomes_ready(&self.spec.readiness, &self.notify, &self.tell) => match never {},
        }
    }
}

/// Reports readiness, then reads on, for ever: a full socket would hold the service up.
async fn becomes_ready(
    readiness: &Readiness,
    notify: &Notify,
    tell: &watch::Sender<State>,
) -> std::convert::Infallible {
    if let Readiness::Exists(path) = readiness {
        while !path.exists() {
            sleep(Duration::from_millis(10)).await;
        }
        tell.send_replace(State::Ready);
    }
    loop {
        if notify.says_ready().await {
            tell.send_replace(State::Ready);
        }
    }
}

fn spawn(spec: &Spec, notify: &Notify) -> Result<Child> {
    let mut command = (spec.command)();
    command.env("NOTIFY_SOCKET", &notify.path);
    command.spawn().with_context(|| format!("start {}", spec.name))
}

async fn end(child: &mut Child, name: &str) {
    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
        let _gone = kill_process(pid, Signal::TERM);
    }
    if timeout(STOP, child.wait()).await.is_err() {
        eprintln!("portmaster up: {name} does not stop: killed");
        let _gone = child.kill().await;
    }
}

/// The socket of sd_notify(3).
struct Notify {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Notify {
    fn bind(path: &Path) -> Result<Self> {
        let _was_not_there = fs::remove_file(path);
        let socket = UnixDatagram::bind(path).with_context(|| format!("bind {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            socket,
        })
    }

    async fn says_ready(&self) -> bool {
        let mut buffer = [0; 4096];
        match self.socket.recv(&mut buffer).await {
            Ok(length) => buffer
                .get(..length)
                .unwrap_or_default()
                .split(|octet| *octet == b'\n')
                .any(|line| line == b"READY=1"),
            Err(_) => {
                sleep(Duration::from_secs(1)).await;
                false
            }
        }
    }
}
