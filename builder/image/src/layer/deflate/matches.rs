//! Where the bytes ahead were seen before: the places of each four bytes, newest first, and the newest of each three.

use super::{MAX_MATCH, WINDOW};

const HASH_BITS: u32 = 16;
const SHORT_BITS: u32 = 13;
/// Places that are looked at for one match.
const DEPTH: usize = 16;
/// And when the match before it is this long already, a quarter of them.
const LONG: usize = 8;
/// One that is not looked beyond.
const NICE: usize = 130;
const MASK: usize = WINDOW - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// Bytes; below three there is none.
    pub(super) length: usize,
    pub(super) distance: usize,
}

#[derive(Debug)]
pub(super) struct Matches {
    /// By hash of four bytes: the newest place, plus one; zero is none.
    newest: Box<[u32; 1 << HASH_BITS]>,
    /// By place, modulo the window: how far back the one before it is; zero is none.
    before: Box<[u16; WINDOW]>,
    /// By hash of three bytes.
    short: Box<[u32; 1 << SHORT_BITS]>,
}

impl Matches {
    pub(super) fn new() -> Self {
        Self {
            newest: Box::new([0; 1 << HASH_BITS]),
            before: Box::new([0; WINDOW]),
            short: Box::new([0; 1 << SHORT_BITS]),
        }
    }

    /// Forgets all and takes in what lies before `start`.
    pub(super) fn start(&mut self, input: &[u8], start: usize) {
        self.newest.fill(0);
        self.short.fill(0);
        self.pass(input, 0, start);
    }

    /// Takes in the places from `from` to `to`, without looking for a match.
    pub(super) fn pass(&mut self, input: &[u8], from: usize, to: usize) {
        for at in from..to {
            let Some(four) = four(input, at) else {
                return;
            };
            self.insert(at, four);
        }
    }

    /// Takes `at` in; the place before it with the same hash, and the newest with the hash of three, plus one.
    fn insert(&mut self, at: usize, four: u32) -> (usize, usize) {
        let slot = &mut self.newest[hash(four, HASH_BITS)];
        let short = &mut self.short[hash(four << 8, SHORT_BITS)];
        let found = (*slot as usize, *short as usize);
        let place = u32::try_from(at + 1).unwrap_or(0);
        (*slot, *short) = (place, place);
        let back = at + 1 - found.0;
        self.before[at & MASK] = match found.0 {
            0 => 0,
            _ => u16::try_from(back).unwrap_or(0),
        };
        found
    }

    /// The longest match at `at` that is longer than `beat`, the nearest of those. Takes `at` in.
    pub(super) fn longest(&mut self, input: &[u8], at: usize, beat: usize) -> Match {
        let mut best = Match {
            length: beat,
            distance: 0,
        };
        let none = Match {
            length: 0,
            distance: 0,
        };
        let Some(first) = four(input, at) else {
            return none;
        };
        let (found, short) = self.insert(at, first);
        let most = MAX_MATCH.min(input.len() - at);
        if beat >= most {
            return none;
        }
        if beat < 3 && short != 0 {
            let place = short - 1;
            if at - place <= WINDOW
                && four(input, place).is_some_and(|there| there << 8 == first << 8)
            {
                best = Match {
                    length: 3,
                    distance: at - place,
                };
            }
        }
        if found == 0 {
            return if best.distance == 0 { none } else { best };
        }
        let mut place = found - 1;
        let mut left = if beat >= LONG { DEPTH / 4 } else { DEPTH };
        let nice = NICE.min(most);
        // The last four bytes of what a better match must have.
        let mut wanted = four(input, at + best.length.max(3) - 3).unwrap_or(first);
        while at - place <= WINDOW {
            let check = place + best.length.max(3) - 3;
            if four(input, check) == Some(wanted) && four(input, place) == Some(first) {
                let length = common(&input[place..], &input[at..at + most]);
                if length > best.length {
                    best = Match {
                        length,
                        distance: at - place,
                    };
                    if length >= nice {
                        break;
                    }
                    wanted = four(input, at + length - 3).unwrap_or(first);
                }
            }
            left -= 1;
            let back = usize::from(self.before[place & MASK]);
            if left == 0 || back == 0 || back > place {
                break;
            }
            place -= back;
        }
        if best.distance == 0 { none } else { best }
    }
}

/// How many bytes are the same, up to the length of `ahead`; `there` is the longer.
fn common(there: &[u8], ahead: &[u8]) -> usize {
    let mut length = 0;
    for (a, b) in there.chunks_exact(8).zip(ahead.chunks_exact(8)) {
        let differ = word(a) ^ word(b);
        if differ != 0 {
            return length + (differ.trailing_zeros() / 8) as usize;
        }
        length += 8;
    }
    let rest = there[length..].iter().zip(&ahead[length..]);
    length + rest.take_while(|(a, b)| a == b).count()
}

fn word(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn four(input: &[u8], at: usize) -> Option<u32> {
    input
        .get(at..)?
        .first_chunk::<4>()
        .map(|bytes| u32::from_le_bytes(*bytes))
}

fn hash(value: u32, bits: u32) -> usize {
    (value.wrapping_mul(0x9e37_79b1) >> (32 - bits)) as usize
}
