//! Import: a layout directory, an OCI archive, a docker archive. Every blob is verified as it is copied, every layer is unpacked and held against its
//! diffID, and only then does a name point there.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use airtight_sys::open::{open_beneath, open_in_root};
use nix::fcntl::OFlag;
use oci_spec::image::ImageIndex;

use super::docker::SAVED_FILE;
use super::{INDEX_FILE, LAYOUT_FILE, REF_NAME, docker, referrers};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{MAX_DOCUMENT, check_count, is_index, is_manifest, parse_index};
use crate::layer::{Limits, unpack};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::Document;
use crate::store::{Capped, Listed, Store, open_regular, regular};

/// Of an archive before it is looked into.
const ARCHIVE_BYTES: u64 = 32 << 30;
const ARCHIVE_ENTRIES: u64 = 10_000;
/// An archive is of layers, most of them compressed already; one that expands so much is asked to come without compression.
const ARCHIVE_RATIO: u64 = 100;
const ARCHIVE_RATIO_FREE: u64 = 100 << 20;

/// Without waiting on a fifo that stands in a file's place.
const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_NONBLOCK);
pub(super) const NAME_ONE: &str = "name an OCI layout, an oci-archive or a docker-archive";

/// A directory in the form of an OCI layout.
pub(super) struct Layout<'a> {
    pub(super) shown: &'a Path,
    at: OwnedFd,
    /// What was copied already: a hostile list may name one blob any number of times.
    copied: RefCell<BTreeSet<(Digest, u64)>>,
}

impl<'a> Layout<'a> {
    fn new(shown: &'a Path, at: File) -> Self {
        Self {
            shown,
            at: OwnedFd::from(at),
            copied: RefCell::default(),
        }
    }

    /// A file of the layout; a link on the way is refused, so nothing outside is read.
    pub(super) fn open(&self, path: &str) -> Result<File> {
        self.regular(path, open_beneath(&self.at, Path::new(path), READ))
    }

    /// The same, for archives whose entries link to one another: a link resolves in it and nowhere else.
    pub(super) fn open_linked(&self, path: &str) -> Result<File> {
        self.regular(path, open_in_root(&self.at, Path::new(path), READ))
    }

    fn regular(&self, path: &str, opened: airtight_sys::Result<OwnedFd>) -> Result<File> {
        opened
            .map_err(|error| error.to_string())
            .and_then(|file| regular(File::from(file)).map_err(|error| error.to_string()))
            .map_err(|problem| Error::refused(self.shown.join(path).display(), problem, NAME_ONE))
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

    pub(super) fn has(&self, blob: &Descriptor) -> bool {
        let path = format!("blobs/sha256/{}", blob.digest().hex());
        open_beneath(&self.at, Path::new(&path), OFlag::O_PATH).is_ok()
    }

    pub(super) fn copy(&self, store: &Store, descriptor: &Descriptor) -> Result<()> {
        let key = (descriptor.digest().clone(), descriptor.size());
        if self.copied.borrow().contains(&key) {
            return Ok(());
        }
        let path = format!("blobs/sha256/{}", descriptor.digest().hex());
        store.put_verified(self.open(&path)?, descriptor, &self.shown.join(&path))?;
        self.copied.borrow_mut().insert(key);
        Ok(())
    }
}

impl Store {
    /// Imports what `path` is: an OCI layout directory, an oci-archive or a docker-archive (plain tar, or compressed as a whole with gzip). Names come from
    /// the images' annotations, or `name` for a single one.
    ///
    /// # Errors
    /// The first thing that is not as it should be; no name points to anything of it then.
    pub fn import(&self, path: &Path, name: Option<&Reference>) -> Result<Vec<Listed>> {
        self.import_path(path, name, Take::One(None))
    }

    /// The same, of images for several platforms that for `platform`.
    ///
    /// # Errors
    /// As [`Store::import`], and where none is for that platform.
    pub fn import_for(
        &self,
        path: &Path,
        name: Option<&Reference>,
        platform: &Platform,
    ) -> Result<Vec<Listed>> {
        self.import_path(path, name, Take::One(Some(platform)))
    }

    /// The same, with all platforms of images for several.
    ///
    /// # Errors
    /// As [`Store::import`].
    pub fn import_all(&self, path: &Path, name: Option<&Reference>) -> Result<Vec<Listed>> {
        self.import_path(path, name, Take::All)
    }

