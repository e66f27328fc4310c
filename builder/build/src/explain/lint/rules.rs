//! The rules: their ids, which never change their meaning, and what to do. docs/lint.md has the same list, and a test holds the two together.

use super::Level;

/// One rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub id: &'static str,
    pub level: Level,
    pub what: &'static str,
    pub fix: &'static str,
}

/// By id.
pub const RULES: &[Rule] = &[
    Rule {
        id: "credentials-file",
        level: Level::Warning,
        what: "a file in which a tool keeps credentials",
        fix: "take it out of the layer, and give it at run time with --volume",
    },
    Rule {
        id: "file-capabilities",
        level: Level::Error,
        what: "a program that gains capabilities when it is executed",
        fix: "copy the program without the attribute: setcap -r",
    },
    Rule {
        id: "missing-certificates",
        level: Level::Warning,
        what: "a program that speaks TLS, and no bundle of certificates",
        fix: "add \"ca-certificates\" to a layer's `generate`",
    },
    Rule {
        id: "missing-nsswitch",
        level: Level::Note,
        what: "a program that looks up hosts through glibc, and no /etc/nsswitch.conf",
        fix: "add \"nsswitch\" to a layer's `generate`, so that /etc/hosts is asked first",
    },
    Rule {
        id: "missing-zones",
        level: Level::Warning,
        what: "TZ names a time zone that is not in the image",
        fix: "add \"tzdata\" to a layer's `generate`",
    },
    Rule {
        id: "package-manager",
        level: Level::Warning,
        what: "a package manager",
        fix: "take it out: what is added after the build is in no layer",
    },
    Rule {
        id: "payload-can-write",
        level: Level::Warning,
        what: "a file that the image's own user may write to",
        fix: "give it to root, without a write bit for others: what is copied by `airtight build` is so",
    },
    Rule {
        id: "runs-as-root",
        level: Level::Warning,
        what: "the image's user is root",
        fix: "set `user` in [config], like \"65532:65532\"",
    },
    Rule {
        id: "secret",
        level: Level::Error,
        what: "a private key or a token, by its form",
        fix: "take it out of the layer, give it at run time, and replace it: whoever has the image has it",
    },
    Rule {
        id: "secret-in-config",
        level: Level::Error,
        what: "a token in the image's configuration or history, by its form",
        fix: "take it out, give it at run time with --env-file, and replace it",
    },
    Rule {
        id: "secret-name-in-env",
        level: Level::Warning,
        what: "an environment variable that is called like a secret and has a value",
        fix: "leave it out of the image, and give it at run time with --env or --env-file",
    },
    Rule {
        id: "setgid",
        level: Level::Error,
        what: "a program that runs with its file's group",
        fix: "copy the program without the bit: chmod g-s",
    },
    Rule {
        id: "setuid",
        level: Level::Error,
        what: "a program that runs as its file's owner",
        fix: "copy the program without the bit: chmod u-s",
    },
    Rule {
        id: "shell",
        level: Level::Warning,
        what: "a shell",
        fix: "take it out, and start the program itself as the entrypoint",
    },
    Rule {
        id: "unknown-user",
        level: Level::Warning,
        what: "the image's user has no line in its /etc/passwd",
        fix: "add \"passwd\" and \"group\" to a layer's `generate`",
    },
    Rule {
        id: "unowned-file",
        level: Level::Note,
        what: "a file that nothing says the reason of",
        fix: "build the image with `airtight build`, which keeps why each file is in it",
    },
    Rule {
        id: "world-writable",
        level: Level::Error,
        what: "a file or directory that anybody may write to",
        fix: "chmod o-w at its source",
    },
];
