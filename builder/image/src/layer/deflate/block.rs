//! One block: its tokens, counted, and the shortest of the three forms that deflate has for them.

use super::bits::Bits;
use super::huffman::{Code, lengths};
use super::matches::Match;

/// The last two are in the fixed code only, and never come.
const LITERALS: usize = 288;
const DISTANCES: usize = 30;
const END_OF_BLOCK: usize = 256;
/// Bytes of one stored block.
const MAX_STORED: usize = 65_535;
/// The order in which a block has the lengths of the code of code lengths (RFC 1951, 3.2.7).
const ORDER: [usize; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];
const COPY: u32 = 1 << 31;

#[derive(Debug)]
pub(super) struct Block {
    /// A byte, or [`COPY`], the length less three in bits 16 to 23, the distance less one below.
    tokens: Vec<u32>,
    most: usize,
    literals: [u32; LITERALS],
    distances: [u32; DISTANCES],
}

impl Block {
    pub(super) fn with_capacity(most: usize) -> Self {
        Self {
            tokens: Vec::with_capacity(most + 1),
            most,
            literals: [0; LITERALS],
            distances: [0; DISTANCES],
        }
    }

    pub(super) fn literal(&mut self, byte: u8) {
        self.literals[usize::from(byte)] += 1;
        self.tokens.push(u32::from(byte));
    }

    pub(super) fn copy(&mut self, found: Match) {
        let length = u32::try_from(found.length - 3).unwrap_or(0);
        let distance = u32::try_from(found.distance - 1).unwrap_or(0);
        self.literals[length_symbol(length).0] += 1;
        self.distances[distance_symbol(distance).0] += 1;
        self.tokens.push(COPY | length << 16 | distance);
    }

    pub(super) fn is_full(&self) -> bool {
        self.tokens.len() >= self.most
    }

    /// Writes what the tokens say, which is `bytes`, and starts anew.
    pub(super) fn write(&mut self, bytes: &[u8], bits: &mut Bits<'_>) {
        self.literals[END_OF_BLOCK] = 1;
        let own = Tables::new(lengths(&self.literals, 15), lengths(&self.distances, 15));
        let header = Header::of(&own);
        let fixed = Tables::fixed();
        let cost = self.cost(&own) + header.cost() + 3;
        let cost_fixed = self.cost(&fixed) + 3;
        if stored_cost(bytes.len(), bits) <= cost.min(cost_fixed) {
            write_stored(bytes, bits);
        } else if cost_fixed <= cost {
            bits.put(0b010, 3);
            self.write_tokens(&fixed, bits);
        } else {
            bits.put(0b100, 3);
            header.write(bits);
            self.write_tokens(&own, bits);
        }
        self.tokens.clear();
        self.literals.fill(0);
        self.distances.fill(0);
    }

    /// Bits of all tokens and the end.
    fn cost(&self, tables: &Tables) -> u64 {
        let literals = self.literals.iter().zip(&tables.literals.0).enumerate();
        let literals = literals.map(|(symbol, (count, (_, length)))| {
            u64::from(*count) * (u64::from(*length) + length_extra(symbol))
        });
        let distances = self.distances.iter().zip(&tables.distances.0).enumerate();
        let distances = distances.map(|(symbol, (count, (_, length)))| {
            u64::from(*count) * (u64::from(*length) + distance_extra(symbol))
        });
        literals.sum::<u64>() + distances.sum::<u64>()
    }

    fn write_tokens(&self, tables: &Tables, bits: &mut Bits<'_>) {
        for &token in &self.tokens {
            if token & COPY == 0 {
                let (code, length) = tables.literals.0[token as usize & 0xff];
                bits.put(u64::from(code), length);
                continue;
            }
            let (symbol, extra, value) = length_symbol(token >> 16 & 0xff);
            let (code, length) = tables.literals.0[symbol];
            let mut all = u64::from(code) | u64::from(value) << length;
            let mut count = length + extra;
            let (symbol, extra, value) = distance_symbol(token & 0x7fff);
            let (code, length) = tables.distances.0[symbol];
            all |= u64::from(code) << count;
            count += length;
            all |= u64::from(value) << count;
            // 15 + 5 + 15 + 13 bits at most.
            bits.put(all, count + extra);
        }
        let (code, length) = tables.literals.0[END_OF_BLOCK];
        bits.put(u64::from(code), length);
    }
}

/// Bytes as they are.
pub(super) fn write_stored(bytes: &[u8], bits: &mut Bits<'_>) {
    let mut rest = bytes;
    loop {
        let (now, later) = rest.split_at(rest.len().min(MAX_STORED));
        let length = u16::try_from(now.len()).unwrap_or(0);
        bits.put(0, 3);
        bits.align();
        bits.bytes(&length.to_le_bytes());
        bits.bytes(&(!length).to_le_bytes());
        bits.bytes(now);
        rest = later;
        if rest.is_empty() {
            return;
        }
    }
}

