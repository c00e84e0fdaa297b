//! Attributes: length, type, payload, padded to four octets.

const HEADER: usize = 4;
/// Flags in the upper two bits of the type: nested, and network byte order.
const TYPE_MASK: u16 = 0x3fff;

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Without the flags for nesting and byte order.
    pub kind: u16,
    /// Without padding.
    pub payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The attributes inside this one.
    pub const fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.payload)
    }

    /// One octet.
    pub fn u8(&self) -> Option<u8> {
        self.payload.first().copied()
    }

    /// Two octets, network byte order.
    pub fn u16_be(&self) -> Option<u16> {
        self.payload
            .first_chunk()
            .map(|octets| u16::from_be_bytes(*octets))
    }

    /// Four octets, network byte order.
    pub fn u32_be(&self) -> Option<u32> {
        self.payload
            .first_chunk()
            .map(|octets| u32::from_be_bytes(*octets))
    }

    /// Eight octets, network byte order.
    pub fn u64_be(&self) -> Option<u64> {
        self.payload
            .first_chunk()
            .map(|octets| u64::from_be_bytes(*octets))
    }

    /// Four octets, this host's byte order.
    pub fn u32_ne(&self) -> Option<u32> {
        self.payload
            .first_chunk()
            .map(|octets| u32::from_ne_bytes(*octets))
    }

    /// Eight octets, this host's byte order.
    pub fn u64_ne(&self) -> Option<u64> {
        self.payload
            .first_chunk()
            .map(|octets| u64::from_ne_bytes(*octets))
    }
}

/// The attributes in a slice; ends at the first that does not fit.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Over a payload that begins with an attribute.
    pub const fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    /// The first attribute of this kind.
    pub fn find(mut self, kind: u16) -> Option<Attribute<'a>> {
        Iterator::find(&mut self, |attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let length = usize::from(u16::from_ne_bytes(*self.rest.first_chunk()?));
        let kind = u16::from_ne_bytes(*self.rest.get(2..)?.first_chunk()?) & TYPE_MASK;
        let payload = self.rest.get(HEADER..length)?;
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, payload })
    }
}
