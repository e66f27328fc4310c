//! Export: an OCI layout that may hold other images already, or an archive of one.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::path::Path;

use nix::fcntl::OFlag;
use serde_json::{Value, json};

use super::referrers::{self, Refers};
use super::{INDEX_FILE, LAYOUT_FILE, REF_NAME};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::MAX_DOCUMENT;
use crate::reference::Output;
use crate::store::{Store, VerifiedReader, sync_directory};

const BLOBS: &str = "blobs/sha256";
/// Of a file that has no name of its own yet.
const TEMPORARY: &str = ".airtight-";
const LAYOUT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";

/// What goes out.
struct Whole {
    /// The manifest that gets the name.
    root: Descriptor,
    blobs: Vec<Descriptor>,
    refer: Vec<Refers>,
}

impl Store {
    /// Writes the image and what refers to it, as `tag` unless the output names one. In a layout that is there already only that tag is replaced.
    ///
    /// # Errors
    /// A damaged blob, a place that cannot be written, or a layout that is none.
    pub fn export(&self, digest: &Digest, tag: Option<&str>, to: &Output) -> Result<()> {
        self.add()?;
        let root = self.root(digest)?;
        let mut blobs = self.needs(digest)?.blobs;
        let mut refer = Vec::new();
        let manifests = root.images.iter().map(|image| &image.descriptor);
        for subject in manifests.chain([&root.descriptor]) {
            // One that is damaged is no part of the image.
            for artifact in self.artifacts(subject.digest())?.0 {
                blobs.extend(artifact.blobs());
                blobs.push(artifact.document().descriptor().clone());
                refer.push(Refers::of(&artifact, subject.digest()));
            }
        }
        let root = root.descriptor;
        let whole = Whole { root, blobs, refer };
        match to {
            Output::OciLayout { path, tag: own } => {
                self.export_layout(&whole, own.as_deref().or(tag), path)
            }
            Output::OciArchive { path, tag: own } => {
                self.export_archive(&whole, own.as_deref().or(tag), path)
            }
        }
    }

    fn export_layout(&self, whole: &Whole, tag: Option<&str>, path: &Path) -> Result<()> {
        let blobs = path.join(BLOBS);
        let index_path = path.join(INDEX_FILE);
        if path.exists() && !path.is_dir() {
            return Err(Error::refused(
                path.display(),
                "is there already and is no directory",
                "name a new directory or an OCI layout",
            ));
        }
        fs::create_dir_all(path).map_err(Error::io(path))?;
        // From here to the end: two that write at once would each lose the other's tag, and what a killed one left is
        // nobody's now.
        let directory = File::open(path).map_err(Error::io(path))?;
        directory.lock().map_err(Error::io(path))?;
        let index = read_index(&index_path)?;
        if index.is_none() && !begun(path)? {
            return Err(Error::refused(
                path.display(),
                "is a directory with something else in it",
                "name a new directory or an OCI layout",
            ));
        }
        fs::create_dir_all(&blobs).map_err(Error::io(&blobs))?;
        for left in [path, &blobs] {
            sweep(left)?;
        }
        for blob in &whole.blobs {
            let to = blobs.join(blob.digest().hex());
            if !holds(&to, blob) {
                write_whole(&to, |file| {
                    io::copy(&mut self.reader(blob)?, file).map(drop)
                })?;
            }
        }
        sync_directory(&blobs)?;
        write_whole(&path.join(LAYOUT_FILE), |file| {
            file.write_all(LAYOUT.as_bytes())
        })?;
        let index = merge(index.as_deref(), whole, tag, &index_path)?;
        // Last: until it is there, nothing refers to the new blobs.
        write_whole(&index_path, |file| file.write_all(index.as_bytes()))?;
        sync_directory(path)
    }

