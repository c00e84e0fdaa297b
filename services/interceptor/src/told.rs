//! What programs were told by the DNS service: for which name they have an address.
//!
//! Invariant: bounded. Where there is no room, what was first told longest ago goes. A name is a candidate for the
//! program that asked; what a system's resolver asked for others is one for all that were told nothing themselves.

mod aside;

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use verdict::Process;

pub(crate) use aside::address;
pub use aside::{Aside, Heard};

/// A program, as far as names are concerned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct App {
    /// Of its executable.
    pub device: u64,
    /// Of its executable.
    pub inode: u64,
    /// Of an interpreter.
    pub script: Option<PathBuf>,
    /// On whose behalf.
    pub uid: u32,
}

impl App {
    /// What a process is, for names.
    pub fn of(process: &Process) -> Self {
        Self {
            device: process.executable.device,
            inode: process.executable.inode,
            script: process.script.clone(),
            uid: process.uid,
        }
    }
}

/// Who was told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Hearer {
    /// This program.
    App(App),
    /// Whoever asked somebody that asks for others, or is not known.
    Anybody,
}

/// Names of one address, the newest last.
type Candidates = Vec<Candidate>;

#[derive(Clone, Debug)]
struct Candidate {
    name: Arc<str>,
    until: Duration,
}

/// More names than that for one address and program are of no use to a rule.
const MOST_CANDIDATES: usize = 16;
/// Pairs of programs and addresses.
const MOST_ADDRESSES: usize = 65_536;

/// See the module's head. Times are the caller's, and only grow.
#[derive(Debug, Default)]
pub struct Told {
    known: HashMap<(Hearer, IpAddr), Candidates>,
    /// In the order in which they were first told; what is over may stand here still.
    order: VecDeque<(Hearer, IpAddr)>,
}

impl Told {
    /// `hearer` was told that `address` belongs to `name`, and that holds until then.
    pub fn tell(&mut self, hearer: Hearer, address: IpAddr, name: &Arc<str>, now: Duration, until: Duration) {
        let pair = (hearer, address);
        let candidates = match self.known.get_mut(&pair) {
            Some(candidates) => candidates,
            None => {
                self.make_room();
                self.order.push_back(pair.clone());
                self.known.entry(pair).or_default()
            }
        };
        candidates.retain(|candidate| candidate.until > now && candidate.name != *name);
        if candidates.len() >= MOST_CANDIDATES {
            candidates.remove(0);
        }
        candidates.push(Candidate {
            name: Arc::clone(name),
            until,
        });
    }

    /// The names that `app` may mean by an address, the newest first.
    pub fn names(&self, app: Option<&App>, address: IpAddr, now: Duration) -> Vec<Arc<str>> {
        let own = app.map_or_else(Vec::new, |app| self.of(Hearer::App(app.clone()), address, now));
        if own.is_empty() {
            self.of(Hearer::Anybody, address, now)
        } else {
            own
        }
    }

    fn of(&self, hearer: Hearer, address: IpAddr, now: Duration) -> Vec<Arc<str>> {
        let candidates = self.known.get(&(hearer, address));
        let valid = candidates
            .into_iter()
            .flatten()
            .rev()
            .filter(|candidate| candidate.until > now);
        valid.map(|candidate| Arc::clone(&candidate.name)).collect()
    }

    /// How many pairs of programs and addresses there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Nothing was told.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Forgets what is over.
    pub fn tidy(&mut self, now: Duration) {
        self.known.retain(|_, candidates| {
            candidates.retain(|candidate| candidate.until > now);
            !candidates.is_empty()
        });
        let known = &self.known;
        self.order.retain(|pair| known.contains_key(pair));
    }

    fn make_room(&mut self) {
        while self.known.len() >= MOST_ADDRESSES {
            match self.order.pop_front() {
                Some(oldest) => drop(self.known.remove(&oldest)),
                None => return,
            }
        }
    }
}

/// Between two looks at what came aside, while nobody connects.
const TOGETHER: Duration = Duration::from_millis(250);

/// [`Told`], as the packet path and the DNS service's stream share it; clones are the same.
///
/// Invariant: what lies in the [`Aside`] is read before names are given, and before newer ones are told.
#[derive(Clone, Debug)]
pub struct Names {
    told: Arc<Mutex<Told>>,
    /// Locked before `told`.
    aside: Arc<Mutex<Option<Aside>>>,
    /// There is another [`Aside`].
    changed: Arc<Notify>,
    served: Arc<AtomicBool>,
    began: Instant,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            told: Arc::default(),
            aside: Arc::default(),
            changed: Arc::default(),
            served: Arc::default(),
            began: Instant::now(),
        }
    }
}

