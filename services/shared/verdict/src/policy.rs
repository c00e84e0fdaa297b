//! What the owner wants, as data, and the decision by it.
//!
//! Order of a decision: the profile's rules, then the global rules, then the switches, then the default action; the first
//! that matches decides. A profile's setting that is not set is inherited from the global ones, and those from
//! [`Defaults`](model::Settings).

pub mod model;
