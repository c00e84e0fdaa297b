//! The way to one node: a connection of our own, or a stream through the node before it, and TLS with it there.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use gate17_maps::{
    begun::Begun,
    padded::{Padded, Wanted},
};
use gate17_proto::{
    map::{Carrier, Node, NodeAddress},
    padding::Frames,
};
use h2::client::Builder;
use http::{HeaderValue, Method, Request, header::PROXY_AUTHORIZATION};
use proto::gate17::v1::Cause;

use super::{
    Means,
    carrier::{Octets, Secured, dial, tls, upgraded},
    heard::{Heard, Talk},
    leg::{Ends, Leg, seen},
};
use crate::{
    blame::{Fault, Seen},
    health::Nodes,
    race::race,
    refusal::Refusal,
    tunnel::{PIECE, Tunnel},
};

const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const FRAME: u32 = 256 << 10;
/// Octets of a stream that wait for the connection to take them: whole frames.
const SEND_BUFFER: usize = 2 * PIECE;
/// Before the next address is tried as well (RFC 8305, section 8).
const STAGGER: Duration = Duration::from_millis(250);
/// The same for nodes behind others, where the way is longer.
const STAGGER_BEHIND: Duration = Duration::from_secs(1);

/// One hop, while it is made.
pub(super) struct Reach<'a> {
    /// The node before it; None: this host itself.
    pub(super) before: Option<&'a Leg>,
    pub(super) node: &'a Node,
    /// Its place on the path.
    pub(super) at: usize,
    pub(super) means: &'a Means,
    /// The node before has answered that the way is open.
    pub(super) opened: Arc<AtomicBool>,
}

