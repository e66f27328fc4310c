//! Rules about the configuration, and about files that programs ask for.

use std::path::Path;

use super::Subject;
use crate::explain::contents::FileKind;
use crate::explain::scan::Scanner;
use crate::ledger::shown;

/// Where TLS libraries look for certificates.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs/ca-bundle.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/usr/lib/ssl/cert.pem",
    "/usr/local/share/ca-certificates/ca-bundle.crt",
];
/// Libraries whose users ask for certificates.
const TLS: &[&str] = &["libssl.so", "libgnutls.so", "libnss3.so", "libmbedtls.so"];
const GLIBC: &str = "libc.so.6";
/// Ends of names of variables; the whole name alone says less.
const SECRET_NAMES: &[&str] = &[
    "PASSWORD",
    "PASSWD",
    "SECRET",
    "SECRET_KEY",
    "API_KEY",
    "APIKEY",
    "PRIVATE_KEY",
    "ACCESS_KEY",
    "TOKEN",
];

pub(super) fn check(subject: &mut Subject<'_>) {
    user(subject);
    environment(subject);
    history(subject);
    programs(subject);
}

fn user(subject: &mut Subject<'_>) {
    let written = subject
        .image
        .config
        .config()
        .as_ref()
        .and_then(|config| config.user().clone())
        .unwrap_or_default();
    let (user, group) = written
        .split_once(':')
        .map_or((written.as_str(), None), |(user, group)| {
            (user, Some(group))
        });
    if matches!(user, "" | "root") || user.parse() == Ok(0_u32) {
        subject.find("runs-as-root", None, "the image's user is root");
        return;
    }
    let text = subject
        .contents
        .text("/etc/passwd")
        .unwrap_or_default()
        .into_owned();
    // name:password:uid:gid
    let line = text
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| {
            let same = |at: usize| fields.get(at) == Some(&user);
            same(0) || same(2)
        });
    let number = |field: Option<&str>| field.and_then(|text| text.parse::<u64>().ok());
    if line.is_none() {
        let says = format!(
            "the user `{}` has no line in /etc/passwd",
            user.escape_debug()
        );
        subject.find("unknown-user", None, says);
    }
    let fields = line.unwrap_or_default();
    let uid = number(Some(user)).or_else(|| number(fields.get(2).copied()));
    let gid = number(group).or_else(|| number(fields.get(3).copied()));
    let contents = subject.contents;
    for (path, file) in &contents.files {
        let own = uid == Some(file.uid) && file.mode & 0o200 != 0;
        let of_group = gid == Some(file.gid) && file.mode & 0o020 != 0;
        // What anybody may write to has a rule of its own; a link has no mode.
        if (own || of_group) && !matches!(file.kind, FileKind::Symlink(_)) {
            subject.find(
                "payload-can-write",
                Some(shown(path)),
                format!(
                    "has mode {:04o} and belongs to {}:{}",
                    file.mode, file.uid, file.gid
                ),
            );
        }
    }
}

fn tokens(text: &str) -> Vec<&'static str> {
    let mut scanner = Scanner::new(true, false);
    scanner.push(text.as_bytes());
    scanner
        .finish()
        .0
        .into_iter()
        .map(|secret| secret.what)
        .collect()
}

fn environment(subject: &mut Subject<'_>) {
    let variables = subject
        .image
        .config
        .config()
        .as_ref()
        .and_then(|config| config.env().clone())
        .unwrap_or_default();
    for variable in &variables {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        let shown = name.escape_debug();
        let found = tokens(value);
        for what in &found {
            subject.find(
                "secret-in-config",
                None,
                format!("the variable `{shown}` has what looks like {what}"),
            );
        }
        let upper = name.to_ascii_uppercase();
        let called = SECRET_NAMES.iter().any(|end| {
            upper
                .strip_suffix(end)
                .is_some_and(|before| before.is_empty() || before.ends_with('_'))
        });
        // A path of a file that is given at run time is none.
        if found.is_empty() && called && !value.is_empty() && !value.starts_with('/') {
            subject.find(
                "secret-name-in-env",
                None,
                format!("the variable `{shown}` has a value"),
            );
        }
        if name == "TZ" {
            zone(subject, value);
        }
    }
}

fn zone(subject: &mut Subject<'_>, value: &str) {
    let name = value.trim_start_matches(':');
    // A POSIX rule, such as `CET-1CEST`, needs no file; a zone of the region form does.
    if name.contains('/')
        && subject
            .contents
            .resolve(&Path::new("/usr/share/zoneinfo").join(name), true)
            .is_none()
    {
        subject.find(
            "missing-zones",
            None,
            format!(
                "TZ is `{}`, which is not in the image",
                value.escape_debug()
            ),
        );
    }
}

fn history(subject: &mut Subject<'_>) {
    let image = subject.image;
    for (index, step) in image.config.history().iter().flatten().enumerate() {
        let text = [step.created_by(), step.comment()]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n");
        for what in tokens(&text) {
            subject.find(
                "secret-in-config",
                None,
                format!(
                    "step {} of the history has what looks like {what}",
                    index + 1
                ),
            );
        }
    }
}

fn programs(subject: &mut Subject<'_>) {
    let contents = subject.contents;
    let program = |wanted: &dyn Fn(&crate::explain::contents::Program) -> bool| {
        let found = contents
            .files
            .iter()
            .find(|(_, file)| file.program.as_ref().is_some_and(wanted));
        found.map(|(path, _)| shown(path))
    };
    let needs = |program: &crate::explain::contents::Program, names: &[&str]| {
        program
            .needed
            .iter()
            .any(|needed| names.iter().any(|name| needed.starts_with(name)))
    };
    // A library alone asks for nothing: its user does.
    let tls = program(&|program| {
        needs(program, TLS) || (program.mentions.certificates && program.soname.is_none())
    });
    let bundle = BUNDLES.iter().any(|path| contents.file(path).is_some());
    if let Some(path) = tls.filter(|_| !bundle) {
        let says = "speaks TLS, and the image has no certificates to check a server's with";
        subject.find("missing-certificates", Some(path), says);
    }
    let hosts = program(&|program| program.mentions.names_of_hosts && needs(program, &[GLIBC]));
    if let Some(path) = hosts.filter(|_| contents.file("/etc/nsswitch.conf").is_none()) {
        let says = "looks up hosts through glibc, which without /etc/nsswitch.conf asks the name server before /etc/hosts";
        subject.find("missing-nsswitch", Some(path), says);
    }
}
