//! The little of OpenPGP that a signed release needs: clear-signed text, keyrings, version 4 signatures by RSA and Ed25519 over SHA-2. Pure; the
//! arithmetic is `ring`'s, which TLS brings anyway.
//!
//! Why no crate: `pgp` 0.21 is 146 crates with what it needs, most for ciphers, curves and formats that no mirror uses, and `sequoia-openpgp` 2 is 168 and under the LGPL. What is left out here is refused: other versions, algorithms and hashes (SHA-1 too), partial lengths, compressed or encrypted data.

mod armor;
mod key;
mod packet;
mod signature;

pub(crate) use armor::clear_signed;
pub(crate) use key::Keyring;
pub(crate) use signature::{Clock, verify};

/// Bytes of a keyring. Debian's own, with all keys of twenty years, has a tenth.
pub(crate) const MAX_KEYRING: usize = 1 << 20;
