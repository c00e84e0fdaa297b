//! What a flow's opener says while the flow waits: datagrams that may begin a QUIC connection.

use verdict::{
    Direction, Flow, Protocol, Scope,
    packet::Packet,
    sniff::{Sniffed, quic},
};

/// A hello is two or three of them; copies come on top when its sender loses patience.
const MOST_DATAGRAMS: usize = 8;

/// The part of a packet that says who is asked for, where it may come in several of them and its flow may have a name.
pub(super) fn beginning<'a>(packet: &Packet<'a>, flow: &Flow) -> Option<&'a [u8]> {
    let asks = flow.protocol == Protocol::UDP
        && flow.direction == Direction::Outgoing
        && flow.scope() != Scope::Localhost;
    (asks && quic::is_beginning(packet.payload)).then_some(packet.payload)
}

/// See the module's head.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    datagrams: Vec<Box<[u8]>>,
}

impl Said {
    pub(super) fn new(first: Option<&[u8]>) -> Self {
        Self {
            datagrams: first.into_iter().map(Box::from).collect(),
        }
    }

    /// False where there is no room.
    pub(super) fn add(&mut self, datagram: &[u8]) -> bool {
        let fits = self.datagrams.len() < MOST_DATAGRAMS;
        if fits {
            self.datagrams.push(datagram.into());
        }
        fits
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    pub(super) fn octets(&self) -> usize {
        self.datagrams.iter().map(|datagram| datagram.len()).sum()
    }

    pub(super) fn name(&self) -> Sniffed {
        quic::name(self.datagrams.iter().map(|datagram| &**datagram))
    }
}