    fn import_path(
        &self,
        path: &Path,
        name: Option<&Reference>,
        take: Take<'_>,
    ) -> Result<Vec<Listed>> {
        self.add()?;
        if path.is_dir() {
            return self.import_from(&open_layout(path)?, name, take);
        }
        let mut file = open_regular(path)
            .map_err(|error| Error::refused(path.display(), error.to_string(), NAME_ONE))?;
        let mut magic = [0; 2];
        let gzip = file.read(&mut magic).map_err(Error::io(path))? == 2 && magic == [0x1f, 0x8b];
        file.rewind().map_err(Error::io(path))?;
        let temporary = self.temporary()?;
        let directory = File::open(temporary.path()).map_err(Error::io(path))?;
        let limits = Limits {
            bytes: ARCHIVE_BYTES,
            entries: ARCHIVE_ENTRIES,
            owners: false,
            whiteouts: true,
        };
        let unpacked = if gzip {
            let packed = file.metadata().map_err(Error::io(path))?.len();
            let most = packed.saturating_mul(ARCHIVE_RATIO).max(ARCHIVE_RATIO_FREE);
            let mut plain = Capped::new(flate2::read::MultiGzDecoder::new(file), most);
            let unpacked = unpack(&mut plain, &directory, &limits);
            plain.check(
                path.display(),
                "if it is to be trusted, decompress it with gunzip and import the tar",
            )?;
            unpacked
        } else {
            unpack(file, &directory, &limits)
        };
        unpacked.map_err(|error| no_archive(path, error))?;
        let at = directory.try_clone().map_err(Error::io(path))?;
        let layout = Layout::new(path, at);
        let has = |name: &str| open_beneath(&directory, Path::new(name), OFlag::O_PATH).is_ok();
        if !has(LAYOUT_FILE) && !has(SAVED_FILE) {
            return Err(Error::refused(
                path.display(),
                format!("is no archive of images: it has neither {LAYOUT_FILE} nor {SAVED_FILE}"),
                NAME_ONE,
            ));
        }
        if has(LAYOUT_FILE) {
            return self.import_from(&layout, name, take);
        }
        docker::import(self, &layout, name)
    }

    /// One image of a layout, without a name: the tagged one, or the only one; of an index, the one for `platform`, or for this machine.
    pub(crate) fn import_layout(
        &self,
        path: &Path,
        tag: Option<&str>,
        platform: Option<&Platform>,
    ) -> Result<Digest> {
        self.add()?;
        let layout = open_layout(path)?;
        let index = read_index(&layout)?;
        let images = self.images_of(&layout, &index, Take::One(platform))?;
        let manifest = the_one(&images, path, tag)?;
        self.take(&layout, manifest, platform.is_none())?;
        self.take_referrers(&layout, &index, std::iter::once(manifest))?;
        self.choose(manifest.digest(), platform, path.display())
    }

    /// The same, with all platforms where there are several.
    pub(crate) fn import_layout_whole(&self, path: &Path, tag: Option<&str>) -> Result<Digest> {
        self.add()?;
        let layout = open_layout(path)?;
        let index = read_index(&layout)?;
        let images = self.images_of(&layout, &index, Take::All)?;
        let root = the_one(&images, path, tag)?;
        let all = self.take_whole(&layout, root)?;
        self.take_referrers(&layout, &index, all.iter())?;
        Ok(root.digest().clone())
    }

    /// What an index names that is no image, such as an attestation: kept as it is, never looked into.
    fn take_foreign(&self, layout: &Layout<'_>, manifest: &Descriptor) -> Result<()> {
        manifest.at_most(MAX_DOCUMENT)?;
        layout.copy(self, manifest)?;
        let bytes = self.read_blob(manifest, MAX_DOCUMENT)?;
        for blob in Document::stored(bytes, manifest.digest())?.blobs() {
            layout.copy(self, &blob)?;
        }
        Ok(())
    }

