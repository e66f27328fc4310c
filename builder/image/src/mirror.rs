//! Mirrors of a distribution's packages: a tree of files by `http`, `https` or `file`. What comes from one is bounded here and believed by nobody: whoever asks
//! knows the digest, or a signature that it must carry. That is why plain HTTP is as good as any.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ureq::http::Method;

use crate::descriptor::Descriptor;
use crate::error::{Error, Result};
use crate::registry::http::{Ask, Http, Payload, Reply};
use crate::registry::pace::{Backoff, Fault};
use crate::registry::url::Url;
use crate::registry::{Meter, Settings, work};
use crate::source::read_beneath;
use crate::store::{Partial, Store, regular};

const BUFFER: usize = 128 << 10;
/// So much in one attempt is progress; less is a peer that holds us up.
const PROGRESS: u64 = 1 << 20;
const MAX_REDIRECTS: usize = 5;
const FIX: &str = "name another mirror, or try again when this one is whole";

/// One mirror, by the address of the directory that holds `dists` and `pool`.
#[derive(Debug)]
pub struct Mirror {
    from: From,
    settings: Settings,
    meter: Arc<Meter>,
}

#[derive(Debug)]
enum From {
    Tree { path: PathBuf, root: File },
    Http { base: Url, http: Box<Http> },
}

/// What may be had of a mirror, and where.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Below the mirror's address: `pool/main/a/a.deb`.
    pub path: String,
    pub blob: Descriptor,
}

impl Mirror {
    /// `proxy` is the address of one that HTTP goes through; else the environment says.
    ///
    /// # Errors
    /// An address that is none, or a directory that is not there.
    pub fn open(address: &str, settings: &Settings, proxy: Option<&str>) -> Result<Self> {
        let meter: Arc<Meter> = Arc::default();
        let from = match address.strip_prefix("file:") {
            Some(path) => {
                // `file:///srv` and `file:/srv` are both in use.
                let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
                if !path.is_absolute() {
                    return Err(bad(address, "is no path from the root"));
                }
                let root = File::open(&path).map_err(Error::io(&path))?;
                From::Tree { path, root }
            }
            None => {
                let base = Url::parse(&format!("{}/", address.trim_end_matches('/')))
                    .map_err(|_| bad(address, "is no address"))?;
                let host = base.origin().authority();
                let mut http = Http::new(settings.clone(), Arc::clone(&meter), &host);
                http.set_proxy(proxy)?;
                From::Http {
                    base,
                    http: Box::new(http),
                }
            }
        };
        Ok(Self {
            from,
            settings: settings.clone(),
            meter,
        })
    }

    /// All of a file of at most `limit` bytes; none if the mirror has it not.
    ///
    /// # Errors
    /// A mirror that cannot be read, or a larger file.
    pub fn document(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        check_path(path)?;
        match &self.from {
            From::Tree { path: base, root } => {
                let Some(file) = open_in_tree(base, root, path)? else {
                    return Ok(None);
                };
                let mut bytes = Vec::new();
                file.take(limit + 1)
                    .read_to_end(&mut bytes)
                    .map_err(Error::io(&base.join(path)))?;
                if bytes.len() as u64 > limit {
                    return Err(Error::refused(
                        base.join(path).display(),
                        format!("is larger than {limit} bytes"),
                        FIX,
                    ));
                }
                Ok(Some(bytes))
            }
            From::Http { base, http } => {
                let ask = Ask::new(Method::GET, base.join(path)?);
                let mut backoff = self.backoff();
                loop {
                    let read = attempt(http, &ask).and_then(|reply| match reply.status {
                        200 => http.read(reply, limit).map(Some),
                        404 | 410 => Ok(None),
                        _ => Err(http.complaint(reply, "cannot be read").into()),
                    });
                    match read {
                        Ok(read) => return Ok(read),
                        Err(fault) => backoff.wait(fault)?,
                    }
                }
            }
        }
    }

