//! Whether a peer is there. One that is being restarted is waited for; one that stays away is not, by nobody who comes later.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Presence {
    /// It was never there, and nobody expects it.
    #[default]
    Unknown,
    /// Since then.
    There(Instant),
    Gone(Instant),
}

impl Presence {
    const fn is_there(&self) -> bool {
        matches!(self, Self::There(_))
    }
}

/// Of a peer that comes and goes. Shared by those who wait for it and the one who holds its stream.
#[derive(Debug, Default)]
pub struct Peer(watch::Sender<Presence>);

impl Peer {
    /// From now on it is waited for as one that has just gone: this process has just begun, and the peer perhaps as well.
    pub fn is_expected(&self) {
        self.0.send_if_modified(|presence| {
            let is_new = *presence == Presence::Unknown;
            if is_new {
                *presence = Presence::Gone(Instant::now());
            }
            is_new
        });
    }

    /// There is a stream.
    pub fn came(&self) {
        self.0.send_replace(Presence::There(Instant::now()));
    }

    /// The stream ended. Where there was none, it is gone since before.
    pub fn went(&self) {
        self.0.send_if_modified(|presence| {
            let was_there = presence.is_there();
            if was_there {
                *presence = Presence::Gone(Instant::now());
            }
            was_there
        });
    }

    /// Returns when it is there.
    pub async fn there(&self) {
        let mut presence = self.0.subscribe();
        // this is the sender: it cannot be gone
        let _there = presence.wait_for(Presence::is_there).await;
    }

    /// For somebody who began to want it at `began`: true as soon as it is there; false where it is not within `patience` of then,
    /// and at once where it had gone for as long already.
    pub async fn comes_back(&self, began: Instant, patience: Duration) -> bool {
        let now = *self.0.borrow();
        match now {
            Presence::There(_) => true,
            Presence::Gone(since) if began.saturating_duration_since(since) < patience => {
                tokio::time::timeout_at(began + patience, self.there())
                    .await
                    .is_ok()
            }
            Presence::Gone(_) | Presence::Unknown => false,
        }
    }

    /// Until when an answer to what is asked now is waited for: `usual`, of a peer that is there; of one that has just come, and has
    /// itself to set up and others to answer, until somebody who began to want it at `began` has no more `patience`.
    pub fn answers_by(&self, began: Instant, usual: Duration, patience: Duration) -> Instant {
        let (now, presence) = (Instant::now(), *self.0.borrow());
        match presence {
            Presence::There(since) if now.saturating_duration_since(since) < patience => {
                (now + usual).max(began + patience)
            }
            _ => now + usual,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(3);

    async fn comes_back(peer: &Peer) -> (bool, Duration) {
        let began = Instant::now();
        (peer.comes_back(began, PATIENCE).await, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_restarted_is_waited_for_and_who_stays_away_is_not() {
        let peer = Peer::default();
        assert_eq!(comes_back(&peer).await, (false, Duration::ZERO), "never there");
        peer.went();
        assert_eq!(comes_back(&peer).await, (false, Duration::ZERO), "never there");
        peer.is_expected();
        assert_eq!(comes_back(&peer).await, (false, PATIENCE));
        assert_eq!(
            comes_back(&peer).await,
            (false, Duration::ZERO),
            "gone for so long"
        );
        peer.came();
        assert_eq!(comes_back(&peer).await, (true, Duration::ZERO));

        peer.went();
        tokio::time::advance(PATIENCE / 3).await;
        peer.went();
        let back = async {
            tokio::time::sleep(PATIENCE / 3).await;
            peer.came();
        };
        let (waited, ()) = tokio::join!(comes_back(&peer), back);
        assert_eq!(waited, (true, PATIENCE / 3));
        peer.went();
        tokio::time::advance(PATIENCE).await;
        assert_eq!(
            comes_back(&peer).await,
            (false, Duration::ZERO),
            "gone for so long"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_just_come_has_time_to_answer() {
        const USUAL: Duration = Duration::from_millis(200);
        let peer = Peer::default();
        let began = Instant::now();
        let by = |began| {
            peer.answers_by(began, USUAL, PATIENCE)
                .saturating_duration_since(Instant::now())
        };
        tokio::time::advance(PATIENCE / 3).await;
        peer.came();
        assert_eq!(by(began), PATIENCE - PATIENCE / 3);
        tokio::time::advance(PATIENCE - PATIENCE / 3).await;
        assert_eq!(by(began), USUAL);
        assert_eq!(by(Instant::now()), PATIENCE);
        tokio::time::advance(PATIENCE / 3).await;
        assert_eq!(by(Instant::now()), USUAL, "it is there for long");
    }
}
