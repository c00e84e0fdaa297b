//! Padding of HTTP/2: frames of a type that nobody knows, and everybody ignores (RFC 9113 §5.5), fill what is written up to the next
//! multiple of a grid, so that records of TLS tell of no length but that.

use bytes::{BufMut as _, BytesMut};

/// The frames' type: none that IANA has given to anybody.
pub const TYPE: u8 = 0x17;
/// Header of a request by which a client asks for padding; its value is the grid, octets.
pub const HEADER: &str = "gate17-padding";
/// Octets of a record of TLS, and so of the widest grid.
pub const RECORD: usize = 16_384;
const SMALLEST: u16 = 128;
const PREFACE: usize = 24;
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Octets of which all that is written is a multiple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid(u16);

impl Grid {
    /// Powers of two, 128 to 16,384.
    pub const fn new(octets: u16) -> Option<Self> {
        match octets {
            SMALLEST.. if octets.is_power_of_two() && octets as usize <= RECORD => Some(Self(octets)),
            _ => None,
        }
    }

    /// As a header says it.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().and_then(Self::new)
    }

    /// Octets.
    pub const fn octets(self) -> u16 {
        self.0
    }

    /// Appends one frame, so that `octets` has a length of the grid; nothing where it has.
    pub fn fill(self, octets: &mut BytesMut) {
        let grid = usize::from(self.0);
        let over = octets.len() % grid;
        if over == 0 {
            return;
        }
        let short = grid - over;
        // a frame has a head
        let length = if short < HEAD { short + grid } else { short } - HEAD;
        octets.reserve(HEAD + length);
        octets.put_uint(length as u64, 3);
        octets.put_u8(TYPE);
        octets.put_u8(0);
        octets.put_u32(0);
        octets.put_bytes(0, length);
    }
}

/// Follows a connection's frames, to know where another may stand.
#[derive(Clone, Debug)]
pub struct Frames {
    /// Octets until the next head, or that nobody looks into.
    left: usize,
    head: [u8; HEAD],
    /// Of the head.
    have: usize,
    /// Nothing may stand between the frames of one list of headers (RFC 9113 §4.3).
    in_headers: bool,
}

impl Frames {
    /// What a client writes: a preface first.
    pub const fn of_client() -> Self {
        Self {
            left: PREFACE,
            ..Self::of_server()
        }
    }

    /// What a server writes.
    pub const fn of_server() -> Self {
        Self {
            left: 0,
            head: [0; HEAD],
            have: 0,
            in_headers: false,
        }
    }

    /// These are written.
    pub fn pass(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            if self.left > 0 {
                let count = self.left.min(octets.len());
                self.left -= count;
                octets = octets.get(count..).unwrap_or_default();
                continue;
            }
            let (first, rest) = octets.split_at((HEAD - self.have).min(octets.len()));
            for (slot, octet) in self.head.iter_mut().skip(self.have).zip(first) {
                *slot = *octet;
            }
            self.have += first.len();
            octets = rest;
            if self.have == HEAD {
                self.begin();
            }
        }
    }

    fn begin(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        self.have = 0;
        self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION) {
            self.in_headers = flags & END_HEADERS == 0;
        }
    }

    /// Whether another frame may stand here.
    pub const fn is_between(&self) -> bool {
        self.left == 0 && self.have == 0 && !self.in_headers
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut octets = BytesMut::new();
        octets.put_uint(length as u64, 3);
        octets.put_slice(&[kind, flags, 0, 0, 0, 1]);
        octets.put_bytes(7, length);
        octets.to_vec()
    }

    #[test]
    fn a_grid_is_a_power_of_two_that_fits_a_record() {
        for (text, octets) in [
            ("128", Some(128)),
            ("16384", Some(16_384)),
            ("64", None),
            ("1000", None),
            ("0", None),
            ("32768", None),
            ("-1", None),
        ] {
            assert_eq!(Grid::parse(text).map(Grid::octets), octets, "{text}");
        }
    }

    #[test]
    fn another_frame_may_stand_between_frames_but_not_within_a_list_of_headers() {
        let parts = [
            (frame(0, 0, 5), true),
            (frame(HEADERS, 0, 5), false),
            (frame(CONTINUATION, 0, 0), false),
            (frame(CONTINUATION, END_HEADERS, 3), true),
            (frame(6, 0, 8), true),
        ];
        for piece in [1, 3, 1000] {
            let mut frames = Frames::of_client();
            for octets in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".chunks(piece) {
                assert!(!frames.is_between());
                frames.pass(octets);
            }
            for (octets, is_between) in &parts {
                assert!(octets.chunks(piece).all(|octets| {
                    frames.pass(octets);
                    true
                }));
                assert_eq!(frames.is_between(), *is_between);
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_has_a_length_of_the_grid_and_loses_nothing(
            lengths in prop::collection::vec(0..40_000_usize, 0..6), power in 7..15_u32,
        ) {
            let grid = Grid::new(1 << power).unwrap();
            let said: Vec<u8> = lengths.iter().flat_map(|length| frame(0, 0, *length)).collect();
            let mut octets = BytesMut::from(&said[..]);
            grid.fill(&mut octets);
            prop_assert_eq!(octets.len() % usize::from(grid.octets()), 0);
            prop_assert!(octets.len() < said.len() + usize::from(grid.octets()) + HEAD);
            prop_assert_eq!(&octets[..said.len()], &said[..]);
            let mut frames = Frames::of_server();
            frames.pass(&octets);
            prop_assert!(frames.is_between());
            if let Some(head) = octets.get(said.len()..said.len() + HEAD) {
                prop_assert_eq!(head[3], TYPE);
                // no peer has to take a longer one
                prop_assert!(octets.len() - said.len() - HEAD <= RECORD);
            }
        }
    }
}
