//! Names: each a file that holds the descriptor of a manifest, replaced whole.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Store, sync_directory};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::reference::{ImageRef, Reference};

/// A descriptor is some hundred bytes.
const MAX_NAME_FILE: u64 = 64 << 10;

/// An image with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// `NAME:TAG`; empty for one that was imported without.
    pub name: String,
    /// Of the manifest.
    pub digest: Digest,
    /// Bytes of manifest, configuration and layers, compressed.
    pub size: u64,
    /// When the image says that it was made.
    pub created: Option<String>,
}

impl Store {
    /// Points `name` at a manifest that is in the store.
    ///
    /// # Errors
    /// The file system's.
    pub fn tag(&self, name: &Reference, manifest: &Descriptor) -> Result<()> {
        // gc takes what lies in `tmp` when nobody is adding.
        self.add()?;
        let refs = self.path("refs");
        let path = refs.join(name.file_name());
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(self.path("tmp"))?;
            serde_json::to_writer(&mut file, manifest)?;
            file.flush()?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(Error::io(&path))?;
        sync_directory(&refs)
    }

    /// Forgets a name; gc takes what only it held.
    ///
    /// # Errors
    /// A name that is not there.
    pub fn untag(&self, name: &Reference) -> Result<()> {
        let path = self.path("refs").join(name.file_name());
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(unknown(name)),
            other => other.map_err(Error::io(&path)),
        }
    }

    /// The manifest's digest of what a user wrote. A layout is imported first, without a name.
    ///
    /// # Errors
    /// A name or tag that is not there, or what [`Store::import`] says.
    pub fn resolve(&self, image: &ImageRef) -> Result<Digest> {
        match image {
            ImageRef::Digest(digest) => Ok(digest.clone()),
            ImageRef::Name(name) => self
                .read_name(&self.path("refs").join(name.file_name()))
                .map(|found| found.digest().clone())
                .map_err(|error| match error {
                    Error::Io { error, .. } if error.kind() == io::ErrorKind::NotFound => {
                        unknown(name)
                    }
                    other @ (Error::Io { .. } | Error::Sys { .. } | Error::Refused { .. }) => other,
                }),
            ImageRef::Layout { path, tag } => self.import_layout(path, tag.as_deref()),
        }
    }

    /// All names, sorted.
    ///
    /// # Errors
    /// The file system's, or a damaged image by name.
    pub fn images(&self) -> Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for (name, descriptor) in self.names()? {
            listed.push(self.listed(name.to_string(), descriptor.digest())?);
        }
        Ok(listed)
    }

    pub(crate) fn listed(&self, name: String, digest: &Digest) -> Result<Listed> {
        let image = self.image(digest)?;
        let manifest = fs::metadata(self.blob_path(digest))
            .map_err(Error::io(&self.blob_path(digest)))?
            .len();
        let layers: u64 = image.layers().iter().map(|(layer, _)| layer.size()).sum();
        let size = manifest + image.manifest.config().size() + layers;
        Ok(Listed {
            name,
            digest: digest.clone(),
            size,
            created: image.config.created().clone(),
        })
    }

    /// Manifest and configuration, verified.
    ///
    /// # Errors
    /// What is not there, not what its digest says, or no image.
    pub fn image(&self, digest: &Digest) -> Result<Image> {
        Image::read(self, digest)
    }

    pub(crate) fn names(&self) -> Result<Vec<(Reference, Descriptor)>> {
        let refs = self.path("refs");
        let mut names = Vec::new();
        for entry in fs::read_dir(&refs).map_err(Error::io(&refs))? {
            let path = entry.map_err(Error::io(&refs))?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(Reference::from_file_name);
            let name = name.ok_or_else(|| {
                Error::refused(
                    path.display(),
                    "is no name of an image",
                    "remove the file; it is not airtight's",
                )
            })?;
            match self.read_name(&path) {
                Ok(descriptor) => names.push((name, descriptor)),
                // Removed since it was listed.
                Err(Error::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        names.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }

    fn read_name(&self, path: &Path) -> Result<Descriptor> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_NAME_FILE).read_to_end(&mut bytes))
            .map_err(Error::io(path))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Error::refused(
                PathBuf::from(path).display(),
                format!("is damaged: {error}"),
                "tag the image again",
            )
        })
    }
}

fn unknown(name: &Reference) -> Error {
    Error::refused(
        format!("image {name}"),
        "is not in the store",
        "see `airtight images`; build or import it",
    )
}
