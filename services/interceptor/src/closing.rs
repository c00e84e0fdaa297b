//! Ends connections, whatever their programs do.

use std::sync::{Arc, Mutex, PoisonError};

use netlink::diag::Diag;
use verdict::{Direction, Flow};

use crate::conntrack::{Conntrack, Tuple};

/// What became of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Sockets of this host that were ended.
    pub sockets: u32,
    /// The kernel has forgotten what was decided about it.
    pub forgotten: bool,
}

/// Asks the kernel. Clones ask by the same sockets.
#[derive(Clone, Debug)]
pub struct Closer(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    sockets: Diag,
    conntrack: Conntrack,
}

impl Closer {
    /// Needs `CAP_NET_ADMIN`.
    pub fn open() -> Result<Self, netlink::Error> {
        Ok(Self(Arc::new(Mutex::new(Inner {
            sockets: Diag::open()?,
            conntrack: Conntrack::open()?,
        }))))
    }

    /// Ends it. A TCP connection whose socket was ended stays in conntrack for its last seconds: what is still on its way to it
    /// would else look like a new one.
    pub fn close(&self, flow: &Flow) -> Result<Closed, netlink::Error> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sockets = u32::from(inner.sockets.destroy(flow)?);
        if flow.remote.address.is_loopback() || flow.local.address == flow.remote.address {
            // its other end is ours as well
            sockets += u32::from(inner.sockets.destroy(&reversed(flow))?);
        }
        let tuple = Tuple::of(flow);
        let is_stream = matches!(flow.protocol, verdict::Protocol::TCP | verdict::Protocol::SCTP);
        let mut forgotten = false;
        if !(is_stream && sockets > 0)
            && let Some(original) = inner.conntrack.original(&tuple)
        {
            inner.conntrack.forget(&original)?;
            forgotten = true;
        }
        Ok(Closed { sockets, forgotten })
    }
}

const fn reversed(flow: &Flow) -> Flow {
    Flow {
        direction: match flow.direction {
            Direction::Outgoing => Direction::Incoming,
            Direction::Incoming => Direction::Outgoing,
        },
        protocol: flow.protocol,
        local: flow.remote,
        remote: flow.local,
    }
}
