//! Export: an OCI layout that may hold other images already, or an archive of one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::{INDEX_FILE, LAYOUT_FILE, REF_NAME};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{Image, MAX_DOCUMENT, OCI_MANIFEST};
use crate::reference::Output;
use crate::store::{Store, sync_directory};

const LAYOUT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";

impl Store {
    /// Writes the image, as `tag` unless the output names one. In a layout that is there already only that tag is replaced.
    ///
    /// # Errors
    /// A damaged blob, a place that cannot be written, or a layout that is none.
    pub fn export(&self, digest: &Digest, tag: Option<&str>, to: &Output) -> Result<()> {
        self.add()?;
        let image = self.image(digest)?;
        let size = fs::metadata(self.blob_path(digest))
            .map_err(Error::io(&self.blob_path(digest)))?
            .len();
        let manifest = Descriptor::new(OCI_MANIFEST, digest.clone(), size);
        match to {
            Output::OciLayout { path, tag: own } => {
                self.export_layout(&image, &manifest, own.as_deref().or(tag), path)
            }
            Output::OciArchive { path, tag: own } => {
                self.export_archive(&image, &manifest, own.as_deref().or(tag), path)
            }
        }
    }

    fn export_layout(
        &self,
        image: &Image,
        manifest: &Descriptor,
        tag: Option<&str>,
        path: &Path,
    ) -> Result<()> {
        let blobs = path.join("blobs/sha256");
        let index_path = path.join(INDEX_FILE);
        let index = match fs::read(&index_path) {
            Ok(bytes) if bytes.len() as u64 <= MAX_DOCUMENT => Some(bytes),
            Ok(_) => {
                return Err(Error::refused(
                    index_path.display(),
                    "is larger than 4 MiB",
                    "write to another directory",
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::io(&index_path)(error)),
        };
        let occupied = index.is_none()
            && path.is_dir()
            && fs::read_dir(path)
                .map_err(Error::io(path))?
                .next()
                .is_some();
        if occupied {
            return Err(Error::refused(
                path.display(),
                "is a directory with something else in it",
                "name a new directory or an OCI layout",
            ));
        }
        fs::create_dir_all(&blobs).map_err(Error::io(&blobs))?;
        for blob in blobs_of(image, manifest)? {
            let to = blobs.join(blob.digest().hex());
            if !to.exists() {
                write_whole(&to, |file| {
                    io::copy(&mut self.reader(&blob)?, file).map(drop)
                })?;
            }
        }
        write_whole(&path.join(LAYOUT_FILE), |file| {
            file.write_all(LAYOUT.as_bytes())
        })?;
        let index = merge(index.as_deref(), manifest, tag, &index_path)?;
        // Last: until it is there, nothing refers to the new blobs.
        write_whole(&index_path, |file| file.write_all(index.as_bytes()))?;
        sync_directory(path)
    }

    fn export_archive(
        &self,
        image: &Image,
        manifest: &Descriptor,
        tag: Option<&str>,
        path: &Path,
    ) -> Result<()> {
        let index = merge(None, manifest, tag, path)?;
        let mut blobs = BTreeMap::new();
        for blob in blobs_of(image, manifest)? {
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

fn blobs_of(image: &Image, manifest: &Descriptor) -> Result<Vec<Descriptor>> {
    let config = Descriptor::from_oci(image.manifest.config())?;
    let layers = image.layers().iter().map(|(layer, _)| layer.clone());
    Ok([config, manifest.clone()]
        .into_iter()
        .chain(layers)
        .collect())
}

/// The index with this image under its tag; every other entry, and whatever keys it has, as it was.
fn merge(
    index: Option<&[u8]>,
    manifest: &Descriptor,
    tag: Option<&str>,
    what: &Path,
) -> Result<String> {
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
    Ok(document.to_string())
}

/// A temporary name beside it, synced, renamed.
fn write_whole(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let whole = || -> io::Result<()> {
        let mode = fs::Permissions::from_mode(0o644);
        let mut file = tempfile::Builder::new()
            .prefix(".airtight-")
            .permissions(mode)
            .tempfile_in(parent)?;
        write(file.as_file_mut())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    whole().map_err(Error::io(path))
}
