//! Bits in the order of deflate: the first is the lowest of a byte.

/// Appends to what is there.
pub(super) struct Bits<'a> {
    out: &'a mut Vec<u8>,
    /// Not yet in `out`, lowest first; fewer than eight between calls of [`Bits::put`].
    held: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    /// `out` ends on a whole byte.
    pub(super) fn after(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            held: 0,
            count: 0,
        }
    }

    /// At most 56 bits; those of `value` above `count` are zero.
    pub(super) fn put(&mut self, value: u64, count: u32) {
        self.held |= value << self.count;
        self.count += count;
        let bytes = self.count / 8;
        let all = self.held.to_le_bytes();
        // Eight bytes at once and a shorter length cost less than as many as there are.
        let end = self.out.len() + bytes as usize;
        self.out.extend_from_slice(&all);
        self.out.truncate(end);
        self.held = if bytes == 8 {
            0
        } else {
            self.held >> (bytes * 8)
        };
        self.count %= 8;
    }

    /// Zeros up to the next byte.
    pub(super) fn align(&mut self) {
        if self.count > 0 {
            self.put(0, 8 - self.count);
        }
    }

    /// Whole bytes, after [`Bits::align`].
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Bits up to the next byte, if `more` come first.
    pub(super) fn to_align(&self, more: u32) -> u64 {
        u64::from((8 - (self.count + more) % 8) % 8)
    }
}
