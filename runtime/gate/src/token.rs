//! What an event is about, packed into the 64 bits that epoll carries.

use crate::slab::Key;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// The sandbox has ended.
    Sandbox,
    Nursery,
    /// By its number.
    Listener(usize),
    /// A name that is being resolved.
    Name(usize),
    /// The side of a connection that was accepted.
    Near(Key),
    /// And the one that was dialled.
    Far(Key),
}

impl Token {
    /// 8 bits of kind, 24 of generation, 32 of number.
    pub(crate) fn pack(self) -> u64 {
        let (kind, generation, number) = match self {
            Self::Sandbox => (0, 0, 0),
            Self::Nursery => (1, 0, 0),
            Self::Listener(number) => (2, 0, number as u64),
            Self::Name(number) => (3, 0, number as u64),
            Self::Near(key) => (4, key.generation, key.index.into()),
            Self::Far(key) => (5, key.generation, key.index.into()),
        };
        kind << 56 | (u64::from(generation) & 0xff_ffff) << 32 | (number & 0xffff_ffff)
    }

    pub(crate) fn unpack(bits: u64) -> Option<Self> {
        let index = u32::try_from(bits & 0xffff_ffff).ok()?;
        let key = Key {
            index,
            generation: u32::try_from(bits >> 32 & 0xff_ffff).ok()?,
        };
        match bits >> 56 {
            0 => Some(Self::Sandbox),
            1 => Some(Self::Nursery),
            2 => Some(Self::Listener(index as usize)),
            3 => Some(Self::Name(index as usize)),
            4 => Some(Self::Near(key)),
            5 => Some(Self::Far(key)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_was() {
        let key = Key {
            index: u32::MAX,
            generation: 0xff_ffff,
        };
        for token in [
            Token::Sandbox,
            Token::Nursery,
            Token::Listener(7),
            Token::Name(9),
            Token::Near(key),
            Token::Far(key),
        ] {
            assert_eq!(Token::unpack(token.pack()), Some(token));
        }
        assert_eq!(Token::unpack(u64::MAX), None);
    }
}
