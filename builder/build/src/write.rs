//! Entries become a layer in the store: one pass over each file's bytes, everything that could differ between two builds
//! (owner, mode, time, order) already decided.

use std::io::{self, IoSliceMut, Read, Seek as _, SeekFrom};
use std::path::Path;

use airtight_image::layer::{self, Form, Held, LayerEntry, LayerItem, Sealed, write};
use airtight_image::{Identity, Steady, Store};

use crate::build::{BuiltLayer, LayerState};
use crate::entries::{Content, Entries, Entry, EntryKind};
use crate::error::{BuildError, Problem};
use crate::source::{Near, Source};

/// No write bit for anybody: a layer does not change, whoever the payload is.
pub(crate) const DIRECTORY_MODE: u32 = 0o555;
pub(crate) const FILE_MODE: u32 = 0o444;
pub(crate) const PROGRAM_MODE: u32 = 0o555;

/// A layer in the store, and what its files hold.
pub(crate) struct Written {
    pub(crate) layer: BuiltLayer,
    /// Of each [`EntryKind::File`], in the order of the entries: taken while it was written.
    pub(crate) contents: Vec<Held>,
}

/// A failure while writing: of the store, or of a source.
pub(crate) enum WriteError {
    Image(airtight_image::Error),
    Source(Problem),
}

impl From<airtight_image::Error> for WriteError {
    fn from(err: airtight_image::Error) -> Self {
        Self::Image(err)
    }
}

impl WriteError {
    pub(crate) fn in_file(self, file: &Path) -> BuildError {
        match self {
            Self::Image(err) => err.into(),
            Self::Source(problem) => problem.in_file(file).into(),
        }
    }
}

/// Writes one layer; nothing of it is seen in the store unless all of it could be written.
pub(crate) fn write_layer(
    name: &str,
    entries: &Entries,
    form: &Form,
    store: &Store,
    proof: &Steady,
) -> Result<Written, WriteError> {
    let mut blob = store.put_blob()?;
    let items = entries.iter().map(|(path, entry)| LayerEntry {
        path: path.relative(),
        item: item(entry, proof),
    });
    let Sealed {
        diff_id,
        uncompressed,
        contents,
    } = write(&mut blob, form, items)?;
    let (digest, size) = store.stage(blob)?;
    let layer = BuiltLayer {
        name: name.to_owned(),
        digest,
        compression: form.compression,
        diff_id,
        size,
        uncompressed,
        entries: entries.len(),
        state: LayerState::Built,
    };
    Ok(Written { layer, contents })
}

fn item<'a>(entry: &'a Entry, proof: &'a Steady) -> LayerItem<'a, Planned<'a>> {
    match &entry.kind {
        EntryKind::Directory => LayerItem::Directory {
            mode: DIRECTORY_MODE,
        },
        EntryKind::Symlink(target) => LayerItem::Symlink { target },
        EntryKind::File {
            content,
            length,
            executable,
        } => LayerItem::File {
            mode: if *executable { PROGRAM_MODE } else { FILE_MODE },
            length: *length,
            content: Planned {
                content,
                length: *length,
                entry,
                proof,
            },
        },
    }
}

/// A file of exactly the planned length: where the bytes of every other file lie follows from it.
#[derive(Clone, Copy)]
struct Planned<'a> {
    content: &'a Content,
    length: u64,
    entry: &'a Entry,
    proof: &'a Steady,
}

impl layer::Content for Planned<'_> {
    type Hand = Near;
    type Error = WriteError;

    /// True if it can be known by what it was when it was planned: it still was that when these bytes were read, and each later change will show.
    fn read(&self, near: &mut Near, at: u64, into: &mut [u8]) -> Result<bool, WriteError> {
        match self.content {
            Content::Generated(bytes) => Ok(bytes.as_ref().read(&mut (), at, into)?),
            Content::Host(source) => self
                .of_host(source, near, at, into)
                .map_err(|err| unreadable(&source.path(), &err, self.entry)),
        }
    }
}

impl Planned<'_> {
    fn of_host(
        &self,
        source: &Source,
        near: &mut Near,
        at: u64,
        into: &mut [u8],
    ) -> io::Result<bool> {
        let (mut file, metadata) = source.open_near(near)?;
        let length = metadata.len();
        if length != self.length {
            return Err(changed(self.length, &format!("{length} bytes")));
        }
        let shows = self.proof.before_reading(&file, source.identity());
        if at > 0 {
            file.seek(SeekFrom::Start(at))?;
        }
        self.fill(&mut file, at, into)?;
        let identity = Identity::of(&file.metadata()?);
        Ok(shows && identity == *source.identity())
    }

    /// Asks for one byte more than there should be at the end, so that one call tells that there are no more.
    fn fill(&self, file: &mut impl Read, at: u64, into: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        let ends = at + into.len() as u64 == self.length;
        while filled < into.len() || (ends && into.is_empty()) {
            let mut more = [0];
            let more = &mut more[..usize::from(ends)];
            let left = into.len() - filled;
            let mut buffers = [IoSliceMut::new(&mut into[filled..]), IoSliceMut::new(more)];
            match file.read_vectored(&mut buffers) {
                Ok(0) if left == 0 => break,
                Ok(0) => {
                    let got = at + filled as u64;
                    return Err(changed(self.length, &format!("{got} bytes")));
                }
                Ok(count) if count > left => return Err(changed(self.length, "more")),
                Ok(count) => filled += count,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }
}

fn unreadable(source: &Path, err: &io::Error, entry: &Entry) -> WriteError {
    let changed = err.kind() == io::ErrorKind::InvalidData;
    let fix = if changed {
        "build again when nothing writes to it"
    } else {
        "make it readable for the user who builds"
    };
    let problem = format!(
        "`{}` {}{err}",
        source.display(),
        if changed { "" } else { "cannot be read: " }
    );
    WriteError::Source(Problem::new(entry.origin.key.as_ref(), problem, fix))
}

fn changed(planned: u64, now: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("changed from {planned} bytes to {now} during the build"),
    )
}
