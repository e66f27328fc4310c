//! Keyrings: primary keys and signing subkeys, with what their own signatures say of them.

use ring::digest;

use super::armor;
use super::packet::{Cursor, Packet, packets};
use super::signature::{Parsed, Public, kind, parse};

const PUBLIC_KEY: u8 = 6;
const PUBLIC_SUBKEY: u8 = 14;
const USER_ID: u8 = 13;
const USER_ATTRIBUTE: u8 = 17;
pub(super) const SIGNATURE: u8 = 2;

const RSA: u8 = 1;
const RSA_SIGN: u8 = 3;
const EDDSA: u8 = 22;
const ED25519: u8 = 27;
/// 1.3.6.1.4.1.11591.15.1
const ED25519_OID: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01];

/// Kinds of signatures.
const REVOKES_KEY: u8 = 0x20;
const REVOKES_SUBKEY: u8 = 0x28;

/// May sign data, in a key's flags.
const SIGNS: u8 = 2;

/// A key that may sign a release.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(super) public: Public,
    /// 40 hexadecimal digits, of the key itself, subkey or not.
    pub(crate) fingerprint: String,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// Seconds since 1970, the earliest of its own and its primary key's.
    pub(super) expires: Option<u64>,
}

/// The keys that a release may be signed with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keyring {
    pub(super) keys: Vec<Key>,
}

/// One key packet and what is found out about it.
struct Seen<'a> {
    body: &'a [u8],
    /// `None`: of a kind that is not known here.
    public: Option<Public>,
    created: u64,
    /// By a signature of its own, or of its primary key.
    bound: bool,
    revoked: bool,
    signs: bool,
    expires: Option<u64>,
    /// When the signature that said the last two was made: the latest counts.
    said: u64,
}

impl Keyring {
    /// Takes the keys of a keyring, binary or armored. Those of other kinds, revoked, or without a valid signature of their own are passed over.
    ///
    /// # Errors
    /// Bytes that are no keyring, or one without a key that could be used.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let bytes = armor::keyring(bytes)?;
        let mut keys = Vec::new();
        let mut packets = packets(&bytes)?.into_iter().peekable();
        while let Some(packet) = packets.next() {
            if packet.tag != PUBLIC_KEY {
                return Err("is no OpenPGP keyring");
            }
            let mut own = Vec::new();
            while let Some(next) = packets.next_if(|next| next.tag != PUBLIC_KEY) {
                own.push(next);
            }
            certificate(packet.body, &own, &mut keys)?;
        }
        if keys.is_empty() {
            return Err(
                "holds no key that can be used: RSA of 2048 bits or more, or Ed25519, with a signature of its own by SHA-2, not revoked",
            );
        }
        Ok(Self { keys })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) fn join(&mut self, other: Self) {
        self.keys.extend(other.keys);
    }

    /// The keys that a signature may be of, by the key id or the fingerprint that it names.
    pub(super) fn named<'a>(&'a self, issuer: &'a str) -> impl Iterator<Item = &'a Key> {
        self.keys
            .iter()
            .filter(move |key| key.fingerprint.ends_with(issuer))
    }
}

fn certificate<'a>(
    primary: &'a [u8],
    own: &[Packet<'a>],
    keys: &mut Vec<Key>,
) -> Result<(), &'static str> {
    let mut primary = seen(primary)?;
    let Some(signer) = primary.public.clone() else {
        return Ok(());
    };
    // What a signature is about: the latest user id or subkey before it.
    let mut about: Option<Packet<'_>> = None;
    let mut subkeys: Vec<Seen<'a>> = Vec::new();
    for packet in own {
        match packet.tag {
            USER_ID | USER_ATTRIBUTE => about = Some(*packet),
            PUBLIC_SUBKEY => {
                about = Some(*packet);
                subkeys.push(seen(packet.body)?);
            }
            SIGNATURE => {
                // Others' signatures and those of unknown forms say nothing, but that a key is no longer good is believed of any.
                let Ok(signature) = parse(packet.body) else {
                    match (kind(packet.body), subkeys.last_mut()) {
                        (Some(REVOKES_KEY), _) => primary.revoked = true,
                        (Some(REVOKES_SUBKEY), Some(subkey)) => subkey.revoked = true,
                        _ => {}
                    }
                    continue;
                };
                self_signature(&signature, &signer, about, &mut primary, &mut subkeys);
            }
            _ => {}
        }
    }
    let primary_usable = primary.bound && !primary.revoked;
    let primary_expires = primary.expires;
    if primary_usable && primary.signs {
        keys.extend(key(primary, None));
    }
    if primary_usable {
        let signing = subkeys
            .into_iter()
            .filter(|subkey| subkey.bound && !subkey.revoked && subkey.signs);
        keys.extend(signing.filter_map(|subkey| key(subkey, primary_expires)));
    }
    Ok(())
}

