//! Messages as they stand on the wire (Protocol Buffers, "Encoding"): read field by field, and nothing made of them.
//!
//! What many watch is written out once; what each of them wants of it is found in the octets.

/// A field, as it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// As the contract numbers it.
    pub number: u32,
    /// What it says.
    pub value: Value<'a>,
    /// Its number and kind.
    pub key: &'a [u8],
    /// All of it, key and length as well.
    pub whole: &'a [u8],
}

/// What a field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number, a word of an enum, a boolean.
    Number(u64),
    /// A text, octets, a message.
    Octets(&'a [u8]),
    /// 4 or 8 octets: floating point and the like.
    Fixed(&'a [u8]),
}

impl<'a> Value<'a> {
    /// Of a text, a message: its octets; nothing of anything else.
    pub const fn octets(self) -> &'a [u8] {
        match self {
            Self::Octets(octets) => octets,
            Self::Number(_) | Self::Fixed(_) => &[],
        }
    }

    /// A text; nothing where it is none.
    pub fn text(self) -> &'a str {
        std::str::from_utf8(self.octets()).unwrap_or_default()
    }

    /// A number as most fields have it; 0 where it is none.
    pub fn number<T: TryFrom<u64> + Default>(self) -> T {
        match self {
            Self::Number(number) => T::try_from(number).unwrap_or_default(),
            Self::Octets(_) | Self::Fixed(_) => T::default(),
        }
    }
}

/// The fields of a message; ends at what is no field.
#[derive(Clone, Debug)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Of this message.
    pub const fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn field(&mut self) -> Option<Field<'a>> {
        let all = self.0;
        let mut rest = all;
        let key = varint(&mut rest)?;
        let key_length = all.len() - rest.len();
        let value = match key & 7 {
            0 => Value::Number(varint(&mut rest)?),
            1 => Value::Fixed(take(&mut rest, 8)?),
            2 => {
                let length = varint(&mut rest)?;
                Value::Octets(take(&mut rest, usize::try_from(length).ok()?)?)
            }
            5 => Value::Fixed(take(&mut rest, 4)?),
            // groups, which our contracts do not have
            _ => return None,
        };
        let length = all.len() - rest.len();
        self.0 = rest;
        Some(Field {
            number: u32::try_from(key >> 3).ok()?,
            value,
            key: all.get(..key_length)?,
            whole: all.get(..length)?,
        })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        field
    }
}

fn take<'a>(octets: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = octets.split_at_checked(length)?;
    *octets = rest;
    Some(taken)
}

fn varint(octets: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (octet, rest) = octets.split_first()?;
        *octets = rest;
        number |= u64::from(octet & 0x7f) << shift;
        if *octet < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use api::v1::{Connection, Endpoint};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_message_is_its_fields() {
        let message = Connection {
            id: u64::MAX,
            domain: "ä.example".into(),
            remote: Some(Endpoint {
                address: "192.0.2.1".into(),
                port: 443,
            }),
            ..Connection::default()
        };
        let octets = message.encode_to_vec();
        let fields: Vec<_> = Fields::of(&octets).collect();
        assert_eq!(
            fields.iter().map(|field| field.number).collect::<Vec<_>>(),
            [1, 5, 7]
        );
        assert_eq!(fields[0].value, Value::Number(u64::MAX));
        assert_eq!(fields[0].value.number::<u32>(), 0, "it does not fit");
        assert_eq!(fields[2].value.text(), "ä.example");
        let inner: Vec<_> = Fields::of(fields[1].value.octets()).collect();
        assert_eq!(
            (inner[0].value.text(), inner[1].value.number::<u32>()),
            ("192.0.2.1", 443)
        );
        let whole: Vec<u8> = fields.iter().flat_map(|field| field.whole).copied().collect();
        assert_eq!(whole, octets);
    }

    proptest! {
        #[test]
        fn reading_is_total(octets in prop::collection::vec(any::<u8>(), 0..64)) {
            let read: usize = Fields::of(&octets).map(|field| field.whole.len()).sum();
            prop_assert!(read <= octets.len());
        }
    }
}
