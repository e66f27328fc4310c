//! Names of files as text that stands for exactly one name: what is no UTF-8 is written as `\xHH`, and a backslash as two.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// The text of a path, in full.
pub(crate) fn shown(path: &Path) -> String {
    match path.to_str() {
        Some(text) if !text.contains('\\') => return text.to_owned(),
        Some(_) | None => {}
    }
    let mut text = String::with_capacity(path.as_os_str().len());
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// What [`shown`] wrote; `None` for what it did not.
pub(crate) fn plain(text: &str) -> Option<PathBuf> {
    if !text.contains('\\') {
        return Some(PathBuf::from(OsStr::new(text)));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'\\', [b'\\', ..]) => {
                bytes.push(b'\\');
                rest = after.get(1..)?;
            }
            (b'\\', [b'x', ..]) => {
                let digits = std::str::from_utf8(after.get(1..3)?).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = after.get(3..)?;
            }
            (b'\\', _) => return None,
            (byte, _) => bytes.push(*byte),
        }
    }
    Some(PathBuf::from(OsString::from_vec(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_text_and_a_text_one_name() {
        for (bytes, want) in [
            (&b"/plain"[..], "/plain"),
            (b"back\\slash", "back\\\\slash"),
            (b"\xff\xfe!", "\\xff\\xfe!"),
            ("ümlaut".as_bytes(), "ümlaut"),
            (b"\\xff", "\\\\xff"),
        ] {
            let path = Path::new(OsStr::from_bytes(bytes));
            assert_eq!(shown(path), want);
            assert_eq!(plain(want).unwrap(), path);
        }
        for wrong in ["\\", "\\x", "\\x1", "\\xgg", "\\y", "\\xé"] {
            assert_eq!(plain(wrong), None, "{wrong}");
        }
    }
}
