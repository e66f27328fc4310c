//! What the dynamic linker would read of an ELF file. The bytes are hostile: every size is bounded before it is
//! believed, and a file costs no more than its headers, its dynamic section and its strings.

use std::ffi::OsStr;
use std::io::{Read, Seek};
use std::os::unix::ffi::OsStrExt as _;

use object::elf;
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _};
use object::{Endianness, ReadCache, ReadRef};

/// Real files have about a dozen program headers and a few hundred dynamic entries; the string table of the largest C++ libraries has
/// some tens of MiB, of which only the strings named by the dynamic section are read.
const MAX_HEADERS: usize = 512;
const MAX_DYNAMIC_BYTES: u64 = 1 << 20;
const MAX_INTERPRETER_BYTES: u64 = 4096;
const MAX_NEEDED: usize = 4096;
const MAX_STRING: u64 = 4096;

/// Class, byte order and machine: the linker only joins files that agree in all three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abi {
    pub(crate) class64: bool,
    pub(crate) big_endian: bool,
    pub(crate) machine: u16,
}

/// The linker's view of one file. Strings are as the file has them, `$ORIGIN` and all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dynamic {
    pub(crate) abi: Abi,
    pub(crate) interpreter: Option<String>,
    pub(crate) soname: Option<String>,
    pub(crate) needed: Vec<String>,
    /// `DT_RPATH`; never looked at where there is a run path.
    pub(crate) rpath: Vec<String>,
    pub(crate) runpath: Option<Vec<String>>,
    /// `DF_1_NODEFLIB`: neither the cache nor the default directories are searched.
    pub(crate) no_default: bool,
}

/// What a file turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Has a dynamic section or an interpreter.
    Dynamic(Dynamic),
    /// ELF, but the kernel needs nothing else to run it (or it is no program at all).
    Static,
    /// Starts with `#!`; the interpreter that it names.
    Script(String),
    /// Anything else.
    Other,
}

/// Looks at an open file. The error says what is malformed.
pub(crate) fn inspect(mut file: impl Read + Seek) -> Result<Kind, String> {
    let mut start = [0_u8; 256];
    let length = read_up_to(&mut file, &mut start)?;
    let start = &start[..length];
    if let Some(line) = start.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let program = line
            .split(|byte| byte.is_ascii_whitespace())
            .find(|word| !word.is_empty());
        return Ok(Kind::Script(
            String::from_utf8_lossy(program.unwrap_or_default()).into_owned(),
        ));
    }
    if !start.starts_with(&elf::ELFMAG) {
        return Ok(Kind::Other);
    }
    file.rewind()
        .map_err(|err| format!("cannot be read again: {err}"))?;
    let cache = ReadCache::new(file);
    // EI_CLASS
    match start.get(4) {
        Some(1) => read::<elf::FileHeader32<Endianness>, _>(&cache),
        Some(2) => read::<elf::FileHeader64<Endianness>, _>(&cache),
        _ => Err("has an ELF header of no known class".to_owned()),
    }
}

/// Which CPU a file is for; `None` for what is no ELF file of the common byte order.
pub(crate) fn machine(mut file: impl Read) -> Option<u16> {
    let mut start = [0_u8; 20];
    let length = read_up_to(&mut file, &mut start).ok()?;
    // EI_DATA: little-endian.
    let known =
        length == start.len() && start.starts_with(&elf::ELFMAG) && start.get(5) == Some(&1);
    known.then(|| u16::from_le_bytes([start[18], start[19]]))
}

fn read_up_to(file: &mut impl Read, buffer: &mut [u8]) -> Result<usize, String> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(err) if err.kind() == std::io::ErrorKind::Interrupted => {}
            Err(err) => return Err(format!("cannot be read: {err}")),
        }
    }
    Ok(filled)
}

fn read<'data, H: FileHeader<Endian = Endianness>, R: ReadRef<'data>>(
    data: R,
) -> Result<Kind, String> {
    let header = H::parse(data).map_err(malformed)?;
    let endian = header.endian().map_err(malformed)?;
    if usize::from(header.e_phnum(endian)) > MAX_HEADERS {
        return Err(format!("has more than {MAX_HEADERS} program headers"));
    }
    let headers = header.program_headers(endian, data).map_err(malformed)?;
    let abi = Abi {
        class64: header.is_class_64(),
        big_endian: header.is_big_endian(),
        machine: header.e_machine(endian).0,
    };
    let mut interpreter = None;
    let mut dynamic = None;
    for segment in headers {
        let size: u64 = segment.p_filesz(endian).into();
        match segment.p_type(endian) {
            elf::PT_INTERP if size > MAX_INTERPRETER_BYTES => {
                return Err("has an endless interpreter path".to_owned());
            }
            elf::PT_INTERP => {
                interpreter = segment
                    .interpreter(endian, data)
                    .map_err(malformed)?
                    .map(text)
                    .transpose()?
            }
            elf::PT_DYNAMIC if size > MAX_DYNAMIC_BYTES => {
                return Err("has an endless dynamic section".to_owned());
            }
            elf::PT_DYNAMIC => dynamic = segment.dynamic(endian, data).map_err(malformed)?,
            _ => {}
        }
    }
    if interpreter.is_none() && dynamic.is_none() {
        return Ok(Kind::Static);
    }
    let mut found = Dynamic {
        abi,
        interpreter,
        soname: None,
        needed: Vec::new(),
        rpath: Vec::new(),
        runpath: None,
        no_default: false,
    };
    let strings = Strings::<H, R>::of(endian, data, headers, dynamic.unwrap_or_default())?;
    fill(&mut found, dynamic.unwrap_or_default(), endian, &strings)?;
    // A static-pie has a dynamic section for its own relocations, and asks nothing of anybody.
    if found.interpreter.is_none()
        && found.needed.is_empty()
        && found.soname.is_none()
        && is_pie(dynamic.unwrap_or_default(), endian)
    {
        return Ok(Kind::Static);
    }
    Ok(Kind::Dynamic(found))
}

