//! What one user may take of the gateway, so that the others have theirs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Users are told apart by number; those who are not known share one.
pub type User = Option<u32>;

/// Wrong tokens in a row until a user's tokens are looked at no more for a while: guessing is hopeless anyway (256 bits), but
/// it is to be seen, and to cost nothing.
const WRONG: u32 = 16;
const REST: Duration = Duration::from_secs(10);
/// Users whose calls are counted; they come back to a full allowance when forgotten.
const USERS: usize = 4096;

/// Why there is no place for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// All are taken.
    #[error(
        "all {0} connections to this gateway are taken: try again later, or raise `connections` in api-gateway.toml"
    )]
    Everybody(usize),
    /// This user has his part already.
    #[error(
        "this user has {0} connections open already: close some, or raise `connections_per_user` in api-gateway.toml"
    )]
    User(usize),
}

/// Connections and calls of each user.
#[derive(Clone, Debug)]
pub struct Limits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connections: usize,
    connections_per_user: usize,
    calls_per_second: f64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connections: usize,
    users: HashMap<User, Account>,
}

#[derive(Debug)]
struct Account {
    connections: usize,
    /// Calls that may be made at once.
    allowance: f64,
    filled: Instant,
    wrong: u32,
    wrong_since: Instant,
}

impl Limits {
    /// At most so many connections of all and of one user, and calls a second of one user.
    pub fn new(connections: usize, connections_per_user: usize, calls_per_second: u32) -> Self {
        Self(Arc::new(Inner {
            connections,
            connections_per_user,
            calls_per_second: calls_per_second.into(),
            state: Mutex::default(),
        }))
    }

    /// A place for a connection, as long as it is held.
    ///
    /// # Errors
    /// Where there is none left.
    pub fn connect(&self, user: User) -> Result<Place, Full> {
        let now = Instant::now();
        let mut state = self.lock();
        if state.connections >= self.0.connections {
            return Err(Full::Everybody(self.0.connections));
        }
        let burst = self.burst();
        let account = state.account(user, burst, now);
        if account.connections >= self.0.connections_per_user {
            return Err(Full::User(account.connections));
        }
        account.connections += 1;
        state.connections += 1;
        Ok(Place {
            limits: self.clone(),
            user,
        })
    }

    /// Whether a user may make a call now; it counts.
    pub fn call(&self, user: User, now: Instant) -> bool {
        let (rate, burst) = (self.0.calls_per_second, self.burst());
        let mut state = self.lock();
        let account = state.account(user, burst, now);
        let passed = now.saturating_duration_since(account.filled).as_secs_f64();
        account.allowance = (account.allowance + passed * rate).min(burst);
        account.filled = now;
        if account.allowance < 1.0 {
            return false;
        }
        account.allowance -= 1.0;
        true
    }

    /// Whether a token of this user is looked at.
    pub fn may_show_token(&self, user: User, now: Instant) -> bool {
        let mut state = self.lock();
        let Some(account) = state.users.get_mut(&user) else {
            return true;
        };
        if now.saturating_duration_since(account.wrong_since) >= REST {
            account.wrong = 0;
        }
        account.wrong < WRONG
    }

    /// It was wrong. True: it is the one too many.
    pub fn wrong_token(&self, user: User, now: Instant) -> bool {
        let burst = self.burst();
        let mut state = self.lock();
        let account = state.account(user, burst, now);
        account.wrong = account.wrong.saturating_add(1);
        account.wrong_since = now;
        account.wrong == WRONG
    }

    fn burst(&self) -> f64 {
        self.0.calls_per_second.max(1.0) * 2.0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn account(&mut self, user: User, burst: f64, now: Instant) -> &mut Account {
        if self.users.len() >= USERS {
            self.users.retain(|_, account| account.connections > 0);
        }
        self.users.entry(user).or_insert_with(|| Account::new(burst, now))
    }
}

impl Account {
    fn new(allowance: f64, now: Instant) -> Self {
        Self {
            connections: 0,
            allowance,
            filled: now,
            wrong: 0,
            wrong_since: now,
        }
    }
}

/// Held by a connection.
#[derive(Debug)]
pub struct Place {
    limits: Limits,
    user: User,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.limits.lock();
        state.connections = state.connections.saturating_sub(1);
        if let Some(account) = state.users.get_mut(&self.user) {
            account.connections = account.connections.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_takes_only_his_part() {
        let limits = Limits::new(5, 3, 1);
        let mut held: Vec<_> = (0..3).map(|_| limits.connect(Some(1)).unwrap()).collect();
        assert_eq!(limits.connect(Some(1)).unwrap_err(), Full::User(3));
        held.extend([limits.connect(Some(2)).unwrap(), limits.connect(None).unwrap()]);
        assert_eq!(limits.connect(Some(2)).unwrap_err(), Full::Everybody(5));
        held.clear();
        limits.connect(Some(1)).unwrap();
    }

    #[test]
    fn calls_come_back_with_time() {
        let (limits, start) = (Limits::new(1, 1, 10), Instant::now());
        assert_eq!((0..100).filter(|_| limits.call(Some(1), start)).count(), 20);
        assert!(limits.call(Some(2), start), "another's");
        let later = start + Duration::from_millis(500);
        assert_eq!((0..100).filter(|_| limits.call(Some(1), later)).count(), 5);
    }

    #[test]
    fn wrong_tokens_make_a_rest() {
        let (limits, start) = (Limits::new(1, 1, 10), Instant::now());
        assert_eq!((0..20).filter(|_| limits.wrong_token(Some(1), start)).count(), 1);
        assert!(!limits.may_show_token(Some(1), start));
        assert!(limits.may_show_token(Some(2), start));
        assert!(limits.may_show_token(Some(1), start + REST));
    }
}
