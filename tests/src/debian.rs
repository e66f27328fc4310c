//! A mirror of Debian packages of one's own: packages that `dpkg-deb` builds, a release that `gpg` signs, served as files or over loopback HTTP.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A package to be built.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deb<'a> {
    pub name: &'a str,
    pub version: &'a str,
    /// Of its control file, besides the necessary.
    pub fields: &'a [(&'a str, &'a str)],
    /// Path, content, mode. A content that begins with `-> ` makes a link.
    pub files: &'a [(&'a str, &'a str, u32)],
    /// `postinst` and the like.
    pub scripts: &'a [(&'a str, &'a str)],
}

/// Who signs a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    Ed25519,
    Rsa,
    /// A key that is not in the keyring.
    Stranger,
    Nobody,
}

/// How a release is published.
#[derive(Clone, Copy, Debug)]
pub struct Publish {
    pub signer: Signer,
    /// Seconds from now.
    pub date: i64,
    /// Seconds from now.
    pub valid_until: Option<i64>,
    /// Changes the release before it is signed.
    pub before: fn(String) -> String,
    /// And after.
    pub after: fn(String) -> String,
}

impl Default for Publish {
    fn default() -> Self {
        Self {
            signer: Signer::Ed25519,
            date: -60,
            valid_until: Some(86_400),
            before: |text| text,
            after: |text| text,
        }
    }
}

/// A mirror in a directory.
#[derive(Debug)]
pub struct Repository {
    dir: PathBuf,
    keys: PathBuf,
    index: String,
}

impl Repository {
    /// An empty one below `dir`, with keys of its own.
    ///
    /// # Errors
    /// The file system's, or gpg's.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let keys = dir.join("k");
        fs::create_dir_all(dir.join("mirror/pool"))?;
        fs::create_dir_all(&keys)?;
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o700))?;
        let repository = Self {
            dir: dir.to_owned(),
            keys,
            index: String::new(),
        };
        for (name, kind) in [
            ("ed", "ed25519"),
            ("rsa", "rsa2048"),
            ("stranger", "ed25519"),
        ] {
            repository.gpg(&["--quick-gen-key", name, kind, "sign", "never"], None)?;
        }
        let keyring = repository.gpg(&["--export", "=ed", "=rsa"], None)?;
        fs::write(repository.keyring(), keyring)?;
        Ok(repository)
    }

    fn gpg(&self, args: &[&str], input: Option<&str>) -> io::Result<Vec<u8>> {
        let mut gpg = Command::new("gpg");
        gpg.arg("--homedir").arg(&self.keys).args([
            "--batch",
            "--yes",
            "--quiet",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ]);
        filter(gpg.args(args), input.unwrap_or_default().as_bytes())
    }

    /// Where the keys are that its releases are signed with, in binary form.
    #[must_use]
    pub fn keyring(&self) -> PathBuf {
        self.dir.join("keyring.gpg")
    }

    /// The directory that is served.
    #[must_use]
    pub fn mirror(&self) -> PathBuf {
        self.dir.join("mirror")
    }

    /// As `--mirror` takes it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("file:{}", self.mirror().display())
    }

    /// Builds a package and lists it. Its path below the mirror.
    ///
    /// # Errors
    /// The file system's, or dpkg-deb's.
    pub fn add(&mut self, deb: &Deb<'_>) -> io::Result<String> {
        let tree = self.dir.join("tree");
        if tree.exists() {
            fs::remove_dir_all(&tree)?;
        }
        fs::create_dir_all(tree.join("DEBIAN"))?;
        let mut control = format!(
            "Package: {}\nVersion: {}\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: a test\n",
            deb.name, deb.version
        );
        for (name, value) in deb.fields {
            control += &format!("{name}: {value}\n");
        }
        fs::write(tree.join("DEBIAN/control"), &control)?;
        for (path, content, mode) in deb.files {
            let path = tree.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap_or(&tree))?;
            match content.strip_prefix("-> ") {
                Some(target) => std::os::unix::fs::symlink(target, &path)?,
                None => {
                    fs::write(&path, content)?;
                    fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
                }
            }
        }
        for (name, text) in deb.scripts {
            let path = tree.join("DEBIAN").join(name);
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        let built = self.dir.join("built.deb");
        let mut dpkg = Command::new("dpkg-deb");
        dpkg.args(["--root-owner-group", "-Zxz", "--build"])
            .arg(&tree)
            .arg(&built);
        filter(&mut dpkg, &[])?;
        self.list(&control, &fs::read(&built)?)
    }

    /// Lists a package that is there as bytes. Its path below the mirror.
    ///
    /// # Errors
    /// The file system's.
    pub fn list(&mut self, control: &str, deb: &[u8]) -> io::Result<String> {
        let field = |name: &str| {
            let line = control.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or("x").trim().to_owned()
        };
        let path = format!("pool/{}_{}.deb", field("Package:"), field("Version:"));
        fs::write(self.mirror().join(&path), deb)?;
        self.index += &format!(
            "{control}Filename: {path}\nSize: {}\nSHA256: {}\n\n",
            deb.len(),
            sha256(deb)?
        );
        Ok(path)
    }

    /// Writes the index and the signed release of the suite `stable`.
    ///
    /// # Errors
    /// The file system's, or gpg's.
    pub fn publish(&self, publish: &Publish) -> io::Result<()> {
        let suite = self.mirror().join("dists/stable");
        let architecture = if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "amd64"
        };
        let component = format!("main/binary-{architecture}");
        fs::create_dir_all(suite.join(&component))?;
        let packed = filter(Command::new("gzip").arg("-nc"), self.index.as_bytes())?;
        fs::write(suite.join(&component).join("Packages.gz"), &packed)?;
        let date = |offset: i64| -> io::Result<String> {
            let mut date = Command::new("date");
            date.args(["-Ru", "-d", &format!("{offset} seconds")]);
            Ok(String::from_utf8_lossy(&filter(&mut date, &[])?)
                .trim()
                .to_owned())
        };
        let mut text = format!(
            "Suite: stable\nCodename: test\nDate: {}\nArchitectures: {architecture}\nComponents: main\n",
            date(publish.date)?
        );
        if let Some(until) = publish.valid_until {
            text += &format!("Valid-Until: {}\n", date(until)?);
        }
        text += &format!(
            "SHA256:\n {} {} {component}/Packages\n {} {} {component}/Packages.gz\n",
            sha256(self.index.as_bytes())?,
            self.index.len(),
            sha256(&packed)?,
            packed.len()
        );
        let text = (publish.before)(text);
        let signer = match publish.signer {
            Signer::Ed25519 => "=ed",
            Signer::Rsa => "=rsa",
            Signer::Stranger => "=stranger",
            Signer::Nobody => return fs::write(suite.join("InRelease"), (publish.after)(text)),
        };
        let signed = self.gpg(&["--clearsign", "-u", signer], Some(&text))?;
        let signed = (publish.after)(String::from_utf8_lossy(&signed).into_owned());
        fs::write(suite.join("InRelease"), signed)
    }

    /// Over loopback HTTP. The first answers for a path that ends in `cut` stop after so many bytes, as often as said.
    ///
    /// # Errors
    /// A port that cannot be had.
    pub fn serve(&self, cut: &'static str, bytes: usize, times: usize) -> io::Result<Served> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let root = self.mirror();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut left = times;
            for stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::Relaxed);
                // A client that went away is the client's test.
                drop(answer(stream, &root, cut, bytes, &mut left));
            }
        });
        Ok(Served { port, asked })
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let kill = Command::new("gpgconf")
            .arg("--homedir")
            .arg(&self.keys)
            .args(["--kill", "gpg-agent"])
            .status();
        // It ends by itself when its directory is gone.
        drop(kill);
    }
}

