//! How the mesh was found last, and what became otherwise since.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant, SystemTime},
};

use api::v1::{Event, PauseState, PolicyState, Service as WireService, WatchEventsReply, event::What};
use proto::place::Place;

use crate::audit::Audit;

/// After the last one who watched went: whoever comes back in time goes on where he was.
pub(super) const LINGER: Duration = Duration::from_secs(60);
/// Events that are remembered.
const KEPT: usize = 1024;

/// As it was found last.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) looked: Option<Instant>,
    services: BTreeMap<String, WireService>,
    policy: u64,
    pause: PauseState,
    /// Number of the last entry of the audit that was told.
    audit: u64,
    /// Of the events below; another one after they were forgotten.
    pub(super) numbering: u64,
    pub(super) last: u64,
    ring: VecDeque<(u64, Event)>,
}

/// What was found.
pub(super) struct Found {
    pub(super) services: Vec<WireService>,
    /// Not known where policy does not answer.
    pub(super) pause: Option<PauseState>,
}

impl State {
    pub(super) fn place(&self) -> Place {
        Place {
            numbering: self.numbering,
            sequence: self.last,
        }
    }

    /// How things are.
    pub(super) fn all(&self) -> Vec<Event> {
        let services = self.services.values().cloned().map(What::Service);
        let policy = What::Policy(PolicyState { version: self.policy });
        services
            .chain([policy, What::Pause(self.pause)])
            .map(event)
            .collect()
    }

    /// Gives the number of the last event.
    pub(super) fn take(&mut self, found: Found, audit: &Audit) -> u64 {
        // nobody watched: what happened meanwhile is not known one by one
        let is_anew = self
            .looked
            .replace(Instant::now())
            .is_none_or(|looked| looked.elapsed() > LINGER);
        if is_anew {
            self.ring.clear();
            self.numbering = rand::random();
            self.audit = audit.last();
        }
        let mut otherwise = Vec::new();
        for service in found.services.into_iter().map(without_figures) {
            if let Some(state) = service.state.as_ref().filter(|_| service.name == "policy")
                && self.policy != state.policy_version
            {
                self.policy = state.policy_version;
                otherwise.push(What::Policy(PolicyState { version: self.policy }));
            }
            if self.services.get(&service.name) != Some(&service) {
                self.services.insert(service.name.clone(), service.clone());
                otherwise.push(What::Service(service));
            }
        }
        if let Some(pause) = found.pause.filter(|pause| *pause != self.pause) {
            self.pause = pause;
            otherwise.push(What::Pause(pause));
        }
        for entry in audit.after(self.audit) {
            self.audit = entry.id;
            otherwise.push(What::Change(entry));
        }
        if !is_anew {
            otherwise.into_iter().for_each(|what| self.push(event(what)));
        }
        self.last
    }

    fn push(&mut self, event: Event) {
        self.last += 1;
        self.ring.push_back((self.last, event));
        if self.ring.len() > KEPT {
            self.ring.pop_front();
        }
    }

    /// What is behind `place`. None: events are numbered anew since.
    pub(super) fn after(&self, place: Place) -> Option<WatchEventsReply> {
        let behind = self.last.checked_sub(place.sequence)?;
        if place.numbering != self.numbering {
            return None;
        }
        let events: Vec<Event> = self
            .ring
            .iter()
            .filter(|(number, _)| *number > place.sequence)
            .map(|(_, event)| event.clone())
            .collect();
        Some(WatchEventsReply {
            dropped: behind.saturating_sub(u64::try_from(events.len()).unwrap_or(0)),
            events,
            event_id: self.place().text(),
        })
    }
}

fn event(what: What) -> Event {
    Event {
        time: Some(SystemTime::now().into()),
        what: Some(what),
    }
}

/// What grows all the time is no news.
fn without_figures(mut service: WireService) -> WireService {
    if let Some(state) = &mut service.state {
        state.counters.clear();
        state.metrics.clear();
    }
    service
}

#[cfg(test)]
mod tests;
