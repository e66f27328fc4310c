//! OpenPGP as text: ASCII armor, and the clear-signature framework. Nothing is believed here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const SIGNED: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const SIGNATURE_END: &str = "-----END PGP SIGNATURE-----";
const KEY: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const KEY_END: &str = "-----END PGP PUBLIC KEY BLOCK-----";

/// A text and the signatures below it, which say nothing yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Clear {
    /// What was signed, lines without blanks at their ends. Nobody may read another text than this.
    pub(crate) text: String,
    /// Packets.
    pub(crate) signatures: Vec<u8>,
}

impl Clear {
    /// The text in the form that is hashed: CRLF between lines, none at the end.
    pub(super) fn canonical(&self) -> Vec<u8> {
        self.text.replace('\n', "\r\n").into_bytes()
    }
}

/// Takes a clear-signed text apart. Anything around it is refused: somebody might read that as if it were signed.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn clear_signed(bytes: &[u8]) -> Result<Clear, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8 text")?;
    let mut lines = text.lines().map(trim);
    if lines.next() != Some(SIGNED) {
        return Err("is not signed: it does not begin with a signed message");
    }
    // Only `Hash` headers, which are a hint; the signature itself says which.
    for line in lines.by_ref() {
        match line {
            "" => break,
            _ if line.starts_with("Hash: ") => {}
            _ => return Err("has a header that no signed message has"),
        }
    }
    let mut signed = Vec::new();
    let mut ended = false;
    for line in lines.by_ref() {
        if line == SIGNATURE {
            ended = true;
            break;
        }
        match line.strip_prefix('-') {
            None => signed.push(line),
            Some(rest) => signed.push(
                rest.strip_prefix(' ')
                    .ok_or("has a line of dashes that is not escaped")?,
            ),
        }
    }
    if !ended {
        return Err("is cut: it has no signature at its end");
    }
    let signatures = body(&mut lines, SIGNATURE_END)?;
    if lines.any(|line| !line.is_empty()) {
        return Err("goes on after its signature");
    }
    Ok(Clear {
        text: signed.join("\n"),
        signatures,
    })
}

/// The packets of a keyring in either form.
pub(super) fn keyring(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    // Binary packets have the highest bit set.
    if bytes.first().is_some_and(|byte| *byte >= 0x80) {
        return Ok(bytes.to_vec());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "is no OpenPGP keyring")?;
    let mut lines = text.lines().map(trim);
    let mut packets = Vec::new();
    while let Some(line) = lines.next() {
        if line != KEY {
            continue;
        }
        for header in lines.by_ref() {
            if header.is_empty() {
                break;
            }
            if !header.contains(": ") {
                return Err("has armor without a blank line before it");
            }
        }
        packets.extend(base64(&mut lines, KEY_END)?);
    }
    if packets.is_empty() {
        return Err("holds no public keys");
    }
    Ok(packets)
}

fn body<'a>(lines: &mut impl Iterator<Item = &'a str>, end: &str) -> Result<Vec<u8>, &'static str> {
    for line in lines.by_ref() {
        if line.is_empty() {
            return base64(lines, end);
        }
        if !line.contains(": ") {
            return Err("has armor without a blank line before it");
        }
    }
    Err("is cut in its armor")
}

/// The checksum (`=` and four signs) may be there or not, and is not looked at: the signature is the check.
fn base64<'a>(
    lines: &mut impl Iterator<Item = &'a str>,
    end: &str,
) -> Result<Vec<u8>, &'static str> {
    let mut text = String::new();
    for line in lines {
        if line == end {
            return STANDARD
                .decode(&text)
                .map_err(|_| "has armor that is no base64");
        }
        if !line.starts_with('=') {
            text.push_str(line);
        }
    }
    Err("is cut in its armor")
}

fn trim(line: &str) -> &str {
    line.trim_end_matches([' ', '\t', '\r'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        format!("{SIGNED}\nHash: SHA256\n\n{text}\n{SIGNATURE}\n\naGk=\n=abcd\n{SIGNATURE_END}\n")
    }

    #[test]
    fn the_text_is_what_was_signed_and_nothing_around_it() {
        let clear = clear_signed(message("a: 1 \n- -dash\n\nlast").as_bytes()).unwrap();
        assert_eq!(clear.text, "a: 1\n-dash\n\nlast");
        assert_eq!(clear.canonical(), b"a: 1\r\n-dash\r\n\r\nlast");
        assert_eq!(clear.signatures, b"hi");
        let whole = message("a: 1");
        for (name, text, want) in [
            (
                "nothing",
                String::new(),
                "is not signed: it does not begin with a signed message",
            ),
            (
                "unsigned",
                "a: 1\n".to_owned(),
                "is not signed: it does not begin with a signed message",
            ),
            (
                "before",
                format!("b: 2\n{whole}"),
                "is not signed: it does not begin with a signed message",
            ),
            (
                "after",
                format!("{whole}b: 2\n"),
                "goes on after its signature",
            ),
            (
                "header",
                whole.replace("Hash: SHA256", "b: 2"),
                "has a header that no signed message has",
            ),
            (
                "cut",
                format!("{SIGNED}\n\na: 1\n"),
                "is cut: it has no signature at its end",
            ),
            (
                "cut armor",
                whole.replace(SIGNATURE_END, ""),
                "is cut in its armor",
            ),
            (
                "no base64",
                whole.replace("aGk=", "a"),
                "has armor that is no base64",
            ),
            (
                "two",
                format!("{whole}{whole}"),
                "goes on after its signature",
            ),
            (
                "dashes",
                message("-x"),
                "has a line of dashes that is not escaped",
            ),
        ] {
            assert_eq!(clear_signed(text.as_bytes()).unwrap_err(), want, "{name}");
        }
    }
}
