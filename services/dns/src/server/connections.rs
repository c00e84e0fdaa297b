//! TCP connections: so many at once, in total and of one account. Where there is no place for one more, the one that has
//! done nothing for longest makes place: who connects and never sends keeps nobody out.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::clock;

/// One that waits for an answer, or does not read it, makes place no sooner than after this.
const BUSY: Duration = Duration::from_secs(1);

/// All that are open.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    most_per_account: usize,
    pipelined: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// In the order in which they came.
    all: BTreeMap<u64, (u64, Arc<Activity>)>,
    accounts: HashMap<u64, usize>,
}

/// What one connection does.
#[derive(Debug)]
pub(super) struct Activity {
    /// Queries that are not answered yet each hold a permit, and the one that is being read.
    pub(super) pipeline: Arc<Semaphore>,
    pipelined: usize,
    /// When a query was last read whole, or an answer written; milliseconds.
    last: AtomicU64,
    /// It has to go.
    pub(super) leave: CancellationToken,
}

/// One that is open; ends with it.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<Connections>,
    number: u64,
    pub(super) activity: Arc<Activity>,
}

/// A place, and whether somebody had to go for it.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) place: Place,
    pub(super) displaced: bool,
}

impl Connections {
    /// `pipelined`: queries of one connection that wait at once.
    pub(super) fn new(most: usize, most_per_account: usize, pipelined: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            most_per_account,
            pipelined: pipelined.max(1),
            open: Mutex::default(),
        })
    }

    /// A place, if there is one or can be made.
    pub(super) fn enter(self: &Arc<Self>, account: u64, now: Duration) -> Option<Entered> {
        let mut open = self.lock();
        let own = open.accounts.get(&account).copied().unwrap_or(0);
        let displaced = if own >= self.most_per_account {
            Some(account)
        } else if open.all.len() >= self.most {
            let largest = open.accounts.iter().max_by_key(|(_, count)| **count);
            largest.map(|(account, _)| *account)
        } else {
            None
        };
        if let Some(whose) = displaced {
            let number = open.idlest(whose, now)?;
            if let Some(activity) = open.remove(number) {
                activity.leave.cancel();
            }
        }
        let number = open.next;
        let activity = Arc::new(Activity {
            pipeline: Arc::new(Semaphore::new(self.pipelined)),
            pipelined: self.pipelined,
            last: AtomicU64::new(millis(now)),
            leave: CancellationToken::new(),
        });
        open.next += 1;
        open.all.insert(number, (account, Arc::clone(&activity)));
        *open.accounts.entry(account).or_default() += 1;
        Some(Entered {
            place: Place {
                of: Arc::clone(self),
                number,
                activity,
            },
            displaced: displaced.is_some(),
        })
    }

    /// How many there are.
    pub(super) fn now(&self) -> usize {
        self.lock().all.len()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Of this account's the one that could go: one that waits for nothing, else one that has waited for long.
    fn idlest(&self, account: u64, now: Duration) -> Option<u64> {
        let own = self.all.iter().filter(|(_, (of, _))| *of == account);
        let (number, activity) = own
            .map(|(number, (_, activity))| (*number, activity))
            .min_by_key(|(_, activity)| (activity.waits(), activity.last.load(Relaxed)))?;
        let still = millis(now).saturating_sub(activity.last.load(Relaxed));
        (!activity.waits() || still >= millis(BUSY)).then_some(number)
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Activity>> {
        let (account, activity) = self.all.remove(&number)?;
        if let Some(count) = self.accounts.get_mut(&account) {
            *count -= 1;
            if *count == 0 {
                self.accounts.remove(&account);
            }
        }
        Some(activity)
    }
}

impl Activity {
    /// Whether answers are still to come, or to be read.
    pub(super) fn waits(&self) -> bool {
        self.pipeline.available_permits() + 1 < self.pipelined
    }

    /// A query was read, or an answer written.
    pub(super) fn moved(&self) {
        self.last.store(millis(clock::now()), Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = self.of.lock().remove(self.number);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    #[tokio::test]
    async fn the_idlest_of_the_same_account_makes_place() {
        let all = Connections::new(4, 2, 8);
        let enter = |account, after| all.enter(account, NOW + Duration::from_millis(after));
        let (first, second) = (enter(1, 0).unwrap(), enter(1, 1).unwrap());
        assert!(!second.displaced);
        let other = enter(2, 2).unwrap();
        // the first waits for an answer: the second, which came later, has to go
        let reading = Arc::clone(&first.place.activity.pipeline)
            .acquire_many_owned(2)
            .await;
        let third = enter(1, 3).unwrap();
        assert!(third.displaced && second.place.activity.leave.is_cancelled());
        assert!(!first.place.activity.leave.is_cancelled() && !other.place.activity.leave.is_cancelled());
        drop(second);
        assert_eq!(all.now(), 3, "it was counted out already");
        let busy = Arc::clone(&third.place.activity.pipeline)
            .acquire_many_owned(2)
            .await;
        assert!(enter(1, 4).is_none(), "both wait, and not for long");
        assert!(enter(1, 1500).unwrap().displaced, "for long now");
        drop((reading, busy, first, third, other));
        assert!(all.now() == 0 && all.lock().accounts.is_empty());
    }

    #[test]
    fn when_all_places_are_taken_who_has_most_makes_one() {
        let all = Connections::new(3, 2, 8);
        let taken: Vec<_> = [1, 2, 2].map(|account| all.enter(account, NOW).unwrap()).into();
        let new = all.enter(3, NOW).unwrap();
        let gone: Vec<bool> = taken
            .iter()
            .map(|entered| entered.place.activity.leave.is_cancelled())
            .collect();
        assert_eq!((gone, new.displaced), (vec![false, true, false], true));
    }
}
