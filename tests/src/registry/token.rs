//! A token server, as registries have beside them: it wants a user and a password, or a refresh token, and signs what may be done.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use tempfile::TempDir;

use super::{header, read, read_head, run};

/// Listens as long as the test runs.
#[derive(Debug)]
pub struct Tokens {
    port: u16,
    dir: Arc<TempDir>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Tokens {
    /// For who says `user:password` or has the refresh token; each token lives so many seconds.
    ///
    /// # Errors
    /// openssl's, or `bind(2)`'s.
    pub fn start(pair: &'static str, refresh: &'static str, life: u64) -> io::Result<Self> {
        let dir = Arc::new(
            tempfile::Builder::new()
                .prefix("airtight-token-")
                .tempdir()?,
        );
        let at = |name: &str| dir.path().join(name).display().to_string();
        let (key, bundle) = (at("key"), at("bundle"));
        run(Command::new("openssl").args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            &key,
            "-out",
            &bundle,
            "-subj",
            "/CN=tokens",
            "-days",
            "2",
        ]))?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (own, log) = (Arc::clone(&dir), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away is no fault.
                drop(answer(&stream, &own, &log, (pair, refresh, life)));
            }
        });
        Ok(Self { port, dir, asked })
    }

    pub(super) fn realm(&self) -> String {
        format!("http://localhost:{}/token", self.port)
    }

    pub(super) fn bundle(&self) -> String {
        self.dir.path().join("bundle").display().to_string()
    }

    /// What was asked for, each with its method and its form or query, decoded.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn answer(
    mut stream: &TcpStream,
    dir: &TempDir,
    asked: &Mutex<Vec<String>>,
    (pair, refresh, life): (&str, &str, u64),
) -> io::Result<()> {
    let Some(head) = read_head(&mut stream)? else {
        return Ok(());
    };
    let length: u64 = header(&head, "content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let mut form = String::new();
    stream.take(length).read_to_string(&mut form)?;
    let target = head.split(' ').nth(1).unwrap_or_default();
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let said = decode(if form.is_empty() { query } else { &form });
    let method = head.split(' ').next().unwrap_or_default();
    asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(format!("{method} {said}"));
    let basic = format!("Basic {}", base64(pair.as_bytes(), b"+/", true));
    let known = header(&head, "authorization") == Some(&basic)
        || said.contains(&format!("refresh_token={refresh}"));
    let (status, body) = if known {
        let token = sign(dir, &said, life)?;
        (
            "200 OK",
            json!({ "token": token, "expires_in": life }).to_string(),
        )
    } else {
        // As a server that repeats what it should not.
        let heard = header(&head, "authorization").unwrap_or_default();
        ("401 Unauthorized", json!({ "errors": [{ "code": "UNAUTHORIZED", "message": format!("no: {heard} {said}") }] }).to_string())
    };
    let length = body.len();
    stream.write_all(
        format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").as_bytes(),
    )
}

/// A JSON web token for each `scope` of the request.
fn sign(dir: &TempDir, said: &str, life: u64) -> io::Result<String> {
    let access: Vec<_> = said
        .split('&')
        .filter_map(|pair| pair.strip_prefix("scope="))
        .flat_map(|scopes| scopes.split(' '))
        .filter_map(|scope| {
            let (kind, rest) = scope.split_once(':')?;
            let (name, actions) = rest.rsplit_once(':')?;
            let actions: Vec<&str> = actions.split(',').collect();
            Some(json!({ "type": kind, "name": name, "actions": actions }))
        })
        .collect();
    let pem = read(&dir.path().join("bundle"))?;
    let certificate: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let head = json!({ "typ": "JWT", "alg": "RS256", "x5c": [certificate] });
    let claims = json!({
        "iss": "test", "sub": "user", "aud": "test", "exp": now + life, "nbf": now - 5, "iat": now, "jti": "1", "access": access,
    });
    let part = |value: &serde_json::Value| base64(value.to_string().as_bytes(), b"-_", false);
    let text = format!("{}.{}", part(&head), part(&claims));
    let (key, file) = (dir.path().join("key"), dir.path().join("text"));
    std::fs::write(&file, &text)?;
    let signature = run(Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(key)
        .arg(file))?;
    Ok(format!("{text}.{}", base64(&signature, b"-_", false)))
}

fn base64(bytes: &[u8], last: &[u8; 2], padded: bool) -> String {
    let mut alphabet: Vec<u8> = (b'A'..=b'Z')
        .chain(b'a'..=b'z')
        .chain(b'0'..=b'9')
        .collect();
    alphabet.extend(last);
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let mut word = 0u32;
        for at in 0..3 {
            word = word << 8 | u32::from(three.get(at).copied().unwrap_or(0));
        }
        for at in 0..=three.len() {
            let index = usize::try_from(word >> (18 - 6 * at) & 63).unwrap_or(0);
            text.push(char::from(alphabet.get(index).copied().unwrap_or(b'=')));
        }
        if padded {
            text.push_str(&"=".repeat(3 - three.len()));
        }
    }
    text
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |byte: Option<u8>| {
            byte.and_then(|byte| char::from(byte).to_digit(16))
                .and_then(|digit| u8::try_from(digit).ok())
        };
        match byte {
            b'%' => {
                if let (Some(high), Some(low)) = (hex(rest.next()), hex(rest.next())) {
                    bytes.push(high << 4 | low);
                }
            }
            b'+' => bytes.push(b' '),
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
