//! Changes of bytes, by a generator that a seed fixes.

use crate::INPUT_MAX;

/// Bytes, and numbers as text, at which parsers differ.
const BYTES: [u8; 12] = [
    0, 1, 0x0a, 0x20, 0x22, 0x2f, 0x3a, 0x7f, 0x80, 0xc0, 0xfe, 0xff,
];
const NUMBERS: [&str; 12] = [
    "0",
    "-1",
    "1",
    "255",
    "65536",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "1e400",
    "077777777777",
];

/// Makes inputs out of a corpus.
#[derive(Debug)]
pub struct Mutator<'a> {
    state: u64,
    words: &'a [&'a str],
}

impl<'a> Mutator<'a> {
    #[must_use]
    pub fn new(seed: u64, words: &'a [&'a str]) -> Self {
        Self { state: seed, words }
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `limit`; 0 for 0.
    fn below(&mut self, limit: usize) -> usize {
        let random = usize::try_from(self.random() >> 1).unwrap_or(0);
        random.checked_rem(limit).unwrap_or(0)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let at = self.below(from.len());
        from.get(at).copied()
    }

    /// A start and an end in `bytes`, near to each other more often than not.
    fn range(&mut self, bytes: &[u8]) -> (usize, usize) {
        let start = self.below(bytes.len() + 1);
        let most = if self.below(4) == 0 { bytes.len() } else { 16 };
        let length = self.below(most.min(bytes.len() - start) + 1);
        (start, start + length)
    }

    /// One of `corpus`, changed in 1 to 8 places.
    pub fn next(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let at = self.below(corpus.len());
        let mut bytes = corpus.get(at).cloned().unwrap_or_default();
        for _ in 0..=self.below(8) {
            self.change(&mut bytes, corpus);
            bytes.truncate(INPUT_MAX);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let (start, end) = self.range(bytes);
        match self.below(10) {
            0 => {
                let bit = 1 << self.below(8);
                if let Some(byte) = bytes.get_mut(start) {
                    *byte ^= bit;
                }
            }
            1 => {
                let value = self.pick(&BYTES).unwrap_or(0);
                if let Some(byte) = bytes.get_mut(start) {
                    *byte = value;
                }
            }
            2 => drop(bytes.drain(start..end)),
            3 => {
                let piece = bytes[start..end].to_vec();
                let to = self.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            4 => {
                let piece: Vec<u8> = (0..self.below(9))
                    .map(|_| self.random().to_le_bytes()[0])
                    .collect();
                bytes.splice(start..end, piece);
            }
            5 | 6 => {
                let word = self.pick(self.words).unwrap_or_default();
                let end = if self.below(2) == 0 { start } else { end };
                bytes.splice(start..end, word.bytes());
            }
            7 => self.number(bytes, start),
            8 => {
                let other = self.below(corpus.len());
                let Some(other) = corpus.get(other) else {
                    return;
                };
                let (from, to) = self.range(other);
                bytes.splice(start..end, other[from..to].iter().copied());
            }
            _ if self.below(4) == 0 => bytes.truncate(start),
            _ => {
                let (other, _) = self.range(bytes);
                if start < bytes.len() && other < bytes.len() {
                    bytes.swap(start, other);
                }
            }
        }
    }

    /// Another number in place of the first one after `start`.
    fn number(&mut self, bytes: &mut Vec<u8>, start: usize) {
        let Some(from) = bytes[start..].iter().position(u8::is_ascii_digit) else {
            return;
        };
        let from = start + from;
        let length = bytes[from..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let number = self.pick(&NUMBERS).unwrap_or("0");
        bytes.splice(from..from + length, number.bytes());
    }
}
