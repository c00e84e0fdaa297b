//! Standard output, with a thread of its own: a reader that is slow or gone never keeps us from stopping.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::{mpsc, oneshot};

/// Texts that may wait for the reader; then we wait as well, and the service that sends counts what it drops.
const WAITING: usize = 64;
/// How long what still waits may take at the end.
const FLUSH: Duration = Duration::from_millis(500);

/// See the module's head.
pub(crate) struct Output {
    texts: mpsc::Sender<String>,
    written: oneshot::Receiver<io::Result<()>>,
    reader_left: oneshot::Receiver<()>,
}

impl Output {
    /// Starts the threads; they end with the process.
    pub(crate) fn start() -> Result<Self> {
        let (texts, waiting) = mpsc::channel(WAITING);
        let (tell_written, written) = oneshot::channel();
        let (tell_left, reader_left) = oneshot::channel();
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let writer = thread("stdout").spawn(move || tell_written.send(write(waiting)));
        writer.context("start a thread that writes to standard output")?;
        let watcher = thread("stdout-reader").spawn(move || {
            if wait_until_reader_leaves() {
                let _nobody_waits = tell_left.send(());
            }
        });
        watcher.context("start a thread that watches standard output")?;
        Ok(Self {
            texts,
            written,
            reader_left,
        })
    }

    /// A handle to write by.
    pub(crate) fn writer(&self) -> Writer {
        Writer(self.texts.clone())
    }

    /// Returns when nobody reads any more.
    pub(crate) async fn reader_left(&mut self) {
        if (&mut self.reader_left).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Writes what still waits, as far as the reader takes it. A reader that left is no error.
    pub(crate) async fn finish(self) -> Result<ExitCode> {
        drop(self.texts);
        match tokio::time::timeout(FLUSH, self.written).await {
            Ok(Ok(result)) => finish(result),
            _ => Ok(ExitCode::SUCCESS),
        }
    }
}

/// See [`Output::writer`].
#[derive(Clone)]
pub(crate) struct Writer(mpsc::Sender<String>);

impl Writer {
    /// Waits for room. False when nobody reads any more.
    pub(crate) async fn send(&self, text: String) -> bool {
        self.0.send(text).await.is_ok()
    }
}

/// Writes a whole text at once, for commands that end by themselves.
pub(crate) fn print(text: &str) -> Result<ExitCode> {
    let mut stdout = io::stdout().lock();
    finish(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

fn finish(result: io::Result<()>) -> Result<ExitCode> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("write to standard output")
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn write(mut waiting: mpsc::Receiver<String>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    while let Some(text) = waiting.blocking_recv() {
        stdout.write_all(text.as_bytes())?;
        stdout.flush()?;
    }
    Ok(())
}

/// Blocks. poll(2) tells without being asked that the other end of a pipe, socket or terminal is gone; files have none.
fn wait_until_reader_leaves() -> bool {
    let stdout = io::stdout();
    loop {
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        match poll(&mut watched, None) {
            Ok(_) => {
                return watched
                    .iter()
                    .any(|fd| fd.revents().intersects(PollFlags::ERR | PollFlags::HUP));
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}
