//! Subordinate ids of an unprivileged caller, and the helpers that may map them.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use airtight_plan::SubIds;
use airtight_sys::facts;

use super::{ProbeInput, read};

pub(super) fn subids(input: &ProbeInput, uid: u32) -> Option<SubIds> {
    let name = user_name(&read(&input.passwd), uid);
    let range = |path: &PathBuf| range(&read(path), uid, name.as_deref());
    Some(SubIds {
        uids: range(&input.subuid)?,
        gids: range(&input.subgid)?,
        newuidmap: helper(input, "newuidmap")?,
        newgidmap: helper(input, "newgidmap")?,
    })
}

/// `name:password:uid:…`.
fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// `owner:start:count`, the owner by number or name; the largest range that does not wrap and holds no id of the host's root.
fn range(file: &str, uid: u32, name: Option<&str>) -> Option<(u32, u32)> {
    let ranges = file.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let (start, count) = (
            fields.next()?.trim().parse::<u32>().ok()?,
            fields.next()?.trim().parse::<u32>().ok()?,
        );
        let ours = owner.parse() == Ok(uid) || name == Some(owner);
        (ours && start > 0 && count > 0 && start.checked_add(count).is_some())
            .then_some((start, count))
    });
    ranges.max_by_key(|(_, count)| *count)
}

/// `newuidmap` and `newgidmap`, where both are there.
pub(crate) fn map_helpers() -> Option<(PathBuf, PathBuf)> {
    let input = ProbeInput::default();
    Some((helper(&input, "newuidmap")?, helper(&input, "newgidmap")?))
}

/// It must be able to write a map that the caller could not: set-uid root, or with file capabilities.
fn helper(input: &ProbeInput, name: &str) -> Option<PathBuf> {
    input.helpers.iter().map(|dir| dir.join(name)).find(|path| {
        std::fs::metadata(path).is_ok_and(|meta| {
            let set_uid = meta.uid() == 0 && meta.mode() & 0o4000 != 0;
            meta.is_file()
                && meta.mode() & 0o111 != 0
                && (set_uid || facts::has_file_capabilities(path))
        })
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_range_is_found_by_number_or_name_and_nonsense_is_passed_over() {
        for (name, file, want) in [
            (
                "by name",
                "root:1:2\nalice:100000:65536\n",
                Some((100_000, 65_536)),
            ),
            ("by number", "1000:200000:65536", Some((200_000, 65_536))),
            (
                "the largest",
                "alice:100000:10\nalice:300000:65536\n1000:200000:20\n",
                Some((300_000, 65_536)),
            ),
            (
                "somebody else",
                "bob:100000:65536\n10001:100000:65536",
                None,
            ),
            ("wraps", "alice:4294967295:65536", None),
            ("the host's root", "alice:0:65536", None),
            ("empty", "alice:100000:0", None),
            ("cut", "alice:100000\nalice\n\nalice:x:y\n", None),
        ] {
            assert_eq!(range(file, 1000, Some("alice")), want, "{name}");
        }
        assert_eq!(range(":100000:65536", 1000, None), None);
    }

    #[test]
    fn the_name_is_the_one_of_the_uid() {
        let passwd = "root:x:0:0::/:/bin/sh\nnobody\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        assert_eq!(
            (user_name(passwd, 1000).as_deref(), user_name(passwd, 7)),
            (Some("alice"), None)
        );
    }

    #[test]
    fn a_helper_without_its_privilege_is_no_helper() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("newuidmap");
        fs::write(&path, b"").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let input = ProbeInput {
            helpers: vec![dir.path().to_owned()],
            ..ProbeInput::default()
        };
        assert_eq!(
            (helper(&input, "newuidmap"), helper(&input, "newgidmap")),
            (None, None)
        );
    }
}
