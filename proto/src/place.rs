//! A place in a stream of events, as clients are shown it (`event_id`) and show it again (`resume_after`).

/// Behind an event, or before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which numbering: another one after events were forgotten.
    pub numbering: u64,
    /// Of the last event that was seen.
    pub sequence: u64,
}

impl Place {
    /// As clients show it.
    pub fn text(self) -> String {
        format!("{:x}-{}", self.numbering, self.sequence)
    }

    /// As it was shown to them.
    pub fn parse(text: &str) -> Option<Self> {
        let (numbering, sequence) = text.split_once('-')?;
        Some(Self {
            numbering: u64::from_str_radix(numbering, 16).ok()?,
            sequence: sequence.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let place = Place {
            numbering: u64::MAX,
            sequence: 12,
        };
        assert_eq!(Place::parse(&place.text()), Some(place));
        for text in ["", "-", "x-1", "1-", "1--1"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }
}
