//! The deflate encoder (RFC 1951) of format 1. It belongs to the format: its decisions are integer arithmetic on the bytes alone, so that no release of
//! a library, no feature of a CPU and no number of threads changes what it writes. Whoever changes one of them makes a new format number; the golden
//! digests of the tests say so.
//!
//! It is given a piece of the stream with up to 32 KiB of what came before, which matches may reach into, and ends on a byte, so that pieces made at
//! the same time are one stream when they are laid one after the other.

mod bits;
mod block;
mod huffman;
mod matches;

use bits::Bits;
use block::Block;
use matches::{Match, Matches};

/// How far back a match may reach, in bytes.
pub(super) const WINDOW: usize = 32 << 10;
/// Tokens of one block: then new codes fit what comes better.
const TOKENS: usize = 8 << 10;
const MIN_MATCH: usize = 3;
const MAX_MATCH: usize = 258;
/// A match of three bytes from further away costs more than three literals do.
const NEAR: usize = 4096;
/// A match that long is taken without a look at what the next byte offers.
const GOOD_ENOUGH: usize = 32;

/// What one thread needs to compress; used again for each piece.
#[derive(Debug)]
pub(super) struct Deflater {
    matches: Matches,
    block: Block,
}

impl Deflater {
    pub(super) fn new() -> Self {
        Self {
            matches: Matches::new(),
            block: Block::with_capacity(TOKENS),
        }
    }

    /// Appends to `out` the blocks of `input` from `start` on; what lies before it is known to the reader already.
    pub(super) fn piece(&mut self, input: &[u8], start: usize, out: &mut Vec<u8>) {
        let mut bits = Bits::after(out);
        self.matches.start(input, start);
        let mut at = start;
        let mut begun = start;
        while at < input.len() {
            at = self.step(input, at);
            if self.block.is_full() {
                self.block.write(&input[begun..at], &mut bits);
                begun = at;
            }
        }
        if begun < at {
            self.block.write(&input[begun..at], &mut bits);
        }
        // An empty stored block: what follows starts on a byte.
        block::write_stored(&[], &mut bits);
    }

    /// Takes the next match, after the literals that are better than an earlier one; the place after it.
    fn step(&mut self, input: &[u8], mut at: usize) -> usize {
        let mut best = self.matches.longest(input, at, MIN_MATCH - 1);
        if best.length < MIN_MATCH || (best.length == MIN_MATCH && best.distance > NEAR) {
            self.block.literal(input[at]);
            return at + 1;
        }
        while best.length < GOOD_ENOUGH && at + 1 < input.len() {
            let next = self.matches.longest(input, at + 1, best.length);
            if next.length <= best.length {
                return self.take(input, at, best, at + 2);
            }
            self.block.literal(input[at]);
            at += 1;
            best = next;
        }
        self.take(input, at, best, at + 1)
    }

    /// `known` is the first place of the match that the search has not seen.
    fn take(&mut self, input: &[u8], at: usize, best: Match, known: usize) -> usize {
        self.block.copy(best);
        let end = at + best.length;
        self.matches.pass(input, known, end);
        end
    }
}

/// The end of a stream of pieces: a last block with nothing in it.
pub(super) const END: [u8; 2] = [3, 0];

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;

    /// In pieces of that size, and read again by another's decoder.
    fn there_and_back(input: &[u8], piece: usize) -> usize {
        let mut deflater = Deflater::new();
        let mut out = Vec::new();
        for at in (0..input.len()).step_by(piece) {
            let from = at.saturating_sub(WINDOW);
            let end = input.len().min(at + piece);
            deflater.piece(&input[from..end], at - from, &mut out);
        }
        out.extend_from_slice(&END);
        let mut back = Vec::new();
        flate2::read::DeflateDecoder::new(out.as_slice())
            .read_to_end(&mut back)
            .unwrap();
        assert!(back == input, "{} bytes in pieces of {piece}", input.len());
        out.len()
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005) + 1;
            state.to_le_bytes()[7]
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn what_cannot_be_shortened_is_stored_and_what_can_is() {
        let length = 300_000;
        // Each byte comes half as often as the one before it: a code without a bound would be 17 bits long and more.
        let steep: Vec<u8> = (0..300_000_u32)
            .map(|at| at.trailing_zeros().to_le_bytes()[0])
            .collect();
        let text = "def f(argument):\n    return argument\n".repeat(length / 36);
        for (name, input, most) in [
            ("nothing", vec![], 2),
            ("one byte", vec![7], 12),
            ("zeros", vec![0; length], 500),
            ("noise", noise(length), length + 300),
            ("steep", steep, length / 3),
            ("text", text.into_bytes(), 2_000),
        ] {
            for piece in [1 << 18, 70_000, 5_000] {
                let overhead = (input.len() / piece) * 60;
                let got = there_and_back(&input, piece);
                assert!(got <= most + overhead, "{name} in pieces of {piece}: {got}");
            }
        }
    }

    #[test]
    fn a_match_reaches_exactly_as_far_as_the_window() {
        for between in [WINDOW - 20, WINDOW - 10, WINDOW - 9, WINDOW, WINDOW + 9] {
            let mut input = b"ten bytes.".to_vec();
            input.extend(noise(between));
            input.extend(b"ten bytes.ten bytes.");
            there_and_back(&input, 1 << 18);
            there_and_back(&input, WINDOW + 7);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn every_reader_gets_back_what_went_in(
            parts in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..40), 1_usize..400), 1..30),
            piece in 1_usize..50_000,
        ) {
            let input: Vec<u8> = parts.iter().flat_map(|(part, times)| part.repeat(*times)).collect();
            there_and_back(&input, piece.max(input.len() / 50));
        }
    }
}
