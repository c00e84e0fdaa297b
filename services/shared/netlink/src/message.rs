//! Messages: a 16-octet header (`struct nlmsghdr`), then the family's own header, then attributes.

use std::io;

use crate::Attributes;

const HEADER: usize = 16;

/// `nlmsg_flags`.
pub mod flags {
    /// A request.
    pub const REQUEST: u16 = 0x1;
    /// Answer with an acknowledgement.
    pub const ACK: u16 = 0x4;
    /// Answer with the whole table.
    pub const DUMP: u16 = 0x300;
    /// Create what is not there.
    pub const CREATE: u16 = 0x400;
}

/// `nlmsg_type` values that every family shares.
pub mod kind {
    /// An errno, or 0 for success.
    pub const ERROR: u16 = 2;
    /// End of a dump.
    pub const DONE: u16 = 3;
}

/// Builds one or more messages in a buffer.
#[derive(Debug, Default)]
pub struct Builder {
    buffer: Vec<u8>,
    start: usize,
}

impl Builder {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forget what was built, keep the memory.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.start = 0;
    }

    /// Begin a message. The kernel fills in our port id.
    pub fn begin(&mut self, kind: u16, flags: u16, sequence: u32) -> &mut Self {
        self.start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 4]);
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(&flags.to_ne_bytes());
        self.buffer.extend_from_slice(&sequence.to_ne_bytes());
        self.buffer.extend_from_slice(&[0; 4]);
        self
    }

    /// The family's own header, or any other octets, padded to four.
    pub fn octets(&mut self, octets: &[u8]) -> &mut Self {
        self.buffer.extend_from_slice(octets);
        self.pad()
    }

    /// An attribute. Payloads longer than a u16 can say are not sent by anyone here.
    pub fn attribute(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        let length = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
        self.buffer.extend_from_slice(&length.to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(payload);
        self.pad()
    }

    /// An attribute that holds those which `fill` writes.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        const NESTED: u16 = 0x8000;
        let start = self.buffer.len();
        self.attribute(kind | NESTED, &[]);
        fill(self);
        let length = u16::try_from(self.buffer.len() - start).unwrap_or(u16::MAX);
        self.put(start, &length.to_ne_bytes());
        self
    }

    /// Close the message that `begin` opened: writes its length.
    pub fn end(&mut self) -> &mut Self {
        let length = u32::try_from(self.buffer.len() - self.start).unwrap_or(u32::MAX);
        self.put(self.start, &length.to_ne_bytes());
        self
    }

    /// All messages built so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.buffer
    }

    fn put(&mut self, at: usize, octets: &[u8]) {
        if let Some(place) = self.buffer.get_mut(at..at + octets.len()) {
            place.copy_from_slice(octets);
        }
    }

    fn pad(&mut self) -> &mut Self {
        self.buffer.resize(self.buffer.len().next_multiple_of(4), 0);
        self
    }
}

/// One received message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub sequence: u32,
    /// All behind the header.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Splits the payload into the family's own header of `N` octets and the attributes.
    pub fn split<const N: usize>(&self) -> Option<(&'a [u8; N], Attributes<'a>)> {
        let (header, rest) = self.payload.split_first_chunk()?;
        Some((header, Attributes::new(rest)))
    }

    /// Where this is an `NLMSG_ERROR`: its verdict (`Ok` is an acknowledgement).
    pub fn acknowledgement(&self) -> Option<io::Result<()>> {
        if self.kind != kind::ERROR {
            return None;
        }
        let code = i32::from_ne_bytes(*self.payload.first_chunk()?);
        Some(if code == 0 {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(code.saturating_neg()))
        })
    }
}

/// The messages in a received buffer; ends at the first that does not fit.
#[derive(Clone, Copy, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Over what one `recv` returned.
    pub const fn new(buffer: &'a [u8]) -> Self {
        Self { rest: buffer }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let (header, _) = self.rest.split_first_chunk::<HEADER>()?;
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let message = Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            payload: self.rest.get(HEADER..length)?,
        };
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_built_is_read_back() {
        let mut builder = Builder::new();
        for sequence in [7, 8] {
            builder
                .begin(0x301, flags::REQUEST, sequence)
                .octets(&[2, 0, 0, 1]);
            builder.attribute(1, &[1, 2, 3]).nested(2, |inner| {
                inner.attribute(3, &0xa0b0_u16.to_be_bytes());
            });
            builder.end();
        }
        let messages: Vec<_> = Messages::new(builder.as_bytes()).collect();
        assert_eq!(
            messages
                .iter()
                .map(|message| message.sequence)
                .collect::<Vec<_>>(),
            [7, 8]
        );
        let (header, attributes) = messages[1].split::<4>().unwrap();
        assert_eq!(header, &[2, 0, 0, 1]);
        assert_eq!(attributes.find(1).unwrap().payload, [1, 2, 3]);
        assert_eq!(
            attributes.find(2).unwrap().nested().find(3).unwrap().u16_be(),
            Some(0xa0b0)
        );
    }

    proptest! {
        #[test]
        fn parsing_is_total(bytes: Vec<u8>) {
            for message in Messages::new(&bytes) {
                let _ = message.acknowledgement();
                for attribute in Attributes::new(message.payload) {
                    let _ = (attribute.u64_be(), attribute.nested().count());
                }
            }
        }
    }
}
