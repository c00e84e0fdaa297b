//! Pure: packet → flow → decision → mark → rule set. No IO, no clock, no async.
//!
//! Time comes in as an argument, bytes come in as slices, and everything that a service decides by is a value of this
//! crate. Parsing is total: no input makes it panic.

pub mod decision;
pub mod flow;
pub mod mark;
pub mod packet;
pub mod policy;
pub mod process;
pub mod ruleset;
pub mod sniff;

pub use decision::{Decision, Source, Verdict, Why};
pub use flow::{Direction, Endpoint, Flow, Protocol, Scope};
pub use mark::Mark;
pub use process::{Cgroup, Executable, Parent, Process};
