//! Programs that the kernel itself would give memory to write and execute. It maps a program's segments and its stack as the file's headers say, before
//! the payload's filter can look at a call, and write-execute protection does not look there either; so the headers are read when the layer is
//! unpacked.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// The kernel takes no more than 64 KiB of them.
const MAX_PROGRAM_HEADERS: usize = (64 << 10) / PROGRAM_HEADER;
/// ELF, 64-bit, little-endian: no other is executed here.
const MAGIC: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];
const ET_EXEC: u64 = 2;
const ET_DYN: u64 = 3;
const PT_LOAD: u64 = 1;
const PT_GNU_STACK: u64 = 0x6474_e551;
const PF_X: u64 = 1;
const PF_W: u64 = 2;

/// Whether an executable file is such a program.
///
/// # Errors
/// `pread(2)`'s.
pub(super) fn writes_and_executes(file: &File) -> io::Result<bool> {
    let mut header = [0; HEADER];
    if read(file, &mut header, 0)? < HEADER || header[..6] != MAGIC {
        return Ok(false);
    }
    let (kind, entry, start) = (
        number(&header, 16, 2),
        number(&header, 24, 8),
        number(&header, 32, 8),
    );
    // A shared library begins nowhere; one that does is the dynamic linker or can be run as a program.
    if kind != ET_EXEC && !(kind == ET_DYN && entry != 0) {
        return Ok(false);
    }
    let count = usize::try_from(number(&header, 56, 2))
        .unwrap_or(0)
        .min(MAX_PROGRAM_HEADERS);
    let mut table = vec![0; count * PROGRAM_HEADER];
    let length = read(file, &mut table, start)?;
    let whole = table
        .get(..length)
        .unwrap_or_default()
        .chunks_exact(PROGRAM_HEADER);
    Ok(whole.into_iter().any(|segment| {
        let (kind, flags) = (number(segment, 0, 4), number(segment, 4, 4));
        let (in_file, in_memory) = (number(segment, 32, 8), number(segment, 40, 8));
        match kind {
            PT_GNU_STACK => flags & PF_X != 0,
            // What is longer in memory than in the file is filled up with memory that can be written.
            PT_LOAD => flags & PF_X != 0 && (flags & PF_W != 0 || in_memory > in_file),
            _ => false,
        }
    }))
}

/// Up to the end of the file; a start beyond every file reads nothing.
fn read(file: &File, buffer: &mut [u8], start: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = start.saturating_add(done as u64);
        match file.read_at(rest, at) {
            Ok(0) => break,
            Ok(length) => done += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Not a place that a file can have.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Little-endian; 0 beyond the end.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes
        .get(at..at + length)
        .unwrap_or_default()
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Kind of file, entry, and segments as type, flags, size in the file and in memory.
    fn program(kind: u8, entry: u8, segments: &[(u64, u32, u64, u64)]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[..6].copy_from_slice(&MAGIC);
        (bytes[16], bytes[24], bytes[32], bytes[56]) =
            (kind, entry, 64, u8::try_from(segments.len()).unwrap());
        for (kind, flags, in_file, in_memory) in segments {
            bytes.extend(kind.to_le_bytes()[..4].iter().chain(&flags.to_le_bytes()));
            bytes.extend([0; 24]);
            bytes.extend(in_file.to_le_bytes().iter().chain(&in_memory.to_le_bytes()));
            bytes.extend([0; 8]);
        }
        bytes
    }

    fn told(bytes: &[u8]) -> bool {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        writes_and_executes(&file).unwrap()
    }

    #[test]
    fn headers_that_ask_for_both_are_seen() {
        const CODE: (u64, u32, u64, u64) = (PT_LOAD, 5, 100, 100);
        const DATA: (u64, u32, u64, u64) = (PT_LOAD, 6, 10, 500);
        const STACK: (u64, u32, u64, u64) = (PT_GNU_STACK, 6, 0, 0);
        for (name, bytes, want) in [
            ("usual", program(2, 1, &[CODE, DATA, STACK]), false),
            ("no stack header", program(2, 1, &[CODE, DATA]), false),
            (
                "a stack of code",
                program(2, 1, &[CODE, DATA, (PT_GNU_STACK, 7, 0, 0)]),
                true,
            ),
            (
                "a segment of both",
                program(3, 1, &[(PT_LOAD, 7, 9, 9), STACK]),
                true,
            ),
            (
                "code longer in memory",
                program(2, 1, &[(PT_LOAD, 5, 0, 4096)]),
                true,
            ),
            (
                "a library",
                program(3, 0, &[(PT_GNU_STACK, 7, 0, 0)]),
                false,
            ),
            (
                "an object",
                program(1, 1, &[(PT_GNU_STACK, 7, 0, 0)]),
                false,
            ),
            ("a script", b"#!/bin/sh\n".to_vec(), false),
            ("empty", Vec::new(), false),
            (
                "cut in the headers",
                program(2, 1, &[(PT_GNU_STACK, 7, 0, 0)])[..90].to_vec(),
                false,
            ),
        ] {
            assert_eq!(told(&bytes), want, "{name}");
        }
        let mut far = program(2, 1, &[CODE]);
        far[32..40].fill(0xff);
        assert!(!told(&far), "headers that no file can have");
    }
}
