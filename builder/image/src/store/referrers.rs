//! What refers to an image: an artifact manifest of its own with the image's as `subject` (image-spec 1.1), such as why each file is there.
//! It never changes the image's digest, lives as long as the image, and goes where the image goes.
//!
//! `referrers/SUBJECT/REFERRER` is an empty file: which of the blobs refer to which. What they are, their own manifests say.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use serde_json::json;

use super::{Store, remove_tree, stray, sync_directory};
use crate::artifact::Artifact;
use crate::canonical::canonical_json;
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::OCI_MANIFEST;

/// Of one manifest or index. A list of more is not made by ours.
pub(crate) const MAX_REFERRERS: usize = 64;
/// Bytes of what one of ours holds: it is read into memory.
pub(crate) const MAX_ARTIFACT: u64 = 16 << 20;
/// Types of ours begin so; only what is ours is fetched with an image.
pub(crate) const OURS: &str = "application/vnd.airtight.";
/// image-spec's: there is no configuration.
const EMPTY: (&str, &[u8]) = ("application/vnd.oci.empty.v1+json", b"{}");
const DIRECTORY: &str = "referrers";

impl Store {
    /// Makes an artifact of type `kind` refer to `subject`, in place of what of that type did: one blob, of type `kind` and `+json`.
    /// The same content has the same digest, whoever attaches it and when.
    ///
    /// # Errors
    /// Content that is larger than 16 MiB, or the file system's.
    pub fn attach(&self, subject: &Descriptor, kind: &str, content: &[u8]) -> Result<Digest> {
        if content.len() as u64 > MAX_ARTIFACT {
            return Err(Error::refused(
                subject.digest(),
                format!("would get {} bytes of {kind}", content.len()),
                format!("attach at most {MAX_ARTIFACT}"),
            ));
        }
        let (config, config_size) = self.stage_bytes(EMPTY.1)?;
        let (digest, size) = self.stage_bytes(content)?;
        // In the order of its keys, which is the order of canonical JSON.
        let manifest = json!({
            "artifactType": kind,
            "config": { "digest": config, "mediaType": EMPTY.0, "size": config_size },
            "layers": [{ "digest": digest, "mediaType": format!("{kind}+json"), "size": size }],
            "mediaType": OCI_MANIFEST,
            "schemaVersion": 2,
            "subject": { "digest": subject.digest(), "mediaType": subject.media_type(), "size": subject.size() },
        });
        let (manifest, _) = self.stage_bytes(canonical_json(manifest).as_bytes())?;
        let before = self.of_kind(subject.digest(), kind)?;
        self.refer(subject.digest(), &manifest)?;
        let directory = self.referrers_of(subject.digest());
        for old in before.iter().filter(|old| *old.digest() != manifest) {
            let path = directory.join(old.digest().hex());
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io(&path)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(manifest)
    }

    /// The content of the artifact of type `kind` that refers to `subject`; of several, that with the lowest digest.
    ///
    /// # Errors
    /// One that is not what it says that it is.
    pub fn attached(&self, subject: &Digest, kind: &str) -> Result<Option<Vec<u8>>> {
        let Some(artifact) = self.of_kind(subject, kind)?.into_iter().next() else {
            return Ok(None);
        };
        match artifact.blobs().as_slice() {
            // Configuration and content; where a foreign one has both in one blob, that.
            [.., content] => self.read_blob(content, MAX_ARTIFACT).map(Some),
            [] => Ok(None),
        }
    }

    fn of_kind(&self, subject: &Digest, kind: &str) -> Result<Vec<Artifact>> {
        let mut found = self.artifacts(subject)?.0;
        found.retain(|artifact| artifact.kind() == kind);
        Ok(found)
    }

    /// Those that are whole by their own word, by digest, and what is wrong with the others.
    pub(crate) fn artifacts(&self, subject: &Digest) -> Result<(Vec<Artifact>, Vec<Error>)> {
        let (mut whole, mut damaged) = (Vec::new(), Vec::new());
        for digest in self.referring(subject)? {
            let read = self
                .read_document(&digest)
                .and_then(|bytes| Artifact::read(bytes, &digest, subject));
            match read {
                Ok(artifact) => whole.push(artifact),
                Err(error) => damaged.push(error),
            }
        }
        Ok((whole, damaged))
    }

    /// Notes that the manifest `referrer`, which is in the store with its blobs, refers to `subject`.
    pub(crate) fn refer(&self, subject: &Digest, referrer: &Digest) -> Result<()> {
        self.add()?;
        self.settle()?;
        let directory = self.referrers_of(subject);
        if directory.join(referrer.hex()).exists() {
            return Ok(());
        }
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory);
        made.map_err(Error::io(&directory))?;
        let path = directory.join(referrer.hex());
        fs::write(&path, b"").map_err(Error::io(&path))?;
        sync_directory(&directory)?;
        sync_directory(&self.path(DIRECTORY))
    }

