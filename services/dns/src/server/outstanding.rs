//! How many things wait at once, in total and for each account.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

/// See the module.
#[derive(Debug)]
pub struct Outstanding {
    most: usize,
    most_per_account: usize,
    total: AtomicUsize,
    turned_away: AtomicU64,
    /// Accounts that have something waiting.
    accounts: Mutex<HashMap<u128, usize>>,
}

/// One that waits; ends with it.
#[derive(Debug)]
pub struct Place {
    of: Arc<Outstanding>,
    account: u128,
}

impl Outstanding {
    /// Room for `most`, and for `most_per_account` of one account.
    pub fn new(most: usize, most_per_account: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            most_per_account,
            total: AtomicUsize::new(0),
            turned_away: AtomicU64::new(0),
            accounts: Mutex::default(),
        })
    }

    /// A place, if there is one.
    pub fn enter(self: &Arc<Self>, account: u128) -> Option<Place> {
        let mut accounts = self.lock();
        let count = accounts.get(&account).copied().unwrap_or(0);
        if count >= self.most_per_account || self.now() >= self.most {
            self.turned_away.fetch_add(1, Relaxed);
            return None;
        }
        accounts.insert(account, count + 1);
        self.total.fetch_add(1, Relaxed);
        Some(Place {
            of: Arc::clone(self),
            account,
        })
    }

    /// How many wait.
    pub fn now(&self) -> usize {
        self.total.load(Relaxed)
    }

    /// For how many there was no place, since the start.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u128, usize>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut accounts = self.of.lock();
        if let Some(count) = accounts.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                accounts.remove(&self.account);
            }
        }
        self.of.total.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_account_takes_the_place_of_another() {
        let all = Outstanding::new(3, 2);
        let first = all.enter(1);
        let second = all.enter(1);
        assert!(first.is_some() && second.is_some() && all.enter(1).is_none());
        let other = all.enter(2);
        assert!(other.is_some() && all.enter(3).is_none(), "full");
        assert_eq!(all.turned_away(), 2);
        drop(first);
        assert!(all.enter(1).is_some());
        drop((second, other));
        assert!(all.now() == 0 && all.lock().is_empty());
    }
}
