//! A registry on loopback: Debian's `docker-registry`, its certificates and tokens, and a proxy before it that does what networks and hostile registries do.

mod proxy;
mod token;

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

pub use proxy::{Fault, Proxy, Seen};
pub use token::Tokens;

use crate::host::Need;
use crate::world::wait_until;

/// What the tests of registries need of the host.
pub const REGISTRY: &[Need] = &[
    Need::Program("docker-registry"),
    Need::Program("htpasswd"),
    Need::Program("openssl"),
];

/// Who may.
#[derive(Clone, Copy, Debug)]
pub enum Access<'a> {
    Everybody,
    /// `USER:PASSWORD`.
    Basic(&'a str),
    Token(&'a Tokens),
}

/// Ends with the value.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    pub port: u16,
    dir: TempDir,
}

impl Registry {
    /// One that keeps what it is sent in a directory of its own; by TLS if there is an authority.
    ///
    /// # Errors
    /// A registry that does not start.
    pub fn start(authority: Option<&Authority>, access: Access<'_>) -> io::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("airtight-registry-")
            .tempdir()?;
        let port = free_port()?;
        let at = |name: &str| dir.path().join(name).display().to_string();
        let tls = authority.map_or_else(String::new, |authority| {
            let (cert, key) = (authority.path("server.crt"), authority.path("server.key"));
            format!("  tls: {{certificate: {cert:?}, key: {key:?}}}\n")
        });
        let auth = match access {
            Access::Everybody => String::new(),
            Access::Basic(pair) => {
                let (user, password) = pair.split_once(':').unwrap_or_default();
                let entry = run(Command::new("htpasswd").args(["-Bbn", user, password]))?;
                fs::write(at("htpasswd"), entry)?;
                format!(
                    "auth: {{htpasswd: {{realm: test, path: {:?}}}}}\n",
                    at("htpasswd")
                )
            }
            Access::Token(tokens) => format!(
                "auth: {{token: {{realm: {:?}, service: test, issuer: test, rootcertbundle: {:?}}}}}\n",
                tokens.realm(),
                tokens.bundle()
            ),
        };
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {:?}}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: 127.0.0.1:{port}\n  secret: test\n{tls}{auth}",
            at("data")
        );
        fs::write(at("config.yml"), config)?;
        let log = fs::File::create(at("log"))?;
        let child = Command::new("docker-registry")
            .args(["serve", &at("config.yml")])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut registry = Self { child, port, dir };
        let up = wait_until(Duration::from_secs(30), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        if up && matches!(registry.child.try_wait(), Ok(None)) {
            return Ok(registry);
        }
        Err(io::Error::other(fs::read_to_string(
            registry.dir.path().join("log"),
        )?))
    }

    /// `localhost:PORT/REST`.
    #[must_use]
    pub fn name(&self, rest: &str) -> String {
        format!("localhost:{}/{rest}", self.port)
    }

    /// Where it keeps a blob.
    #[must_use]
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let blobs = self.dir.path().join("data/docker/registry/v2/blobs/sha256");
        blobs
            .join(hex.get(..2).unwrap_or_default())
            .join(hex)
            .join("data")
    }

    /// Puts a blob there, as a tool would that is not ours.
    ///
    /// # Errors
    /// A registry that does not take it.
    pub fn put_blob(&self, repository: &str, digest: &str, bytes: &[u8]) -> io::Result<()> {
        let begun = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"")?;
        let location = header(&begun, "location").unwrap_or_default();
        let path = location
            .split_once("://")
            .and_then(|(_, rest)| rest.split_once('/'));
        let path = path
            .map(|(_, path)| format!("/{path}&digest={digest}"))
            .unwrap_or_default();
        self.ask("PUT", &path, "application/octet-stream", bytes)
            .map(drop)
    }

    /// Puts a manifest there.
    ///
    /// # Errors
    /// As [`Registry::put_blob`].
    pub fn put_manifest(
        &self,
        repository: &str,
        name: &str,
        kind: &str,
        text: &str,
    ) -> io::Result<()> {
        let path = format!("/v2/{repository}/manifests/{name}");
        self.ask("PUT", &path, kind, text.as_bytes()).map(drop)
    }

    /// The head of the answer, which must be one of success.
    fn ask(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> io::Result<String> {
        use io::Write as _;
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let answer = read_head(&mut stream)?.unwrap_or_default();
        if answer.starts_with("HTTP/1.1 20") {
            return Ok(answer);
        }
        Err(io::Error::other(format!("{method} {path}: {answer}")))
    }

    /// Whether it has a manifest under a tag.
    #[must_use]
    pub fn has_tag(&self, repository: &str, tag: &str) -> bool {
        let data = self.dir.path().join("data/docker/registry/v2/repositories");
        data.join(repository)
            .join("_manifests/tags")
            .join(tag)
            .join("current/link")
            .is_file()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A CA of the test's own, a server's certificate for loopback and a client's.
#[derive(Debug)]
pub struct Authority {
    dir: TempDir,
}

impl Authority {
    /// # Errors
    /// openssl's.
    pub fn new() -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("airtight-ca-").tempdir()?;
        let at = |name: &str| dir.path().join(name).display().to_string();
        let key = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ];
        let openssl = |args: &[&str]| run(Command::new("openssl").args(args));
        let (ca_key, ca) = (at("ca.key"), at("trust/ca.crt"));
        fs::create_dir(dir.path().join("trust"))?;
        let own = [
            "-keyout",
            &ca_key,
            "-out",
            &ca,
            "-subj",
            "/CN=test CA",
            "-days",
            "2",
        ];
        let constraints = ["-addext", "basicConstraints=critical,CA:TRUE"];
        openssl(&[&["req", "-x509"], &key[..], &own, &constraints].concat())?;
        fs::write(
            at("server.ext"),
            "subjectAltName=DNS:localhost,IP:127.0.0.1\n",
        )?;
        let (server_key, csr) = (at("server.key"), at("server.csr"));
        let own = [
            "-keyout",
            &server_key,
            "-out",
            &csr,
            "-subj",
            "/CN=localhost",
        ];
        openssl(&[&["req"], &key[..], &own].concat())?;
        openssl(&[
            "x509",
            "-req",
            "-in",
            &csr,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            &at("server.ext"),
            "-out",
            &at("server.crt"),
        ])?;
        Ok(Self { dir })
    }

    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// A directory of certificates to trust.
    #[must_use]
    pub fn trust(&self) -> String {
        self.path("trust")
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Its output.
fn run(command: &mut Command) -> io::Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("{command:?}: {said}")))
}

/// One header of a request or an answer's head.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Up to and with the empty line; none when the peer closed before, or greets as TLS does.
fn read_head(stream: &mut impl io::Read) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
        if head.first() == Some(&0x16) {
            return Ok(None);
        }
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

/// A file that is there by now.
fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path)
}