impl Names {
    /// Reads names there as well, from now on.
    pub fn listen(&self, aside: Aside) {
        self.catch_up();
        *self.aside.lock().unwrap_or_else(PoisonError::into_inner) = Some(aside);
        self.changed.notify_one();
    }

    /// Reads what came aside also while nobody connects, so that there is room; for ever.
    pub async fn keep_up(&self) {
        loop {
            let watched = {
                let aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
                aside.as_ref().and_then(|aside| aside.watched().ok())
            };
            let Some(watched) = watched else {
                self.changed.notified().await;
                continue;
            };
            tokio::select! {
                // an error is seen by whoever reads
                _ = watched.readable() => {}
                () = self.changed.notified() => continue,
            }
            // not waited for meanwhile: nobody is woken by each name
            drop(watched);
            self.catch_up();
            tokio::time::sleep(TOGETHER).await;
        }
    }

    /// Hears what lies in the [`Aside`].
    fn catch_up(&self) {
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = aside
            .as_mut()
            .is_none_or(|aside| aside.read(|heard| self.tell(&heard)));
        if !goes_on {
            *aside = None;
        }
    }

    /// Hears of a name by the stream.
    pub fn hear(&self, heard: &Heard) {
        self.catch_up();
        self.tell(heard);
    }

    /// See [`Told::tell`].
    fn tell(
        &self,
        Heard {
            hearer,
            addresses,
            name,
            holds,
        }: &Heard,
    ) {
        let (now, name) = (self.began.elapsed(), Arc::from(name.as_str()));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for address in addresses {
            told.tell(hearer.clone(), *address, &name, now, now.saturating_add(*holds));
        }
    }

    /// See [`Told::names`].
    pub fn names(&self, process: Option<&Process>, address: IpAddr) -> Vec<Arc<str>> {
        self.catch_up();
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_empty() {
            return Vec::new();
        }
        told.names(process.map(App::of).as_ref(), address, self.began.elapsed())
    }

    /// See [`Told::tidy`]; gives how many pairs are left.
    pub fn tidy(&self) -> usize {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.tidy(self.began.elapsed());
        told.len()
    }

    /// There is a local DNS server: stray queries can be sent to it.
    pub fn is_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// A local DNS server is there, for as long as this host runs.
    pub fn serve(&self) {
        self.served.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 17, 10));

    fn app(inode: u64) -> App {
        App {
            device: 1,
            inode,
            script: None,
            uid: 1000,
        }
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn names(told: &Told, inode: u64, now: u64) -> Vec<String> {
        let names = told.names(Some(&app(inode)), A, seconds(now));
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_program_means_the_names_that_it_was_told_the_newest_first() {
        let mut told = Told::default();
        for (at, name) in [(0, "one.test"), (1, "two.test"), (2, "one.test")] {
            told.tell(
                Hearer::App(app(1)),
                A,
                &name.into(),
                seconds(at),
                seconds(at + 10),
            );
        }
        assert_eq!(names(&told, 1, 3), ["one.test", "two.test"]);
        assert_eq!(names(&told, 1, 11), ["one.test"], "the other one is over");
        assert_eq!(names(&told, 2, 3), [""; 0], "another program was told nothing");
    }

    #[test]
    fn what_was_asked_for_others_is_for_those_that_were_told_nothing() {
        let mut told = Told::default();
        told.tell(Hearer::Anybody, A, &"shared.test".into(), seconds(0), seconds(9));
        told.tell(Hearer::App(app(1)), A, &"own.test".into(), seconds(0), seconds(9));
        assert_eq!(names(&told, 1, 1), ["own.test"]);
        assert_eq!(names(&told, 2, 1), ["shared.test"]);
    }

    #[test]
    fn only_so_much_is_kept_and_the_newest_of_it() {
        let mut told = Told::default();
        for inode in 0..u64::try_from(MOST_ADDRESSES + 10).unwrap() {
            told.tell(
                Hearer::App(app(inode)),
                A,
                &"a.test".into(),
                seconds(0),
                seconds(9),
            );
        }
        assert_eq!(told.len(), MOST_ADDRESSES);
        assert_eq!(names(&told, 9, 1), [""; 0]);
        assert_eq!(names(&told, 10, 1), ["a.test"]);
        told.tidy(seconds(10));
        assert!(told.is_empty() && told.order.is_empty());
    }
}
