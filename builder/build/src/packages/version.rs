//! Versions of Debian packages and their order: `[EPOCH:]UPSTREAM[-REVISION]`. Pure.

use std::cmp::Ordering;
use std::fmt;

/// Bytes; the longest in use have some fifty.
const MAX_VERSION: usize = 256;

/// As it is written, and known to be one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Version(Box<str>);

impl Version {
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_VERSION {
            return Err("is longer than 256 bytes");
        }
        let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
        if epoch.is_empty() || epoch.len() > 9 || !epoch.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("has an epoch that is no number");
        }
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".+~".contains(&byte);
        if !upstream
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_digit())
            || !upstream
                .bytes()
                .all(|byte| legal(byte) || byte == b'-' || byte == b':')
        {
            return Err("has an upstream version that is none");
        }
        if revision.is_empty() || !revision.bytes().all(legal) {
            return Err("has a revision that is none");
        }
        Ok(Self(text.into()))
    }

    fn parts(&self) -> (u32, &str, &str) {
        let (epoch, rest) = self.0.split_once(':').unwrap_or(("0", &self.0));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        (epoch.parse().unwrap_or(0), upstream, revision)
    }
}

/// By Debian's rules, by which two that are written differently may be the same: `1.0` and `1.00`.
impl Version {
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        let (epoch, upstream, revision) = self.parts();
        let (other_epoch, other_upstream, other_revision) = other.parts();
        epoch
            .cmp(&other_epoch)
            .then_with(|| compare(upstream.as_bytes(), other_upstream.as_bytes()))
            .then_with(|| compare(revision.as_bytes(), other_revision.as_bytes()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Letters before other signs, the end of the text before both, and `~` before everything, the end too.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        None => 0,
        Some(byte) if byte.is_ascii_digit() => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(b'~') => -1,
        Some(byte) => i32::from(*byte) + 256,
    }
}

/// Signs and numbers in turn; numbers by their value, however long.
fn compare(mut left: &[u8], mut right: &[u8]) -> Ordering {
    let is_sign = |text: &[u8]| text.first().is_some_and(|byte| !byte.is_ascii_digit());
    while !left.is_empty() || !right.is_empty() {
        while is_sign(left) || is_sign(right) {
            let order = weight(left.first()).cmp(&weight(right.first()));
            if order != Ordering::Equal {
                return order;
            }
            left = left.get(1..).unwrap_or_default();
            right = right.get(1..).unwrap_or_default();
        }
        let (number, rest) = digits(left);
        let (other, other_rest) = digits(right);
        let order = number.len().cmp(&other.len()).then(number.cmp(other));
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (rest, other_rest);
    }
    Ordering::Equal
}

/// The number at the start, without leading zeros, and what follows.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let zeros = text.iter().take_while(|byte| **byte == b'0').count();
    let text = text.get(zeros..).unwrap_or_default();
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    text.split_at(count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn the_order_is_debian_s() {
        // Each before the next.
        let rising = [
            "0~~",
            "0~~a",
            "0~",
            "0",
            "1.0~rc1-1",
            "1.0",
            "1.0-0+b1",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1+deb12u1",
            "1.0-1.1",
            "1.0-10",
            "1.0a",
            "1.0+dfsg-1",
            "1.0.1",
            "1.2",
            "1.10",
            "2026f-0+deb12u1",
            "1:0.1",
        ];
        for (at, left) in rising.iter().enumerate() {
            for (other, right) in rising.iter().enumerate() {
                assert_eq!(
                    version(left).order(&version(right)),
                    at.cmp(&other),
                    "{left} and {right}"
                );
            }
        }
        for (left, right) in [
            ("1.0", "1.00"),
            ("1.0", "1.0-0"),
            ("0:1", "1"),
            ("1.01", "1.1"),
        ] {
            assert_eq!(
                version(left).order(&version(right)),
                Ordering::Equal,
                "{left} and {right}"
            );
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in [
            "",
            "a1",
            ":1",
            "x:1",
            "1-",
            "1 2",
            "1_2",
            "9999999999:1",
            "-1",
            "1-1/2",
        ] {
            assert!(Version::parse(text).is_err(), "{text}");
        }
    }

    /// What dpkg itself says; `None` where it is not installed.
    fn dpkg(left: &str, right: &str) -> Option<Ordering> {
        let holds = |operator: &str| {
            let done = std::process::Command::new("dpkg")
                .args(["--compare-versions", left, operator, right])
                .stderr(std::process::Stdio::null())
                .status();
            done.ok().map(|status| status.success())
        };
        Some(match (holds("lt")?, holds("eq")?) {
            (true, _) => Ordering::Less,
            (_, true) => Ordering::Equal,
            (false, false) => Ordering::Greater,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]

        #[test]
        fn dpkg_orders_them_alike(
            left in "([0-9]:)?[0-9][0-9a-z.+~-]{0,8}(-[0-9a-z.+~]{1,4})?",
            right in "([0-9]:)?[0-9][0-9a-z.+~-]{0,8}(-[0-9a-z.+~]{1,4})?",
        ) {
            let (Ok(one), Ok(other)) = (Version::parse(&left), Version::parse(&right)) else {
                return Ok(());
            };
            if let Some(want) = dpkg(&left, &right) {
                prop_assert_eq!(one.order(&other), want, "{} and {}", left, right);
            }
        }
    }
}
