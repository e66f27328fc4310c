//! Import: a layout directory, an OCI archive, a docker archive. Every blob is verified as it is copied, every layer is unpacked and held against its
//! diffID, and only then does a name point there.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use airtight_sys::open::open_beneath;
use nix::fcntl::OFlag;
use oci_spec::image::ImageIndex;

use super::{INDEX_FILE, LAYOUT_FILE, REF_NAME, docker};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{MAX_DOCUMENT, host_arch, is_index, is_manifest, parse_index};
use crate::layer::{Limits, unpack};
use crate::reference::Reference;
use crate::store::{Listed, Store};

/// Of an archive before it is looked into.
const ARCHIVE_BYTES: u64 = 32 << 30;
const ARCHIVE_ENTRIES: u64 = 10_000;

/// A directory in the form of an OCI layout.
pub(super) struct Layout<'a> {
    pub(super) shown: &'a Path,
    pub(super) at: OwnedFd,
}

impl Layout<'_> {
    /// A file of the layout; a link on the way is refused, so nothing outside is read.
    pub(super) fn open(&self, path: &str) -> Result<File> {
        open_beneath(&self.at, Path::new(path), OFlag::O_RDONLY)
            .map(File::from)
            .map_err(|error| {
                Error::refused(
                    self.shown.join(path).display(),
                    error.to_string(),
                    "name an OCI layout, an oci-archive or a docker-archive",
                )
            })
    }

    pub(super) fn document(&self, path: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(path)?
            .take(MAX_DOCUMENT + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::io(&self.shown.join(path)))?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(Error::refused(
                self.shown.join(path).display(),
                format!("is larger than {MAX_DOCUMENT} bytes"),
                "use another image",
            ));
        }
        Ok(bytes)
    }

    fn copy(&self, store: &Store, descriptor: &Descriptor) -> Result<()> {
        let file = self.open(&format!("blobs/sha256/{}", descriptor.digest().hex()))?;
        store.put_verified(file, descriptor)
    }
}

impl Store {
    /// Imports what `path` is: an OCI layout directory, an oci-archive or a docker-archive (plain tar, or compressed as a whole with gzip). Names come from
    /// the images' annotations, or `name` for a single one.
    ///
    /// # Errors
    /// The first thing that is not as it should be; no name points to anything of it then.
    pub fn import(&self, path: &Path, name: Option<&Reference>) -> Result<Vec<Listed>> {
        self.add()?;
        if path.is_dir() {
            return self.import_from(&open_layout(path)?, name);
        }
        let mut file = File::open(path).map_err(Error::io(path))?;
        let mut magic = [0; 2];
        let gzip = file.read(&mut magic).map_err(Error::io(path))? == 2 && magic == [0x1f, 0x8b];
        file.rewind().map_err(Error::io(path))?;
        let temporary = self.temporary()?;
        let directory = File::open(temporary.path()).map_err(Error::io(path))?;
        let limits = Limits {
            bytes: ARCHIVE_BYTES,
            entries: ARCHIVE_ENTRIES,
            owners: false,
        };
        let unpacked = if gzip {
            unpack(flate2::read::MultiGzDecoder::new(file), &directory, &limits)
        } else {
            unpack(file, &directory, &limits)
        };
        unpacked.map_err(|error| {
            Error::refused(
                path.display(),
                error.to_string(),
                "name an OCI layout, an oci-archive or a docker-archive",
            )
        })?;
        let layout = Layout {
            shown: path,
            at: OwnedFd::from(directory),
        };
        if temporary.path().join(LAYOUT_FILE).exists() {
            return self.import_from(&layout, name);
        }
        docker::import(self, &layout, name)
    }

    /// One image of a layout, without a name: the tagged one, or the only one.
    pub(crate) fn import_layout(&self, path: &Path, tag: Option<&str>) -> Result<Digest> {
        self.add()?;
        let layout = open_layout(path)?;
        let index = read_index(&layout)?;
        let images = self.images_of(&layout, &index)?;
        let wanted: Vec<&(Option<String>, Descriptor)> = images
            .iter()
            .filter(|(name, _)| {
                tag.is_none_or(|tag| {
                    name.as_deref()
                        .is_some_and(|name| tag_of(name) == tag || name == tag)
                })
            })
            .collect();
        match wanted.as_slice() {
            [(_, manifest)] => {
                self.take(&layout, manifest)?;
                Ok(manifest.digest().clone())
            }
            [] => Err(Error::refused(
                path.display(),
                format!("has no image {}", tag.unwrap_or_default()),
                "see its index.json for the tags that it has",
            )),
            several => Err(Error::refused(
                path.display(),
                format!("has {} images", several.len()),
                "name one: oci:PATH:TAG",
            )),
        }
    }

