//! Programs that the kernel itself would give memory to write and execute. It maps a program's segments and its stack as the file's headers say, before
//! the payload's filter can look at a call, and write-execute protection does not look there either; so the headers are read when the layer is
//! unpacked.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

const HEADER: usize = 64;
/// The kernel takes no more than 64 KiB of program headers.
const MAX_TABLE: usize = 64 << 10;
const MAGIC: &[u8] = b"\x7fELF";
const LITTLE_ENDIAN: u8 = 1;
const ET_EXEC: u64 = 2;
const ET_DYN: u64 = 3;
const PT_LOAD: u32 = 1;
const PT_GNU_STACK: u32 = 0x6474_e551;
const PF_X: u64 = 1;
const PF_W: u64 = 2;

/// Where a field lies, and its length.
type Field = (usize, usize);

/// The two forms of ELF. The filter ends a program that makes 32-bit calls, but not one that is loaded as such and then jumps to 64-bit code.
struct Form {
    /// In the file's header.
    table: Field,
    count: Field,
    /// In a program header.
    size: usize,
    flags: Field,
    in_file: Field,
    in_memory: Field,
    /// What the kernel makes of a program that says nothing of its stack.
    stack_is_code: bool,
}

const FORM_64: Form = Form {
    table: (32, 8),
    count: (56, 2),
    size: 56,
    flags: (4, 4),
    in_file: (32, 8),
    in_memory: (40, 8),
    stack_is_code: false,
};
const FORM_32: Form = Form {
    table: (28, 4),
    count: (44, 2),
    size: 32,
    flags: (24, 4),
    in_file: (16, 4),
    in_memory: (20, 4),
    stack_is_code: true,
};

/// Whether an executable file is such a program.
///
/// # Errors
/// `pread(2)`'s.
pub(super) fn writes_and_executes(file: &File) -> io::Result<bool> {
    let mut header = [0; HEADER];
    // A short one is filled up with zeros, which say that there are no segments.
    read(file, &mut header, 0)?;
    let form = match (header.get(..4), header.get(4..6)) {
        (Some(MAGIC), Some([1, LITTLE_ENDIAN])) => FORM_32,
        (Some(MAGIC), Some([2, LITTLE_ENDIAN])) => FORM_64,
        _ => return Ok(false),
    };
    // Libraries too: what has the mark is executed, from its own header on if it names no beginning.
    if !matches!(number(&header, (16, 2)), ET_EXEC | ET_DYN) {
        return Ok(false);
    }
    let count = usize::try_from(number(&header, form.count)).unwrap_or(0);
    let mut table = vec![0; (count * form.size).min(MAX_TABLE)];
    let length = read(file, &mut table, number(&header, form.table))?;
    let whole = table.get(..length).unwrap_or_default();
    let mut stack_is_code = form.stack_is_code && !whole.is_empty();
    for segment in whole.chunks_exact(form.size) {
        let flags = number(segment, form.flags);
        match u32::try_from(number(segment, (0, 4))).unwrap_or(0) {
            PT_GNU_STACK if flags & PF_X != 0 => return Ok(true),
            PT_GNU_STACK => stack_is_code = false,
            // What is longer in memory than in the file is filled up with memory that can be written.
            PT_LOAD => {
                let longer = number(segment, form.in_memory) > number(segment, form.in_file);
                if flags & PF_X != 0 && (flags & PF_W != 0 || longer) {
                    return Ok(true);
                }
            }
            _ => {}
        }
    }
    Ok(stack_is_code)
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
fn number(bytes: &[u8], (at, length): Field) -> u64 {
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

    /// Type, flags, size in the file and in memory.
    type Segment = (u32, u32, u32, u32);

    /// Kind of file, entry, and segments.
    fn program(kind: u8, entry: u8, segments: &[Segment]) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01".to_vec();
        bytes.resize(HEADER, 0);
        (bytes[16], bytes[24], bytes[32], bytes[56]) =
            (kind, entry, 64, u8::try_from(segments.len()).unwrap());
        for (kind, flags, in_file, in_memory) in segments {
            bytes.extend(kind.to_le_bytes().iter().chain(&flags.to_le_bytes()));
            bytes.extend([0; 24]);
            bytes.extend(u64::from(*in_file).to_le_bytes());
            bytes.extend(u64::from(*in_memory).to_le_bytes());
            bytes.extend([0; 8]);
        }
        bytes
    }

    fn program_32(segments: &[Segment]) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x01\x01".to_vec();
        bytes.resize(52, 0);
        (bytes[16], bytes[28], bytes[44]) = (2, 52, u8::try_from(segments.len()).unwrap());
        for (kind, flags, in_file, in_memory) in segments {
            let fields = [*kind, 0, 0, 0, *in_file, *in_memory, *flags, 0];
            bytes.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
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
        const CODE: Segment = (PT_LOAD, 5, 100, 100);
        const DATA: Segment = (PT_LOAD, 6, 10, 500);
        const STACK: Segment = (PT_GNU_STACK, 6, 0, 0);
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
            ("a library", program(3, 0, &[CODE, DATA, STACK]), false),
            (
                "one that begins at its header",
                program(3, 0, &[CODE, (PT_GNU_STACK, 7, 0, 0)]),
                true,
            ),
            ("32 bits", program_32(&[CODE, DATA, STACK]), false),
            ("32 bits, no stack header", program_32(&[CODE, DATA]), true),
            (
                "32 bits, a stack of code",
                program_32(&[CODE, (PT_GNU_STACK, 7, 0, 0)]),
                true,
            ),
            (
                "32 bits, a segment of both",
                program_32(&[(PT_LOAD, 7, 9, 9), STACK]),
                true,
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
