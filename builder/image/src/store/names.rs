//! Names: each a file that holds the descriptor of a manifest, replaced whole.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Store, open_regular, stray, sync_directory};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::platform::Platform;
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
    /// What it is for; of an index, what its images are for.
    pub platforms: Vec<String>,
}

/// What lies in `refs`, sorted.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) found: Vec<(Reference, Descriptor)>,
    pub(super) damaged: Vec<(Reference, Error)>,
    /// Files of somebody else, like an editor's, one line each.
    pub(super) strays: Vec<String>,
}

impl Names {
    /// One line each.
    pub(super) fn problems(&self) -> Vec<String> {
        let damaged = self
            .damaged
            .iter()
            .map(|(name, error)| format!("image {name}: {error}"));
        self.strays.iter().cloned().chain(damaged).collect()
    }
}

impl Store {
    /// Points `name` at a manifest that is in the store.
    ///
    /// # Errors
    /// The file system's.
    pub fn tag(&self, name: &Reference, manifest: &Descriptor) -> Result<()> {
        // gc takes what lies in `tmp` when nobody is adding.
        self.add()?;
        self.settle()?;
        let refs = self.path("refs");
        let path = refs.join(name.file_name());
        // What it says already is on the disk: only that it has the name may not be.
        if self.read_name(&path).is_ok_and(|there| there == *manifest) {
            return sync_directory(&refs);
        }
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(self.path("tmp"))?;
            file.write_all(&serde_json::to_vec(manifest)?)?;
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

    /// The manifest's digest of what a user wrote; of an index, that for this machine. A layout is imported first, without a name.
    ///
    /// # Errors
    /// A name or tag that is not there, or what [`Store::import`] says.
    pub fn resolve(&self, image: &ImageRef) -> Result<Digest> {
        self.resolve_for(image, None)
    }

    /// What a name stands for: a manifest or an index.
    pub(super) fn named(&self, name: &Reference) -> Result<Descriptor> {
        self.read_name(&self.path("refs").join(name.file_name()))
            .map_err(|error| match error {
                Error::Io { error, .. } if error.kind() == io::ErrorKind::NotFound => unknown(name),
                other @ (Error::Io { .. } | Error::Sys { .. } | Error::Refused { .. }) => other,
            })
    }

    /// All images that have a name, sorted; a damaged one is in [`Store::damaged`].
    ///
    /// # Errors
    /// The file system's.
    pub fn images(&self) -> Result<Vec<Listed>> {
        Ok(self.listing()?.0)
    }

    /// What [`Store::images`] leaves out, and why, so that one damaged image does not hide the others.
    ///
    /// # Errors
    /// The file system's.
    pub fn damaged(&self) -> Result<Vec<String>> {
        Ok(self.listing()?.1)
    }

    fn listing(&self) -> Result<(Vec<Listed>, Vec<String>)> {
        let names = self.names()?;
        let mut listed = Vec::new();
        let mut problems = names.problems();
        for (name, descriptor) in &names.found {
            match self.listed(name.to_string(), descriptor.digest()) {
                Ok(image) => listed.push(image),
                Err(error) => problems.push(format!("image {name}: {error}")),
            }
        }
        Ok((listed, problems))
    }

    pub(crate) fn listed(&self, name: String, digest: &Digest) -> Result<Listed> {
        let root = self.root(digest)?;
        let blobs = self.needs(digest)?.blobs;
        let (platforms, created) = if root.is_index() {
            let platforms = root
                .images
                .iter()
                .filter_map(|image| image.platform.as_ref());
            (platforms.map(ToString::to_string).collect(), None)
        } else {
            let config = self.image(digest)?.config;
            (
                vec![Platform::of(&config).to_string()],
                config.created().clone(),
            )
        };
        Ok(Listed {
            name,
            digest: digest.clone(),
            size: blobs
                .iter()
                .map(Descriptor::size)
                .fold(0, u64::saturating_add),
            created,
            platforms,
        })
    }

    /// Manifest and configuration, verified.
    ///
    /// # Errors
    /// What is not there, not what its digest says, or no image.
    pub fn image(&self, digest: &Digest) -> Result<Image> {
        Image::read(self, digest)
    }

    pub(super) fn names(&self) -> Result<Names> {
        let refs = self.path("refs");
        let mut names = Names::default();
        for entry in fs::read_dir(&refs).map_err(Error::io(&refs))? {
            let path = entry.map_err(Error::io(&refs))?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(Reference::from_file_name);
            let Some(name) = name else {
                names.strays.push(stray(&path));
                continue;
            };
            match self.read_name(&path) {
                Ok(descriptor) => names.found.push((name, descriptor)),
                // Removed since it was listed.
                Err(Error::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => names.damaged.push((name, error)),
            }
        }
        names.found.sort_by(|a, b| a.0.cmp(&b.0));
        names.damaged.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }

    fn read_name(&self, path: &Path) -> Result<Descriptor> {
        let mut bytes = Vec::new();
        open_regular(path)
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
