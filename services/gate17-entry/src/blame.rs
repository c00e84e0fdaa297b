//! What a failure says about which node of a path: nobody is avoided for what somebody else did, as far as that can be told.
//!
//! A client hears a node only through those before it. What a node said itself, within its own TLS, is its own; silence and a
//! cut can be the work of the node, of the one before it, or of the network between them.

use gate17_proto::trouble::AVOIDED;

/// Its own doing: avoided at once.
pub const CERTAIN: f64 = 0.6;
/// One of two did it: avoided when it happens again.
pub const LIKELY: f64 = 0.4;
/// It may have had a part in it.
pub const POSSIBLE: f64 = 0.2;

const _: () = assert!(CERTAIN > AVOIDED && LIKELY < AVOIDED);

/// What was seen of a failure, at one hop of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// This host has no way out: nobody's fault.
    NoNetwork,
    /// No connection could be made to it: by us for the first, by the node before it for others, as that node said.
    NotReached,
    /// It answered, and does not do what the map says of it.
    Declined,
    /// It answered that it has too much to do.
    Full,
    /// Who answered there has none of its keys.
    WrongKey,
    /// Who answered there does not speak TLS.
    Garbled,
    /// What came as its words within TLS was not: altered, replayed or another's; or it heard such as ours.
    Altered,
    /// It broke the protocol, or ended the connection with an error, within its own TLS.
    Violated,
    /// The connection with it ended, and nobody said why.
    Cut,
    /// Nothing comes from it, while those before it answer.
    Silent,
    /// It lives, but does not answer what it was asked.
    Deaf,
    /// It said that it takes nothing new.
    Leaving,
}

/// A failure, and where on the path: 0 is the first node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Place on the path.
    pub at: usize,
    /// What was seen.
    pub seen: Seen,
    /// In words, of the node at that place.
    pub text: String,
}

impl Fault {
    /// See the fields.
    pub fn new(at: usize, seen: Seen, text: impl Into<String>) -> Self {
        Self {
            at,
            seen,
            text: text.into(),
        }
    }

    /// Places on the path, and by how much it is theirs; the most suspect first.
    pub fn blame(&self) -> Vec<(usize, f64)> {
        let (own, before) = weights(self.seen);
        let mut blamed = vec![(self.at, own)];
        match self.at.checked_sub(1) {
            Some(place) => blamed.push((place, before)),
            // nobody stands between: what two could have done was it alone
            None if before >= LIKELY => blamed = vec![(self.at, CERTAIN)],
            None => {}
        }
        blamed.retain(|(_, weight)| *weight > 0.0);
        blamed
    }

    /// Whether it ended what stood: one break ends all circuits of its place.
    pub const fn is_break(&self) -> bool {
        matches!(
            self.seen,
            Seen::Cut | Seen::Altered | Seen::Silent | Seen::Leaving
        )
    }

    /// Whether somebody answered what was not so; nothing that was just not there.
    pub const fn is_untrue(&self) -> bool {
        matches!(self.seen, Seen::WrongKey | Seen::Garbled | Seen::Altered)
    }

    /// Whether it says that the way from the node before to this one failed, whoever did it.
    pub const fn is_between(&self) -> bool {
        self.at > 0
            && matches!(
                self.seen,
                Seen::NotReached | Seen::WrongKey | Seen::Garbled | Seen::Altered | Seen::Cut | Seen::Silent
            )
    }
}

/// The node's own, and that of the one before it.
const fn weights(seen: Seen) -> (f64, f64) {
    match seen {
        Seen::NoNetwork => (0.0, 0.0),
        Seen::NotReached | Seen::WrongKey | Seen::Garbled | Seen::Altered => (LIKELY, LIKELY),
        Seen::Declined | Seen::Violated | Seen::Deaf => (CERTAIN, 0.0),
        Seen::Full => (LIKELY, 0.0),
        Seen::Cut => (LIKELY, POSSIBLE),
        // the one before answers, and would have to hide this one's words to look so: see `suspects`
        Seen::Silent => (CERTAIN, POSSIBLE),
        Seen::Leaving => (POSSIBLE, 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Seen; 12] = [
        Seen::NoNetwork,
        Seen::NotReached,
        Seen::Declined,
        Seen::Full,
        Seen::WrongKey,
        Seen::Garbled,
        Seen::Altered,
        Seen::Violated,
        Seen::Cut,
        Seen::Silent,
        Seen::Deaf,
        Seen::Leaving,
    ];

    #[test]
    fn a_relay_that_declines_is_blamed_alone_and_not_the_next() {
        let blamed = Fault::new(1, Seen::Declined, "").blame();
        assert_eq!(blamed, [(1, CERTAIN)]);
    }

    #[test]
    fn two_share_what_either_could_have_done_and_the_first_has_nobody_to_share_with() {
        for seen in [Seen::NotReached, Seen::WrongKey, Seen::Garbled, Seen::Altered] {
            assert_eq!(Fault::new(2, seen, "").blame(), [(2, LIKELY), (1, LIKELY)]);
            assert_eq!(Fault::new(0, seen, "").blame(), [(0, CERTAIN)]);
        }
    }

    #[test]
    fn a_host_without_a_network_blames_nobody() {
        assert_eq!(Fault::new(0, Seen::NoNetwork, "").blame(), []);
    }

    proptest! {
        #[test]
        fn blame_falls_on_the_place_or_the_one_before_it_and_is_never_more_than_certain(at in 0_usize..5, which in 0..ALL.len()) {
            let blamed = Fault::new(at, ALL[which], "").blame();
            prop_assert!(blamed.len() <= 2);
            for (place, weight) in &blamed {
                prop_assert!(*place == at || place + 1 == at);
                prop_assert!(*weight > 0.0 && *weight <= CERTAIN);
            }
            prop_assert!(blamed.is_sorted_by(|one, next| one.1 >= next.1));
        }
    }
}
