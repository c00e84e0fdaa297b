//! What becomes of a circuit when something that it was asked fails: who is blamed, and what the program's stream is told.

use std::time::Instant;

use proto::gate17::v1::Cause;

use super::{
    Circuit,
    build::{cut, silent},
    leg::seen,
    watch::deaf,
};
use crate::{
    blame::{Fault, Seen},
    refusal::Refusal,
};

impl Circuit {
    /// Nothing comes back: who does not answer a PING is the one; else the exit, which does not do what it is asked.
    pub(super) async fn silent(&self) -> Refusal {
        let fault = silent(&self.legs).await;
        self.over(&fault.unwrap_or_else(|| deaf(&self.legs)))
    }

    /// A stream that breaks before it began says that the circuit is no more, or takes nothing new.
    pub(super) async fn broken(&self, error: &h2::Error) -> Refusal {
        let seen = seen(error);
        if seen == Seen::Leaving {
            self.drain();
            return self.told(&Fault::new(self.last_place(), seen, "it takes nothing new"));
        }
        // who ended it is blamed by the circuit's watch
        if let Some(fault) = cut(&self.legs).await {
            self.drain();
            return self.told(&fault);
        }
        let fault = Fault::new(self.last_place(), seen, error.to_string());
        self.failed(&fault);
        self.told(&fault)
    }

    pub(super) fn over(&self, fault: &Fault) -> Refusal {
        self.failed(fault);
        self.close();
        self.told(fault)
    }

    pub(super) fn failed(&self, fault: &Fault) {
        self.nodes.failed(&self.hops, fault, Instant::now());
    }

    pub(super) fn told(&self, fault: &Fault) -> Refusal {
        let node = self.hops.get(fault.at).map_or("", |node| node.0.as_str());
        Refusal::new(Cause::Node, format!("node {node}: {}", fault.text))
    }

    pub(super) const fn last_place(&self) -> usize {
        self.hops.len().saturating_sub(1)
    }
}
