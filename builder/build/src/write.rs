//! Entries become a layer in the store: one pass over each file's bytes, everything that could differ between two builds
//! (owner, mode, time, order) already decided.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use airtight_image::layer::{Form, LayerWriter, Sealed};
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

/// What a file holds.
pub(crate) struct Held {
    /// SHA-256 of the content.
    pub(crate) digest: [u8; 32],
    /// It can be known by what it was when it was planned: it still was that when all was read, and each later change will show.
    pub(crate) steady: bool,
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
    let mut layer = LayerWriter::new(&mut blob, form)?;
    let mut steady = Vec::new();
    let mut near = Near::default();
    for (path, entry) in entries.iter() {
        let place = path.relative();
        match &entry.kind {
            EntryKind::Directory => layer.directory(place, DIRECTORY_MODE)?,
            EntryKind::Symlink(target) => layer.symlink(place, target)?,
            EntryKind::File {
                content,
                length,
                executable,
            } => {
                let mode = if *executable { PROGRAM_MODE } else { FILE_MODE };
                let still = match content {
                    Content::Generated(bytes) => {
                        layer.file(place, mode, *length, bytes.as_ref())?;
                        true
                    }
                    Content::Host(source) => {
                        let mut reader = Exact::open(source, &mut near, *length)
                            .map_err(|err| unreadable(&source.path(), &err, entry))?;
                        let shows = proof.before_reading(&reader.file, source.identity());
                        let written = layer.file(place, mode, *length, &mut reader);
                        // The writer only sees a read fail; the reader knows why.
                        let identity = reader
                            .finish()
                            .map_err(|err| unreadable(&source.path(), &err, entry))?;
                        written?;
                        shows && identity == *source.identity()
                    }
                };
                steady.push(still);
            }
        }
    }
    let Sealed {
        diff_id,
        uncompressed,
        contents,
    } = layer.finish()?;
    let contents = contents.into_iter().zip(steady);
    let contents = contents
        .map(|(digest, steady)| Held { digest, steady })
        .collect();
    let (digest, size) = blob.commit()?;
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

/// A file of exactly the planned length: a header with that length is written already when the bytes come.
struct Exact {
    file: File,
    planned: u64,
    left: u64,
    /// The end of the file was seen.
    ended: bool,
    failed: Option<io::Error>,
}

impl Exact {
    fn open(source: &Source, near: &mut Near, planned: u64) -> io::Result<Self> {
        let (file, metadata) = source.open_near(near)?;
        let length = metadata.len();
        if length != planned {
            return Err(changed(planned, &format!("{length} bytes")));
        }
        Ok(Self {
            file,
            planned,
            left: planned,
            ended: false,
            failed: None,
        })
    }

    /// What it is by now; else what went wrong while the bytes were read, or that there are more of them.
    fn finish(mut self) -> io::Result<Identity> {
        if let Some(err) = self.failed {
            return Err(err);
        }
        if self.left == 0 && !self.ended && self.file.read(&mut [0])? != 0 {
            return Err(changed(self.planned, "more"));
        }
        self.file.metadata().map(|metadata| Identity::of(&metadata))
    }

    fn fail(&mut self, err: io::Error) -> io::Error {
        let shown = io::Error::new(err.kind(), err.to_string());
        self.failed = Some(err);
        shown
    }
}

fn changed(planned: u64, now: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("changed from {planned} bytes to {now} during the build"),
    )
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        match self.file.read(buffer) {
            Ok(0) => {
                let err = changed(self.planned, &format!("{} bytes", self.planned - self.left));
                Err(self.fail(err))
            }
            Ok(count) if count as u64 > self.left => {
                let err = changed(self.planned, "more");
                Err(self.fail(err))
            }
            Ok(count) => {
                self.left -= count as u64;
                // A regular file gives less than was asked for at its end only: that saves a call for each file.
                self.ended = count < buffer.len();
                Ok(count)
            }
            Err(err) if err.kind() == io::ErrorKind::Interrupted => Err(err),
            Err(err) => Err(self.fail(err)),
        }
    }
}