    fn import_from(&self, layout: &Layout<'_>, name: Option<&Reference>) -> Result<Vec<Listed>> {
        let index = read_index(layout)?;
        let images = self.images_of(layout, &index)?;
        if name.is_some() && images.len() != 1 {
            return Err(Error::refused(
                layout.shown.display(),
                format!("has {} images", images.len()),
                "import it without --name",
            ));
        }
        let mut listed = Vec::with_capacity(images.len());
        for (said, manifest) in &images {
            self.take(layout, manifest)?;
            let name = match (name, said) {
                (Some(name), _) => Some(name.clone()),
                (None, Some(said)) => Some(name_of(layout.shown, said)?),
                (None, None) => None,
            };
            if let Some(name) = &name {
                self.tag(name, manifest)?;
            }
            listed.push(self.listed(
                name.map(|name| name.to_string()).unwrap_or_default(),
                manifest.digest(),
            )?);
        }
        Ok(listed)
    }

    /// The manifests that an index leads to, with the names that it gives them; of a nested index, the one for this machine.
    fn images_of(
        &self,
        layout: &Layout<'_>,
        index: &ImageIndex,
    ) -> Result<Vec<(Option<String>, Descriptor)>> {
        let mut images = Vec::new();
        for entry in index.manifests() {
            let name = entry
                .annotations()
                .as_ref()
                .and_then(|annotations| annotations.get(REF_NAME).cloned());
            let descriptor = Descriptor::from_oci(entry)?;
            if is_manifest(descriptor.media_type()) {
                images.push((name, descriptor));
            } else if is_index(descriptor.media_type()) {
                layout.copy(self, &descriptor)?;
                let nested =
                    parse_index(&self.read_blob(&descriptor, MAX_DOCUMENT)?, layout.shown)?;
                images.push((name, for_this_machine(&nested, layout.shown)?));
            }
        }
        Ok(images)
    }

    /// Everything of one image, and its layers unpacked, which is where their diffIDs are checked.
    fn take(&self, layout: &Layout<'_>, manifest: &Descriptor) -> Result<()> {
        layout.copy(self, manifest)?;
        let parsed = crate::image::parse_manifest(
            &self.read_blob(manifest, MAX_DOCUMENT)?,
            manifest.digest(),
        )?;
        layout.copy(self, &Descriptor::from_oci(parsed.config())?)?;
        for layer in parsed.layers() {
            layout.copy(self, &Descriptor::from_oci(layer)?)?;
        }
        let image = self.image(manifest.digest())?;
        image.check_platform()?;
        self.unpacked(&image).map(drop)
    }
}

fn open_layout(path: &Path) -> Result<Layout<'_>> {
    let at = File::open(path).map_err(Error::io(path))?;
    let layout = Layout {
        shown: path,
        at: OwnedFd::from(at),
    };
    let version = layout.document(LAYOUT_FILE)?;
    let version: serde_json::Value = serde_json::from_slice(&version).unwrap_or_default();
    match version
        .get("imageLayoutVersion")
        .and_then(serde_json::Value::as_str)
    {
        Some(text) if text.starts_with("1.") => Ok(layout),
        _ => Err(Error::refused(
            path.join(LAYOUT_FILE).display(),
            "is not of version 1",
            "name an OCI layout of version 1",
        )),
    }
}

fn read_index(layout: &Layout<'_>) -> Result<ImageIndex> {
    parse_index(&layout.document(INDEX_FILE)?, layout.shown)
}

fn for_this_machine(index: &ImageIndex, what: &Path) -> Result<Descriptor> {
    let has: Vec<String> = index
        .manifests()
        .iter()
        .filter_map(|entry| {
            entry
                .platform()
                .as_ref()
                .map(|platform| format!("{}/{}", platform.os(), platform.architecture()))
        })
        .collect();
    let wanted = format!("linux/{}", host_arch());
    let found = index.manifests().iter().find(|entry| {
        entry.platform().as_ref().is_some_and(|platform| {
            format!("{}/{}", platform.os(), platform.architecture()) == wanted
        })
    });
    match found {
        Some(entry) if is_manifest(entry.media_type().as_ref()) => Descriptor::from_oci(entry),
        _ => Err(Error::refused(
            what.display(),
            format!("has images for {} and none for {wanted}", has.join(", ")),
            "use an image for this machine",
        )),
    }
}

/// A layout names by tag alone or by a whole name; `docker.io/library/` is left as it stands.
fn name_of(what: &Path, said: &str) -> Result<Reference> {
    if said.contains(['/', ':']) {
        return said.parse();
    }
    let stem: PathBuf = what.file_stem().map(PathBuf::from).unwrap_or_default();
    let name: String = stem.to_string_lossy().to_lowercase();
    format!("{name}:{said}").parse().map_err(|_| {
        Error::refused(
            what.display(),
            format!("names its image only `{said}`"),
            "give it a name: airtight import --name NAME:TAG PATH",
        )
    })
}

fn tag_of(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((_, tag)) if !tag.contains('/') => tag,
        _ => name,
    }
}
