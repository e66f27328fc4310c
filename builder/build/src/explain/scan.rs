//! What stands in a file's bytes that a linter looks for: secrets by their own unmistakable forms, and what a program says of the files that it
//! will ask for. One pass, bounded memory, no pattern that costs more than its length.

use serde::Serialize;

/// Bytes that are kept from one piece to the next: no form is longer.
const OVERLAP: usize = 512;
/// That are told of one file; one is enough to act.
const MAX_TOLD: usize = 4;

/// A secret-looking string: what it is and where it begins, not what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Secret {
    pub(crate) what: &'static str,
    /// Bytes from the start of the file.
    pub(crate) offset: u64,
}

/// What a program's strings say that it may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mentions {
    /// `getaddrinfo` and its like.
    pub(crate) names_of_hosts: bool,
    /// A certificate bundle's path, or a TLS library of its own.
    pub(crate) certificates: bool,
    pub(crate) zones: bool,
}

/// A token: how it begins, which bytes follow, how many.
struct Token {
    what: &'static str,
    prefix: &'static [u8],
    legal: fn(u8) -> bool,
    /// At least and at most. What is followed by one more legal byte than that is something else.
    length: (usize, usize),
}

const TOKENS: &[Token] = &[
    Token {
        what: "an AWS access key",
        prefix: b"AKIA",
        legal: upper_or_digit,
        length: (16, 16),
    },
    Token {
        what: "a GitHub token",
        prefix: b"ghp_",
        legal: alphanumeric,
        length: (36, 36),
    },
    Token {
        what: "a GitHub token",
        prefix: b"gho_",
        legal: alphanumeric,
        length: (36, 36),
    },
    Token {
        what: "a GitHub token",
        prefix: b"ghs_",
        legal: alphanumeric,
        length: (36, 36),
    },
    Token {
        what: "a GitHub token",
        prefix: b"github_pat_",
        legal: word,
        length: (82, 82),
    },
    Token {
        what: "a GitLab token",
        prefix: b"glpat-",
        legal: word_or_dash,
        length: (20, 20),
    },
    Token {
        what: "a Slack token",
        prefix: b"xoxb-",
        legal: word_or_dash,
        length: (40, 100),
    },
    Token {
        what: "a Slack token",
        prefix: b"xoxp-",
        legal: word_or_dash,
        length: (40, 100),
    },
    Token {
        what: "a Google API key",
        prefix: b"AIza",
        legal: word_or_dash,
        length: (35, 35),
    },
    Token {
        what: "a Stripe key",
        prefix: b"sk_live_",
        legal: alphanumeric,
        length: (24, 120),
    },
    Token {
        what: "an npm token",
        prefix: b"npm_",
        legal: alphanumeric,
        length: (36, 36),
    },
    Token {
        what: "a PyPI token",
        prefix: b"pypi-AgEIcHlwaS5vcmc",
        legal: word_or_dash,
        length: (50, 250),
    },
];

pub(crate) const PRIVATE_KEY: &str = "a private key";
/// A key in PEM: bytes of base64 must follow, or it is a program that knows the words.
const PEM: &[u8] = b"-----BEGIN ";
const PEM_END: &[u8] = b"PRIVATE KEY-----";
const PEM_BODY: usize = 40;

const HOSTS: &[&[u8]] = &[
    b"\0getaddrinfo\0",
    b"\0gethostbyname\0",
    b"\0gethostbyname_r\0",
];
const CERTIFICATES: &[&[u8]] = &[
    b"crypto/x509",
    b"/etc/ssl/certs",
    b"\0SSL_CTX_set_default_verify_paths\0",
];
const ZONES: &[&[u8]] = &[b"/usr/share/zoneinfo"];

