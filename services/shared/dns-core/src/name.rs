//! Domain names as they stand on the wire.
//!
//! A name compares without regard to ASCII case (RFC 4343), so it is kept lower-cased from the first moment; the letter
//! case of a question, which its answer has to repeat, is taken from the query itself.

use std::fmt;

/// The longest name on the wire, in bytes, with its closing zero (RFC 1035 §2.3.4).
pub const MAX_NAME: usize = 255;
/// The longest label, in bytes.
pub const MAX_LABEL: usize = 63;

/// A domain name: uncompressed wire form, lower-cased, at most [`MAX_NAME`] bytes; the root is one zero byte.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

/// Why something is no domain name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// More than [`MAX_NAME`] bytes.
    #[error("a domain name has at most {MAX_NAME} bytes")]
    TooLong,
    /// A label of more than [`MAX_LABEL`] bytes.
    #[error("a label of a domain name has at most {MAX_LABEL} bytes")]
    LabelTooLong,
    /// Two dots in a row, or a dot at the beginning.
    #[error("a domain name has no empty labels")]
    EmptyLabel,
    /// A backslash that neither three digits up to 255 nor a character follow.
    #[error("a backslash in a domain name stands before a character or three digits")]
    BadEscape,
    /// The bytes end before the name does.
    #[error("the name is cut short")]
    Truncated,
    /// A compression pointer where none may stand, or one that does not point backwards.
    #[error("a compression pointer that points nowhere")]
    BadPointer,
}

impl Name {
    /// The root of all names.
    pub fn root() -> Self {
        Self(Box::new([0]))
    }

    /// Reads the text form (RFC 1035 §5.1: `\.` and `\DDD` escape); a dot at the end is optional.
    ///
    /// # Errors
    /// Says what makes the text no name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let mut wire = Vec::with_capacity(text.len() + 2);
        let mut label: Vec<u8> = Vec::new();
        let mut bytes = text
            .strip_suffix('.')
            .filter(|rest| !rest.ends_with('\\'))
            .unwrap_or(text)
            .bytes();
        if text == "." || text.is_empty() {
            return Ok(Self::root());
        }
        loop {
            match bytes.next() {
                Some(b'.') => close(&mut wire, &mut label)?,
                Some(b'\\') => label.push(escaped(&mut bytes)?),
                Some(byte) => label.push(byte),
                None => break,
            }
        }
        close(&mut wire, &mut label)?;
        wire.push(0);
        Self::from_lower(wire)
    }

    /// Reads an uncompressed name at the start of `wire`, and tells how many bytes it took.
    ///
    /// # Errors
    /// [`NameError::Truncated`], [`NameError::TooLong`], or [`NameError::BadPointer`] where a label is none.
    pub fn read(wire: &[u8]) -> Result<(Self, usize), NameError> {
        let length = length_of(wire)?;
        let bytes = wire.get(..length).ok_or(NameError::Truncated)?;
        Ok((Self(bytes.to_ascii_lowercase().into_boxed_slice()), length))
    }

    /// Its bytes on the wire, lower-cased.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// Its labels, the leftmost first; the root has none.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        suffixes(&self.0).filter_map(|suffix| {
            let (length, rest) = suffix.split_first()?;
            rest.get(..usize::from(*length))
        })
    }

    /// The name itself and each of its parents below the root, as wire forms, the longest first.
    pub fn suffixes(&self) -> impl Iterator<Item = &[u8]> {
        suffixes(&self.0)
    }

    /// Whether this name is `zone` or stands below it.
    pub fn is_within(&self, zone: &Self) -> bool {
        zone.is_root() || self.suffixes().any(|suffix| suffix == zone.as_wire())
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// Its parent; none for the root.
    pub fn parent(&self) -> Option<Self> {
        let (length, rest) = self.0.split_first()?;
        let parent = rest.get(usize::from(*length)..).filter(|_| *length > 0)?;
        Some(Self(parent.into()))
    }

    fn from_lower(mut wire: Vec<u8>) -> Result<Self, NameError> {
        if wire.len() > MAX_NAME {
            return Err(NameError::TooLong);
        }
        wire.make_ascii_lowercase();
        Ok(Self(wire.into_boxed_slice()))
    }
}

/// The number of bytes of the uncompressed name at the start of `wire`, with its closing zero; looks at nothing else.
///
/// # Errors
/// As [`Name::read`].
pub fn length_of(wire: &[u8]) -> Result<usize, NameError> {
    let mut at = 0;
    loop {
        let length = usize::from(*wire.get(at).ok_or(NameError::Truncated)?);
        if length > MAX_LABEL {
            return Err(NameError::BadPointer);
        }
        at += 1 + length;
        if at > MAX_NAME {
            return Err(NameError::TooLong);
        }
        if length == 0 {
            return Ok(at);
        }
    }
}

