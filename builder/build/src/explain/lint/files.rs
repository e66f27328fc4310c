//! Rules about files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Subject;
use crate::explain::contents::{File, FileKind};
use crate::explain::scan::Secret;
use crate::ledger::shown;

const SHELLS: &[&str] = &[
    "ash", "bash", "busybox", "csh", "dash", "fish", "ksh", "mksh", "sh", "tcsh", "toybox", "zsh",
];
const MANAGERS: &[&str] = &[
    "apk", "apt", "apt-get", "dnf", "dnf5", "dpkg", "microdnf", "opkg", "pacman", "rpm", "tdnf",
    "yum", "zypper",
];
/// Where programs are looked for: a file called `sh` elsewhere is somebody's example.
const PROGRAMS: &[&str] = &[
    "/bin",
    "/sbin",
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/libexec",
];
/// By the end of their path.
const CREDENTIALS: &[&str] = &[
    "/.aws/credentials",
    "/.cargo/credentials.toml",
    "/.config/containers/auth.json",
    "/.docker/config.json",
    "/.dockercfg",
    "/.git-credentials",
    "/.kube/config",
    "/.netrc",
    "/.pgpass",
    "/.pypirc",
];
const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;
const STICKY: u32 = 0o1000;
/// Files without a reason that are told one by one; the rest is a number.
const MAX_UNOWNED: usize = 20;

pub(super) fn check(subject: &mut Subject<'_>) {
    let contents = subject.contents;
    for (path, file) in &contents.files {
        modes(subject, path, file);
        names(subject, path, file);
        secrets(subject, path, &file.secrets, "");
    }
    for (path, file) in &contents.hidden {
        let where_to = format!(
            ", in layer {}, which a later one only hides",
            file.layer + 1
        );
        secrets(subject, path, &file.secrets, &where_to);
    }
    unowned(subject);
}

fn modes(subject: &mut Subject<'_>, path: &Path, file: &File) {
    let regular = file.kind == FileKind::Regular;
    let text = || Some(shown(path));
    if regular && file.mode & SET_USER != 0 {
        subject.find(
            "setuid",
            text(),
            format!("is executed as user {}, whoever starts it", file.uid),
        );
    }
    if regular && file.mode & SET_GROUP != 0 && file.mode & 0o010 != 0 {
        subject.find(
            "setgid",
            text(),
            format!("is executed as group {}, whoever starts it", file.gid),
        );
    }
    if file.capability {
        subject.find("file-capabilities", text(), "has file capabilities");
    }
    let link = matches!(file.kind, FileKind::Symlink(_));
    let shared = file.kind == FileKind::Directory && file.mode & STICKY != 0;
    if !link && !shared && file.mode & 0o002 != 0 {
        subject.find(
            "world-writable",
            text(),
            format!("has mode {:04o}", file.mode),
        );
    }
}

fn names(subject: &mut Subject<'_>, path: &Path, file: &File) {
    let text = shown(path);
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let in_path = path.parent().is_some_and(|parent| {
        PROGRAMS
            .iter()
            .any(|directory| parent == Path::new(directory))
    });
    let runs = match &file.kind {
        FileKind::Regular => file.mode & 0o111 != 0,
        // To what is there: the link alone starts nothing.
        FileKind::Symlink(_) => subject
            .contents
            .file(&text)
            .is_some_and(|file| file.kind == FileKind::Regular),
        FileKind::Directory => false,
    };
    if in_path && runs && SHELLS.contains(&name) {
        subject.find("shell", Some(text.clone()), "is a shell");
    }
    if in_path && runs && MANAGERS.contains(&name) {
        subject.find(
            "package-manager",
            Some(text.clone()),
            "is a package manager",
        );
    }
    if file.kind == FileKind::Regular
        && file.size > 0
        && CREDENTIALS.iter().any(|end| text.ends_with(end))
    {
        subject.find(
            "credentials-file",
            Some(text),
            "is where a tool keeps credentials",
        );
    }
}

fn secrets(subject: &mut Subject<'_>, path: &Path, secrets: &[Secret], place: &str) {
    for secret in secrets {
        let says = format!(
            "has what looks like {} at byte {}{place}",
            secret.what, secret.offset
        );
        subject.find("secret", Some(shown(path)), says);
    }
}

/// Where a layer is explained or packages have lists, what neither knows is nobody's.
fn unowned(subject: &mut Subject<'_>) {
    let listed = !subject.owners.is_empty();
    let mut silent = BTreeSet::new();
    let mut unowned: Vec<&PathBuf> = Vec::new();
    for (path, file) in &subject.contents.files {
        // What packages keep of themselves is in no list of theirs.
        if file.kind == FileKind::Directory || path.starts_with("/var/lib/dpkg") {
            continue;
        }
        let known = subject.reasons.reason(file.layer, path).is_some()
            || subject.owners.of_file(path).is_some();
        if known {
            continue;
        }
        if listed || subject.reasons.knows(file.layer) {
            unowned.push(path);
        } else {
            silent.insert(file.layer);
        }
    }
    for layer in silent {
        subject.find(
            "unowned-file",
            None,
            format!(
                "nothing says why the files of layer {} are there",
                layer + 1
            ),
        );
    }
    let more = unowned.len().saturating_sub(MAX_UNOWNED);
    for path in unowned.into_iter().take(MAX_UNOWNED) {
        subject.find(
            "unowned-file",
            Some(shown(path)),
            "is of no package, and no build file is known to name it",
        );
    }
    if more > 0 {
        subject.find(
            "unowned-file",
            None,
            format!("{more} files more are of no package, and no build file is known to name them"),
        );
    }
}
