//! Signatures: what they say, and whether a key made them.

use ring::{digest, signature};

use super::armor::Clear;
use super::key::{Key, Keyring, SIGNATURE};
use super::packet::{Cursor, Subpacket, packets, subpackets};

const RSA: u8 = 1;
const EDDSA: u8 = 22;
const ED25519: u8 = 27;
/// Of text, with its line ends in one form.
const TEXT: u8 = 0x01;
/// Clocks differ a little.
const SLACK: u64 = 300;
/// Of one release; each is held against the keys that it may be of.
const MAX_SIGNATURES: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Public {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    Ed25519([u8; 32]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// A signature packet, read and not believed.
#[derive(Debug)]
pub(super) struct Parsed<'a> {
    pub(super) kind: u8,
    algorithm: u8,
    hash: Hash,
    /// All that is signed of the packet itself.
    hashed: &'a [u8],
    numbers: &'a [u8],
    /// Seconds since 1970.
    pub(super) created: u64,
    /// Seconds that it is good for.
    lifetime: Option<u64>,
    /// Seconds that the key it is about is good for.
    pub(super) key_lifetime: Option<u64>,
    pub(super) flags: Option<u8>,
    /// Hexadecimal digits of the key id or fingerprint.
    issuer: Option<String>,
}

/// What time it is, and whether what has ended before may be taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Seconds since 1970.
    pub(crate) now: u64,
    pub(crate) allow_expired: bool,
}

/// A good signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    /// Of the key that made it, 40 hexadecimal digits.
    pub(crate) fingerprint: String,
}

/// Holds a text against its signatures: one by a key of the keyring must be good, and none by one of its keys bad. Those by others are passed over.
///
/// # Errors
/// Why there is none.
pub(crate) fn verify(clear: &Clear, keyring: &Keyring, clock: Clock) -> Result<Signed, String> {
    let packets =
        packets(&clear.signatures).map_err(|why| format!("has a signature that {why}"))?;
    if packets.is_empty() || packets.iter().any(|packet| packet.tag != SIGNATURE) {
        return Err("has something else where its signatures should be".to_owned());
    }
    if packets.len() > MAX_SIGNATURES {
        return Err(format!("has more than {MAX_SIGNATURES} signatures"));
    }
    let text = clear.canonical();
    let mut good = None;
    let mut passed = Vec::new();
    for packet in packets {
        let signature = match parse(packet.body) {
            Ok(signature) => signature,
            Err(why) => {
                passed.push(format!("one that {why}"));
                continue;
            }
        };
        let issuer = signature.issuer.clone().unwrap_or_default();
        let mut keys = keyring.named(&issuer).peekable();
        if signature.kind != TEXT {
            passed.push("one that is of no text".to_owned());
            continue;
        }
        if keys.peek().is_none() {
            passed.push(format!(
                "one by the key {issuer}, which the keyring has not"
            ));
            continue;
        }
        match keys.find(|key| signature.is_by(&key.public, &text)) {
            None if signature.issuer.is_none() => {
                passed.push("one that names no key".to_owned());
            }
            None => {
                return Err(format!(
                    "is not what the key {issuer} signed: it was changed or damaged"
                ));
            }
            Some(key) => match in_time(&signature, key, clock) {
                Ok(()) => {
                    good.get_or_insert_with(|| Signed {
                        fingerprint: key.fingerprint.clone(),
                    });
                }
                Err(why) => passed.push(format!("one by the key {issuer}, {why}")),
            },
        }
    }
    good.ok_or_else(|| {
        format!(
            "has no signature by a key of the keyring; there is {}",
            passed.join(", and ")
        )
    })
}

