//! Packets and the numbers in them: lengths checked, nothing interpreted.

/// Of one keyring or signature block.
const MAX_PACKETS: usize = 20_000;

/// A packet's kind and content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    pub(super) tag: u8,
    pub(super) body: &'a [u8],
}

/// Reads from the front of some bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("is cut")?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, &'static str> {
        self.take(1)?.first().copied().ok_or("is cut")
    }

    /// Big-endian, of up to four bytes.
    pub(super) fn number(&mut self, bytes: usize) -> Result<u32, &'static str> {
        let taken = self.take(bytes)?;
        Ok(taken
            .iter()
            .fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn length(&mut self, bytes: usize) -> Result<usize, &'static str> {
        usize::try_from(self.number(bytes)?).map_err(|_| "is too long")
    }

    /// A large number without leading zeros.
    pub(super) fn mpi(&mut self) -> Result<&'a [u8], &'static str> {
        let bits = self.length(2)?;
        let bytes = self.take(bits.div_ceil(8))?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Ok(bytes.get(zeros..).unwrap_or_default())
    }
}

/// All packets of `bytes`, in order.
pub(super) fn packets(bytes: &[u8]) -> Result<Vec<Packet<'_>>, &'static str> {
    let mut cursor = Cursor(bytes);
    let mut found = Vec::new();
    while !cursor.0.is_empty() {
        if found.len() >= MAX_PACKETS {
            return Err("has too many packets");
        }
        let head = cursor.byte()?;
        if head & 0x80 == 0 {
            return Err("has a packet that is none");
        }
        let (tag, length) = if head & 0x40 == 0 {
            let length = match head & 3 {
                0 => cursor.length(1)?,
                1 => cursor.length(2)?,
                2 => cursor.length(4)?,
                _ => return Err("has a packet without a length"),
            };
            (head >> 2 & 15, length)
        } else {
            (head & 63, new_length(&mut cursor)?)
        };
        let body = cursor.take(length)?;
        found.push(Packet { tag, body });
    }
    Ok(found)
}

fn new_length(cursor: &mut Cursor<'_>) -> Result<usize, &'static str> {
    match cursor.byte()? {
        first @ 0..=191 => Ok(usize::from(first)),
        first @ 192..=223 => {
            let second = usize::from(cursor.byte()?);
            Ok((usize::from(first) - 192) * 256 + second + 192)
        }
        224..=254 => Err("has a packet in parts"),
        255 => cursor.length(4),
    }
}

/// One thing that a signature says.
pub(super) struct Subpacket<'a> {
    pub(super) kind: u8,
    /// Whoever does not understand it must not believe the signature.
    pub(super) critical: bool,
    pub(super) value: &'a [u8],
}

pub(super) fn subpackets(area: &[u8]) -> Result<Vec<Subpacket<'_>>, &'static str> {
    let mut cursor = Cursor(area);
    let mut found = Vec::new();
    while !cursor.0.is_empty() {
        let length = match cursor.byte()? {
            first @ 0..=191 => usize::from(first),
            255 => cursor.length(4)?,
            first => {
                let second = usize::from(cursor.byte()?);
                (usize::from(first) - 192) * 256 + second + 192
            }
        };
        let (kind, value) = cursor
            .take(length)?
            .split_first()
            .ok_or("has an empty subpacket")?;
        found.push(Subpacket {
            kind: kind & 0x7f,
            critical: kind & 0x80 != 0,
            value,
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_both_forms_are_read_and_broken_ones_refused() {
        let bytes = [
            0x88, 1, 7, 0x99, 0, 2, 8, 8, 0xc2, 1, 9, 0xc6, 0xff, 0, 0, 0, 1, 5,
        ];
        let tags: Vec<(u8, usize)> = packets(&bytes)
            .unwrap()
            .iter()
            .map(|packet| (packet.tag, packet.body.len()))
            .collect();
        assert_eq!(tags, [(2, 1), (6, 2), (2, 1), (6, 1)]);
        for (bytes, want) in [
            (&[0x88, 2, 7][..], "is cut"),
            (&[0x08, 0], "has a packet that is none"),
            (&[0x8b, 0], "has a packet without a length"),
            (&[0xc2, 0xe0, 0], "has a packet in parts"),
            (&[0x8a, 0xff, 0xff, 0xff, 0xff], "is cut"),
            (&[0xc2, 0xff, 0xff], "is cut"),
        ] {
            assert_eq!(packets(bytes).unwrap_err(), want, "{bytes:?}");
        }
    }
}