    /// Puts what is wanted into the store, verified, and goes on where a killed attempt was; true if any byte had to come. What the store has is not asked for.
    ///
    /// # Errors
    /// A file that the mirror has not, or that has another size or digest; nothing of it is kept.
    pub fn fetch(&self, wanted: &Wanted, store: &Store) -> Result<bool> {
        check_path(&wanted.path)?;
        store.add()?;
        if store.has_whole(&wanted.blob) {
            return Ok(false);
        }
        let named = |error: Error| {
            Error::refused(format!("{} of {self}", wanted.path), error.to_string(), FIX)
        };
        match &self.from {
            From::Tree { path: base, root } => {
                let whole = base.join(&wanted.path);
                let file = open_in_tree(base, root, &wanted.path)?
                    .ok_or_else(|| missing(&whole.display().to_string()))?;
                store
                    .put_verified(file, &wanted.blob, &whole)
                    .map_err(named)?;
            }
            From::Http { base, http } => {
                let mut partial = store.partial(&wanted.blob)?;
                self.download(http, &base.join(&wanted.path)?, &mut partial)
                    .map_err(named)?;
                partial.commit().map_err(named)?;
            }
        }
        Ok(true)
    }

    /// [`Mirror::fetch`] for many, several at once. How many had to come.
    ///
    /// # Errors
    /// The first that fails; those that came before it stay.
    pub fn fetch_all(&self, wanted: &[Wanted], store: &Store) -> Result<usize> {
        let came = work::each(self.settings.jobs, &self.meter, wanted, |wanted| {
            self.fetch(wanted, store)
        })?;
        Ok(came.into_iter().filter(|came| *came).count())
    }

    fn backoff(&self) -> Backoff<'_> {
        Backoff::new(self.settings.retries, &self.meter)
    }

    fn download(&self, http: &Http, url: &Url, partial: &mut Partial) -> Result<()> {
        // What lay here from another time may be what is wrong.
        let mut doubt = partial.length() > 0;
        let mut backoff = self.backoff();
        loop {
            while partial.length() < partial.wanted().size() {
                let before = partial.length();
                if let Err(fault) = download_some(http, url, partial) {
                    if partial.length().saturating_sub(before) >= PROGRESS {
                        backoff.progress();
                    }
                    doubt |= partial.length() > 0;
                    backoff.wait(fault)?;
                }
            }
            match partial.verify() {
                Ok(()) => return Ok(()),
                Err(_) if doubt => doubt = false,
                Err(error) => return Err(error),
            }
        }
    }
}

impl std::fmt::Display for Mirror {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.from {
            From::Tree { path, .. } => path.display().fmt(out),
            From::Http { base, .. } => base.fmt(out),
        }
    }
}

/// One request: all that is missing, or as much as comes.
fn download_some(http: &Http, url: &Url, partial: &mut Partial) -> std::result::Result<(), Fault> {
    let (offset, size) = (partial.length(), partial.wanted().size());
    let mut ask = Ask::new(Method::GET, url.clone());
    if offset > 0 {
        ask.headers.push(("range", format!("bytes={offset}-")));
    }
    let reply = attempt(http, &ask)?;
    let (skip, whole) = match reply.status {
        200 => (offset, size),
        206 if offset > 0 && continues(&reply, offset, size) => (0, size - offset),
        // Another range than was asked for, or one that the file has not.
        206 | 416 if offset > 0 => return Ok(partial.restart()?),
        404 | 410 => return Err(missing(&url.to_string()).into()),
        _ => return Err(http.complaint(reply, "cannot be fetched").into()),
    };
    if let Some(length) = reply.length()?.filter(|length| *length != whole) {
        let problem = format!("is said to be {length} bytes, and the index says {whole}");
        return Err(Error::refused(url, problem, FIX).into());
    }
    let cut = |error: &io::Error| Fault::Again {
        error: Error::refused(url, format!("was cut off: {error}"), FIX),
        after: None,
    };
    let mut body = http.body(reply, Some(&http.meter));
    io::copy(&mut (&mut body).take(skip), &mut io::sink()).map_err(|error| cut(&error))?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = body.read(&mut buffer).map_err(|error| cut(&error))?;
        if count == 0 {
            break;
        }
        partial.write(buffer.get(..count).unwrap_or_default())?;
    }
    if partial.length() < size {
        return Err(cut(&io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(())
}

/// `bytes FIRST-LAST/WHOLE`, as it was asked for.
fn continues(reply: &Reply, offset: u64, size: u64) -> bool {
    let said = reply.header("content-range").unwrap_or_default();
    said == format!("bytes {offset}-{}/{size}", size - 1)
}

/// A request, and where it is sent on to. Nothing leads from TLS to plain text.
fn attempt(http: &Http, ask: &Ask<'_>) -> std::result::Result<Reply, Fault> {
    let mut reply = http.exchange(ask, None)?;
    for _ in 0..=MAX_REDIRECTS {
        if !matches!(reply.status, 301 | 302 | 303 | 307 | 308) {
            return Ok(reply);
        }
        let location = reply
            .header("location")
            .ok_or_else(|| Error::refused(&reply.url, "points elsewhere, not saying where", FIX))?;
        let url = reply.url.join(location)?;
        if reply.url.origin().https && !url.origin().https {
            let problem = format!("points to {url}, which has no TLS");
            return Err(Error::refused(&reply.url, problem, FIX).into());
        }
        let next = Ask {
            method: ask.method.clone(),
            headers: ask.headers.clone(),
            payload: Payload::None,
            finishing: false,
            url,
        };
        reply = http.exchange(&next, None)?;
    }
    let problem = format!("redirects more than {MAX_REDIRECTS} times");
    Err(Error::refused(&reply.url, problem, FIX).into())
}

/// A file of a tree that somebody may be changing: no link leads out of it, and none is followed.
fn open_in_tree(base: &Path, root: &File, path: &str) -> Result<Option<File>> {
    match read_beneath(root, Path::new(path)).and_then(regular) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(&base.join(path))(error)),
    }
}