    fn export_archive(&self, whole: &Whole, tag: Option<&str>, path: &Path) -> Result<()> {
        let index = merge(None, whole, tag, path)?;
        let mut blobs = BTreeMap::new();
        for blob in &whole.blobs {
            blobs.insert(format!("blobs/sha256/{}", blob.digest().hex()), blob);
        }
        write_whole(path, |file| {
            let mut archive = tar::Builder::new(file);
            for directory in ["blobs/", "blobs/sha256/"] {
                archive.append_data(
                    &mut header(tar::EntryType::Directory, 0o755, 0),
                    directory,
                    io::empty(),
                )?;
            }
            for (name, blob) in &blobs {
                archive.append_data(
                    &mut header(tar::EntryType::Regular, 0o644, blob.size()),
                    name,
                    self.reader(blob)?,
                )?;
            }
            for (name, content) in [(INDEX_FILE, index.as_str()), (LAYOUT_FILE, LAYOUT)] {
                archive.append_data(
                    &mut header(tar::EntryType::Regular, 0o644, content.len() as u64),
                    name,
                    content.as_bytes(),
                )?;
            }
            archive.finish()
        })
    }

    fn reader(&self, blob: &Descriptor) -> io::Result<impl io::Read> {
        self.open_blob(blob)
            .map_err(|error| io::Error::other(error.to_string()))
    }
}

/// Opened without waiting, and looked at before it is read: what is there may be a pipe, or `/dev/zero` behind a link.
fn open_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "is no file"))
    }
}

/// The index of a layout that is there already.
fn read_index(path: &Path) -> Result<Option<Vec<u8>>> {
    let bad =
        |problem: String| Error::refused(path.display(), problem, "write to another directory");
    let file = match open_file(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(bad(format!("cannot be read: {error}"))),
    };
    let mut bytes = Vec::new();
    file.take(MAX_DOCUMENT + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io(path))?;
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(bad("is larger than 4 MiB".to_owned()));
    }
    Ok(Some(bytes))
}

