//! The methods: each asks the service behind, and translates.

pub mod audit;
pub mod connections;
pub mod dns;
pub mod events;
pub mod filter;
pub mod gate17;
pub mod own;
pub mod policy;
pub mod processes;
pub mod system;

use std::{sync::Arc, time::Duration};

use tonic::{Request, Status};

use crate::{audit::Note, caller::Caller};

/// A message comes at least so often on a stream: who hears nothing for longer may think that nobody is there.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// Who calls, as the gate found.
///
/// # Errors
/// `INTERNAL` where the call came by no gate.
pub fn caller<T>(request: &Request<T>) -> Result<&Caller, Status> {
    let caller = request.extensions().get::<Caller>();
    caller.ok_or_else(|| Status::internal("the call came by no gate"))
}

/// Says what a call that changes something is about.
fn about<T>(request: &Request<T>, object: &str) {
    if let Some(note) = request.extensions().get::<Arc<Note>>() {
        note.about(object, false);
    }
}

/// A refusal of a service behind, as one of ours: what it says of itself stays, what is between us and it goes.
pub fn passed_on(service: &'static str) -> impl Fn(Status) -> Status {
    move |status| match status.code() {
        tonic::Code::Unavailable | tonic::Code::Unknown => Status::unavailable(format!(
            "portmaster-{service} does not answer: `systemctl status portmaster-{service}` says why"
        )),
        code => Status::new(code, status.message()),
    }
}