/// Reads what a signature of the primary key says of it or of a subkey, if it is one.
fn self_signature<'a>(
    signature: &Parsed<'_>,
    signer: &Public,
    about: Option<Packet<'_>>,
    primary: &mut Seen<'a>,
    subkeys: &mut [Seen<'a>],
) {
    let mut data = hashed_key(primary.body);
    let is_subkey = about.is_some_and(|packet| packet.tag == PUBLIC_SUBKEY);
    let target = match (signature.kind, about) {
        // Certifications of a user id, and of the key directly.
        (0x10..=0x13, Some(packet)) if !is_subkey => {
            data.push(if packet.tag == USER_ID { 0xb4 } else { 0xd1 });
            let length = u32::try_from(packet.body.len()).unwrap_or(u32::MAX);
            data.extend(length.to_be_bytes());
            data.extend(packet.body);
            primary
        }
        (0x1f | REVOKES_KEY, None) => primary,
        // A binding of a subkey, and its revocation.
        (0x18 | REVOKES_SUBKEY, Some(packet)) if is_subkey => {
            data.extend(hashed_key(packet.body));
            match subkeys.last_mut() {
                Some(subkey) => subkey,
                None => return,
            }
        }
        _ => return,
    };
    if !signature.is_by(signer, &data) {
        return;
    }
    if matches!(signature.kind, REVOKES_KEY | REVOKES_SUBKEY) {
        target.revoked = true;
        return;
    }
    if target.bound && signature.created < target.said {
        return;
    }
    target.bound = true;
    target.said = signature.created;
    // Without flags a primary key may sign, a subkey may not.
    target.signs = signature
        .flags
        .map_or(!is_subkey, |flags| flags & SIGNS != 0);
    target.expires = signature
        .key_lifetime
        .map(|lifetime| target.created.saturating_add(lifetime));
}

fn key(seen: Seen<'_>, primary_expires: Option<u64>) -> Option<Key> {
    let expires = match (seen.expires, primary_expires) {
        (Some(own), Some(primary)) => Some(own.min(primary)),
        (own, primary) => own.or(primary),
    };
    Some(Key {
        public: seen.public?,
        fingerprint: fingerprint(seen.body),
        created: seen.created,
        expires,
    })
}

fn seen(body: &[u8]) -> Result<Seen<'_>, &'static str> {
    let mut cursor = Cursor(body);
    // Other versions are of other forms.
    let public = if cursor.byte()? == 4 {
        let created = cursor.number(4)?;
        Some((created, public(&mut cursor)?))
    } else {
        None
    };
    let (created, public) = public.map_or((0, None), |(created, public)| (created, public));
    Ok(Seen {
        body,
        public,
        created: u64::from(created),
        bound: false,
        revoked: false,
        signs: false,
        expires: None,
        said: 0,
    })
}

