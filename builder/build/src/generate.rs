//! `generate`: the few files that programs expect of a system and no package of the app brings.

use std::io;
use std::path::{Path, PathBuf};

use crate::entries::{Content, EntryKind, Origin};
use crate::error::Problem;
use crate::generator::Generator;
use crate::path::ImagePath;
use crate::settings::{DEFAULT_ID, User};
use crate::source::Source;
use crate::tree::Tree;

const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
const ZONEINFO: &str = "/usr/share/zoneinfo";
/// What the host's own settings or other clocks make of the data, not zones of their own.
const NO_ZONES: &[&str] = &["localtime", "posix", "right"];

/// Adds what one generator makes to the current layer.
pub(crate) fn generate(
    asked: &Generator,
    user: &User,
    key: &str,
    tree: &mut Tree,
) -> Result<(), Problem> {
    let mut text = |name: &str, text: String| {
        let path = match name {
            "nsswitch" => "/etc/nsswitch.conf".to_owned(),
            name => format!("/etc/{name}"),
        };
        add_text(&path, &text, name, key, tree)
    };
    match asked {
        Generator::Passwd => text("passwd", passwd(user)),
        Generator::Group => text("group", group(user)),
        // Only what libc resolves by itself: any other source would need a plug-in library.
        Generator::Nsswitch => {
            let lines = [
                "passwd: files",
                "group: files",
                "shadow: files",
                "hosts: files dns",
                "networks: files",
                "services: files",
                "protocols: files",
                "",
            ];
            text("nsswitch", lines.join("\n"))
        }
        Generator::CaCertificates => ca_certificates(key, tree),
        Generator::Tzdata(None) => every_zone(Path::new(ZONEINFO), key, tree),
        Generator::Tzdata(Some(zones)) => zones
            .iter()
            .try_for_each(|zone| add_zone(&Path::new(ZONEINFO).join(zone), zone, key, tree)),
    }
}

/// The image's user under the name that the configuration has, or `app`.
fn account(user: &User) -> (&str, u32, &str, u32) {
    match user {
        User::Ids { uid, gid } => ("app", *uid, "app", *gid),
        User::Named { user, group } => {
            let group = group.as_deref().unwrap_or(user);
            match group.parse() {
                Ok(gid) => (user, DEFAULT_ID, user, gid),
                Err(_) => (user, DEFAULT_ID, group, DEFAULT_ID),
            }
        }
    }
}

fn passwd(user: &User) -> String {
    let (name, uid, _, gid) = account(user);
    format!("root:x:0:0:root:/root:/sbin/nologin\n{name}:x:{uid}:{gid}:{name}:/:/sbin/nologin\n")
}

fn group(user: &User) -> String {
    let (_, _, name, gid) = account(user);
    match gid {
        0 => "root:x:0:\n".to_owned(),
        _ => format!("root:x:0:\n{name}:x:{gid}:\n"),
    }
}

fn ca_certificates(key: &str, tree: &mut Tree) -> Result<(), Problem> {
    let bundle = Path::new(CA_BUNDLE);
    add_file(bundle, bundle, "ca-certificates", key, tree).map_err(|err| {
        err.unwrap_or_else(|err| {
            let problem =
                format!("`ca-certificates` is made from {CA_BUNDLE}, which cannot be read: {err}");
            Problem::new(key, problem, "apt-get install ca-certificates")
        })
    })?;
    // Where Debian's OpenSSL looks by itself; the path above is where Go, curl and GnuTLS look.
    let link = ImagePath::parse("/usr/lib/ssl/cert.pem")
        .map_err(|why| Problem::new(key, why, "report this"))?;
    tree.add(
        &link,
        EntryKind::Symlink(bundle.to_path_buf()),
        &Origin::generated(key, "ca-certificates", None),
    )
    .map(|_| ())
}