fn upper_or_digit(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn word_or_dash(byte: u8) -> bool {
    word(byte) || byte == b'-'
}

/// Looks at a file's bytes as they pass.
#[derive(Debug)]
pub(crate) struct Scanner {
    secrets: bool,
    programs: bool,
    /// The end of what was seen, and where in the file it begins.
    window: Vec<u8>,
    start: u64,
    /// Bytes of the window whose beginnings were looked at already.
    seen: usize,
    found: Vec<Secret>,
    mentions: Mentions,
}

impl Scanner {
    pub(crate) fn new(secrets: bool, programs: bool) -> Self {
        Self {
            secrets,
            programs,
            window: Vec::new(),
            start: 0,
            seen: 0,
            found: Vec::new(),
            mentions: Mentions::default(),
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if !self.secrets && !self.programs {
            return;
        }
        self.window.extend_from_slice(bytes);
        let end = self.window.len().saturating_sub(OVERLAP);
        self.look(end);
        // One byte stays before what is looked at next: a token begins where no word goes on.
        let away = self.seen.saturating_sub(1);
        self.window.drain(..away);
        self.start += away as u64;
        self.seen -= away;
    }

    pub(crate) fn finish(mut self) -> (Vec<Secret>, Mentions) {
        self.look(self.window.len());
        (self.found, self.mentions)
    }

    /// Looks at what begins before `end`.
    fn look(&mut self, end: usize) {
        for at in self.seen..end {
            let Some(rest) = self.window.get(at..) else {
                break;
            };
            // The first bytes of all forms: most bytes of most files are none of them.
            match rest.first() {
                Some(b'A' | b'-' | b'g' | b'x' | b's' | b'n' | b'p')
                    if self.secrets && self.found.len() < MAX_TOLD =>
                {
                    let before = at
                        .checked_sub(1)
                        .and_then(|before| self.window.get(before))
                        .copied();
                    if let Some(what) = secret(rest, before) {
                        self.found.push(Secret {
                            what,
                            offset: self.start + at as u64,
                        });
                    }
                }
                Some(0 | b'/' | b'c') => {}
                _ => continue,
            }
            if self.programs && matches!(rest.first(), Some(0 | b'/' | b'c')) {
                let any = |words: &[&[u8]]| words.iter().any(|word| rest.starts_with(word));
                self.mentions.names_of_hosts |= any(HOSTS);
                self.mentions.certificates |= any(CERTIFICATES);
                self.mentions.zones |= any(ZONES);
            }
        }
        self.seen = self.seen.max(end);
    }
}

/// What begins at the start of `rest`.
fn secret(rest: &[u8], before: Option<u8>) -> Option<&'static str> {
    if rest.starts_with(PEM) {
        return private_key(rest).then_some(PRIVATE_KEY);
    }
    let token = TOKENS.iter().find(|token| rest.starts_with(token.prefix))?;
    if before.is_some_and(word_or_dash) {
        return None;
    }
    let body = rest.get(token.prefix.len()..)?;
    let length = body.iter().take_while(|byte| (token.legal)(**byte)).count();
    let (least, most) = token.length;
    let ends = !body.get(length).is_some_and(|byte| word_or_dash(*byte));
    // Every documentation has them: of one letter, or with the word in it.
    let body = body.get(..length)?;
    let varied = body.iter().any(u8::is_ascii_digit)
        && body.windows(2).filter(|pair| pair[0] != pair[1]).count() > least / 2;
    let example = body
        .windows(7)
        .any(|word| word.eq_ignore_ascii_case(b"example"));
    ((least..=most).contains(&length) && ends && varied && !example).then_some(token.what)
}

/// `-----BEGIN [WORDS ]PRIVATE KEY-----`, a line's end, and base64 after headers that may stand there.
fn private_key(rest: &[u8]) -> bool {
    let Some(words) = rest.get(PEM.len()..) else {
        return false;
    };
    let label = words.get(..48).unwrap_or(words);
    let Some(at) = label
        .windows(PEM_END.len())
        .position(|word| word == PEM_END)
    else {
        return false;
    };
    let clean = label
        .get(..at)
        .unwrap_or_default()
        .iter()
        .all(|byte| byte.is_ascii_uppercase() || *byte == b' ');
    let body = words.get(at + PEM_END.len()..).unwrap_or_default();
    let body = body.get(..OVERLAP.min(body.len())).unwrap_or_default();
    let mut lines = body.split(|byte| *byte == b'\n').skip(1);
    let base64 = |line: &[u8]| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        line.len() >= PEM_BODY
            && line
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(byte))
    };
    // The line may also stand in a JSON string.
    let escaped = body
        .strip_prefix(b"\\n")
        .or_else(|| body.strip_prefix(b"\\r\\n"));
    let in_string = escaped.is_some_and(|body| body.get(..PEM_BODY).is_some_and(base64));
    clean && (in_string || lines.any(base64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &[u8], piece: usize) -> Vec<(&'static str, u64)> {
        let mut scanner = Scanner::new(true, true);
        text.chunks(piece).for_each(|piece| scanner.push(piece));
        scanner
            .finish()
            .0
            .into_iter()
            .map(|secret| (secret.what, secret.offset))
            .collect()
    }

    /// Not as one string, or this file would hold what the tests look for.
    fn key(label: &str) -> String {
        let line =
            "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7".to_owned() + "VJTUt9Us8cKj";
        format!("-----BEGIN {label}-----\n{line}\n-----END {label}-----\n")
    }

    #[test]
    fn secrets_are_found_by_their_form_wherever_a_piece_ends() {
        let token = "ghp_".to_owned() + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8";
        let aws = "AKIA".to_owned() + "IQ5XWZJ2T7KM3NPL";
        for (name, text, want) in [
            ("a key", key("PRIVATE KEY"), Some("a private key")),
            (
                "an RSA key",
                format!("x\n{}", key("RSA PRIVATE KEY")),
                Some("a private key"),
            ),
            (
                "with headers",
                key("EC PRIVATE KEY").replacen("\nMII", "\nProc-Type: 4\n\nMII", 1),
                Some("a private key"),
            ),
            (
                "in a JSON string",
                format!("{{\"k\":\"{}\"}}", key("PRIVATE KEY").replace('\n', "\\n")),
                Some("a private key"),
            ),
            ("a public key", key("PUBLIC KEY"), None),
            ("a certificate", key("CERTIFICATE"), None),
            (
                "the words alone",
                "-----BEGIN PRIVATE KEY-----\0-----END PRIVATE KEY-----".to_owned(),
                None,
            ),
            (
                "a program's words",
                "%s\n-----BEGIN RSA PRIVATE KEY-----\nnot a key\n".to_owned(),
                None,
            ),
            (
                "a token",
                format!("token = {token}\n"),
                Some("a GitHub token"),
            ),
            ("a longer word", format!("token = {token}x\n"), None),
            ("the end of a word", format!("my{token}\n"), None),
            ("all one letter", format!("ghp_{}", "x".repeat(36)), None),
            (
                "an access key",
                format!("\"{aws}\""),
                Some("an AWS access key"),
            ),
            (
                "the documentation's",
                "AKIAIOSFODNN7".to_owned() + "EXAMPLE",
                None,
            ),
            ("nothing", "a".repeat(5000), None),
        ] {
            let padded = format!("{}\n{text}", "- A g p n\n".repeat(200));
            for piece in [1, 7, 100, 8192] {
                let got = found(padded.as_bytes(), piece);
                let kinds: Vec<_> = got.iter().map(|(what, _)| *what).collect();
                assert_eq!(
                    kinds.first().copied(),
                    want,
                    "{name}, pieces of {piece}: {got:?}"
                );
            }
        }
        let text = format!("12345\n{token}\n");
        assert_eq!(found(text.as_bytes(), 3), [("a GitHub token", 6)]);
    }

    #[test]
    fn a_program_s_strings_say_what_it_asks_for() {
        let mut scanner = Scanner::new(false, true);
        scanner.push(b"\0getaddri");
        scanner.push(b"nfo\0 /usr/share/zoneinfo");
        let (_, mentions) = scanner.finish();
        assert_eq!(
            mentions,
            Mentions {
                names_of_hosts: true,
                certificates: false,
                zones: true
            }
        );
    }
}
