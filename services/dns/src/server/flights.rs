//! One upstream question for equal questions: who comes while it is under way waits for the same answer.

use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};

type Flight<T> = Shared<BoxFuture<'static, T>>;
type Known<K, T> = HashMap<K, (u64, WeakShared<BoxFuture<'static, T>>)>;
type Map<K, T> = Mutex<Known<K, T>>;

/// The questions under way: `K` tells them apart, `T` is what those who wait get.
#[derive(Debug)]
pub struct Flights<K: Eq + Hash + Clone + Send + 'static, T: Clone + Send + Sync + 'static> {
    under_way: Arc<Map<K, T>>,
}

impl<K: Eq + Hash + Clone + Send + 'static, T: Clone + Send + Sync + 'static> Default for Flights<K, T> {
    fn default() -> Self {
        Self {
            under_way: Arc::default(),
        }
    }
}

impl<K: Eq + Hash + Clone + Send + 'static, T: Clone + Send + Sync + 'static> Flights<K, T> {
    /// Waits for the answer to `key`. `ask` is called only if nobody waits for it yet; what it gives goes on as long as
    /// anybody waits, and ends with the last of them.
    pub async fn share<F>(&self, key: &K, ask: impl FnOnce() -> F) -> T
    where
        F: Future<Output = T> + Send + 'static,
    {
        self.join(key, ask).await
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        lock(&self.under_way).len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn join<F>(&self, key: &K, ask: impl FnOnce() -> F) -> Flight<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut under_way = lock(&self.under_way);
        let known = under_way.get(key);
        if let Some(flight) = known.and_then(|(_, weak)| weak.upgrade()) {
            return flight;
        }
        let number = known.map_or(0, |(number, _)| number + 1);
        let landing = Landing {
            under_way: Arc::clone(&self.under_way),
            key: key.clone(),
            number,
        };
        let asked = ask();
        let flight = async move {
            let answer = asked.await;
            drop(landing);
            answer
        };
        let flight = flight.boxed().shared();
        if let Some(weak) = flight.downgrade() {
            under_way.insert(key.clone(), (number, weak));
        }
        flight
    }
}

/// Takes the question off the list, when it is answered or nobody waits for it any more.
struct Landing<K: Eq + Hash + Clone + Send + 'static, T: Clone + Send + Sync + 'static> {
    under_way: Arc<Map<K, T>>,
    key: K,
    /// A later question for the same may be under way already.
    number: u64,
}

impl<K: Eq + Hash + Clone + Send + 'static, T: Clone + Send + Sync + 'static> Drop for Landing<K, T> {
    fn drop(&mut self) {
        let mut under_way = lock(&self.under_way);
        if under_way
            .get(&self.key)
            .is_some_and(|(number, _)| *number == self.number)
        {
            under_way.remove(&self.key);
        }
    }
}

fn lock<K: Eq + Hash + Clone + Send + 'static, T: Clone + Send + Sync + 'static>(
    map: &Map<K, T>,
) -> MutexGuard<'_, Known<K, T>> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use dns_core::{Name, Question, wire::Key};
    use tokio::sync::Notify;

    use super::*;

    fn key(name: &str) -> Key {
        let name = Name::parse(name).unwrap();
        Key::new(
            &Question {
                name,
                kind: 1,
                class: 1,
            },
            false,
            false,
        )
    }

    #[tokio::test]
    async fn equal_questions_are_asked_once() {
        let (flights, asked, gate) = (
            Flights::default(),
            Arc::new(AtomicU32::new(0)),
            Arc::new(Notify::new()),
        );
        let ask = |name| {
            let (asked, gate, key) = (Arc::clone(&asked), Arc::clone(&gate), key(name));
            flights.join(&key, move || async move {
                asked.fetch_add(1, Relaxed);
                gate.notified().await;
                asked.load(Relaxed)
            })
        };
        let (a, b, other) = (ask("a.org"), ask("a.org"), ask("b.org"));
        assert_eq!(flights.len(), 2);
        let go = async {
            tokio::task::yield_now().await;
            gate.notify_waiters();
        };
        let (a, b, other, ()) = tokio::join!(a, b, other, go);
        assert_eq!((a, b, other), (2, 2, 2));
        assert!(flights.is_empty());
        assert_eq!(
            flights.share(&key("a.org"), || async { 7 }).await,
            7,
            "asked anew"
        );
    }

    #[tokio::test]
    async fn a_question_that_nobody_waits_for_ends() {
        let flights: Flights<Key, u8> = Flights::default();
        let one = flights.join(&key("a.org"), std::future::pending);
        let two = flights.join(&key("a.org"), || async { unreachable!("it is under way") });
        drop(one);
        assert_eq!(flights.len(), 1);
        drop(two);
        assert!(flights.is_empty());
    }
}