/// A mirror over HTTP; its thread ends with the process.
#[derive(Debug)]
pub struct Served {
    port: u16,
    asked: Arc<AtomicUsize>,
}

impl Served {
    /// As `--mirror` takes it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Requests so far.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn answer(
    mut stream: TcpStream,
    root: &Path,
    cut: &str,
    bytes: usize,
    left: &mut usize,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut from = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(range) = lower.trim().strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap_or(0);
        }
    }
    let Ok(mut file) = fs::File::open(root.join(path.trim_start_matches('/'))) else {
        return stream.write_all(
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        );
    };
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    let whole = content.len();
    let rest = content.get(from..).unwrap_or_default();
    let status = if from > 0 {
        format!(
            "206 Partial Content\r\ncontent-range: bytes {from}-{}/{whole}",
            whole - 1
        )
    } else {
        "200 OK".to_owned()
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        rest.len()
    )?;
    if path.ends_with(cut) && *left > 0 {
        *left -= 1;
        return stream.write_all(rest.get(..bytes).unwrap_or(rest));
    }
    stream.write_all(rest)
}

fn sha256(bytes: &[u8]) -> io::Result<String> {
    let out = filter(&mut Command::new("sha256sum"), bytes)?;
    let text = String::from_utf8_lossy(&out).into_owned();
    Ok(text
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned())
}

/// Runs a program on some bytes; what it writes.
///
/// # Errors
/// The program's, with what it says.
pub fn filter(command: &mut Command, input: &[u8]) -> io::Result<Vec<u8>> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || {
        // A program that does not read its input needs none.
        stdin
            .as_mut()
            .map(|pipe| pipe.write_all(&input))
            .transpose()
            .is_ok()
    });
    let done = child.wait_with_output()?;
    drop(feeder.join());
    if done.status.success() {
        return Ok(done.stdout);
    }
    Err(io::Error::other(format!(
        "{command:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    )))
}
