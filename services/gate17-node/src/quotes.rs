//! A quote of the day (RFC 865), for callers on port 17 that have nothing else to say.

use std::{fs, io, path::Path};

use bytes::Bytes;

/// At least one, each with its end of line and within 512 octets.
#[derive(Clone, Debug)]
pub struct Quotes(Vec<Bytes>);

const OUR_OWN: [&str; 6] = [
    "He is free who lives as he chooses. -- Epictetus",
    "He who has a why to live can bear almost any how. -- Friedrich Nietzsche",
    "Simplicity is the ultimate sophistication. -- attributed to Leonardo da Vinci",
    "What we know is a drop, what we do not know is an ocean. -- attributed to Isaac Newton",
    "Three may keep a secret, if two of them are dead. -- Benjamin Franklin",
    "The only way to have a friend is to be one. -- Ralph Waldo Emerson",
];
/// RFC 865: shorter than 512.
const LONGEST: usize = 511;

impl Quotes {
    /// Of a file, one a line; empty lines, and what is too long, are left out. Our own where there is none.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn load(file: Option<&Path>) -> io::Result<Self> {
        let text = file.map(fs::read_to_string).transpose()?.unwrap_or_default();
        let read = Self::of(text.lines());
        Ok(if read.0.is_empty() {
            Self::of(OUR_OWN)
        } else {
            read
        })
    }

    fn of<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let quote = |line: &str| Bytes::from(format!("{}\r\n", line.trim()));
        let lines = lines
            .into_iter()
            .filter(|line| !line.trim().is_empty())
            .map(quote);
        Self(lines.filter(|quote| quote.len() <= LONGEST).collect())
    }

    /// The one for `number`.
    pub fn pick(&self, number: u64) -> Bytes {
        let place = number.checked_rem(self.0.len() as u64).unwrap_or_default();
        let quote = usize::try_from(place).ok().and_then(|place| self.0.get(place));
        quote.cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_is_one_line_and_short() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("quotes");
        fs::write(&file, format!("  one \n\n{}\ntwo\n", "x".repeat(600))).unwrap();
        let quotes = Quotes::load(Some(&file)).unwrap();
        assert_eq!(quotes.pick(0), "one\r\n");
        assert_eq!(quotes.pick(1), "two\r\n");
        assert_eq!(quotes.pick(2), "one\r\n");
        assert!(!Quotes::load(None).unwrap().pick(7).is_empty());
    }
}
