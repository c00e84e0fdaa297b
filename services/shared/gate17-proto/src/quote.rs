//! Quotes of the day (RFC 865): at most 512 printable characters of ASCII, lines that end in CR LF.

/// What comes with the program.
pub const SHIPPED: &str = include_str!("quotes.txt");
/// Octets.
pub const MAX_QUOTE: usize = 512;

/// Quotes, as they are sent; and which were left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quotes {
    /// Shortest first.
    quotes: Vec<Vec<u8>>,
    /// What cannot be sent.
    pub left_out: Vec<LeftOut>,
}

/// A quote that cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the quote at line {line} {why}: change it")]
pub struct LeftOut {
    /// Its first, from 1.
    pub line: usize,
    /// What is wrong.
    pub why: &'static str,
}

impl Quotes {
    /// From a file: quotes are separated by lines of `%` alone, or where there is none, by empty lines.
    pub fn read(text: &str) -> Self {
        let fortune = text.lines().any(|line| line.trim_end() == "%");
        let separates = |line: &str| if fortune { line == "%" } else { line.is_empty() };
        let (mut quotes, mut quote, mut first) = (Self::default(), String::new(), 1);
        for (number, line) in text.lines().chain([if fortune { "%" } else { "" }]).enumerate() {
            let line = line.trim_end();
            if separates(line) {
                quotes.take(&quote, first);
                quote.clear();
            } else {
                if quote.is_empty() {
                    first = number + 1;
                }
                quote.push_str(line);
                quote.push_str("\r\n");
            }
        }
        quotes.quotes.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
        quotes
    }

    fn take(&mut self, quote: &str, line: usize) {
        let printable = |octet: u8| matches!(octet, b' '..=b'~' | b'\r' | b'\n');
        let why = if quote.trim().is_empty() {
            return;
        } else if quote.len() > MAX_QUOTE {
            "is longer than 512 octets"
        } else if !quote.bytes().all(printable) {
            "has characters that are not printable ASCII"
        } else {
            self.quotes.push(quote.as_bytes().to_vec());
            return;
        };
        self.left_out.push(LeftOut { line, why });
    }

    /// One of them; None: there are none.
    pub fn pick(&self, seed: u64) -> Option<&[u8]> {
        self.pick_within(MAX_QUOTE, seed)
    }

    /// One of at most `length` octets.
    pub fn pick_within(&self, length: usize, seed: u64) -> Option<&[u8]> {
        let fit = self.quotes.partition_point(|quote| quote.len() <= length);
        let place = seed.checked_rem(fit as u64)?;
        self.quotes.get(usize::try_from(place).ok()?).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_shipped_ones_can_all_be_sent() {
        let quotes = Quotes::read(SHIPPED);
        assert_eq!(quotes.left_out, []);
        assert!(quotes.quotes.len() >= 10);
    }

    #[test]
    fn both_forms_are_read_and_bad_ones_named() {
        let quotes = Quotes::read("One.\n\n-- A\n%\ncaf\u{e9}\n%\nTwo.\n");
        assert_eq!(quotes.pick(0), Some(&b"Two.\r\n"[..]));
        assert_eq!(quotes.pick(1), Some(&b"One.\r\n\r\n-- A\r\n"[..]));
        assert_eq!(quotes.left_out[0].line, 5);
        let quotes = Quotes::read(&format!("One.\nmore\n\n{}\n\n\nTwo.", "a".repeat(511)));
        assert_eq!(quotes.quotes.len(), 2);
        assert_eq!(quotes.left_out.len(), 1);
        assert_eq!(quotes.pick_within(7, 5), Some(&b"Two.\r\n"[..]));
        assert_eq!(quotes.pick_within(5, 5), None);
        assert_eq!(Quotes::read("").pick(1), None);
    }

    proptest! {
        #[test]
        fn what_is_picked_is_a_quote(text in "(\\PC|[%\n\r ]){0,200}", length in 0..600_usize, seed: u64) {
            if let Some(quote) = Quotes::read(&text).pick_within(length, seed) {
                prop_assert!(quote.len() <= length.min(MAX_QUOTE) && quote.ends_with(b"\r\n"));
            }
        }
    }
}
