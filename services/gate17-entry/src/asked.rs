//! The name that a DNS query asks for.

/// Labels of a name (RFC 1035, section 3.1: 255 octets, each label at least two).
const MOST: usize = 127;
/// Octets before the first question.
const HEADER: usize = 12;
/// Longest label.
const LABEL: usize = 63;

/// Of the first question, in lower case and without its last dot; None where the message has none that can be read.
pub fn name(query: &[u8]) -> Option<String> {
    let mut rest = query.get(HEADER..)?;
    let mut labels = Vec::new();
    loop {
        let (length, after) = rest.split_first()?;
        let length = usize::from(*length);
        if length == 0 {
            break;
        }
        // a question comes first: there is nothing yet that a pointer could point to
        if length > LABEL || labels.len() >= MOST {
            return None;
        }
        let (label, after) = after.split_at_checked(length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        rest = after;
    }
    (!labels.is_empty()).then(|| labels.join("."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(question: &[u8]) -> Vec<u8> {
        [&[0; HEADER], question].concat()
    }

    #[test]
    fn the_name_is_read_as_programs_write_it() {
        let asked = name(&query(b"\x03wWw\x07example\x03org\0\0\x01\0\x01"));
        assert_eq!(asked.as_deref(), Some("www.example.org"));
        for bad in [&b""[..], b"\0", b"\x03ww", b"\xc0\x0c", b"\x03www"] {
            assert_eq!(name(&query(bad)), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_not(octets in prop::collection::vec(any::<u8>(), 0..600)) {
            let read = name(&octets);
            prop_assert!(read.is_none_or(|name| !name.is_empty()));
        }
    }
}
