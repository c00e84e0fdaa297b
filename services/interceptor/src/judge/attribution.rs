//! What is known of the process behind a flow.

use std::{cell::Cell, collections::HashMap, sync::Arc};

use verdict::{
    Cgroup, Process, Protocol,
    policy::{CompiledPolicy, ProfileRef},
};

/// Why no process is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// No socket has these addresses.
    NoSocket,
    /// The socket is there, but no process holds it.
    NoProcess,
    /// The answer took too long.
    Timeout,
}

/// Whose a flow is, as far as known.
#[derive(Clone, Debug, Default)]
pub struct Attribution {
    /// The process.
    pub process: Option<Arc<Process>>,
    /// The resolver's name for it, on its present stream; 0: none.
    pub key: u64,
    /// Where there is no process.
    pub miss: Option<Miss>,
    /// Owner of the socket.
    pub uid: Option<u32>,
    /// Of the socket, where the process is not known.
    pub cgroup: Option<Arc<Cgroup>>,
}

impl Attribution {
    /// It may be anybody's: somebody who knows did not say, or there is no such socket any more. A socket that no process has is
    /// the kernel's own; so is what comes from none by a protocol that no ordinary program can send.
    pub(super) fn is_unsure(&self, protocol: Protocol) -> bool {
        self.process.is_none()
            && match self.miss {
                Some(Miss::NoProcess) => false,
                Some(Miss::NoSocket) => protocol.has_ports() || protocol.is_icmp(),
                Some(Miss::Timeout) | None => true,
            }
    }

    pub(super) fn same_program(&self, other: &Self) -> bool {
        match (&self.process, &other.process) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
            (None, None) => self.uid == other.uid,
            _ => false,
        }
    }
}

/// An answer of the resolver.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Which question.
    pub request_id: u64,
    /// The resolver's name for the process; 0 on a miss.
    pub process_key: u64,
    /// The first time that it says `process_key`, and on change.
    pub process: Option<Process>,
    /// On a miss.
    pub miss: Option<Miss>,
    /// Owner of the socket.
    pub uid: Option<u32>,
    /// Of the socket.
    pub cgroup: Option<Cgroup>,
    /// Keys that may be forgotten.
    pub ended: Vec<u64>,
}

#[derive(Debug)]
struct Known {
    who: Arc<Attribution>,
    /// Its profile in the policy in force, once asked for.
    profile: Cell<Option<ProfileRef>>,
}

/// Processes that the resolver told of on its present stream.
#[derive(Debug, Default)]
pub(super) struct Processes {
    known: HashMap<u64, Known>,
}

impl Processes {
    pub(super) fn learn(&mut self, answer: Answer) -> Arc<Attribution> {
        for key in &answer.ended {
            self.known.remove(key);
        }
        if let Some(process) = answer.process {
            let uid = answer.uid.or(Some(process.uid));
            let process = Some(Arc::new(process));
            let who = Arc::new(Attribution {
                process,
                key: answer.process_key,
                uid,
                ..Attribution::default()
            });
            let known = Known {
                who: Arc::clone(&who),
                profile: Cell::new(None),
            };
            self.known.insert(answer.process_key, known);
            return who;
        }
        match self.known.get(&answer.process_key) {
            Some(known) => Arc::clone(&known.who),
            None => Arc::new(Attribution {
                miss: Some(answer.miss.unwrap_or(Miss::NoProcess)),
                uid: answer.uid,
                cgroup: answer.cgroup.map(Arc::new),
                ..Attribution::default()
            }),
        }
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
    }

    pub(super) fn forget_profiles(&mut self) {
        for known in self.known.values() {
            known.profile.set(None);
        }
    }

    /// The profile of `who`; found once for each process and policy.
    pub(super) fn profile(&self, policy: &CompiledPolicy, who: &Attribution) -> ProfileRef {
        let find = || policy.profile_for(who.process.as_deref());
        match self.known.get(&who.key) {
            // a key of an earlier stream may name another process by now
            Some(known) if known.who.process.is_some() && same(&known.who, who) => {
                known.profile.get().unwrap_or_else(|| {
                    let profile = find();
                    known.profile.set(Some(profile));
                    profile
                })
            }
            _ => find(),
        }
    }
}

fn same(one: &Attribution, other: &Attribution) -> bool {
    match (&one.process, &other.process) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => false,
    }
}
