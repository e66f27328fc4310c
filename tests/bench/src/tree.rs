//! The trees that builds are measured with: what this host has of Debian's python3 and in /usr/share, copied up to a number of files and of bytes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;

/// What is copied from, in this order, again and again.
const SOURCES: [&str; 3] = ["/usr/lib/python3.11", "/usr/lib/python3", "/usr/share"];
/// One file of that size counts for three hundred of the mean: with more, a tree of so many files would be of other files.
const MAX_FILE: u64 = 4 << 20;

/// How large a tree is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) name: &'static str,
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

/// Those that the promises are about.
pub(crate) const SIZES: [Size; 2] = [
    Size {
        name: "small",
        files: 5_000,
        bytes: 50_000_000,
    },
    Size {
        name: "large",
        files: 26_000,
        bytes: 360_000_000,
    },
];

/// Fills `tree` with exactly so many files, and bytes to within one of them; how many bytes there are.
///
/// What is larger than the mean and what is not are two lists, each taken in the order of its paths: from the first whenever there are fewer bytes than
/// there should be by now. So both numbers come out, small and large files are mixed all the way, and the tree is the same whenever the host is.
pub(crate) fn copy_up(tree: &Path, size: Size) -> Result<u64> {
    let mean = size.bytes / size.files as u64;
    let (mut small, mut large) = (Endless::default(), Endless::default());
    for source in SOURCES {
        for (path, length) in regular_files(Path::new(source))? {
            match length {
                length if length > MAX_FILE => {}
                length if length > mean => large.files.push((path, length)),
                _ => small.files.push((path, length)),
            }
        }
    }
    let mut sum = 0;
    for number in 0..size.files as u64 {
        let list = if sum < mean * number {
            &mut large
        } else {
            &mut small
        };
        let (round, (path, length)) = list.next().ok_or("this host has nothing to copy")?;
        let below = path.strip_prefix("/")?;
        let to = tree.join(format!("copy{round}")).join(below);
        fs::create_dir_all(to.parent().ok_or("a file at the root")?)?;
        // Not `fs::copy`: modes of this host are none of the tree's.
        fs::write(&to, fs::read(path)?)?;
        sum += *length;
    }
    Ok(sum)
}

/// Files and their lengths, from the start again after the last.
#[derive(Default)]
struct Endless {
    files: Vec<(PathBuf, u64)>,
    taken: usize,
}

impl Endless {
    /// How often all were taken before, and the next.
    fn next(&mut self) -> Option<(usize, &(PathBuf, u64))> {
        let round = self.taken.checked_div(self.files.len())?;
        let file = self.files.get(self.taken % self.files.len())?;
        self.taken += 1;
        Some((round, file))
    }
}

/// Below `root`, in the order of their names; links are not followed.
fn regular_files(root: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() {
                files.push((entry.path(), entry.metadata()?.len()));
            }
        }
    }
    files.sort();
    Ok(files)
}
