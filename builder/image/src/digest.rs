//! Digests and the identities made of them. A path built from a [`Digest`] cannot climb.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::Error;

/// `sha256:<64 lowercase hex>`; cannot hold anything else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// A digest of bytes that come one after the other.
#[derive(Clone, Debug, Default)]
pub struct DigestOf(Sha256);

impl DigestOf {
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    #[must_use]
    pub fn digest(self) -> Digest {
        Digest::from_hasher(self.0)
    }
}

/// Of one uncompressed layer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DiffId(pub Digest);

impl Digest {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hasher(Sha256::new_with_prefix(bytes))
    }

    /// Of all that a reader gives.
    ///
    /// # Errors
    /// The reader's.
    pub fn of_reader(mut reader: impl std::io::Read) -> std::io::Result<Self> {
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(Self::from_hasher(hasher)),
                Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn from_hasher(hasher: Sha256) -> Self {
        Self::from_bytes(&hasher.finalize().into())
    }

    /// Of these 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        const HEX: [char; 16] = [
            '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
        ];
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in bytes {
            text.extend(
                [byte >> 4, byte & 15]
                    .map(|nibble| HEX.get(usize::from(nibble)).copied().unwrap_or('0')),
            );
        }
        Self(text)
    }

    /// The 32 bytes that the text stands for.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        let digit = |byte: u8| match byte {
            b'a'..=b'f' => byte - b'a' + 10,
            _ => byte.wrapping_sub(b'0') & 15,
        };
        let mut bytes = [0; 32];
        let (pairs, _) = self.hex().as_bytes().as_chunks::<2>();
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high) << 4 | digit(*low);
        }
        bytes
    }

    /// The 64 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.get(7..).unwrap_or_default()
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let hex = text.strip_prefix("sha256:").unwrap_or_default();
        let legal = hex.len() == 64
            && hex
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if legal {
            return Ok(Self(text.to_owned()));
        }
        let shown: String = text.chars().take(80).collect();
        Err(Error::refused(
            format!("digest `{shown}`"),
            "is not `sha256:` and 64 lowercase hexadecimal digits",
            "use a sha256 digest",
        ))
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Display for DiffId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_holds_nothing_but_a_digest() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(empty.parse::<Digest>().unwrap().hex(), &empty[7..]);
        let some = Digest::of(b"some");
        assert_eq!(Digest::from_bytes(&some.to_bytes()), some);
        for (name, text) in [
            ("another algorithm", "sha512:00".to_owned()),
            ("upper case", empty.to_uppercase()),
            ("too short", empty[..70].to_owned()),
            ("a path", format!("sha256:{}", "../".repeat(21) + "x")),
            ("nothing", String::new()),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{name}");
        }
    }
}
