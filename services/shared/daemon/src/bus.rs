//! The desktop bus: a name, a state that everyone may read, events in batches.
//!
//! Invariant: nobody in the service ever waits for the bus. It may be missing, come later, restart, or be stuck; events that
//! it cannot take are dropped, oldest first, and counted.

mod publisher;
mod state;

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;
use zbus::{Connection, MessageStream, object_server::SignalEmitter};

use crate::{About, status::Status};
pub use publisher::{PAUSE, Publisher};
use state::State;

/// A bus that takes no message for so long is left, and joined anew.
pub const PATIENCE: Duration = Duration::from_secs(5);
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const PROBLEM: &str = "bus-unreachable";

/// A service's place on the bus.
#[derive(Clone, Debug)]
pub struct Desktop {
    name: String,
    path: String,
    status: Status,
    shutdown: CancellationToken,
}

impl Desktop {
    /// `process-resolver` is `org.portmaster.ProcessResolver1` at `/org/portmaster/ProcessResolver1`.
    pub fn new(about: About, status: Status, shutdown: CancellationToken) -> Self {
        let words = about.name.split('-').map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            first.to_uppercase() + rest
        });
        let word: String = words.collect();
        Self {
            name: format!("org.portmaster.{word}1"),
            path: format!("/org/portmaster/{word}1"),
            status,
            shutdown,
        }
    }

    /// The object path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The state alone.
    pub async fn serve_state(&self) {
        self.serve(async |_| Ok(()), async |_| std::future::pending().await)
            .await;
    }

    /// Of the whole service.
    pub const fn status(&self) -> &Status {
        &self.status
    }

    /// Joins the bus, and again whenever it is lost, until `shutdown`. `register` puts the service's own interfaces on the
    /// connection; `work` then publishes on it, and ends only when the bus is lost.
    pub async fn serve(
        &self,
        register: impl AsyncFn(&Connection) -> zbus::Result<()>,
        work: impl AsyncFn(&Connection) -> zbus::Result<()>,
    ) {
        let mut pause = SHORTEST_PAUSE;
        let serve = async {
            loop {
                let joined = tokio::time::timeout(PATIENCE, self.join(&register)).await;
                let ended = match joined {
                    Ok(Ok(connection)) => {
                        self.status.clear(PROBLEM);
                        pause = SHORTEST_PAUSE;
                        self.stay(&connection, &work).await
                    }
                    Ok(Err(error)) => error,
                    Err(_) => zbus::Error::Failure("the bus does not answer".into()),
                };
                self.status.raise(
                    PROBLEM,
                    format!("nothing is published on the desktop bus: {ended}"),
                );
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        self.shutdown.run_until_cancelled(serve).await;
    }

    async fn join(
        &self,
        register: &impl AsyncFn(&Connection) -> zbus::Result<()>,
    ) -> zbus::Result<Connection> {
        let connection = zbus::connection::Builder::system().build().await?;
        let state = State {
            status: self.status.clone(),
        };
        connection.object_server().at(self.path.as_str(), state).await?;
        register(&connection).await?;
        connection.request_name(self.name.as_str()).await?;
        Ok(connection)
    }

    async fn stay(
        &self,
        connection: &Connection,
        work: &impl AsyncFn(&Connection) -> zbus::Result<()>,
    ) -> zbus::Error {
        let mut messages = MessageStream::from(connection);
        let closed = async { while let Some(Ok(_)) = messages.next().await {} };
        tokio::select! {
            () = closed => zbus::Error::Failure("the bus closed the connection".into()),
            worked = work(connection) => worked.err().unwrap_or_else(|| zbus::Error::Failure("publishing ended".into())),
            told = self.tell_changes(connection) => told.err().unwrap_or_else(|| zbus::Error::Failure("status ended".into())),
        }
    }

    async fn tell_changes(&self, connection: &Connection) -> zbus::Result<()> {
        let state = connection
            .object_server()
            .interface::<_, State>(self.path.as_str())
            .await?;
        let mut changes = self.status.changed();
        while changes.changed().await.is_ok() {
            let emitter: &SignalEmitter<'_> = state.signal_emitter();
            let state = state.get().await;
            let tell = async {
                state.state_changed(emitter).await?;
                state.policy_version_changed(emitter).await?;
                state.problems_changed(emitter).await
            };
            tokio::time::timeout(PATIENCE, tell)
                .await
                .unwrap_or(Err(stuck()))?;
            drop(state);
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}

/// The error of a bus that took nothing for [`PATIENCE`].
pub fn stuck() -> zbus::Error {
    zbus::Error::Failure("the bus takes no messages".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_the_desktop_writes_them() {
        let about = About {
            name: "process-resolver",
            version: "1",
        };
        let desktop = Desktop::new(about, Status::new(about), CancellationToken::new());
        assert_eq!(
            (desktop.name.as_str(), desktop.path()),
            (
                "org.portmaster.ProcessResolver1",
                "/org/portmaster/ProcessResolver1"
            )
        );
    }
}
