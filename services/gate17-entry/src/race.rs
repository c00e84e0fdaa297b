//! Several ways to the same end, begun one after the other (RFC 8305): the first that works is taken.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::sleep;

/// Begins the next attempt when one failed, or `stagger` after the last one began.
///
/// # Errors
/// Those of all attempts, where none worked.
pub async fn race<T, E, F>(attempts: impl IntoIterator<Item = F>, stagger: Duration) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = attempts.into_iter().peekable();
    let mut running = FuturesUnordered::new();
    let mut errors = Vec::new();
    loop {
        match waiting.next() {
            Some(attempt) => running.push(attempt),
            None if running.is_empty() => return Err(errors),
            None => {}
        }
        let others = waiting.peek().is_some();
        let next = async {
            if others {
                sleep(stagger).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            Some(ended) = running.next() => match ended {
                Ok(done) => return Ok(done),
                Err(error) => errors.push(error),
            },
            () = next => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::Future, pin::Pin};

    type Attempt = Pin<Box<dyn Future<Output = Result<u8, &'static str>>>>;
    const STAGGER: Duration = Duration::from_millis(250);

    fn after(millis: u64, result: Result<u8, &'static str>) -> Attempt {
        Box::pin(async move {
            sleep(Duration::from_millis(millis)).await;
            result
        })
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_does_not_hold_the_next_one_up() {
        let began = tokio::time::Instant::now();
        let won = race([after(60_000, Ok(1)), after(10, Ok(2))], STAGGER).await;
        assert_eq!(won, Ok(2));
        assert_eq!(began.elapsed(), STAGGER + Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_makes_the_next_begin_at_once() {
        let began = tokio::time::Instant::now();
        let won = race([after(1, Err("no")), after(1, Ok(2))], STAGGER).await;
        assert_eq!((won, began.elapsed()), (Ok(2), Duration::from_millis(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn where_none_works_all_errors_are_told() {
        let lost = race([after(5, Err("a")), after(1, Err("b"))], STAGGER).await;
        assert_eq!(lost, Err(vec!["a", "b"]));
        assert_eq!(
            race::<u8, u8, std::future::Ready<_>>([], STAGGER).await,
            Err(vec![])
        );
    }
}