fn is_pie<D: object::read::elf::Dyn<Endian = Endianness>>(
    entries: &[D],
    endian: Endianness,
) -> bool {
    let flags = entries
        .iter()
        .find(|entry| entry.tag(endian) == elf::DT_FLAGS_1)
        .map_or(0, |entry| entry.val(endian));
    flags & elf::DF_1_PIE.0 != 0
}

fn fill<'data, H: FileHeader<Endian = Endianness>, R: ReadRef<'data>>(
    found: &mut Dynamic,
    entries: &[H::Dyn],
    endian: Endianness,
    strings: &Strings<'data, H, R>,
) -> Result<(), String> {
    for entry in entries {
        let value = entry.val(endian);
        match entry.tag(endian) {
            elf::DT_NULL => break,
            elf::DT_NEEDED if found.needed.len() == MAX_NEEDED => {
                return Err(format!("needs more than {MAX_NEEDED} libraries"));
            }
            elf::DT_NEEDED => found.needed.push(strings.read(value)?),
            elf::DT_SONAME => found.soname = Some(strings.read(value)?),
            elf::DT_RPATH => found.rpath = split(&strings.read(value)?),
            elf::DT_RUNPATH => found.runpath = Some(split(&strings.read(value)?)),
            elf::DT_FLAGS_1 => found.no_default = value & elf::DF_1_NODEFLIB.0 != 0,
            _ => {}
        }
    }
    Ok(())
}

/// An empty or relative element means the working directory of whoever runs the program: nothing an image can promise.
fn split(path: &str) -> Vec<String> {
    path.split(':')
        .filter(|element| !element.is_empty())
        .map(str::to_owned)
        .collect()
}

fn malformed(err: object::Error) -> String {
    format!("is a malformed ELF file: {err}")
}

fn text(bytes: &[u8]) -> Result<String, String> {
    let text = OsStr::from_bytes(bytes).to_str().map(str::to_owned);
    text.ok_or_else(|| "names a file that is not UTF-8".to_owned())
}

/// The dynamic string table, which has an address, not an offset.
struct Strings<'data, H: FileHeader, R: ReadRef<'data>> {
    data: R,
    start: u64,
    end: u64,
    _file: std::marker::PhantomData<&'data H>,
}

impl<'data, H: FileHeader<Endian = Endianness>, R: ReadRef<'data>> Strings<'data, H, R> {
    fn of(
        endian: Endianness,
        data: R,
        headers: &[H::ProgramHeader],
        entries: &[H::Dyn],
    ) -> Result<Self, String> {
        let value = |tag| {
            entries
                .iter()
                .find(|entry| entry.tag(endian) == tag)
                .map(|entry| entry.val(endian))
        };
        let (Some(address), Some(size)) = (value(elf::DT_STRTAB), value(elf::DT_STRSZ)) else {
            return Ok(Self {
                data,
                start: 0,
                end: 0,
                _file: std::marker::PhantomData,
            });
        };
        let start = headers
            .iter()
            .filter(|segment| segment.p_type(endian) == elf::PT_LOAD)
            .find_map(|segment| {
                let base: u64 = segment.p_vaddr(endian).into();
                let inside = address
                    .checked_sub(base)
                    .filter(|inside| *inside < segment.p_filesz(endian).into())?;
                let offset: u64 = segment.p_offset(endian).into();
                offset.checked_add(inside)
            });
        let start = start.ok_or("has its string table in no segment")?;
        let length = data.len().map_err(|()| "cannot be measured".to_owned())?;
        let end = start
            .checked_add(size)
            .filter(|end| *end <= length)
            .ok_or("has a string table past its end")?;
        Ok(Self {
            data,
            start,
            end,
            _file: std::marker::PhantomData,
        })
    }

    fn read(&self, at: u64) -> Result<String, String> {
        let start = self.start.checked_add(at).filter(|start| *start < self.end);
        let start = start.ok_or("names a string outside its string table")?;
        let end = self.end.min(start.saturating_add(MAX_STRING));
        let bytes = self.data.read_bytes_at_until(start..end, 0);
        text(bytes.map_err(|()| "has a string without an end")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This test's own program: real, and dynamic or not as the workspace links it.
    fn own() -> Vec<u8> {
        let path = ["/bin/true", "/usr/bin/true"]
            .into_iter()
            .find(|path| std::path::Path::new(path).exists());
        std::fs::read(path.unwrap()).unwrap()
    }

    fn inspect_bytes(bytes: &[u8]) -> Result<Kind, String> {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
        file.rewind().unwrap();
        inspect(file)
    }

    #[test]
    fn a_real_program_is_read_as_the_linker_would() {
        let Ok(Kind::Dynamic(dynamic)) = inspect_bytes(&own()) else {
            panic!("not dynamic")
        };
        assert_eq!(dynamic.needed, ["libc.so.6"]);
        assert!(dynamic.interpreter.is_some());
    }

    #[test]
    fn no_change_of_a_byte_and_no_cut_is_more_than_an_error() {
        let sound = own();
        // The header and the program headers, where every offset and count is.
        for at in 0..(64 + 56 * 13).min(sound.len()) {
            for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                let mut bytes = sound.clone();
                bytes[at] = value;
                drop(inspect_bytes(&bytes));
            }
        }
        for length in (0..sound.len()).step_by(997) {
            drop(inspect_bytes(&sound[..length]));
        }
    }
}
