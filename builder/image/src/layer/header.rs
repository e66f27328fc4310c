//! The tar dialect of format 1: ustar, and pax records for what ustar cannot say and nothing else. No owner but root, no names of owners, one time, no
//! sparse files, no extended attributes. Links of one inode are separate files: whether two names share an inode depends on how a tree came to a host,
//! not on what is in it.

use std::path::Path;

pub(super) const BLOCK: usize = 512;
/// What eleven octal digits hold.
const MAX_SIZE: u64 = (1 << 33) - 1;
const NAME: usize = 100;
const PREFIX: usize = 155;

/// What one entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    Directory,
    /// Bytes.
    File(u64),
    Symlink(&'a Path),
}

/// Everything before an entry's content.
pub(super) fn entry(path: &Path, kind: Kind<'_>, mode: u32, epoch: u64) -> Vec<u8> {
    let mut name = path.as_os_str().as_encoded_bytes().to_vec();
    let (flag, size, target) = match kind {
        Kind::Directory => (b'5', 0, &[][..]),
        Kind::File(size) => (b'0', size, &[][..]),
        Kind::Symlink(target) => (b'2', 0, target.as_os_str().as_encoded_bytes()),
    };
    if kind == Kind::Directory {
        name.push(b'/');
    }
    let mut records = Vec::new();
    let mut header = Header::new(flag, mode, epoch);
    if !header.name(&name) {
        record(&mut records, "path", &name);
        header.field(0, &shortened(path));
    }
    if target.len() > NAME {
        record(&mut records, "linkpath", target);
        header.field(157, b"~");
    } else {
        header.field(157, target);
    }
    if size > MAX_SIZE {
        record(&mut records, "size", size.to_string().as_bytes());
        header.octal(124, 11, 0);
    } else {
        header.octal(124, 11, size);
    }
    let mut all = Vec::with_capacity(BLOCK);
    if !records.is_empty() {
        let mut extended = Header::new(b'x', 0o644, epoch);
        extended.field(0, b"pax");
        extended.octal(124, 11, records.len() as u64);
        all.extend_from_slice(&extended.finish());
        records.resize(records.len().next_multiple_of(BLOCK), 0);
        all.extend_from_slice(&records);
    }
    all.extend_from_slice(&header.finish());
    all
}

/// POSIX.1-2001 extended header records: `LENGTH KEY=VALUE\n`, the length counting itself.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// What a reader without pax sees: the end of the name.
fn shortened(path: &Path) -> Vec<u8> {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let ascii = name.iter().copied().filter(u8::is_ascii);
    ascii.take(90).chain([b'~']).collect()
}

struct Header([u8; BLOCK]);

impl Header {
    fn new(flag: u8, mode: u32, epoch: u64) -> Self {
        let mut header = Self([0; BLOCK]);
        header.octal(100, 7, u64::from(mode));
        header.octal(108, 7, 0);
        header.octal(116, 7, 0);
        header.octal(136, 11, epoch.min(MAX_SIZE));
        header.field(156, &[flag]);
        header.field(257, b"ustar\x0000");
        header.octal(329, 7, 0);
        header.octal(337, 7, 0);
        header
    }

    fn field(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// So many digits; the zero byte that ends them is there.
    fn octal(&mut self, at: usize, digits: usize, value: u64) {
        let mut left = value;
        for byte in self.0[at..at + digits].iter_mut().rev() {
            *byte = b'0' + (left & 7).to_le_bytes()[0];
            left >>= 3;
        }
    }

    /// Whether it fits: whole, or cut at the first slash that leaves both parts short enough.
    fn name(&mut self, name: &[u8]) -> bool {
        if name.len() <= NAME {
            self.field(0, name);
            return true;
        }
        let slashes = (0..name.len()).filter(|at| name[*at] == b'/');
        let fits = |at: &usize| (1..=PREFIX).contains(at) && name.len() - at - 1 <= NAME;
        // A slash at the end leaves no name.
        let Some(at) = slashes.take_while(|at| *at < name.len() - 1).find(fits) else {
            return false;
        };
        self.field(0, &name[at + 1..]);
        self.field(345, &name[..at]);
        true
    }

    /// With the sum of all bytes, of which those of the sum itself count as spaces.
    fn finish(mut self) -> [u8; BLOCK] {
        self.field(148, b"        ");
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        self.octal(148, 6, sum);
        self.0[154] = 0;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ustar_cannot_hold_is_a_record_before_it() {
        let plain = |name: &str, size| entry(Path::new(name), Kind::File(size), 0o444, 0).len();
        let long = |length: usize| "n".repeat(length);
        for (case, got, want) in [
            ("a size of eleven digits", plain("a", MAX_SIZE), 1),
            ("a size of twelve", plain("a", MAX_SIZE + 1), 3),
            ("a name of 100 bytes", plain(&long(100), 0), 1),
            ("of 101", plain(&long(101), 0), 3),
            (
                "of 155 and 100",
                plain(&format!("{}/{}", long(155), long(100)), 0),
                1,
            ),
            (
                "of 156 and 100",
                plain(&format!("{}/{}", long(156), long(100)), 0),
                3,
            ),
            ("of more than a block", plain(&long(600), 0), 4),
        ] {
            assert_eq!(got, want * BLOCK, "{case}");
        }
        let twelve = entry(Path::new("a"), Kind::File(MAX_SIZE + 1), 0o444, 0);
        assert_eq!(&twelve[BLOCK..BLOCK + 19], b"19 size=8589934592\n");
        assert_eq!(&twelve[2 * BLOCK..2 * BLOCK + 2], b"a\0");
    }

    #[test]
    fn the_sum_counts_its_own_field_as_spaces() {
        let header = entry(Path::new("a"), Kind::File(0), 0o444, 0);
        let sum = header[..BLOCK].iter().enumerate().map(|(at, byte)| {
            let own = (148..156).contains(&at);
            u32::from(if own { b' ' } else { *byte })
        });
        let want = format!("{:06o}\0 ", sum.sum::<u32>());
        assert_eq!(&header[148..156], want.as_bytes());
    }
}
