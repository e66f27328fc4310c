//! Small records of the store: a line of JSON, and the digest of that line below it. What is cut, damaged or of another form is as none.

use std::io;

use serde::Serialize;

use crate::digest::Digest;

/// The line, if its digest is right; else what is wrong. The bytes are hostile.
pub(super) fn read(bytes: &[u8]) -> Result<&str, &'static str> {
    let text = str::from_utf8(bytes).map_err(|_| "is no text")?;
    let whole = text
        .strip_suffix('\n')
        .and_then(|text| text.split_once('\n'));
    let (line, sum) = whole.ok_or("is cut off")?;
    if Digest::of(line.as_bytes()).to_string() != sum {
        return Err("is damaged");
    }
    Ok(line)
}

/// The text that [`read`] takes.
pub(super) fn write(kept: &impl Serialize) -> io::Result<String> {
    let line = serde_json::to_string(kept).map_err(io::Error::other)?;
    Ok(format!("{line}\n{}\n", Digest::of(line.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else_is() {
        let whole = write(&"a\nb").unwrap();
        assert_eq!(read(whole.as_bytes()), Ok(r#""a\nb""#));
        let mut damaged = whole.clone().into_bytes();
        damaged[1] ^= 1;
        for (name, bytes, want) in [
            ("nothing", Vec::new(), "is cut off"),
            ("a part", whole.as_bytes()[..20].to_vec(), "is cut off"),
            ("a bit", damaged, "is damaged"),
            ("more", format!("{whole}\n").into_bytes(), "is damaged"),
            ("no text", b"\xff\n\n".to_vec(), "is no text"),
        ] {
            assert_eq!(read(&bytes), Err(want), "{name}");
        }
    }
}
