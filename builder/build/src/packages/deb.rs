//! A package's archive becomes a tree of files in the store, once for each digest; from there it is read as any other source. Nothing of it runs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use airtight_image::layer::{Limits, unpack};
use airtight_image::{Descriptor, Digest, Store};

use super::ar::{self, broken};
use super::control::Stanza;

/// Bytes of all control files.
const MAX_CONTROL: u64 = 64 << 20;
/// Bytes of one control file: a list of the digests of all files may be long.
const MAX_CONTROL_FILE: u64 = 32 << 20;
/// Bytes of one package's files.
const MAX_DATA: u64 = 4 << 30;
/// Bytes that may come of one that is compressed; no package's files are so much alike.
const MAX_RATIO: u64 = 1100;
const RATIO_FREE: u64 = 100 << 20;
const MAX_ENTRIES: u64 = 300_000;

/// What a package says of itself that matters here; the rest is for who installs and removes.
const KEPT: [&str; 5] = ["control", "md5sums", "preinst", "postinst", "triggers"];
const FILES: &str = "files";
const CONTROL: &str = "control";

/// A package in the store, unpacked.
#[derive(Clone, Debug)]
pub(crate) struct Unpacked {
    pub(crate) stanza: Stanza,
    /// As it stands in the package.
    pub(crate) text: String,
    /// By name: `md5sums`, `postinst`, …
    control: BTreeMap<&'static str, String>,
    /// The tree of its files.
    pub(crate) files: PathBuf,
}

impl Unpacked {
    pub(crate) fn control(&self, name: &str) -> Option<&str> {
        self.control.get(name).map(String::as_str)
    }
}

/// A package's own fault, or the store's.
pub(crate) enum Failed {
    Package(String),
    Store(airtight_image::Error),
}

impl From<String> for Failed {
    fn from(problem: String) -> Self {
        Self::Package(problem)
    }
}

impl From<airtight_image::Error> for Failed {
    fn from(error: airtight_image::Error) -> Self {
        Self::Store(error)
    }
}

/// Unpacks a package that lies in the store as a blob.
///
/// # Errors
/// A package that is none, or holds what no layer may hold.
pub(crate) fn unpacked(store: &Store, blob: &Descriptor) -> Result<Unpacked, Failed> {
    let home = store.package(blob.digest(), |home| -> Result<(), Failed> {
        let mut reader = store.open_blob(blob)?;
        extract(&mut reader, home)?;
        // To its end, where its digest is known.
        io::copy(&mut reader, &mut io::sink()).map_err(broken)?;
        Ok(())
    })?;
    load(&home, blob.digest())
}

pub(super) fn extract(reader: &mut impl Read, home: &Path) -> Result<(), Failed> {
    let (control, files) = (home.join(CONTROL), home.join(FILES));
    for path in [&control, &files] {
        fs::create_dir(path).map_err(broken)?;
    }
    let root = File::open(&files).map_err(broken)?;
    ar::read::<_, Failed>(
        reader,
        |member, content| {
            let plain = member
                .compression
                .reader(content, MAX_CONTROL)
                .map_err(broken)?;
            Ok(keep_control(plain, &control)?)
        },
        |member, content| {
            let most = member
                .size
                .saturating_mul(MAX_RATIO)
                .saturating_add(RATIO_FREE)
                .min(MAX_DATA);
            let mut plain = member.compression.reader(content, most).map_err(broken)?;
            let limits = Limits {
                bytes: most,
                entries: MAX_ENTRIES,
                whiteouts: false,
                ..Limits::default()
            };
            unpack(&mut plain, &root, &limits).map_err(|error| error.to_string())?;
            io::copy(&mut plain, &mut io::sink()).map_err(broken)?;
            Ok(())
        },
    )
}

/// Writes those control files that are looked at.
fn keep_control(plain: impl Read, into: &Path) -> Result<(), String> {
    let mut archive = tar::Archive::new(plain);
    let malformed = |error: io::Error| format!("has a control archive that is none: {error}");
    for entry in archive.entries().map_err(malformed)? {
        let mut entry = entry.map_err(malformed)?;
        let path = entry.path_bytes().into_owned();
        let name = path.strip_prefix(b"./").unwrap_or(&path);
        let Some(kept) = KEPT.iter().find(|kept| kept.as_bytes() == name) else {
            continue;
        };
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(format!("has a control file `{kept}` that is no file"));
        }
        let size = entry.header().size().map_err(malformed)?;
        if size > MAX_CONTROL_FILE {
            return Err(format!("has a control file `{kept}` of {size} bytes"));
        }
        let to = into.join(kept);
        // A second of the same name is nobody's honest work.
        let mut file = File::create_new(&to)
            .map_err(|error| format!("has a control file `{kept}` that cannot be kept: {error}"))?;
        io::copy(&mut entry, &mut file).map_err(malformed)?;
    }
    Ok(())
}

fn load(home: &Path, digest: &Digest) -> Result<Unpacked, Failed> {
    let read = |name: &str| -> Result<Option<String>, String> {
        match fs::read(home.join(CONTROL).join(name)) {
            // Scripts may be of any encoding; what they say to us is ASCII.
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(broken(error)),
        }
    };
    let text = read("control")?.ok_or_else(|| format!("{digest} has no control file"))?;
    let stanza = Stanza::only(&text).map_err(|why| format!("has a control file that {why}"))?;
    // It is the installer's to say; with two, readers of the record that an image gets would see two packages.
    if stanza.get("Status").is_some() {
        return Err("has a control file that says its own `Status`"
            .to_owned()
            .into());
    }
    let mut control = BTreeMap::new();
    for name in KEPT.iter().filter(|name| **name != "control") {
        if let Some(content) = read(name)? {
            control.insert(*name, content);
        }
    }
    Ok(Unpacked {
        stanza,
        text,
        control,
        files: home.join(FILES),
    })
}