/// The wire name and each of its parents below the root, the longest first. Ends early where the bytes are no name.
pub fn suffixes(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(wire), |suffix| {
        let (length, rest) = suffix.split_first()?;
        rest.get(usize::from(*length)..)
    })
    .take_while(|suffix| suffix.first().is_some_and(|length| *length > 0))
}

fn close(wire: &mut Vec<u8>, label: &mut Vec<u8>) -> Result<(), NameError> {
    let length = u8::try_from(label.len())
        .ok()
        .filter(|length| usize::from(*length) <= MAX_LABEL);
    let length = length.ok_or(NameError::LabelTooLong)?;
    if length == 0 {
        return Err(NameError::EmptyLabel);
    }
    wire.push(length);
    wire.append(label);
    Ok(())
}

fn escaped(bytes: &mut std::str::Bytes<'_>) -> Result<u8, NameError> {
    let first = bytes.next().ok_or(NameError::BadEscape)?;
    if !first.is_ascii_digit() {
        return Ok(first);
    }
    let mut value = u32::from(first - b'0');
    for _ in 0..2 {
        let digit = bytes
            .next()
            .filter(u8::is_ascii_digit)
            .ok_or(NameError::BadEscape)?;
        value = value * 10 + u32::from(digit - b'0');
    }
    u8::try_from(value).map_err(|_| NameError::BadEscape)
}

/// Stands in a text as it is.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && !matches!(byte, b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$')
}

fn escape(byte: u8, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match byte {
        b'!'..=b'~' => write!(f, "\\{}", char::from(byte)),
        other => write!(f, "\\{other:03}"),
    }
}

impl fmt::Display for Name {
    /// Without a dot at the end, except for the root; bytes that a text cannot show as `\DDD`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for (at, label) in self.labels().enumerate() {
            if at > 0 {
                f.write_str(".")?;
            }
            // most labels are one run
            for run in label.chunk_by(|one, other| is_plain(*one) == is_plain(*other)) {
                match std::str::from_utf8(run) {
                    Ok(text) if run.iter().all(|byte| is_plain(*byte)) => f.write_str(text)?,
                    _ => run.iter().try_for_each(|byte| escape(*byte, f))?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_read_as_they_are_written() {
        for (text, shown) in [
            ("Example.ORG.", "example.org"),
            (".", "."),
            ("", "."),
            (r"a\.b.c", r"a\.b.c"),
            (r"\255x.y", r"\255x.y"),
        ] {
            assert_eq!(Name::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(64);
        assert_eq!(Name::parse(&long), Err(NameError::LabelTooLong));
        assert_eq!(Name::parse("a..b"), Err(NameError::EmptyLabel));
        assert_eq!(Name::parse(".a"), Err(NameError::EmptyLabel));
        assert_eq!(Name::parse(r"a\25"), Err(NameError::BadEscape));
        assert_eq!(Name::parse(&"abc.".repeat(64)), Err(NameError::TooLong));
        assert_eq!(Name::read(&[3, b'a']), Err(NameError::Truncated));
        assert_eq!(Name::read(&[0xc0, 12]), Err(NameError::BadPointer));
    }

    #[test]
    fn a_zone_holds_itself_and_what_is_below_it_and_no_lookalike() {
        let zone = Name::parse("example.org").unwrap();
        assert!(Name::parse("a.b.example.org").unwrap().is_within(&zone));
        assert!(zone.is_within(&zone) && zone.is_within(&Name::root()));
        assert!(!Name::parse("notexample.org").unwrap().is_within(&zone));
        assert!(!Name::parse("org").unwrap().is_within(&zone));
        assert_eq!(zone.parent().unwrap().to_string(), "org");
        assert_eq!(Name::root().parent(), None);
    }

    proptest! {
        #[test]
        fn text_and_wire_tell_the_same(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..8)) {
            let mut wire: Vec<u8> = labels.iter().flat_map(|l| {
                std::iter::once(u8::try_from(l.len()).unwrap()).chain(l.iter().copied())
            }).collect();
            wire.push(0);
            let (name, length) = Name::read(&wire).unwrap();
            prop_assert_eq!(length, wire.len());
            prop_assert_eq!(Name::parse(&name.to_string()).unwrap(), name);
        }

        #[test]
        fn any_bytes_are_read_or_refused(wire in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok((name, length)) = Name::read(&wire) {
                prop_assert_eq!(name.as_wire().len(), length);
                prop_assert!(name.suffixes().count() == name.labels().count());
            }
        }
    }
}
