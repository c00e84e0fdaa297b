//! What programs were told, and what the interceptor has to know of it. Times are since the host was started: a name's life
//! goes on while the host sleeps, and whatever the wall clock says.

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dns_core::{Name, told::Told};
use proto::{
    convert::octets,
    interceptor::v1::{App, ToldName},
};
use verdict::Process;

use crate::{clients::Asker, server};

/// Pairs of hearers and names.
const MOST: usize = 65_536;

/// Who was told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Hearer {
    /// Who executes this file (device, inode), running this script, as this user.
    App {
        /// `st_dev`
        device: u64,
        /// `st_ino`
        inode: u64,
        /// Of an interpreter.
        script: Option<PathBuf>,
        /// Effective.
        uid: u32,
    },
    /// Somebody who asks for others.
    Others,
    /// Nobody knows.
    Unknown,
}

/// Clones are the same.
#[derive(Clone, Debug)]
pub struct Names {
    told: Arc<Mutex<Told<Hearer>>>,
    /// Programs that ask for others.
    resolvers: Arc<[PathBuf]>,
    /// A name holds at least so long: programs keep addresses longer than they should.
    at_least: Duration,
}

/// What the interceptor has to hear before an answer goes out.
#[derive(Debug)]
pub struct News {
    hearer: Hearer,
    name: Arc<Name>,
    addresses: Vec<IpAddr>,
    holds: Duration,
}

impl Names {
    /// See the fields.
    pub fn new(resolvers: &[PathBuf], at_least: Duration) -> Self {
        Self {
            told: Arc::new(Mutex::new(Told::new(MOST))),
            resolvers: resolvers.into(),
            at_least,
        }
    }

    /// What is news of this answer; `ttl`: how long it holds.
    pub fn news(&self, asker: &Asker, name: &Arc<Name>, addresses: &[IpAddr], ttl: Duration) -> Option<News> {
        if addresses.is_empty() {
            return None;
        }
        let hearer = self.hearer(asker);
        let holds = ttl.max(self.at_least);
        let now = server::now();
        let name = Arc::clone(name);
        self.lock()
            .is_new(&hearer, &name, addresses, now, now + holds)
            .then(|| News {
                hearer,
                name,
                addresses: addresses.to_vec(),
                holds,
            })
    }

    /// The interceptor knows it.
    pub fn told(&self, news: News) {
        let now = server::now();
        let until = now + news.holds;
        self.lock()
            .learn(news.hearer, news.name, &news.addresses, now, until);
    }

    /// All that holds still.
    pub fn known(&self) -> Vec<ToldName> {
        let told = self.lock();
        let now = server::now();
        told.valid(now)
            .map(|(hearer, name, addresses, left)| message(hearer, name, addresses, left))
            .collect()
    }

    /// Forgets what is over; gives how much is left.
    pub fn tidy(&self) -> usize {
        let mut told = self.lock();
        told.tidy(server::now());
        told.len()
    }

    /// What [`Self::known`] gave an earlier process, or the interceptor heard of one; what was told before at the beginning.
    pub fn remember(&self, known: Vec<ToldName>) {
        let now = server::now();
        let mut told = self.lock();
        for name in known {
            let Ok(text) = name.name.parse::<Name>() else {
                continue;
            };
            let hearer = match name.app {
                Some(app) => Hearer::App {
                    device: app.device,
                    inode: app.inode,
                    script: (!app.script.is_empty()).then(|| app.script.into()),
                    uid: app.uid,
                },
                None if name.for_others => Hearer::Others,
                None => Hearer::Unknown,
            };
            let addresses: Vec<IpAddr> = name
                .addresses
                .iter()
                .filter_map(|octets| crate::link::address(octets))
                .collect();
            let holds = Duration::from_secs(name.seconds.into());
            told.recall(hearer, Arc::new(text), &addresses, now, now + holds);
        }
    }

    fn hearer(&self, asker: &Asker) -> Hearer {
        let Some(process) = asker.process.as_deref() else {
            return Hearer::Unknown;
        };
        if self.asks_for_others(process) {
            return Hearer::Others;
        }
        Hearer::App {
            device: process.executable.device,
            inode: process.executable.inode,
            script: process.script.clone(),
            uid: process.uid,
        }
    }

    fn asks_for_others(&self, process: &Process) -> bool {
        process
            .executable
            .path
            .as_ref()
            .is_some_and(|path| self.resolvers.contains(path))
    }

    fn lock(&self) -> MutexGuard<'_, Told<Hearer>> {
        // nothing in here is left half done by a panic
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl News {
    /// For the interceptor.
    pub fn message(&self) -> ToldName {
        message(&self.hearer, &self.name, &self.addresses, self.holds)
    }
}

fn message(hearer: &Hearer, name: &Name, addresses: &[IpAddr], holds: Duration) -> ToldName {
    let app = match hearer {
        Hearer::App {
            device,
            inode,
            script,
            uid,
        } => Some(App {
            device: *device,
            inode: *inode,
            script: script
                .as_ref()
                .map(|script| script.to_string_lossy().into_owned())
                .unwrap_or_default(),
            uid: *uid,
        }),
        Hearer::Others | Hearer::Unknown => None,
    };
    ToldName {
        app,
        for_others: *hearer == Hearer::Others,
        name: name.to_string(),
        addresses: addresses.iter().map(|address| octets(*address)).collect(),
        seconds: u32::try_from(holds.as_secs()).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use verdict::Executable;

    fn asker(path: &str) -> Asker {
        let process = Process {
            executable: Executable {
                path: Some(path.into()),
                device: 1,
                inode: 7,
                ..Executable::default()
            },
            uid: 1000,
            ..Process::default()
        };
        Asker::new(Some(Arc::new(process)), None, false)
    }

    #[test]
    fn what_was_told_is_told_again_after_a_restart_and_is_no_news() {
        let names = Names::new(&["/usr/sbin/nscd".into()], Duration::from_secs(3600));
        let (name, address) = (
            Arc::new("www.test".parse().unwrap()),
            [IpAddr::from([198, 18, 17, 10])],
        );
        for (path, for_others) in [("/usr/bin/app", false), ("/usr/sbin/nscd", true)] {
            let asker = asker(path);
            let news = names
                .news(&asker, &name, &address, Duration::from_secs(5))
                .unwrap();
            assert_eq!(news.message().for_others, for_others);
            assert_eq!(news.message().seconds, 3600);
            names.told(news);
            assert!(
                names
                    .news(&asker, &name, &address, Duration::from_secs(5))
                    .is_none()
            );
        }
        let again = Names::new(&["/usr/sbin/nscd".into()], Duration::from_secs(3600));
        again.remember(names.known());
        let unknown = Asker::default();
        assert!(
            again
                .news(&asker("/usr/bin/app"), &name, &address, Duration::ZERO)
                .is_none()
        );
        assert!(again.news(&unknown, &name, &address, Duration::ZERO).is_some());
        assert_eq!(again.known().len(), 2);
    }
}