    fn referring(&self, subject: &Digest) -> Result<BTreeSet<Digest>> {
        let directory = self.referrers_of(subject);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(Error::io(&directory)(error)),
        };
        let mut found = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(Error::io(&directory))?.file_name();
            // What is none of ours is told by `verify`.
            found.extend(format!("sha256:{}", name.to_string_lossy()).parse::<Digest>());
            if found.len() > MAX_REFERRERS {
                return Err(Error::refused(
                    subject,
                    format!("has more than {MAX_REFERRERS} manifests that refer to it"),
                    format!("remove some below {}", directory.display()),
                ));
            }
        }
        Ok(found)
    }

    fn referrers_of(&self, subject: &Digest) -> PathBuf {
        self.path(DIRECTORY).join(subject.hex())
    }

    /// Adds to `blobs`, which are those of images, what refers to them. What is damaged refers to nothing any more.
    pub(super) fn reach_referrers(&self, blobs: &mut BTreeSet<Digest>) -> Result<()> {
        let mut subjects = self.subjects()?.0;
        subjects.retain(|subject| blobs.contains(subject));
        for subject in subjects {
            for artifact in self.artifacts(&subject)?.0 {
                blobs.extend(artifact.blobs().iter().map(|blob| blob.digest().clone()));
                blobs.insert(artifact.digest().clone());
            }
        }
        Ok(())
    }

    /// Takes away the notes of what refers to nothing that is kept, or is damaged.
    pub(super) fn collect_referrers(&self, kept: &BTreeSet<Digest>) -> Result<()> {
        for subject in self.subjects()?.0 {
            let directory = self.referrers_of(&subject);
            if !kept.contains(&subject) {
                remove_tree(&directory).map_err(Error::io(&directory))?;
                continue;
            }
            for referrer in self.referring(&subject)? {
                if !kept.contains(&referrer) {
                    let path = directory.join(referrer.hex());
                    fs::remove_file(&path).map_err(Error::io(&path))?;
                }
            }
        }
        Ok(())
    }

    /// What is wrong with those that refer to images, one line each.
    pub(super) fn referrer_problems(&self) -> Result<Vec<String>> {
        let (subjects, mut problems) = self.subjects()?;
        for subject in subjects {
            let (whole, damaged) = self.artifacts(&subject)?;
            problems.extend(damaged.iter().map(ToString::to_string));
            for artifact in whole {
                for blob in artifact.blobs() {
                    let there = self.open_blob(&blob).map(drop);
                    problems.extend(there.err().map(|error| error.to_string()));
                }
            }
        }
        Ok(problems)
    }

    /// Of which manifests it is noted that something refers to them, and what else lies there.
    fn subjects(&self) -> Result<(Vec<Digest>, Vec<String>)> {
        let directory = self.path(DIRECTORY);
        let (mut found, mut strays) = (Vec::new(), Vec::new());
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((found, strays)),
            Err(error) => return Err(Error::io(&directory)(error)),
        };
        for entry in entries {
            let path = entry.map_err(Error::io(&directory))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            match format!("sha256:{name}").parse() {
                Ok(digest) => found.push(digest),
                Err(_) => strays.push(stray(&path)),
            }
        }
        found.sort();
        Ok((found, strays))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "application/vnd.airtight.why.v1";

    /// A store with one image, which has a name.
    fn bench() -> (tempfile::TempDir, Store, Descriptor) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let (layer, length) = store.put_blob_bytes(b"layer").unwrap();
        let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [layer] } });
        let (config, size) = store.put_blob_bytes(config.to_string().as_bytes()).unwrap();
        let manifest = json!({
            "schemaVersion": 2,
            "config": Descriptor::new("application/vnd.oci.image.config.v1+json", config, size),
            "layers": [Descriptor::new("application/vnd.oci.image.layer.v1.tar", layer, length)],
        });
        let (digest, size) = store
            .put_blob_bytes(manifest.to_string().as_bytes())
            .unwrap();
        let image = Descriptor::new(OCI_MANIFEST, digest, size);
        store.tag(&"a".parse().unwrap(), &image).unwrap();
        (dir, store, image)
    }

    #[test]
    fn an_artifact_lives_with_its_image_and_is_the_same_every_time() {
        let (_dir, store, image) = bench();
        let first = store.attach(&image, KIND, b"first").unwrap();
        let text = String::from_utf8(store.read_document(&first).unwrap()).unwrap();
        let want = format!(
            concat!(
                r#"{{"artifactType":"{0}","config":{{"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","#,
                r#""mediaType":"application/vnd.oci.empty.v1+json","size":2}},"layers":[{{"digest":"{1}","mediaType":"{0}+json","size":5}}],"#,
                r#""mediaType":"{2}","schemaVersion":2,"subject":{{"digest":"{3}","mediaType":"{2}","size":{4}}}}}"#
            ),
            KIND,
            Digest::of(b"first"),
            OCI_MANIFEST,
            image.digest(),
            image.size()
        );
        assert_eq!(text, want);
        assert_eq!(
            store.attached(image.digest(), KIND).unwrap().unwrap(),
            b"first"
        );
        assert_eq!(store.attach(&image, KIND, b"first").unwrap(), first);
        store.attach(&image, KIND, b"second").unwrap();
        assert_eq!(
            store.attached(image.digest(), KIND).unwrap().unwrap(),
            b"second"
        );
        assert_eq!(store.verify().unwrap().problems, Vec::<String>::new());
        let removed = store.gc().unwrap();
        assert_eq!(removed.blobs, 2, "the first's manifest and content");
        assert_eq!(
            store.attached(image.digest(), KIND).unwrap().unwrap(),
            b"second"
        );
        store.untag(&"a".parse().unwrap()).unwrap();
        store.gc().unwrap();
        assert_eq!(fs::read_dir(store.path("blobs/sha256")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(store.path(DIRECTORY)).unwrap().count(), 0);
    }

    #[test]
    fn what_refers_elsewhere_or_is_gone_is_no_artifact_of_the_image() {
        let (_dir, store, image) = bench();
        let other = Descriptor::new(OCI_MANIFEST, Digest::of(b"other"), 5);
        let foreign = store.attach(&other, KIND, b"x").unwrap();
        store.refer(image.digest(), &foreign).unwrap();
        assert_eq!(store.attached(image.digest(), KIND).unwrap(), None);
        store.refer(image.digest(), &Digest::of(b"gone")).unwrap();
        assert_eq!(store.attached(image.digest(), KIND).unwrap(), None);
        let problems = store.verify().unwrap().problems;
        assert_eq!(problems.len(), 2, "{problems:?}");
        store.gc().unwrap();
        assert_eq!(store.verify().unwrap().problems, Vec::<String>::new());
    }

    #[test]
    fn too_much_is_refused() {
        let (_dir, store, image) = bench();
        let large = vec![0; usize::try_from(MAX_ARTIFACT).unwrap() + 1];
        let told = store.attach(&image, KIND, &large).unwrap_err().to_string();
        assert!(told.contains("would get 16777217 bytes"), "{told}");
    }
}
