//! Following a stream over any number of breaks.

use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status as Refusal;

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// As long as it may be being restarted: others wait for what it says.
const SHORT_PAUSE: Duration = Duration::from_millis(200);
const RESTARTED_WITHIN: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Follows a stream until `shutdown`, over any number of breaks. `connect` opens it, `on_item` gets what it says. A break is
/// logged once, however long it lasts; it is over with the first item, or when the stream has stayed for 2 s.
pub async fn follow<T, S, F>(
    what: &str,
    shutdown: CancellationToken,
    mut connect: impl FnMut() -> F,
    mut on_item: impl FnMut(T),
) where
    F: Future<Output = Result<S, Refusal>>,
    S: Stream<Item = Result<T, Refusal>> + Unpin,
{
    let mut outage = Outage::new(what);
    let follow = async {
        loop {
            let ended = match connect().await {
                Ok(mut items) => drain(&mut items, &mut outage, &mut on_item).await,
                Err(refusal) => refusal,
            };
            tokio::time::sleep(outage.goes_on(&ended)).await;
        }
    };
    shutdown.run_until_cancelled(follow).await;
}

async fn drain<T>(
    items: &mut (impl Stream<Item = Result<T, Refusal>> + Unpin),
    outage: &mut Outage<'_>,
    on_item: &mut impl FnMut(T),
) -> Refusal {
    let mut first = tokio::time::timeout(LONGEST_PAUSE, items.next()).await;
    if first.is_err() {
        outage.is_over();
        first = Ok(items.next().await);
    }
    let mut next = first.ok().flatten();
    loop {
        match next {
            Some(Ok(item)) => {
                outage.is_over();
                on_item(item);
            }
            Some(Err(refusal)) => return refusal,
            None => return Refusal::unavailable("the stream ended"),
        }
        next = items.next().await;
    }
}

/// What is said, and how long is waited.
struct Outage<'a> {
    what: &'a str,
    /// Since then.
    lasts: Option<Instant>,
    pause: Duration,
}

impl<'a> Outage<'a> {
    fn new(what: &'a str) -> Self {
        Self {
            what,
            lasts: None,
            pause: SHORTEST_PAUSE,
        }
    }

    fn is_over(&mut self) {
        self.pause = SHORTEST_PAUSE;
        if self.lasts.take().is_some() {
            tracing::info!("{} is there again", self.what);
        }
    }

    /// How long to wait for the next attempt.
    fn goes_on(&mut self, reason: &Refusal) -> Duration {
        if self.lasts.is_none() {
            tracing::warn!(
                reason = reason.message(),
                "{} cannot be reached, trying on",
                self.what
            );
        }
        let since = *self.lasts.get_or_insert_with(Instant::now);
        let pause = self.pause;
        let longest = if since.elapsed() < RESTARTED_WITHIN {
            SHORT_PAUSE
        } else {
            LONGEST_PAUSE
        };
        self.pause = (pause * 2).min(longest);
        jittered(pause)
    }
}

/// Between half of it and all of it, so that followers of one service do not come back in step.
fn jittered(pause: Duration) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new().hash_one(0);
    let half = pause / 2;
    let part = u32::try_from(random % 1000).unwrap_or(0);
    half + half * part / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::RefCell, collections::VecDeque};

    #[tokio::test]
    async fn items_come_over_breaks_and_refusals() {
        let shutdown = CancellationToken::new();
        let mut answers = VecDeque::from([
            Ok(vec![Ok(1), Ok(2)]),
            Err(Refusal::unavailable("no such socket")),
            Ok(vec![Ok(3), Err(Refusal::internal("broken"))]),
            Ok(vec![Ok(4)]),
        ]);
        let connect = || {
            let answer = answers.pop_front().unwrap_or_else(|| Ok(Vec::new()));
            std::future::ready(answer.map(futures_util::stream::iter))
        };
        let got = RefCell::new(Vec::new());
        follow("the test", shutdown.clone(), connect, |item: i32| {
            got.borrow_mut().push(item);
            if item == 4 {
                shutdown.cancel();
            }
        })
        .await;
        assert_eq!(*got.borrow(), [1, 2, 3, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_their_bound_when_it_is_no_restart_and_are_reset() {
        let mut outage = Outage::new("the test");
        let reason = Refusal::unavailable("gone");
        let mut is_within = |bound| {
            let bound = Duration::from_millis(bound);
            let pause = outage.goes_on(&reason);
            assert!(pause >= bound / 2 && pause <= bound, "{pause:?} of {bound:?}");
        };
        for bound in [50, 100, 200, 200, 200] {
            is_within(bound);
        }
        tokio::time::advance(RESTARTED_WITHIN).await;
        for bound in [200, 400, 800, 1600, 2000, 2000] {
            is_within(bound);
        }
        outage.is_over();
        assert!(outage.goes_on(&reason) <= SHORTEST_PAUSE);
    }
}