/// Every zone as a file of its own, links dereferenced: a link may leave the tree on hosts where an administrator set one.
fn every_zone(root: &Path, key: &str, tree: &mut Tree) -> Result<(), Problem> {
    let mut waiting = vec![PathBuf::new()];
    while let Some(below) = waiting.pop() {
        let read = root
            .join(&below)
            .read_dir()
            .and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut read = read.map_err(|err| no_tzdata(key, &root.join(&below), &err))?;
        read.sort_by_key(std::fs::DirEntry::file_name);
        for entry in read {
            let zone = below.join(entry.file_name());
            if NO_ZONES.iter().any(|name| zone == Path::new(name)) {
                continue;
            }
            match entry
                .file_type()
                .map_err(|err| no_tzdata(key, &entry.path(), &err))?
            {
                kind if kind.is_dir() => waiting.push(zone),
                _ => add_zone(&entry.path(), &zone, key, tree)?,
            }
        }
    }
    Ok(())
}

fn add_zone(source: &Path, zone: &Path, key: &str, tree: &mut Tree) -> Result<(), Problem> {
    let to = Path::new(ZONEINFO).join(zone);
    add_file(source, &to, "tzdata", key, tree)
        .map_err(|err| err.unwrap_or_else(|err| no_tzdata(key, source, &err)))
}

fn no_tzdata(key: &str, path: &Path, err: &io::Error) -> Problem {
    let problem = format!(
        "`tzdata` is made from {}, which cannot be read: {err}",
        path.display()
    );
    Problem::new(
        key,
        problem,
        "apt-get install tzdata, or correct the name in `time-zones`",
    )
}

/// `Err(Err(_))` is the host's fault, `Err(Ok(_))` the plan's.
fn add_file(
    source: &Path,
    to: &Path,
    generator: &str,
    key: &str,
    tree: &mut Tree,
) -> Result<(), Result<Problem, io::Error>> {
    let source = source.canonicalize().map_err(Err)?;
    let metadata = source.metadata().map_err(Err)?;
    if !metadata.is_file() {
        return Err(Err(io::Error::other("is no regular file")));
    }
    let to = ImagePath::parse(to).map_err(|why| {
        Ok(Problem::new(
            key,
            format!("`{}` {why}", to.display()),
            "correct the name",
        ))
    })?;
    let origin = Origin::generated(key, generator, Some(&source));
    let kind = EntryKind::File {
        content: Content::Host(Source::of_host(source, &metadata)),
        length: metadata.len(),
        executable: false,
    };
    tree.add(&to, kind, &origin).map(|_| ()).map_err(Ok)
}

fn add_text(
    path: &str,
    text: &str,
    generator: &str,
    key: &str,
    tree: &mut Tree,
) -> Result<(), Problem> {
    let path = ImagePath::parse(path).map_err(|why| Problem::new(key, why, "report this"))?;
    let kind = EntryKind::File {
        content: Content::Generated(text.as_bytes().into()),
        length: text.len() as u64,
        executable: false,
    };
    let origin = Origin::generated(key, generator, None);
    tree.add(&path, kind, &origin).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_hold_root_and_the_image_s_user() {
        let named = |user: &str, group: Option<&str>| User::Named {
            user: user.to_owned(),
            group: group.map(str::to_owned),
        };
        for (user, want_passwd, want_group) in [
            (
                User::Ids {
                    uid: 65532,
                    gid: 65532,
                },
                "app:x:65532:65532:app:/:/sbin/nologin\n",
                "app:x:65532:\n",
            ),
            (
                User::Ids { uid: 7, gid: 0 },
                "app:x:7:0:app:/:/sbin/nologin\n",
                "",
            ),
            (
                named("web", None),
                "web:x:65532:65532:web:/:/sbin/nologin\n",
                "web:x:65532:\n",
            ),
            (
                named("web", Some("www")),
                "web:x:65532:65532:web:/:/sbin/nologin\n",
                "www:x:65532:\n",
            ),
            (
                named("web", Some("33")),
                "web:x:65532:33:web:/:/sbin/nologin\n",
                "web:x:33:\n",
            ),
        ] {
            assert_eq!(
                passwd(&user),
                format!("root:x:0:0:root:/root:/sbin/nologin\n{want_passwd}"),
                "{user}"
            );
            assert_eq!(group(&user), format!("root:x:0:\n{want_group}"), "{user}");
        }
    }
}
