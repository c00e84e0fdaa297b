//! Netlink sockets and attributes, shared by the packet path and attribution.
//!
//! Source: `Documentation/userspace-api/netlink/intro.rst`. Messages are host byte order; attribute payloads of netfilter
//! are network byte order and say so where they are written. Parsing is total: what does not fit ends the iteration.

mod attribute;
pub mod diag;
pub mod last_resort;
mod message;
pub mod queues;
pub mod route;
mod socket;

pub use attribute::{Attribute, Attributes};
pub use message::{Builder, Message, Messages, flags, kind};
pub use socket::Socket;

use std::io;

/// What can go wrong when talking to the kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket could not be made, or used.
    #[error("netlink {operation}")]
    Io {
        /// `open`, `bind`, `send`, `receive`, …
        operation: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("the kernel refused {what}")]
    Refused {
        /// What was asked for.
        what: String,
        /// Its errno.
        #[source]
        source: io::Error,
    },
    /// The kernel sent something else than an answer.
    #[error("unexpected answer to {what}")]
    Unexpected {
        /// What was asked for.
        what: String,
    },
}

impl Error {
    pub(crate) fn io(operation: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |source| Self::Io {
            operation,
            source: source.into(),
        }
    }

    /// The errno behind it, where there is one.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } | Self::Refused { source, .. } => source.raw_os_error(),
            Self::Unexpected { .. } => None,
        }
    }
}
