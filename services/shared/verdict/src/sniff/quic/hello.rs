//! The TLS hello in CRYPTO frames (RFC 9000 §19.6), which come in any order.

use super::{
    super::{self as sniff, Cut, Reader, Sniffed},
    header::variable,
};

/// A hello with every extension known fits in this.
const LONGEST: usize = 16 << 10;

/// What was said of a hello so far.
#[derive(Debug, Default)]
pub(super) struct Hello {
    /// With where they begin.
    pieces: Vec<(usize, Vec<u8>)>,
}

impl Hello {
    /// Takes what is in the frames of one packet.
    pub(super) fn add(&mut self, frames: &[u8]) {
        // what is wrong ends the packet: its receiver would close the connection (RFC 9000 §12.4)
        let _ = self.walk(Reader(frames));
    }

    fn walk(&mut self, mut frames: Reader<'_>) -> Result<(), Cut> {
        while !frames.0.is_empty() {
            match variable(&mut frames)? {
                PADDING | PING => {}
                kind @ (ACK | ACK_ECN) => skip_acknowledgement(&mut frames, kind)?,
                CRYPTO => {
                    let begins = variable(&mut frames)?;
                    let length = variable(&mut frames)?;
                    let piece = frames.take(length)?;
                    if begins.saturating_add(length) <= LONGEST && length > 0 {
                        self.pieces.push((begins, piece.to_vec()));
                    }
                }
                _ => return Err(Cut),
            }
        }
        Ok(())
    }

    pub(super) fn name(&self) -> Sniffed {
        let mut pieces: Vec<_> = self.pieces.iter().collect();
        pieces.sort_by_key(|(begins, _)| *begins);
        let mut said = Vec::new();
        for (begins, piece) in pieces {
            let Some(known) = said.len().checked_sub(*begins) else {
                break; // a gap
            };
            said.extend_from_slice(piece.get(known..).unwrap_or_default());
        }
        sniff::hello(&said)
    }
}

const PADDING: usize = 0;
const PING: usize = 1;
const ACK: usize = 2;
const ACK_ECN: usize = 3;
const CRYPTO: usize = 6;

/// RFC 9000 §19.3.
fn skip_acknowledgement(frames: &mut Reader<'_>, kind: usize) -> Result<(), Cut> {
    let _largest = variable(frames)?;
    let _delay = variable(frames)?;
    let ranges = variable(frames)?;
    let _first = variable(frames)?;
    for _ in 0..ranges {
        let _gap = variable(frames)?;
        let _length = variable(frames)?;
    }
    let counts = if kind == ACK_ECN { 3 } else { 0 };
    for _ in 0..counts {
        let _count = variable(frames)?;
    }
    Ok(())
}