/// Paths come out of a signed index, which is no reason to let them climb or mean another server.
fn check_path(path: &str) -> Result<()> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+~:%=".contains(&byte);
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    if path.len() <= 1024 && path.bytes().all(legal) && path.split('/').all(plain) {
        return Ok(());
    }
    let shown: String = path.chars().take(120).collect();
    Err(Error::refused(
        format!("`{shown}`"),
        "is no path of a mirror",
        "the index is broken or hostile: name another mirror",
    ))
}

fn missing(what: &str) -> Error {
    Error::refused(
        what,
        "is not there",
        "the mirror has moved on: `airtight update` takes what it has now; or name one that keeps old packages",
    )
}

fn bad(address: &str, problem: &str) -> Error {
    let shown: String = address.chars().take(200).collect();
    Error::refused(
        format!("mirror `{shown}`"),
        problem,
        "write http://HOST/PATH, https://HOST/PATH or file:/PATH",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn settings() -> Settings {
        Settings {
            cert_dir: None,
            authfile: None,
            insecure: Vec::new(),
            patience: std::time::Duration::from_secs(5),
            retries: 0,
            jobs: 2,
            env: |_| None,
        }
    }

    #[test]
    fn a_tree_of_files_gives_what_was_asked_for_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("pool")).unwrap();
        std::fs::write(tree.join("pool/a"), "hello").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", tree.join("pool/link")).unwrap();
        let mirror =
            Mirror::open(&format!("file://{}", tree.display()), &settings(), None).unwrap();
        assert_eq!(
            mirror.document("pool/a", 5).unwrap(),
            Some(b"hello".to_vec())
        );
        assert_eq!(mirror.document("pool/b", 5).unwrap(), None);
        for (path, said) in [
            ("pool/a", "is larger than 4 bytes"),
            ("pool/link", "Too many levels"),
            ("../tree/pool/a", "is no path of a mirror"),
            ("/etc/passwd", "is no path of a mirror"),
        ] {
            let told = mirror.document(path, 4).unwrap_err().to_string();
            assert!(told.contains(said), "{path}: {told}");
        }
        let wanted = |path: &str, bytes: &[u8]| Wanted {
            path: path.to_owned(),
            blob: Descriptor::new("x", Digest::of(bytes), bytes.len() as u64),
        };
        let told = mirror
            .fetch(&wanted("pool/a", b"hellO"), &store)
            .unwrap_err()
            .to_string();
        assert!(told.contains("has the digest"), "{told}");
        let told = mirror
            .fetch(&wanted("pool/none", b"x"), &store)
            .unwrap_err()
            .to_string();
        assert!(told.contains("is not there"), "{told}");
        let right = [wanted("pool/a", b"hello")];
        assert_eq!(mirror.fetch_all(&right, &store).unwrap(), 1);
        std::fs::remove_file(tree.join("pool/a")).unwrap();
        assert_eq!(mirror.fetch_all(&right, &store).unwrap(), 0);
    }

    #[test]
    fn an_address_is_of_a_kind_that_can_be_read() {
        for (address, said) in [
            ("ftp://a/b", "is no address"),
            ("file:relative", "is no path from the root"),
            ("nonsense", "is no address"),
        ] {
            let told = Mirror::open(address, &settings(), None)
                .map(|_| ())
                .unwrap_err()
                .to_string();
            assert!(told.contains(said), "{address}: {told}");
        }
    }
}
