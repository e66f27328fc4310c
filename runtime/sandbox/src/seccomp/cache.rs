//! Compiled programs at rest. A file is taken only if it is ours, nobody else can write it, and its header says that it is whole, of
//! this generator and of these very rules; anything else is compiled anew and replaced.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use airtight_sys::seccomp::{Insn, MAX_INSNS};
use nix::fcntl::OFlag;
use sha2::{Digest as _, Sha256};

use super::compile::GENERATOR;

const MAGIC: &[u8; 8] = b"AIRTBPF1";
/// Files that are kept, of 34 KB at most; what is used is compiled anew.
const MOST: usize = 256;
/// A write takes milliseconds.
const A_WHILE: Duration = Duration::from_secs(60);
/// Of one instruction.
const SIZE: usize = size_of::<Insn>();
/// Of what stands before the program: the two words and the two digests of [`header`].
const HEADER: usize = MAGIC.len() + 2 * size_of::<u32>() + 2 * 32;

/// Where the program of the filter with this digest is kept.
pub(super) fn path(cache_dir: &Path, digest: &str) -> PathBuf {
    cache_dir.join("seccomp").join(format!("{digest}.bpf"))
}

/// The program, or `None` for whatever reason it cannot be trusted.
pub(super) fn read(path: &Path, digest: &str) -> Option<Vec<Insn>> {
    // Not a link, and not a fifo that nobody writes to.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
        .ok()?;
    let meta = file.metadata().ok()?;
    let ours =
        meta.is_file() && meta.uid() == nix::unistd::geteuid().as_raw() && meta.mode() & 0o022 == 0;
    let most = HEADER + MAX_INSNS * SIZE;
    if !ours || meta.len() > u64::try_from(most).ok()? {
        return None;
    }
    // One read: it was renamed into place whole.
    let mut bytes = vec![0; usize::try_from(meta.len()).ok()?];
    file.read_exact(&mut bytes).ok()?;
    let program = bytes.get(HEADER..)?;
    let (insns, rest) = program.as_chunks::<SIZE>();
    (rest.is_empty() && !insns.is_empty() && bytes.starts_with(&header(digest, program)))
        .then(|| insns.iter().map(decode).collect())
}

/// Written whole under another name and renamed, so that a reader or a crash sees all of it or none.
pub(super) fn write(path: &Path, digest: &str, insns: &[Insn]) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    make_room(dir)?;
    let program: Vec<u8> = insns.iter().flat_map(encode).collect();
    // Two starts at once write the same bytes; each has its own temporary file.
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = (|| {
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits());
        let mut file = options.open(&temporary)?;
        file.write_all(&header(digest, &program))?;
        file.write_all(&program)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        // What is left of a failed write; the error that matters is returned.
        drop(std::fs::remove_file(&temporary));
    }
    written
}

/// Each filter that a config brings is one more file, and nothing else takes one away.
fn make_room(dir: &Path) -> io::Result<()> {
    let entries = std::fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    if entries.len() < MOST {
        return Ok(());
    }
    for entry in entries {
        // What another start is writing right now is left alone; one that is gone was taken by another.
        let old = entry.metadata().and_then(|meta| meta.modified());
        if old.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > A_WHILE)) {
            drop(std::fs::remove_file(entry.path()));
        }
    }
    Ok(())
}

fn header(digest: &str, program: &[u8]) -> Vec<u8> {
    let length = u32::try_from(program.len()).unwrap_or(u32::MAX);
    let mut header = MAGIC.to_vec();
    header.extend(GENERATOR.to_le_bytes());
    header.extend(length.to_le_bytes());
    header.extend(Sha256::digest(digest.as_bytes()));
    header.extend(Sha256::digest(program));
    header
}

fn encode(insn: &Insn) -> [u8; SIZE] {
    let ([c0, c1], [k0, k1, k2, k3]) = (insn.code.to_le_bytes(), insn.k.to_le_bytes());
    [c0, c1, insn.jt, insn.jf, k0, k1, k2, k3]
}

fn decode([c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; SIZE]) -> Insn {
    Insn {
        code: u16::from_le_bytes([*c0, *c1]),
        jt: *jt,
        jf: *jf,
        k: u32::from_le_bytes([*k0, *k1, *k2, *k3]),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const INSNS: [Insn; 2] = [
        Insn {
            code: 0x20,
            jt: 1,
            jf: 2,
            k: 0x0102_0304,
        },
        Insn {
            code: 0x06,
            jt: 0,
            jf: 0,
            k: 0x7fff_0000,
        },
    ];

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        type Damage = fn(&Path);
        let cases: &[(&str, Damage)] = &[
            ("a flipped bit", |path| {
                let mut bytes = fs::read(path).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(path, bytes).unwrap();
            }),
            ("cut short", |path| {
                fs::write(path, &fs::read(path).unwrap()[..90]).unwrap()
            }),
            ("one instruction less", |path| {
                let bytes = fs::read(path).unwrap();
                fs::write(path, &bytes[..bytes.len() - SIZE]).unwrap();
            }),
            ("empty", |path| fs::write(path, b"").unwrap()),
            ("another generator", |path| {
                let mut bytes = fs::read(path).unwrap();
                bytes[8] ^= 1;
                fs::write(path, bytes).unwrap();
            }),
            ("too long", |path| fs::write(path, vec![0; 40_000]).unwrap()),
            ("writable by the group", |path| {
                fs::set_permissions(path, Permissions::from_mode(0o620)).unwrap()
            }),
            ("a link", |path| {
                fs::rename(path, path.with_extension("real")).unwrap();
                symlink(path.with_extension("real"), path).unwrap();
            }),
            ("a directory", |path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            }),
            ("absent", |path| fs::remove_file(path).unwrap()),
        ];
        for (name, damage) in cases {
            let dir = tempfile::tempdir().unwrap();
            let path = path(dir.path(), "d1");
            write(&path, "d1", &INSNS).unwrap();
            assert_eq!(
                read(&path, "d1").as_deref(),
                Some(&INSNS[..]),
                "{name}: before"
            );
            assert_eq!(read(&path, "d2"), None, "{name}: other rules");
            damage(&path);
            assert_eq!(read(&path, "d1"), None, "{name}");
        }
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path(), "d1");
        fs::create_dir_all(path.join("in-the-way")).unwrap();
        assert_ne!(
            write(&path, "d1", &INSNS).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        assert_eq!(fs::read_dir(dir.path().join("seccomp")).unwrap().count(), 1);
    }

    #[test]
    fn filters_of_many_configs_do_not_fill_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path(), "d1");
        let kept = path.parent().unwrap();
        fs::create_dir(kept).unwrap();
        let old = std::time::SystemTime::now() - 2 * A_WHILE;
        for number in 0..MOST {
            let other = File::create(kept.join(format!("{number}.bpf"))).unwrap();
            other.set_modified(old).unwrap();
        }
        let fresh = kept.join("fresh.1.tmp");
        fs::write(&fresh, "").unwrap();
        write(&path, "d1", &INSNS).unwrap();
        assert_eq!(read(&path, "d1").as_deref(), Some(&INSNS[..]));
        assert!(fresh.exists());
        assert_eq!(fs::read_dir(kept).unwrap().count(), 2);
    }
}