fn stored_cost(length: usize, bits: &Bits<'_>) -> u64 {
    let pieces = length.div_ceil(MAX_STORED).max(1) as u64;
    // From the second on a piece starts on a byte.
    3 + bits.to_align(3) + 32 + (pieces - 1) * 40 + 8 * length as u64
}

/// Symbol, extra bits and their value, of a length less three.
fn length_symbol(length: u32) -> (usize, u32, u32) {
    match length {
        0..8 => (257 + length as usize, 0, 0),
        255.. => (285, 0, 0),
        8..255 => {
            let top = length.ilog2();
            let symbol = 4 * (top - 1) + (length >> (top - 2) & 3);
            (
                257 + symbol as usize,
                top - 2,
                length & ((1 << (top - 2)) - 1),
            )
        }
    }
}

/// Symbol, extra bits and their value, of a distance less one.
fn distance_symbol(distance: u32) -> (usize, u32, u32) {
    if distance < 4 {
        return (distance as usize, 0, 0);
    }
    let top = distance.ilog2();
    let symbol = 2 * top + (distance >> (top - 1) & 1);
    (symbol as usize, top - 1, distance & ((1 << (top - 1)) - 1))
}

fn length_extra(symbol: usize) -> u64 {
    match symbol {
        265..285 => (symbol as u64 - 261) / 4,
        _ => 0,
    }
}

fn distance_extra(symbol: usize) -> u64 {
    match symbol {
        4.. => symbol as u64 / 2 - 1,
        _ => 0,
    }
}

struct Tables {
    literals: Code<LITERALS>,
    distances: Code<DISTANCES>,
}

impl Tables {
    fn new(literals: [u8; LITERALS], distances: [u8; DISTANCES]) -> Self {
        Self {
            literals: Code::of(&literals),
            distances: Code::of(&distances),
        }
    }

    /// RFC 1951, 3.2.6.
    fn fixed() -> Self {
        let mut literals = [8; LITERALS];
        literals[144..256].fill(9);
        literals[256..280].fill(7);
        Self::new(literals, [5; DISTANCES])
    }
}

/// How a block says what its codes are: their lengths, repeats shortened, in a code of its own.
struct Header {
    literals: usize,
    distances: usize,
    /// Symbol, extra bits and their value.
    items: Vec<(usize, u32, u32)>,
    lengths: [u8; 19],
}

impl Header {
    fn of(tables: &Tables) -> Self {
        let used = |lengths: &[(u32, u32)], least: usize| {
            let last = lengths.iter().rposition(|(_, length)| *length > 0);
            last.map_or(least, |last| least.max(last + 1))
        };
        let literals = used(&tables.literals.0, 257);
        let distances = used(&tables.distances.0, 1);
        let all: Vec<u32> = tables.literals.0[..literals]
            .iter()
            .chain(&tables.distances.0[..distances])
            .map(|(_, length)| *length)
            .collect();
        let items = shortened(&all);
        let mut counts = [0; 19];
        for (symbol, ..) in &items {
            counts[*symbol] += 1;
        }
        Self {
            literals,
            distances,
            items,
            lengths: lengths(&counts, 7),
        }
    }

    /// How many of the code's lengths are written.
    fn written(&self) -> usize {
        let last = ORDER.iter().rposition(|symbol| self.lengths[*symbol] > 0);
        last.map_or(4, |last| 4.max(last + 1))
    }

    fn cost(&self) -> u64 {
        let items = self.items.iter();
        let items: u64 = items
            .map(|(symbol, extra, _)| u64::from(self.lengths[*symbol]) + u64::from(*extra))
            .sum();
        14 + 3 * self.written() as u64 + items
    }

    fn write(&self, bits: &mut Bits<'_>) {
        bits.put((self.literals - 257) as u64, 5);
        bits.put((self.distances - 1) as u64, 5);
        bits.put((self.written() - 4) as u64, 4);
        for symbol in &ORDER[..self.written()] {
            bits.put(u64::from(self.lengths[*symbol]), 3);
        }
        let code = Code::of(&self.lengths);
        for (symbol, extra, value) in &self.items {
            let (code, length) = code.0[*symbol];
            bits.put(u64::from(code), length);
            bits.put(u64::from(*value), *extra);
        }
    }
}

/// Runs of lengths as the symbols 16 (the last again, 3 to 6 times), 17 and 18 (zeros, 3 to 10 and 11 to 138).
fn shortened(all: &[u32]) -> Vec<(usize, u32, u32)> {
    let mut items = Vec::with_capacity(all.len());
    for run in all.chunk_by(|a, b| a == b) {
        let value = run[0];
        let mut left = run.len();
        if value != 0 {
            items.push((value as usize, 0, 0));
            left -= 1;
        }
        while left >= 3 {
            let (symbol, extra, least, most) = match (value, left) {
                (0, 11..) => (18, 7, 11, 138),
                (0, _) => (17, 3, 3, 10),
                _ => (16, 2, 3, 6),
            };
            let now = left.min(most);
            items.push((symbol, extra, u32::try_from(now - least).unwrap_or(0)));
            left -= now;
        }
        items.extend(std::iter::repeat_n((value as usize, 0, 0), left));
    }
    items
}
