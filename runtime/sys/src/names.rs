//! The names in a directory, many directories with one buffer: what `readdir(3)` does beside its one system call (a buffer, a look at the flags, a rewind) is a fifth
//! of listing a large tree.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

use crate::error::{Result, SysError};

/// Bytes: some hundred names at once.
const BUFFER: usize = 64 << 10;
/// Before the name of a `struct linux_dirent64`: inode and offset of eight bytes, the record's length of two, the type.
const LENGTH: usize = 16;
const TYPE: usize = 18;
const NAME: usize = 19;

/// What a name is said to be; a file system need not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameType {
    Directory,
    Symlink,
    /// Something else, or nothing is said.
    Other,
}

/// The buffer.
#[derive(Debug)]
pub struct Names(Vec<u8>);

impl Default for Names {
    fn default() -> Self {
        Self(vec![0; BUFFER])
    }
}

impl Names {
    /// Tells `each` every name in `directory` from where it was read up to, without `.` and `..`, in no order.
    ///
    /// # Errors
    /// `getdents64(2)`'s; `EBADMSG` for a record that is none.
    pub fn each(
        &mut self,
        directory: impl AsFd,
        mut each: impl FnMut(&CStr, NameType),
    ) -> Result<()> {
        let directory = directory.as_fd();
        loop {
            // SAFETY: the kernel writes at most as many bytes as it is told, which are all of a buffer that is borrowed mutably for the call, as whole records; any
            // bytes are valid ones of it. `directory` is borrowed too, so the descriptor is still that file's.
            let count = unsafe {
                libc::syscall(
                    libc::SYS_getdents64,
                    directory.as_raw_fd(),
                    self.0.as_mut_ptr(),
                    self.0.len(),
                )
            };
            let count = Errno::result(count).map_err(|errno| failed(errno, self.0.len()))?;
            let count = usize::try_from(count).unwrap_or(0);
            if count == 0 {
                return Ok(());
            }
            records(self.0.get(..count).unwrap_or_default(), &mut each)
                .ok_or_else(|| failed(Errno::EBADMSG, count))?;
        }
    }
}

fn failed(errno: Errno, length: usize) -> SysError {
    SysError::new("getdents64", length.to_string(), errno)
}

/// `None` for what is cut off.
fn records(mut rest: &[u8], each: &mut impl FnMut(&CStr, NameType)) -> Option<()> {
    while !rest.is_empty() {
        let length = rest.get(LENGTH..TYPE)?.first_chunk::<2>()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let (record, more) = rest.split_at_checked(length.max(NAME))?;
        rest = more;
        let name = CStr::from_bytes_until_nul(record.get(NAME..)?).ok()?;
        let kind = match *record.get(TYPE)? {
            libc::DT_DIR => NameType::Directory,
            libc::DT_LNK => NameType::Symlink,
            _ => NameType::Other,
        };
        if !matches!(name.to_bytes(), b"." | b"..") {
            each(name, kind);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    fn listed(names: &mut Names, directory: &File) -> BTreeMap<String, NameType> {
        let mut found = BTreeMap::new();
        let each = |name: &CStr, kind| {
            let again = found.insert(name.to_str().unwrap().to_owned(), kind);
            assert_eq!(again, None, "{name:?}");
        };
        names.each(directory, each).unwrap();
        found
    }

    #[test]
    fn every_name_is_told_once_however_many_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let mut want = BTreeMap::new();
        fs::create_dir(dir.path().join("directory")).unwrap();
        want.insert("directory".to_owned(), NameType::Directory);
        symlink("nowhere", dir.path().join("link")).unwrap();
        want.insert("link".to_owned(), NameType::Symlink);
        for number in 0..1500 {
            let name = format!("{number:0>60}");
            fs::write(dir.path().join(&name), "").unwrap();
            want.insert(name, NameType::Other);
        }
        let mut names = Names::default();
        assert_eq!(listed(&mut names, &File::open(dir.path()).unwrap()), want);
        let empty = File::open(dir.path().join("directory")).unwrap();
        assert_eq!(listed(&mut names, &empty), BTreeMap::new());
        let file = File::open(dir.path().join(format!("{:0>60}", 7))).unwrap();
        let told = names.each(&file, |_, _| ()).unwrap_err();
        assert_eq!(told.errno, Errno::ENOTDIR);
    }

    #[test]
    fn a_record_that_is_none_is_refused() {
        let record = |length: u16, name: &[u8]| {
            let mut bytes = vec![0; LENGTH];
            bytes.extend_from_slice(&length.to_ne_bytes());
            bytes.push(libc::DT_REG);
            bytes.extend_from_slice(name);
            bytes
        };
        let count = |bytes: &[u8]| {
            let mut count = 0;
            records(bytes, &mut |_, _| count += 1).map(|()| count)
        };
        let good = record(24, b"name\0");
        assert_eq!(count(&[good.as_slice(), &good].concat()), Some(2));
        assert_eq!(count(&good[..20]), None, "cut off");
        assert_eq!(count(&good[..7]), None, "cut off early");
        assert_eq!(count(&record(24, b"names")), None, "without an end");
        assert_eq!(count(&record(0, b"")), None, "of no length");
    }
}