fn public(cursor: &mut Cursor<'_>) -> Result<Option<Public>, &'static str> {
    match cursor.byte()? {
        RSA | RSA_SIGN => {
            let (modulus, exponent) = (cursor.mpi()?.to_vec(), cursor.mpi()?.to_vec());
            Ok(Some(Public::Rsa { modulus, exponent }))
        }
        EDDSA => {
            let length = usize::from(cursor.byte()?);
            if cursor.take(length)? != ED25519_OID {
                return Ok(None);
            }
            let point = cursor.mpi()?;
            let point = point
                .strip_prefix(&[0x40])
                .and_then(|key| key.try_into().ok());
            Ok(point.map(Public::Ed25519))
        }
        ED25519 => Ok(cursor.take(32)?.try_into().ok().map(Public::Ed25519)),
        _ => Ok(None),
    }
}

/// A key as it is hashed for signatures and fingerprints.
fn hashed_key(body: &[u8]) -> Vec<u8> {
    // A longer one fits into no signature and is signed by none.
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let mut data = vec![0x99];
    data.extend(length.to_be_bytes());
    data.extend(body);
    data
}

/// A name, not a proof: keys are trusted for the keyring that they lie in.
fn fingerprint(body: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &hashed_key(body));
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// By gpg 2.2: an Ed25519 key and a signing subkey, both revoked by signatures over SHA-1.
    const REVOKED: &str = "\
        mDMEawb64hYJKwYBBAHaRw8BAQdAI1o0php22ZWhRJrAvbOLsBbQFedOFh6jQiZ5jvfjHDaIeAQgFgIAIBYhBMkPwGl1HEdS1/rG+hR87OjHCXU0BQJrBvriAh0AAAoJEBR87OjHCXU0vGUBAPNp7lh3lRafmp94\
        qKqb2bwB+NK2mdVKJs12yAsPtbxwAP0ZPTAisEsu5rZVkVYdR3LyBjwPxxtkK2F0DlXmm+9yCLQMTWlycm9yIDxtQHg+iJAEExYIADgWIQTJD8BpdRxHUtf6xvoUfOzoxwl1NAUCawb64gIbAwULCQgHAgYVCgkI\
        CwIEFgIDAQIeAQIXgAAKCRAUfOzoxwl1NLLcAQDdZL/1E0m/G9JYQocNwbqWREsL9sdbXdnqca1N4nLFrQEA6nqjTxmg6czliT4QXg7bBtLUtE/Kp72wH6qClt4DYQy4MwRrBvriFgkrBgEEAdpHDwEBB0AzN4gb\
        WWy/xDQBwzWcEboiW4eTQ0DsAqNNNgFzjJWpBYh4BCgWAgAgFiEEyQ/AaXUcR1LX+sb6FHzs6McJdTQFAmsG+uICHQAACgkQFHzs6McJdTQZewD/SWa7BWJA+MG8Q5tdk/BKLybpEoHGGbE2gSFN+WKlwr8A/3/R\
        At3JwX+f4L94Qipu+A9LKO1FOY1AWDX1/SW5oqEOiO8EGBYIACAWIQTJD8BpdRxHUtf6xvoUfOzoxwl1NAUCawb64gIbAgCBCRAUfOzoxwl1NHYgBBkWCAAdFiEEpTTX9r6s0fhuLeg6hS3W3Fk1xFMFAmsG+uIA\
        CgkQhS3W3Fk1xFPZ4QEA//rtvWkCKyEE8y4FbzeOmUGNBDcMJUuoVWgAMSJ1iQYA/0M4O+EA2TbFd/CB0h9zEqyJa8MShunoObYg8FFzEG0JhFMBAMCj5oC9pMOyJryE5LMmvOoOWYY8BRLAHFVzBe6f96gfAQC3\
        DNXQS+ya4+E7sQ7W5/YEnCYd2poRqH7Lk079DaWzAg==\
        ";

    #[test]
    fn a_revocation_by_a_weak_hash_revokes() {
        let all = STANDARD.decode(REVOKED).unwrap();
        let (of_key, of_subkey) = (53..175, 388..510);
        let keys = |without: &[std::ops::Range<usize>]| {
            let kept = all.iter().enumerate();
            let kept = kept.filter(|(at, _)| !without.iter().any(|range| range.contains(at)));
            let bytes: Vec<u8> = kept.map(|(_, byte)| *byte).collect();
            Keyring::read(&bytes).map_or(0, |keyring| keyring.keys.len())
        };
        assert_eq!(keys(&[of_key.clone(), of_subkey.clone()]), 2);
        assert_eq!(keys(&[of_key]), 1);
        assert_eq!(keys(&[of_subkey]), 0);
        assert_eq!(keys(&[]), 0);
    }
}