/// Whether a directory without an index is empty, or has only what an export leaves that did not come to its end.
fn begun(path: &Path) -> Result<bool> {
    for entry in fs::read_dir(path).map_err(Error::io(path))? {
        let name = entry.map_err(Error::io(path))?.file_name();
        if name != "blobs" && name != LAYOUT_FILE && !is_temporary(&name) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Takes away what a killed export was writing. The directory's lock is held, so nobody is writing it now.
fn sweep(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory).map_err(Error::io(directory))? {
        let entry = entry.map_err(Error::io(directory))?;
        let path = entry.path();
        if is_temporary(&entry.file_name())
            && entry.file_type().map_err(Error::io(&path))?.is_file()
        {
            fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

fn is_temporary(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
}

/// Whether the blob is there, whole. Of one that cannot be read nothing is known, so it is written anew.
fn holds(path: &Path, blob: &Descriptor) -> bool {
    open_file(path).is_ok_and(|file| {
        VerifiedReader::new(file, blob, "write it again")
            .finish()
            .is_ok()
    })
}

/// The same bytes on every machine: no time, no owner.
fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

/// The index with this image under its tag; every other entry, and whatever keys it has, as it was.
fn merge(index: Option<&[u8]>, whole: &Whole, tag: Option<&str>, what: &Path) -> Result<String> {
    let bad = || {
        Error::refused(
            what.display(),
            "is no image index",
            "write to another directory",
        )
    };
    let mut document: Value = match index {
        Some(bytes) => serde_json::from_slice(bytes).map_err(|_| bad())?,
        None => {
            json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [] })
        }
    };
    let manifests = document
        .get_mut("manifests")
        .and_then(Value::as_array_mut)
        .ok_or_else(bad)?;
    let manifest = &whole.root;
    manifests.retain(|entry| {
        let name = entry
            .get("annotations")
            .and_then(|annotations| annotations.get(REF_NAME))
            .and_then(Value::as_str);
        let same = entry.get("digest").and_then(Value::as_str)
            == Some(manifest.digest().to_string().as_str());
        if tag.is_some() {
            name != tag
        } else {
            !(same && name.is_none())
        }
    });
    let mut entry = serde_json::to_value(manifest).map_err(|_| bad())?;
    if let Some(tag) = tag {
        entry["annotations"] = json!({ REF_NAME: tag });
    }
    manifests.push(entry);
    referrers::note(&mut document, &whole.refer);
    Ok(document.to_string())
}

/// A temporary name beside it, synced, renamed. Only a file is replaced, or a link to one: not a device or a pipe, which
/// would be gone.
fn write_whole(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let there = fs::symlink_metadata(path)
        .map(|_| fs::metadata(path).is_ok_and(|metadata| metadata.is_file()));
    match there {
        Ok(true) => {}
        Ok(false) => {
            return Err(Error::refused(
                path.display(),
                "is there already and is no file",
                "name a new file, or one that may be replaced",
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io(path)(error)),
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let whole = || -> io::Result<()> {
        let mode = fs::Permissions::from_mode(0o644);
        let mut file = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .permissions(mode)
            .tempfile_in(parent)?;
        write(file.as_file_mut())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    whole().map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use nix::sys::stat::Mode;

    use super::*;
    use crate::image::OCI_MANIFEST;

    /// A store with one image, and a place to write to.
    struct Bench {
        dir: tempfile::TempDir,
        store: Store,
        image: Digest,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(&dir.path().join("store")).unwrap();
            let layer = store.put_blob_bytes(b"layer").unwrap();
            let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [layer.0] } });
            let (config, size) = store.put_blob_bytes(config.to_string().as_bytes()).unwrap();
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": Descriptor::new("application/vnd.oci.image.config.v1+json", config, size),
                "layers": [Descriptor::new("application/vnd.oci.image.layer.v1.tar", layer.0, layer.1)],
            });
            let (image, _) = store
                .put_blob_bytes(manifest.to_string().as_bytes())
                .unwrap();
            Self { dir, store, image }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        /// What went wrong, without the directory's name.
        fn layout(&self, tag: &str) -> std::result::Result<(), String> {
            let (path, tag) = (self.path("out"), Some(tag.to_owned()));
            self.export(&Output::OciLayout { path, tag })
        }

        fn export(&self, to: &Output) -> std::result::Result<(), String> {
            let shown = format!("{}/", self.dir.path().display());
            self.store
                .export(&self.image, None, to)
                .map_err(|error| error.to_string().replace(&shown, ""))
        }

        fn tags(&self) -> Vec<String> {
            let index = fs::read(self.path("out/index.json")).unwrap();
            let index: Value = serde_json::from_slice(&index).unwrap();
            let entries = index["manifests"].as_array().unwrap().iter();
            let mut tags: Vec<String> = entries
                .map(|entry| entry["annotations"][REF_NAME].as_str().unwrap().to_owned())
                .collect();
            tags.sort();
            tags
        }
    }

    fn fifo(path: &Path) {
        nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap();
    }

    #[test]
    fn an_archive_takes_the_place_of_a_file_and_of_nothing_else() {
        let bench = Bench::new();
        fs::write(bench.path("file"), "old").unwrap();
        symlink("kept", bench.path("link")).unwrap();
        fs::write(bench.path("kept"), "kept").unwrap();
        fifo(&bench.path("fifo"));
        fs::create_dir(bench.path("directory")).unwrap();
        symlink("/dev/null", bench.path("device")).unwrap();
        symlink("nowhere", bench.path("dangling")).unwrap();
        for (name, taken) in [
            ("new", true),
            ("file", true),
            ("link", true),
            ("fifo", false),
            ("directory", false),
            ("device", false),
            ("dangling", false),
        ] {
            let before = fs::symlink_metadata(bench.path(name)).map(|found| found.file_type());
            let tag = None;
            let path = bench.path(name);
            let told = bench.export(&Output::OciArchive { path, tag });
            let after = fs::symlink_metadata(bench.path(name)).unwrap().file_type();
            if taken {
                assert_eq!((told, after.is_file()), (Ok(()), true), "{name}");
                continue;
            }
            let want = format!(
                "{name}: is there already and is no file\n  fix: name a new file, or one that may be replaced"
            );
            assert_eq!(told, Err(want), "{name}");
            assert_eq!(before.unwrap(), after, "{name}");
        }
        assert_eq!(fs::read_to_string(bench.path("kept")).unwrap(), "kept");
    }

    #[test]
    fn a_layout_is_a_directory() {
        let bench = Bench::new();
        fs::write(bench.path("out"), "").unwrap();
        let want = "out: is there already and is no directory\n  fix: name a new directory or an OCI layout";
        assert_eq!(bench.layout("a"), Err(want.to_owned()));
    }

    #[test]
    fn a_wrong_blob_in_a_layout_is_written_anew() {
        let bench = Bench::new();
        bench.layout("a").unwrap();
        let blob = bench.path("out/blobs/sha256").join(bench.image.hex());
        let good = fs::read(&blob).unwrap();
        let changed = good.iter().map(|byte| byte ^ 1).collect();
        for (name, bytes) in [("empty", vec![]), ("changed", changed)] {
            fs::write(&blob, bytes).unwrap();
            bench.layout("a").unwrap();
            assert_eq!(fs::read(&blob).unwrap(), good, "{name}");
        }
    }

    #[test]
    fn a_first_export_that_was_killed_can_be_done_again() {
        let bench = Bench::new();
        for sub in ["out/blobs/sha256/.airtight-1", "out/.airtight-2"] {
            fs::create_dir_all(bench.path(sub).parent().unwrap()).unwrap();
            fs::write(bench.path(sub), "half").unwrap();
        }
        fs::write(bench.path("out/oci-layout"), LAYOUT).unwrap();
        bench.layout("a").unwrap();
        assert_eq!(bench.tags(), ["a"]);
        for directory in ["out", "out/blobs/sha256"] {
            let left = fs::read_dir(bench.path(directory)).unwrap();
            let left = left.filter(|entry| is_temporary(&entry.as_ref().unwrap().file_name()));
            assert_eq!(left.count(), 0, "{directory}");
        }
        fs::remove_file(bench.path("out/index.json")).unwrap();
        fs::write(bench.path("out/mine"), "").unwrap();
        let want = "out: is a directory with something else in it\n  fix: name a new directory or an OCI layout";
        assert_eq!(bench.layout("a"), Err(want.to_owned()));
    }

    #[test]
    fn tags_that_are_written_at_once_are_all_there() {
        let bench = Bench::new();
        let tags: Vec<String> = (0..8).map(|number| format!("t{number}")).collect();
        std::thread::scope(|scope| {
            for tag in &tags {
                let (root, image) = (bench.path("store"), bench.image.clone());
                let path = bench.path("out");
                let tag = Some(tag.clone());
                scope.spawn(move || {
                    let store = Store::open(&root).unwrap();
                    let to = Output::OciLayout { path, tag };
                    store.export(&image, None, &to).unwrap();
                });
            }
        });
        assert_eq!(bench.tags(), tags);
    }

    #[test]
    fn an_index_that_is_no_file_is_refused_and_does_not_hang() {
        let bench = Bench::new();
        let index = bench.path("out/index.json");
        fs::create_dir(bench.path("out")).unwrap();
        let refused = |problem: &str| {
            Err(format!(
                "out/index.json: {problem}\n  fix: write to another directory"
            ))
        };
        fifo(&index);
        assert_eq!(bench.layout("a"), refused("cannot be read: is no file"));
        fs::remove_file(&index).unwrap();
        symlink("/dev/zero", &index).unwrap();
        assert_eq!(bench.layout("a"), refused("cannot be read: is no file"));
        fs::remove_file(&index).unwrap();
        let large = File::create(&index).unwrap();
        large.set_len(MAX_DOCUMENT + 1).unwrap();
        assert_eq!(bench.layout("a"), refused("is larger than 4 MiB"));
    }
}