fn in_time(signature: &Parsed<'_>, key: &Key, clock: Clock) -> Result<(), &'static str> {
    if signature.created > clock.now.saturating_add(SLACK) {
        return Err("made in the future by this host's clock");
    }
    if signature.created < key.created {
        return Err("made before the key was");
    }
    let over = |at: u64| clock.now >= at && !clock.allow_expired;
    if key
        .expires
        .is_some_and(|at| signature.created >= at || over(at))
    {
        return Err("which has expired");
    }
    let ends = signature
        .lifetime
        .map(|lifetime| signature.created.saturating_add(lifetime));
    if ends.is_some_and(over) {
        return Err("which was good for a time that has passed");
    }
    Ok(())
}

impl Parsed<'_> {
    /// Whether `key` made it over `data`.
    pub(super) fn is_by(&self, key: &Public, data: &[u8]) -> bool {
        let mut message = Vec::with_capacity(data.len() + self.hashed.len() + 6);
        message.extend(data);
        message.extend(self.hashed);
        message.extend([4, 0xff]);
        message.extend(
            u32::try_from(self.hashed.len())
                .unwrap_or(u32::MAX)
                .to_be_bytes(),
        );
        let mut numbers = Cursor(self.numbers);
        match (key, self.algorithm) {
            (Public::Rsa { modulus, exponent }, RSA) => {
                let parameters = match self.hash {
                    Hash::Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                    Hash::Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                    Hash::Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                };
                let key = signature::RsaPublicKeyComponents {
                    n: modulus,
                    e: exponent,
                };
                let number = numbers
                    .mpi()
                    .ok()
                    .and_then(|number| padded(number, modulus.len()));
                number.is_some_and(|number| key.verify(parameters, &message, &number).is_ok())
            }
            (Public::Ed25519(point), EDDSA | ED25519) => {
                let whole = if self.algorithm == ED25519 {
                    numbers.take(64).ok().map(<[u8]>::to_vec)
                } else {
                    let mut part = || numbers.mpi().ok().and_then(|part| padded(part, 32));
                    part()
                        .zip(part())
                        .map(|(left, right)| [left, right].concat())
                };
                let hash = match self.hash {
                    Hash::Sha256 => &digest::SHA256,
                    Hash::Sha384 => &digest::SHA384,
                    Hash::Sha512 => &digest::SHA512,
                };
                let hash = digest::digest(hash, &message);
                let key = signature::UnparsedPublicKey::new(&signature::ED25519, point);
                whole.is_some_and(|whole| key.verify(hash.as_ref(), &whole).is_ok())
            }
            _ => false,
        }
    }
}

/// With the leading zeros that numbers are written without.
fn padded(number: &[u8], length: usize) -> Option<Vec<u8>> {
    let zeros = length.checked_sub(number.len())?;
    let mut whole = vec![0; zeros];
    whole.extend(number);
    Some(whole)
}

/// Of a signature that may be of a form that is not known here: by a weak hash, or of version 3.
pub(super) fn kind(body: &[u8]) -> Option<u8> {
    match body {
        [3, 5, kind, ..] | [4..=6, kind, ..] => Some(*kind),
        _ => None,
    }
}

pub(super) fn parse(body: &[u8]) -> Result<Parsed<'_>, &'static str> {
    let mut cursor = Cursor(body);
    if cursor.byte()? != 4 {
        return Err("is of another version than 4");
    }
    let kind = cursor.byte()?;
    let algorithm = cursor.byte()?;
    let hash = match cursor.byte()? {
        8 => Hash::Sha256,
        9 => Hash::Sha384,
        10 => Hash::Sha512,
        _ => return Err("is over another hash than SHA-256, SHA-384 or SHA-512"),
    };
    let length = usize::try_from(cursor.number(2)?).unwrap_or(usize::MAX);
    let area = cursor.take(length)?;
    let hashed = body.get(..6 + length).ok_or("is cut")?;
    let length = usize::try_from(cursor.number(2)?).unwrap_or(usize::MAX);
    let unhashed = cursor.take(length)?;
    // The first bits of the hash, a hint.
    cursor.take(2)?;
    let mut parsed = Parsed {
        kind,
        algorithm,
        hash,
        hashed,
        numbers: cursor.0,
        created: 0,
        lifetime: None,
        key_lifetime: None,
        flags: None,
        issuer: None,
    };
    let mut created = None;
    for Subpacket {
        kind,
        critical,
        value,
    } in subpackets(area)?
    {
        let seconds = || Cursor(value).number(4).map(u64::from);
        match kind {
            2 => created = Some(seconds()?),
            3 => parsed.lifetime = Some(seconds()?).filter(|seconds| *seconds > 0),
            9 => parsed.key_lifetime = Some(seconds()?).filter(|seconds| *seconds > 0),
            27 => parsed.flags = Some(value.first().copied().unwrap_or(0)),
            33 | 16 => issuer(kind, value, &mut parsed.issuer),
            // What it would mean to not understand these is nothing.
            11 | 21..=26 | 28..=30 | 32 | 34 => {}
            _ if critical => return Err("says something critical that is not known here"),
            _ => {}
        }
    }
    parsed.created = created.ok_or("does not say when it was made")?;
    // Only which key to try: that it is the one, the arithmetic says.
    for said in subpackets(unhashed)? {
        issuer(said.kind, said.value, &mut parsed.issuer);
    }
    Ok(parsed)
}

/// The fingerprint is preferred.
fn issuer(kind: u8, value: &[u8], into: &mut Option<String>) {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    match (kind, value) {
        (33, [4, fingerprint @ ..]) if fingerprint.len() == 20 => *into = Some(hex(fingerprint)),
        (16, id) if id.len() == 8 && into.is_none() => *into = Some(hex(id)),
        _ => {}
    }
}
