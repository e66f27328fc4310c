//! What a layer is made from, as digests. All that decides a byte of it is in here; what only explains it (where an entry came from, what
//! the layer is called) is not.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use airtight_image::layer::{FORMAT, Form};
use airtight_image::{Digest, DigestOf};

use crate::entries::{Entries, Entry, EntryKind};

/// Another one for each change of what is digested here, or of bytes that the format's number does not tell.
const VERSION: &[u8] = b"airtight layer 1\n";

/// Everything but what files hold: known without a look into one, so that a tree that was never built is not read to be looked up.
pub(super) fn shape(entries: &Entries, form: &Form) -> Digest {
    // The number of workers changes no byte.
    let Form {
        epoch,
        compression,
        workers: _,
    } = form;
    let mut of = DigestOf::default();
    of.add(VERSION);
    of.add(&FORMAT.to_le_bytes());
    of.add(&epoch.to_le_bytes());
    of.add(&[compression.number()]);
    for (path, Entry { kind, origin: _ }) in entries.iter() {
        // Each part says how long it is or is of one length, so that no two lists of entries are the same bytes.
        match kind {
            EntryKind::Directory => named(&mut of, b'd', path.relative()),
            EntryKind::Symlink(target) => {
                named(&mut of, b'l', path.relative());
                text(&mut of, target);
            }
            EntryKind::File {
                content: _,
                length,
                executable,
            } => {
                let kind = if *executable { b'x' } else { b'f' };
                named(&mut of, kind, path.relative());
                of.add(&length.to_le_bytes());
            }
        }
    }
    of.digest()
}

fn named(of: &mut DigestOf, kind: u8, path: &Path) {
    of.add(&[kind]);
    text(of, path);
}

fn text(of: &mut DigestOf, path: &Path) {
    let bytes = path.as_os_str().as_bytes();
    of.add(&(bytes.len() as u64).to_le_bytes());
    of.add(bytes);
}

/// With what each file holds, in the order of the entries; the shape says how many there are.
pub(super) fn key(shape: &Digest, contents: impl Iterator<Item = [u8; 32]>) -> Digest {
    let mut of = DigestOf::default();
    of.add(&shape.to_bytes());
    contents.for_each(|digest| of.add(&digest));
    of.digest()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::Arc;

    use airtight_image::layer::Compression;

    use super::*;
    use crate::entries::{Content, Origin};
    use crate::path::ImagePath;

    fn file(content: &str, executable: bool) -> EntryKind {
        EntryKind::File {
            length: content.len() as u64,
            content: Content::Generated(Arc::from(content.as_bytes())),
            executable,
        }
    }

    fn entries(list: &[(&str, EntryKind)], key: &str) -> Entries {
        let mut entries = Entries::default();
        for (path, kind) in list {
            let entry = Entry {
                kind: kind.clone(),
                origin: Origin::declared(&key.into(), Path::new("the test")),
            };
            entries
                .insert(ImagePath::parse(path).unwrap(), entry)
                .unwrap();
        }
        entries
    }

    fn form(epoch: u64, compression: Compression) -> Form {
        Form {
            epoch,
            compression,
            workers: NonZeroUsize::MIN,
        }
    }

    #[test]
    fn every_difference_of_bytes_is_another_key_and_no_other_difference_is() {
        let link = |target: &str| EntryKind::Symlink(target.into());
        let base = [
            ("/a", EntryKind::Directory),
            ("/a/f", file("one", false)),
            ("/a/l", link("f")),
        ];
        let key_as = |entries: &Entries, epoch, compression| {
            let digests = super::super::files(entries).map(|content| match content {
                Content::Generated(bytes) => Digest::of(bytes).to_bytes(),
                Content::Host(_) => unreachable!(),
            });
            key(&shape(entries, &form(epoch, compression)), digests)
        };
        let key_of = |entries: &Entries, epoch| key_as(entries, epoch, Compression::Gzip);
        let with = |at: usize, path: &'static str, kind: EntryKind| {
            let mut list = base.to_vec();
            list[at] = (path, kind);
            entries(&list, "k")
        };
        let own = key_of(&entries(&base, "k"), 0);
        assert_eq!(key_of(&entries(&base, "layer[9].copy[0]"), 0), own);
        let mut seen = vec![
            own,
            key_of(&entries(&base, "k"), 1),
            key_as(&entries(&base, "k"), 0, Compression::Zstd),
        ];
        for other in [
            with(1, "/a/f", file("two", false)),
            with(1, "/a/f", file("longer", false)),
            with(1, "/a/f", file("one", true)),
            with(1, "/a/g", file("one", false)),
            with(1, "/a/f", link("one")),
            with(1, "/a/f", EntryKind::Directory),
            with(2, "/a/l", link("g")),
            entries(&base[..2], "k"),
        ] {
            seen.push(key_of(&other, 0));
        }
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count);
        // Only the contents differ: it is worth reading them.
        assert_eq!(
            shape(
                &with(1, "/a/f", file("two", false)),
                &form(0, Compression::Gzip)
            ),
            shape(&entries(&base, "k"), &form(0, Compression::Gzip))
        );
    }
}
