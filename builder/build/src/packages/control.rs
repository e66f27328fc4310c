//! The form of Debian's control files: stanzas of fields, a blank line between two. Bounded before anything is kept. Pure.

use std::io::{self, BufRead};

/// Bytes of one stanza. The largest of a release is a tenth of that; a `Release` file itself is read by its lines.
pub(crate) const MAX_STANZA: usize = 1 << 20;

/// One stanza: fields in their order, names as they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stanza {
    fields: Vec<(String, String)>,
}

impl Stanza {
    /// Names are the same whatever their case. A field's further lines are part of its value, each after a line break.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self
            .fields
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// The only stanza of a text.
    pub(crate) fn only(text: &str) -> Result<Self, String> {
        let mut reader = Stanzas::new(text.as_bytes(), text.len().saturating_add(1));
        let first = reader.next_stanza()?.ok_or("is empty")?;
        match reader.next_stanza()? {
            None => Ok(first),
            Some(_) => Err("holds more than one stanza".to_owned()),
        }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.starts_with([' ', '\t']) {
            let (_, value) = self
                .fields
                .last_mut()
                .ok_or("begins with a line that continues nothing")?;
            value.push('\n');
            value.push_str(line.get(1..).unwrap_or_default().trim_end());
            return Ok(());
        }
        let (name, value) = line
            .split_once(':')
            .ok_or("has a line that is no `Field: value`")?;
        let legal = |byte: u8| byte.is_ascii_graphic() && byte != b':';
        if name.is_empty() || name.len() > 128 || !name.bytes().all(legal) {
            return Err("has a field without a name".to_owned());
        }
        // Two readers that took different ones would see two packages.
        if self.get(name).is_some() {
            return Err(format!("has the field `{name}` twice"));
        }
        self.fields.push((name.to_owned(), value.trim().to_owned()));
        Ok(())
    }
}

/// Reads stanza after stanza.
pub(crate) struct Stanzas<R> {
    reader: R,
    most: usize,
}

impl<R: BufRead> Stanzas<R> {
    /// `most` is the bytes that a stanza may have.
    pub(crate) fn new(reader: R, most: usize) -> Self {
        Self { reader, most }
    }

    /// # Errors
    /// What is wrong with the next stanza, or the reader's error as text.
    pub(crate) fn next_stanza(&mut self) -> Result<Option<Stanza>, String> {
        let mut stanza = Stanza::default();
        let mut left = self.most;
        let mut line = Vec::new();
        loop {
            line.clear();
            let count = read_line(&mut self.reader, left, &mut line)?;
            left = left.saturating_sub(count);
            let text = std::str::from_utf8(&line).map_err(|_| "is not UTF-8 text")?;
            let text = text.trim_end_matches(['\n', '\r']);
            if count > 0 && text.starts_with('#') {
                continue;
            }
            if count > 0 && !text.trim().is_empty() {
                stanza.line(text)?;
                continue;
            }
            if !stanza.fields.is_empty() {
                return Ok(Some(stanza));
            }
            if count == 0 {
                return Ok(None);
            }
        }
    }
}

/// A line of at most `most` bytes.
fn read_line(reader: &mut impl BufRead, most: usize, line: &mut Vec<u8>) -> Result<usize, String> {
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let count = io::Read::take(reader, limit)
        .read_until(b'\n', line)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if count > most {
        return Err("has a stanza that is too long".to_owned());
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_come_one_by_one_with_their_folded_lines() {
        let text = "Package: a\nDescription: one\n two\n .\n three\n\n\nPackage: b\n";
        let mut reader = Stanzas::new(text.as_bytes(), MAX_STANZA);
        let first = reader.next_stanza().unwrap().unwrap();
        assert_eq!(first.get("package"), Some("a"));
        assert_eq!(first.get("Description"), Some("one\ntwo\n.\nthree"));
        let second = reader.next_stanza().unwrap().unwrap();
        assert_eq!(second.get("Package"), Some("b"));
        assert_eq!(reader.next_stanza(), Ok(None));
    }

    #[test]
    fn a_broken_stanza_is_refused() {
        for (text, want) in [
            (" x: y\n", "begins with a line that continues nothing"),
            ("nonsense\n", "has a line that is no `Field: value`"),
            (": x\n", "has a field without a name"),
            ("A: 1\na: 2\n", "has the field `a` twice"),
            ("A: 1\n\nB: 2\n", "holds more than one stanza"),
            ("\n\n", "is empty"),
        ] {
            assert_eq!(Stanza::only(text), Err(want.to_owned()), "{text:?}");
        }
        let long = format!("A: {}\n", "x".repeat(100));
        let told = Stanzas::new(long.as_bytes(), 50).next_stanza();
        assert_eq!(told, Err("has a stanza that is too long".to_owned()));
    }
}
