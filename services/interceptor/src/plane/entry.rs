//! The packet path and the entry of Gate17.

use std::{path::PathBuf, rc::Rc};

use daemon::status::Status;
use proto::gate17::v1::ToEntry;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Core, Shared};
use crate::tunnel::{self, Heard};

pub(super) async fn exchange(
    core: Shared,
    entry: PathBuf,
    status: Status,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (ended, lost, began) = (Rc::clone(&core), Rc::clone(&core), Rc::clone(&core));
    tunnel::exchange(
        entry,
        status,
        shutdown,
        move || ended.borrow_mut().tunnel_ended(),
        move || lost.borrow_mut().tunnel_lost(),
        move |sender| began.borrow_mut().tunnel_began(sender),
        move |heard| core.borrow_mut().tunnel_said(heard),
    )
    .await?;
    // ended by shutdown
    std::future::pending().await
}

impl Core {
    fn tunnel_ended(&mut self) {
        self.tunnel = None;
        self.judge.on_tunnel_interrupted();
    }

    fn tunnel_lost(&mut self) {
        self.tunnel = None;
        let now = self.now();
        self.judge.on_tunnel_lost(now, &mut self.effects);
        self.carry_out();
    }

    fn tunnel_began(&mut self, sender: mpsc::UnboundedSender<ToEntry>) {
        self.tunnel = Some(sender);
        let now = self.now();
        self.judge.on_tunnel_begin(now, &mut self.effects);
        self.carry_out();
    }

    fn tunnel_said(&mut self, heard: Heard) {
        match heard {
            Heard::Answer(request_id, answer) => {
                let now = self.now();
                self.judge
                    .on_tunnel_answer(now, request_id, answer, &mut self.effects);
                self.carry_out();
            }
            Heard::Carried(flow, hops) => {
                let now = self.now();
                self.judge.on_carried(now, &flow, hops, &mut self.effects);
                self.carry_out();
            }
            Heard::Question(request_id, reply) => {
                let original = reply.and_then(|reply| self.conntrack.original(&reply));
                let carrying = original.and_then(|original| self.judge.tunnelled(&original));
                self.tell_entry(tunnel::flow_answer(request_id, carrying.as_ref()));
            }
        }
    }

    /// Where the stream has just ended, the judge will hear of it.
    pub(super) fn tell_entry(&self, message: ToEntry) {
        if let Some(tunnel) = &self.tunnel {
            let _ = tunnel.send(message);
        }
    }
}