    /// An image, or an index with all that it names; those manifests and itself.
    fn take_whole(&self, layout: &Layout<'_>, root: &Descriptor) -> Result<Vec<Descriptor>> {
        if !is_index(root.media_type()) {
            self.take(layout, root, false)?;
            return Ok(vec![root.clone()]);
        }
        root.at_most(MAX_DOCUMENT)?;
        layout.copy(self, root)?;
        let mut taken = Vec::new();
        for image in self.root(root.digest())?.images {
            if image.is_image() {
                self.take(layout, &image.descriptor, false)?;
            } else {
                self.take_foreign(layout, &image.descriptor)?;
            }
            taken.push(image.descriptor);
        }
        if taken.is_empty() {
            return Err(Error::refused(
                layout.shown.display(),
                "has an index without an image that airtight takes",
                "use another image",
            ));
        }
        taken.push(root.clone());
        Ok(taken)
    }

    fn import_from(
        &self,
        layout: &Layout<'_>,
        name: Option<&Reference>,
        take: Take<'_>,
    ) -> Result<Vec<Listed>> {
        let index = read_index(layout)?;
        let images = self.images_of(layout, &index, take)?;
        if name.is_some() && images.len() != 1 {
            return Err(Error::refused(
                layout.shown.display(),
                format!("has {} images", images.len()),
                "import it without --name",
            ));
        }
        if images.is_empty() {
            return Err(Error::refused(
                layout.shown.display(),
                "has no image of a type that airtight takes",
                "name a layout with an OCI image or a docker image of schema version 2",
            ));
        }
        let mut taken = Vec::with_capacity(images.len());
        let mut subjects = Vec::new();
        for (said, manifest) in images {
            let name = match (name, said) {
                (Some(name), _) => Some(name.clone()),
                (None, Some(said)) => Some(name_of(layout.shown, &said)?),
                (None, None) => None,
            };
            match take {
                Take::One(platform) => {
                    self.take(layout, &manifest, platform.is_none())?;
                    self.choose(manifest.digest(), platform, layout.shown.display())?;
                    subjects.push(manifest.clone());
                }
                Take::All => subjects.extend(self.take_whole(layout, &manifest)?),
            }
            taken.push((name, manifest));
        }
        self.take_referrers(layout, &index, subjects.iter())?;
        self.name_all(&taken)
    }

    fn take_referrers<'a>(
        &self,
        layout: &Layout<'_>,
        index: &ImageIndex,
        images: impl Iterator<Item = &'a Descriptor>,
    ) -> Result<()> {
        let subjects = images.map(|image| image.digest().clone()).collect();
        referrers::take(self, layout, &referrers::said(index, layout)?, &subjects)
    }

    /// Once all of them are in the store: what fails before has left no name.
    pub(super) fn name_all(
        &self,
        taken: &[(Option<Reference>, Descriptor)],
    ) -> Result<Vec<Listed>> {
        let mut listed = Vec::with_capacity(taken.len());
        for (name, manifest) in taken {
            let shown = name.as_ref().map(ToString::to_string).unwrap_or_default();
            listed.push(self.listed(shown, manifest.digest())?);
        }
        for (name, manifest) in taken {
            if let Some(name) = name {
                self.tag(name, manifest)?;
            }
        }
        Ok(listed)
    }

    /// The manifests that an index leads to, with the names that it gives them; of a nested index, the one for this machine.
    fn images_of(
        &self,
        layout: &Layout<'_>,
        index: &ImageIndex,
        take: Take<'_>,
    ) -> Result<Vec<(Option<String>, Descriptor)>> {
        let mut images = Vec::new();
        for entry in index.manifests() {
            if referrers::is_artifact(entry) {
                continue;
            }
            let name = entry
                .annotations()
                .as_ref()
                .and_then(|annotations| annotations.get(REF_NAME).cloned());
            let descriptor = Descriptor::from_oci(entry)?;
            let several = is_index(descriptor.media_type());
            if is_manifest(descriptor.media_type()) || (several && take == Take::All) {
                images.push((name, descriptor));
            } else if several {
                descriptor.at_most(MAX_DOCUMENT)?;
                layout.copy(self, &descriptor)?;
                let nested =
                    parse_index(&self.read_blob(&descriptor, MAX_DOCUMENT)?, layout.shown)?;
                let Take::One(platform) = take else { continue };
                images.push((name, for_platform(&nested, platform, layout.shown)?));
            }
        }
        Ok(images)
    }

