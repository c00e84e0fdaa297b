//! What is done without being asked: circuits are built ahead, and replaced before they go.

use std::{sync::Arc, time::Instant};

use gate17_proto::map::{Map, NodeId};

use super::{
    Circuits,
    ahead::Job,
    choice::Lessons,
    owner::{Owner, Shape},
    table::Known,
};
use crate::circuit::Circuit;

impl Circuits {
    /// Forgets circuits that ended, closes those that nobody uses, and begins what is missing.
    pub fn upkeep(&self, now: Instant) {
        self.tidy(now);
        self.0
            .figures
            .stand(self.all().iter().map(|known| &*known.circuit));
        let Ok(map) = self.0.maps.map() else { return };
        let mut table = self.lock();
        for job in table.ahead.missing(now) {
            if table.ahead.begin(&job, now) {
                tokio::spawn(self.clone().spare(Arc::clone(&map), job));
            }
        }
        for (owner, known, leaving) in table.leaving(&map, now) {
            let job = Job::Replace(owner.clone());
            if table.ahead.is_active(&owner, now) && table.ahead.begin(&job, now) {
                tokio::spawn(self.clone().replace(Arc::clone(&map), owner, known, leaving));
            }
        }
    }

    async fn spare(self, map: Arc<Map>, job: Job) {
        let Job::Spare(shape) = &job else { return };
        let built = self.build(&map, shape, None, &mut Lessons::default()).await;
        let mut table = self.lock();
        table.ahead.ended(&job, built.is_ok(), Instant::now());
        match built {
            Ok(circuit) => {
                let known = Known {
                    circuit: Arc::new(circuit),
                    app: None,
                    profile: String::new(),
                    taken: Instant::now(),
                };
                table.ahead.put(shape.clone(), known.clone());
                self.tell(known);
            }
            Err(refusal) => tracing::debug!(%refusal, "no circuit could be built ahead"),
        }
    }

    /// New streams go by another circuit, before the old one takes none.
    async fn replace(self, map: Arc<Map>, owner: Owner, old: Known, leaving: Vec<NodeId>) {
        let other = self.other(&map, &owner.shape(), leaving).await;
        let now = Instant::now();
        if let Some(circuit) = &other {
            self.give(&owner, old.app, &old.profile, circuit);
            self.lock().drain(&owner, now);
        }
        self.lock()
            .ahead
            .ended(&Job::Replace(owner), other.is_some(), now);
    }

    /// One without the nodes that are to stop, where there is one.
    async fn other(&self, map: &Map, shape: &Shape, leaving: Vec<NodeId>) -> Option<Arc<Circuit>> {
        let mut lessons = Lessons {
            leaving,
            ..Lessons::default()
        };
        let now = Instant::now();
        if let Some(circuit) = self.lock().spare(map, shape, None, &lessons, now) {
            return Some(circuit);
        }
        // no better than what is there: that one goes on
        let path = self.path(map, shape, None, &lessons).ok()?;
        if path.nodes.iter().any(|node| self.0.nodes.is_avoided(node, now)) {
            return None;
        }
        let built = self.build(map, shape, None, &mut lessons).await;
        built.ok().map(Arc::new)
    }
}
