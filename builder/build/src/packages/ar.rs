//! The outer form of a Debian package: an `ar` archive of three members. Read once, front to back; sizes checked before anything is read.

use std::io::{self, Read};

use super::compression::Compression;

const MAGIC: &[u8] = b"!<arch>\n";
const HEADER: usize = 60;
/// Bytes of the control archive, compressed; the largest in use have a million.
const MAX_CONTROL: u64 = 16 << 20;

/// A member that is about to be read.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) compression: Compression,
    /// Bytes as they lie there.
    pub(crate) size: u64,
}

/// Gives `control` the control archive and `data` the archive of files.
///
/// # Errors
/// What is wrong with the package, or what the two say.
pub(crate) fn read<R: Read, E: From<String>>(
    reader: &mut R,
    control: impl FnOnce(&Member, &mut dyn Read) -> Result<(), E>,
    data: impl FnOnce(&Member, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let mut magic = [0; MAGIC.len()];
    fill(reader, &mut magic)?;
    if magic != MAGIC {
        return Err("is no package: it is no `ar` archive".to_owned().into());
    }
    let (name, size) = header(reader)?;
    if name != "debian-binary" || size > 64 {
        return Err("is no package: it does not begin with `debian-binary`"
            .to_owned()
            .into());
    }
    let mut version = Vec::new();
    member(reader, size, |content| {
        content.read_to_end(&mut version).map_err(broken)?;
        Ok::<(), String>(())
    })?;
    if !version.starts_with(b"2.") {
        return Err("is a package of another format than 2".to_owned().into());
    }
    let (name, size) = header(reader)?;
    let found = named(&name, "control.tar", size)?;
    if size > MAX_CONTROL {
        return Err(format!(
            "has a control archive of {size} bytes; at most {MAX_CONTROL} are taken"
        )
        .into());
    }
    member(reader, size, |content| control(&found, content))?;
    let (mut name, mut size) = header(reader)?;
    // Members that begin with an underscore are for others.
    while name.starts_with('_') {
        member(reader, size, |_| Ok::<(), String>(()))?;
        (name, size) = header(reader)?;
    }
    let found = named(&name, "data.tar", size)?;
    member(reader, size, |content| data(&found, content))
}

fn named(name: &str, wanted: &str, size: u64) -> Result<Member, String> {
    let compression = name
        .starts_with(wanted)
        .then(|| Compression::of(name))
        .flatten();
    let compression = compression.ok_or_else(|| {
        format!(
            "has `{}` where `{wanted}` in gz, xz or zst should be",
            name.escape_debug()
        )
    })?;
    Ok(Member { compression, size })
}

/// Name and size of the next member.
fn header(reader: &mut impl Read) -> Result<(String, u64), String> {
    let mut header = [0; HEADER];
    fill(reader, &mut header)?;
    let field = |from: usize, to: usize| {
        let bytes = header.get(from..to).unwrap_or_default();
        std::str::from_utf8(bytes).map(|text| text.trim_end().to_owned())
    };
    const WRONG: &str = "has a member without a proper header";
    let (Ok(name), Ok(size), Ok(end)) = (field(0, 16), field(48, 58), field(58, 60)) else {
        return Err(WRONG.to_owned());
    };
    let digits = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit());
    if end != "`" || !digits {
        return Err(WRONG.to_owned());
    }
    let size = size.parse().map_err(|_| WRONG.to_owned())?;
    Ok((name.trim_end_matches('/').to_owned(), size))
}

/// One member for `each`, of which it may leave some, and the byte that makes the next begin at an even place.
fn member<R: Read, E: From<String>>(
    reader: &mut R,
    size: u64,
    each: impl FnOnce(&mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let mut content = reader.by_ref().take(size);
    each(&mut content)?;
    io::copy(&mut content, &mut io::sink()).map_err(broken)?;
    if content.limit() != 0 {
        return Err("is cut".to_owned().into());
    }
    if size % 2 == 1 {
        let mut pad = [0];
        // At the very end it may be missing.
        let _count = reader.read(&mut pad).map_err(broken)?;
    }
    Ok(())
}

fn fill(reader: &mut impl Read, into: &mut [u8]) -> Result<(), String> {
    reader.read_exact(into).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => "is cut".to_owned(),
        _ => broken(error),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn broken(error: io::Error) -> String {
    format!("cannot be read: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (name, content) in members {
            bytes.extend(
                format!(
                    "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
                    0,
                    0,
                    0,
                    100_644,
                    content.len()
                )
                .bytes(),
            );
            bytes.extend(*content);
            if content.len() % 2 == 1 {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    fn parts(bytes: &[u8]) -> Result<String, String> {
        let mut seen = String::new();
        let mut other = String::new();
        read::<_, String>(
            &mut &*bytes,
            |_, content| content.read_to_string(&mut seen).map(drop).map_err(broken),
            |_, content| content.read_to_string(&mut other).map(drop).map_err(broken),
        )?;
        Ok(format!("{seen} {other}"))
    }

    #[test]
    fn a_package_has_three_members_in_their_order() {
        let version = ("debian-binary", &b"2.0\n"[..]);
        let control = ("control.tar.gz", &b"abc"[..]);
        let data = ("data.tar.xz", &b"de"[..]);
        let whole = ar(&[version, control, ("_mine", b"x"), data]);
        assert_eq!(parts(&whole), Ok("abc de".to_owned()));
        for (name, bytes, want) in [
            ("empty", Vec::new(), "is cut"),
            (
                "no ar",
                b"PK\x03\x04abcdefgh".to_vec(),
                "is no package: it is no `ar` archive",
            ),
            (
                "no version",
                ar(&[control, data]),
                "is no package: it does not begin with `debian-binary`",
            ),
            (
                "another version",
                ar(&[("debian-binary", b"3.0\n"), control, data]),
                "is a package of another format than 2",
            ),
            (
                "no control",
                ar(&[version, data]),
                "has `data.tar.xz` where `control.tar` in gz, xz or zst should be",
            ),
            (
                "another compression",
                ar(&[version, control, ("data.tar.lzma", b"")]),
                "has `data.tar.lzma` where `data.tar` in gz, xz or zst should be",
            ),
            ("cut", whole[..whole.len() - 1].to_vec(), "is cut"),
            ("no data", ar(&[version, control]), "is cut"),
        ] {
            assert_eq!(parts(&bytes), Err(want.to_owned()), "{name}");
        }
        let mut strange = ar(&[version]);
        strange[8 + 48] = b'-';
        assert_eq!(
            parts(&strange),
            Err("has a member without a proper header".to_owned())
        );
    }
}
