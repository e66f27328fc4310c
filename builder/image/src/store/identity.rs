//! What the kernel says of a file and of what it lies on, enough to see later that it is another or was changed.

use std::fs::Metadata;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::time::SystemTime;

use nix::sys::statfs::fstatfs;
use nix::sys::statvfs::fstatvfs;

/// By how much the times of a file must lie before it is read. A tick of the kernel's clock is at most 10 ms.
const MARGIN: i128 = 1_000_000_000;
/// Where a time is whole seconds, the file system may have no finer ones; those that count by two are not trusted at all.
const COARSE_MARGIN: i128 = 3_000_000_000;

/// Local file systems on whose change time no program but the clock's owner has a say: ext2 to 4, XFS, Btrfs, F2FS, ZFS, bcachefs, erofs, SquashFS. Over
/// a network or in user space (NFS, SMB, 9p, FUSE) another machine or a program says what the times are. On tmpfs a store through a mapping changes none. An
/// overlay's pages are those of the file system below, where they cannot be written out from above ([`super::Steady`]).
const TRUSTED: [u64; 8] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0xf2f5_2010,
    0x2fc1_2fc1,
    0xca45_1a4e,
    0xe0f5_e1e2,
    0x7371_7368,
];

/// A file system, as long as it is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    pub(super) number: u64,
    pub(super) kind: u64,
    pub(super) id: u64,
}

impl Device {
    /// That of an open file whose [`Identity::device`] is `number`; `None` where times prove nothing.
    #[must_use]
    #[expect(
        clippy::cast_sign_loss,
        reason = "a magic number, which statfs(2) has as a signed word"
    )]
    pub fn of(file: impl AsFd, number: u64) -> Option<Self> {
        let kind = fstatfs(&file).ok()?.filesystem_type().0 as u64;
        let id = fstatvfs(&file).ok()?.filesystem_id();
        TRUSTED.contains(&kind).then_some(Self { number, kind, id })
    }
}

/// What the kernel says of a regular file, enough to see that it is another or was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub device: u64,
    pub inode: u64,
    /// Bytes.
    pub length: u64,
    /// Seconds and nanoseconds since 1970.
    pub modified: (i64, u32),
    /// The inode's, which no program can set.
    pub changed: (i64, u32),
    /// Type and permissions.
    pub mode: u32,
}

impl Identity {
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        let nanoseconds = |count: i64| u32::try_from(count).unwrap_or(0);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), nanoseconds(metadata.mtime_nsec())),
            changed: (metadata.ctime(), nanoseconds(metadata.ctime_nsec())),
            mode: metadata.mode(),
        }
    }

    #[expect(clippy::cast_sign_loss, reason = "a file's length is no less than 0")]
    pub(crate) fn of_stat(stat: &nix::sys::stat::FileStat) -> Self {
        let nanoseconds = |count: i64| u32::try_from(count).unwrap_or(0);
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            length: stat.st_size as u64,
            modified: (stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
            changed: (stat.st_ctime, nanoseconds(stat.st_ctime_nsec)),
            mode: stat.st_mode,
        }
    }

    /// Whether a change after `moment` would show: both times lie clearly before it.
    #[must_use]
    pub fn settled_at(&self, moment: SystemTime) -> bool {
        let Ok(moment) = moment.duration_since(SystemTime::UNIX_EPOCH) else {
            return false;
        };
        let moment = i128::try_from(moment.as_nanos()).unwrap_or(0);
        [self.modified, self.changed]
            .iter()
            .all(|(seconds, nanoseconds)| {
                let margin = if *nanoseconds == 0 {
                    COARSE_MARGIN
                } else {
                    MARGIN
                };
                let time = i128::from(*seconds) * 1_000_000_000 + i128::from(*nanoseconds);
                time + margin < moment
            })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_close_to_the_reading_proves_nothing() {
        let at = |seconds: u64, nanoseconds: u32| {
            SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)
        };
        let fine = Identity {
            device: 7,
            inode: 1,
            length: 10,
            modified: (1_700_000_000, 1),
            changed: (1_700_000_000, 2),
            mode: 0o100_644,
        };
        let coarse = Identity {
            changed: (1_700_000_000, 0),
            ..fine
        };
        let touched = Identity {
            modified: (0, 5),
            ..fine
        };
        let future = Identity {
            modified: (1_800_000_000, 5),
            ..fine
        };
        for (name, identity, moment, want) in [
            ("at once", fine, at(1_700_000_000, 2), false),
            ("a second later", fine, at(1_700_000_001, 2), false),
            ("well later", fine, at(1_700_000_001, 3), true),
            (
                "a file system of whole seconds",
                coarse,
                at(1_700_000_003, 0),
                false,
            ),
            ("and well later", coarse, at(1_700_000_003, 1), true),
            (
                "an old time was set just now",
                touched,
                at(1_700_000_000, 9),
                false,
            ),
            ("a time in the future", future, at(1_700_000_009, 0), false),
            (
                "a clock before 1970",
                fine,
                SystemTime::UNIX_EPOCH - Duration::from_secs(1),
                false,
            ),
        ] {
            assert_eq!(identity.settled_at(moment), want, "{name}");
        }
    }
}
