//! Asking for a pause, and for its end.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use verdict::policy::{
    CompileError,
    model::{Clocks, Pause},
};

/// What the keeper is asked for, with whom to answer when it is in force.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// `None`: go on deciding.
    pub(crate) pause: Option<Pause>,
    /// Gets whether a pause was on before, or why it is as it was.
    pub(crate) done: oneshot::Sender<Result<bool, CompileError>>,
}

/// Why there is no pause.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0} s is no length of a pause: it takes from 1 s to {max} s (24 hours)", max = Pause::LONGEST.as_secs())]
    Length(u64),
    #[error("policy is stopping; ask again when it runs")]
    Stopping,
    #[error("the policy cannot be put in force, and all stays as it was: {0}; see `portmaster rules check`")]
    Refused(#[from] CompileError),
}

/// Asks the keeper. Clones ask the same one.
#[derive(Clone, Debug)]
pub(crate) struct Asker(pub(crate) mpsc::Sender<Wanted>);

impl Asker {
    /// From now on, for so long; also where a pause is on already.
    pub(crate) async fn pause(&self, seconds: u64) -> Result<Pause, Error> {
        let pause = span(daemon::clock::now(), seconds).ok_or(Error::Length(seconds))?;
        self.ask(Some(pause)).await.map(|_| pause)
    }

    /// True: there was one to end.
    pub(crate) async fn resume(&self) -> Result<bool, Error> {
        self.ask(None).await
    }

    async fn ask(&self, pause: Option<Pause>) -> Result<bool, Error> {
        let (done, answer) = oneshot::channel();
        let asked = self.0.send(Wanted { pause, done }).await;
        asked.map_err(|_| Error::Stopping)?;
        Ok(answer.await.map_err(|_| Error::Stopping)??)
    }
}

fn span(now: Clocks, seconds: u64) -> Option<Pause> {
    if seconds == 0 || seconds > Pause::LONGEST.as_secs() {
        return None;
    }
    Pause::new(now, Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_takes_from_a_second_to_a_day() {
        let now = daemon::clock::now();
        assert!(span(now, 1).is_some() && span(now, 86_400).is_some());
        assert!(span(now, 0).is_none() && span(now, 86_401).is_none() && span(now, u64::MAX).is_none());
    }
}