    /// Everything of one image, and its layers unpacked, which is where their diffIDs are checked.
    /// Those for another machine are read to their ends and unpacked nowhere.
    fn take(&self, layout: &Layout<'_>, manifest: &Descriptor, for_host: bool) -> Result<()> {
        manifest.at_most(MAX_DOCUMENT)?;
        layout.copy(self, manifest)?;
        let parsed = crate::image::parse_manifest(
            &self.read_blob(manifest, MAX_DOCUMENT)?,
            manifest.digest(),
        )?;
        check_count(parsed.layers().len(), manifest.digest())?;
        let config = Descriptor::from_oci(parsed.config())?;
        config.at_most(MAX_DOCUMENT)?;
        layout.copy(self, &config)?;
        for layer in parsed.layers() {
            layout.copy(self, &Descriptor::from_oci(layer)?)?;
        }
        let image = self.image(manifest.digest())?;
        if for_host || image.check_platform().is_ok() {
            image.check_platform()?;
            return self.unpacked(&image).map(drop);
        }
        self.read_layers(&image, |_, _, _| Ok(()))
    }
}

/// Which of an image for several platforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Take<'a> {
    /// This, or this machine's.
    One(Option<&'a Platform>),
    All,
}

/// The tagged one, or the only one.
fn the_one<'a>(
    images: &'a [(Option<String>, Descriptor)],
    path: &Path,
    tag: Option<&str>,
) -> Result<&'a Descriptor> {
    let called = |name: &Option<String>, tag: &str| {
        name.as_deref()
            .is_some_and(|name| tag_of(name) == tag || name == tag)
    };
    let wanted: Vec<&Descriptor> = images
        .iter()
        .filter(|(name, _)| tag.is_none_or(|tag| called(name, tag)))
        .map(|(_, manifest)| manifest)
        .collect();
    match wanted.as_slice() {
        [manifest] => Ok(manifest),
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

/// What [`unpack`] says of a layer, said of the archive around one.
fn no_archive(path: &Path, error: Error) -> Error {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match error {
        Error::Refused { what, problem, .. } => {
            Error::refused(path.display(), format!("{what}: {problem}"), NAME_ONE)
        }
        // Of the decompressor, and not of our own disk.
        Error::Io { error, .. }
            if matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof) =>
        {
            Error::refused(path.display(), error.to_string(), NAME_ONE)
        }
        other @ (Error::Io { .. } | Error::Sys { .. }) => other,
    }
}

fn open_layout(path: &Path) -> Result<Layout<'_>> {
    let at = File::open(path).map_err(Error::io(path))?;
    let layout = Layout::new(path, at);
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

/// The one for `wanted`, or for this machine.
fn for_platform(index: &ImageIndex, wanted: Option<&Platform>, what: &Path) -> Result<Descriptor> {
    let of = |entry: &oci_spec::image::Descriptor| {
        let platform = entry.platform().as_ref()?;
        let (os, cpu) = (
            platform.os().to_string(),
            platform.architecture().to_string(),
        );
        Some(Platform::said(&os, &cpu, platform.variant().clone()))
    };
    let wanted = wanted.cloned().unwrap_or_else(Platform::host);
    let ours =
        |entry: &&oci_spec::image::Descriptor| of(entry).is_some_and(|found| found.fits(&wanted));
    let mut manifests = index
        .manifests()
        .iter()
        .filter(|entry| is_manifest(entry.media_type().as_ref()));
    if let Some(entry) = manifests.clone().find(ours) {
        return Descriptor::from_oci(entry);
    }
    let bad =
        |problem: String| Error::refused(what.display(), problem, "use an image for this machine");
    if index
        .manifests()
        .iter()
        .any(|entry| is_index(entry.media_type().as_ref()))
    {
        return Err(Error::refused(
            what.display(),
            "has an index in an index in an index, and airtight looks into one",
            "export the image itself from the tool that made this",
        ));
    }
    if manifests.next().is_none() {
        return Err(bad(
            "has an index without an image that airtight takes".to_owned()
        ));
    }
    let has: BTreeSet<Platform> = index.manifests().iter().filter_map(of).collect();
    let has: Vec<String> = has.iter().map(ToString::to_string).collect();
    Err(bad(if has.is_empty() {
        format!("says of none of its images that it is for {wanted}")
    } else {
        format!("has images for {} and none for {wanted}", has.join(", "))
    }))
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
