//! What programs were told by the DNS service: for which name they have an address.
//!
//! Invariant: bounded. Where there is no room, what was first told longest ago goes. A name is a candidate for the
//! program that asked; what a system's resolver asked for others is one for all that were told nothing themselves.

mod aside;
mod table;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use proto::interceptor::v1::ToldName;
use tokio::sync::Notify;
use verdict::Process;

pub(crate) use aside::address;
use aside::message;
pub use aside::{Aside, Heard};
pub use table::Told;

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

    /// Hears of a name by the stream. `again`: it was told before the stream began, perhaps to this process as well.
    pub fn hear(&self, heard: &Heard, again: bool) {
        self.catch_up();
        self.learn(heard, if again { Told::recall } else { Told::tell });
    }

    fn tell(&self, heard: &Heard) {
        self.learn(heard, Told::tell);
    }

    fn learn(
        &self,
        Heard {
            hearer,
            addresses,
            name,
            holds,
        }: &Heard,
        how: fn(&mut Told, Hearer, IpAddr, &Arc<str>, Duration, Duration),
    ) {
        let (now, name) = (self.began.elapsed(), Arc::from(name.as_str()));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for address in addresses {
            how(
                &mut told,
                hearer.clone(),
                *address,
                &name,
                now,
                now.saturating_add(*holds),
            );
        }
    }

    /// All that holds still, what was told last at the end: for a DNS service that may have forgotten some of it.
    pub fn known(&self) -> Vec<ToldName> {
        self.catch_up();
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let valid = told.valid(self.began.elapsed()).into_iter();
        valid
            .map(|(hearer, address, name, left)| message(hearer, address, name, left))
            .collect()
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