impl Reach<'_> {
    /// By whichever of its addresses answers first.
    ///
    /// # Errors
    /// The fault that says most.
    pub(super) async fn run(&self, ends: &Ends) -> Result<Leg, Fault> {
        let through = self.before.is_some();
        let stagger = if through { STAGGER_BEHIND } else { STAGGER };
        let addresses = in_order(self.node, through, &self.means.nodes);
        // all at once: an iterator that lives on would bind the future to its lifetime
        let attempts: Vec<_> = addresses.iter().map(|address| self.secured(address)).collect();
        let (stream, address) = race(attempts, stagger).await.map_err(|faults| {
            let weight = |fault: &Fault| fault.blame().first().map_or(0.0, |(_, weight)| *weight);
            let worst = faults
                .into_iter()
                .max_by(|one, other| weight(one).total_cmp(&weight(other)));
            worst.unwrap_or_else(|| self.fault(Seen::Declined, "the map has no address of it"))
        })?;
        self.means.nodes.answered(&self.node.id, through, address);
        let authorization = self.means.shown.on(stream.get_ref().1, self.node);
        let authorization = authorization.map_err(|text| self.fault(Seen::NoNetwork, text))?;
        let talk = Arc::new(Talk::default());
        let wanted = Wanted::default();
        if let Some(grid) = self.means.padding {
            wanted.set(grid);
        }
        let (send, connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .max_header_list_size(16 << 10)
            .enable_push(false)
            .max_send_buffer_size(SEND_BUFFER)
            .handshake(Padded::new(
                Heard::new(stream, Arc::clone(&talk)),
                Frames::of_client(),
                wanted,
            ))
            .await
            .map_err(|error| self.fault(seen(&error), error.to_string()))?;
        let node = self.node.id.clone();
        Leg::start(
            node,
            authorization,
            self.means.padding,
            send,
            connection,
            talk,
            ends,
        )
        .ok_or_else(|| self.fault(Seen::NoNetwork, "no way to measure it"))
    }

    /// Whether the one before has answered.
    pub(super) fn is_opened(&self) -> bool {
        self.opened.load(Ordering::Relaxed)
    }

    async fn secured(&self, address: &NodeAddress) -> Result<(Secured, SocketAddr), Fault> {
        let to = SocketAddr::new(address.address, address.port);
        let stream: Box<dyn Octets> = match self.before {
            None => {
                let stream = dial(to).await.map_err(|error| self.unreached(&error))?;
                Box::new(Begun::new(BytesMut::new(), stream))
            }
            Some(before) => Box::new(self.extend(before, to).await?),
        };
        let stream = upgraded(stream, address.carrier)
            .await
            .map_err(|error| self.of_stream(&error))?;
        let stream = tls(stream, self.node)
            .await
            .map_err(|error| self.of_stream(&error))?;
        Ok((stream, to))
    }

    /// A stream to the node, used before the 200 of the one before it came.
    async fn extend(&self, before: &Leg, to: SocketAddr) -> Result<Tunnel, Fault> {
        let of_before = |text: String, seen| Fault::new(self.at.saturating_sub(1), seen, text);
        let request = connect(&to.to_string(), before.authorization.as_ref())
            .map_err(|error| of_before(error.to_string(), Seen::NoNetwork))?;
        let (answer, to) = before
            .request(request)
            .await
            .map_err(|error| of_before(error.to_string(), seen(&error)))?;
        Ok(Tunnel::early(&before.node.0, answer, to, &self.opened))
    }

    fn fault(&self, seen: Seen, text: impl Into<String>) -> Fault {
        Fault::new(self.at, seen, text)
    }

    /// No connection to the first node.
    fn unreached(&self, error: &io::Error) -> Fault {
        use io::ErrorKind::{AddrNotAvailable, NetworkDown, NetworkUnreachable, PermissionDenied};
        let seen = match error.kind() {
            NetworkDown | NetworkUnreachable | AddrNotAvailable | PermissionDenied => Seen::NoNetwork,
            _ => Seen::NotReached,
        };
        self.fault(seen, format!("connect: {error}"))
    }

    /// The stream to it, or TLS within, did not come to be.
    fn of_stream(&self, error: &io::Error) -> Fault {
        if let Some(refusal) = said::<Refusal>(error) {
            return self.said_by_before(refusal);
        }
        match said::<rustls::Error>(error) {
            Some(rustls::Error::InvalidCertificate(_)) => self.fault(
                Seen::WrongKey,
                "its key is none that the map says: somebody else is there",
            ),
            Some(error) => self.fault(Seen::Garbled, format!("TLS: {error}")),
            None if error.kind() == io::ErrorKind::InvalidData => {
                self.fault(Seen::Garbled, error.to_string())
            }
            None => self.fault(Seen::Cut, format!("its connection ended: {error}")),
        }
    }

    /// The node before answered something else than 200.
    fn said_by_before(&self, refusal: &Refusal) -> Fault {
        let (at, seen) = match refusal.cause {
            Cause::Refused | Cause::Unreachable | Cause::Timeout => (self.at, Seen::NotReached),
            Cause::Limit => (self.at.saturating_sub(1), Seen::Full),
            _ => (self.at.saturating_sub(1), Seen::Declined),
        };
        Fault::new(at, seen, refusal.text.clone())
    }
}

fn said<E: std::error::Error + 'static>(error: &io::Error) -> Option<&E> {
    error.get_ref()?.downcast_ref::<E>()
}

/// Both families by turns (RFC 8305), TLS at once before upgrades, and first where it answered last.
fn in_order(node: &Node, through: bool, nodes: &Nodes) -> Vec<NodeAddress> {
    let known = nodes.answers_at(&node.id, through);
    let mut addresses: Vec<_> = node.addresses.iter().enumerate().collect();
    // a stable order: 0 for the first of its family, 1 for the second…
    let turn = |place: usize, address: &NodeAddress| {
        let like = |other: &&NodeAddress| other.address.is_ipv6() == address.address.is_ipv6();
        node.addresses.iter().take(place).filter(like).count()
    };
    addresses.sort_by_key(|(place, address)| {
        let is_known = known == Some(SocketAddr::new(address.address, address.port));
        let later = address.carrier != Carrier::Tls;
        (!is_known, later, turn(*place, address), address.address.is_ipv4())
    });
    addresses
        .into_iter()
        .map(|(_, address)| address.clone())
        .collect()
}

pub(super) fn connect(authority: &str, authorization: Option<&HeaderValue>) -> http::Result<Request<()>> {
    let mut request = Request::builder().method(Method::CONNECT).uri(authority);
    if let Some(value) = authorization {
        request = request.header(PROXY_AUTHORIZATION, value);
    }
    request.body(())
}

#[cfg(test)]
mod tests;
