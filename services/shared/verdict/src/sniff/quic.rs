//! The name that a QUIC connection asks for: the TLS hello in its opener's first datagrams, versions 1 (RFC 9000, 9001) and
//! 2 (RFC 9369).
//!
//! Initial packets are sealed with keys that follow from what stands in their own header, so that everybody on the way can
//! open them. A hello may be shuffled and spread over several packets and datagrams. Pure and total; time and memory are
//! bounded by what is given in, of which only so many packets are opened ([`MOST_PACKETS`]).

mod header;
mod hello;
mod keys;

use self::{
    header::{Kind, Packet, packets},
    hello::Hello,
    keys::Keys,
};
use super::Sniffed;

/// An opener pads every datagram with an Initial packet to this at least, and others are to be ignored (RFC 9000 §14.1).
const SHORTEST_DATAGRAM: usize = 1200;

/// Initial packets that are opened in one go. Browsers say their hello in two or three.
pub const MOST_PACKETS: usize = 16;

/// Whether a datagram looks like a connection's first, or one that overtook it: as cheap as a look at its header.
pub fn is_beginning(datagram: &[u8]) -> bool {
    packets(datagram).next().is_some_and(|packet| match packet.kind {
        Kind::Initial => datagram.len() >= SHORTEST_DATAGRAM,
        Kind::ZeroRtt => true,
        Kind::Handshake => false,
    })
}

/// Reads the name from all datagrams that the opener has sent so far, in any order. One with the octets of several (a
/// send that the kernel cuts up later) is as good.
///
/// [`Sniffed::None`] where none of them begins a QUIC connection: what cannot be opened was not said.
pub fn name<'a>(datagrams: impl IntoIterator<Item = &'a [u8]>) -> Sniffed {
    let mut connections: Vec<Connection<'a>> = Vec::new();
    let mut early = false;
    let mut opened = 0;
    for packet in datagrams.into_iter().flat_map(packets) {
        match packet.kind {
            Kind::Initial if opened < MOST_PACKETS => {
                opened += 1;
                take(&mut connections, &packet);
            }
            Kind::ZeroRtt => early = true,
            Kind::Initial | Kind::Handshake => {}
        }
    }
    let mut undecided = if early { Sniffed::NeedMore } else { Sniffed::None };
    for connection in &connections {
        match connection.hello.name() {
            Sniffed::Name(name) => return Sniffed::Name(name),
            Sniffed::NeedMore => undecided = Sniffed::NeedMore,
            Sniffed::None => {}
        }
    }
    undecided
}

/// What was said under one destination connection id, which is what the keys follow from.
struct Connection<'a> {
    destination: &'a [u8],
    version: header::Version,
    keys: Keys,
    hello: Hello,
}

fn take<'a>(connections: &mut Vec<Connection<'a>>, packet: &Packet<'a>) {
    let known = connections
        .iter_mut()
        .find(|known| known.destination == packet.destination && known.version == packet.version);
    if let Some(connection) = known {
        if let Some(frames) = connection.keys.open(packet) {
            connection.hello.add(&frames);
        }
        return;
    }
    let opened = Keys::of_opener(packet.version, packet.destination)
        .and_then(|keys| keys.open(packet).map(|frames| (keys, frames)));
    if let Some((keys, frames)) = opened {
        let mut hello = Hello::default();
        hello.add(&frames);
        connections.push(Connection {
            destination: packet.destination,
            version: packet.version,
            keys,
            hello,
        });
    }
}

/// The name in the frames of opened packets: what [`name`] does behind the seal. For fuzzing, which cannot seal.
pub fn name_in_frames<'a>(packets: impl IntoIterator<Item = &'a [u8]>) -> Sniffed {
    let mut hello = Hello::default();
    packets
        .into_iter()
        .take(MOST_PACKETS)
        .for_each(|frames| hello.add(frames));
    hello.name()
}

#[cfg(test)]
mod tests;
