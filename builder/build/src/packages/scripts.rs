//! What packages' scripts would do at their installation. None is ever run: what is known to be needed is done here, what is known to be of no use in an
//! image is left, and anything else is refused by the package's name until the build file says that it may be left. Pure.

/// Something that is done in a script's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A file of the package that is also wanted elsewhere, where nothing lies yet.
    Default {
        from: &'static str,
        to: &'static str,
    },
    /// All certificates of the package in one file, where TLS libraries look.
    CaBundle,
    Alternative(Alternative),
}

/// `update-alternatives --install`: `link` leads through `/etc/alternatives/NAME` to the program of the highest priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alternative {
    pub(crate) links: Vec<Link>,
    pub(crate) priority: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) link: String,
    pub(crate) name: String,
    pub(crate) path: String,
}

/// A package whose scripts were read by us, and what is done in their place.
struct Known {
    /// A `*` stands for a version.
    name: &'static str,
    acts: &'static [Act],
    #[expect(dead_code, reason = "for who reads or changes the table")]
    why: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        name: "base-files",
        acts: &[Act::Default {
            from: "/usr/share/base-files/profile",
            to: "/etc/profile",
        }],
        why: "directories and files of a system that people log in to",
    },
    Known {
        name: "ca-certificates",
        acts: &[Act::CaBundle],
        why: "makes the bundle; one link for each certificate by its hash, which only OpenSSL's directory lookup reads, is left out",
    },
    Known {
        name: "libc-bin",
        acts: &[Act::Default {
            from: "/usr/share/libc-bin/nsswitch.conf",
            to: "/etc/nsswitch.conf",
        }],
        why: "the default of nsswitch.conf; the linker's cache is made by the build",
    },
    Known {
        name: "libc6",
        acts: &[],
        why: "asks for and restarts services after an upgrade",
    },
    Known {
        name: "libgssapi-krb5-2",
        acts: &[],
        why: "moves a file of a version before 1.12",
    },
    Known {
        name: "libpython3.*-minimal",
        acts: &[],
        why: "nothing since the text that it has in mind is a comment",
    },
    Known {
        name: "netbase",
        acts: &[],
        why: "hosts and networks: whoever launches a container makes them",
    },
    Known {
        name: "openssl",
        acts: &[],
        why: "moves files of a version before 1.1",
    },
    Known {
        name: "python3",
        acts: &[],
        why: "byte code, which an image without a write bit cannot refresh, and hooks of an upgrade",
    },
    Known {
        name: "python3-minimal",
        acts: &[],
        why: "byte code",
    },
    Known {
        name: "python3.*",
        acts: &[],
        why: "byte code",
    },
    Known {
        name: "python3.*-minimal",
        acts: &[],
        why: "byte code, and directories for what pip would install",
    },
    Known {
        name: "readline-common",
        acts: &[Act::Default {
            from: "/usr/share/readline/inputrc",
            to: "/etc/inputrc",
        }],
        why: "the default of inputrc",
    },
    Known {
        name: "tzdata",
        acts: &[],
        why: "asks for the host's zone; an image is UTC unless `TZ` says otherwise",
    },
];

/// What debhelper put into a script, where that is of no use in an image: byte code, services that nothing starts, caches of the linker, steps of an upgrade.
const HELPERS: &[&str] = &[
    "dh_python3",
    "dh_python2",
    "dh_pypy",
    "dh_makeshlibs",
    "dh_installinit",
    "dh_installsystemd",
    "dh_systemd_enable",
    "dh_systemd_start",
    "dh_installsystemduser",
    "dh_installdeb",
    "dh_installdebconf",
    "dh_installmenu",
    "dh_installinfo",
    "dh_icons",
    "dh_installalternatives",
    "dh_apparmor",
    "dh_usrlocal",
    "dh_installmodules",
    "dh_installudev",
    "dh_perl_dbi",
];

/// Needed by scripts alone: `(who, what)`, who being anybody where it is `*`.
const SCRIPTS_NEED: &[(&str, &str)] = &[
    ("*", "dpkg"),
    ("*", "debconf"),
    ("*", "debconf-2.0"),
    ("*", "cdebconf"),
    ("*", "adduser"),
    ("*", "ucf"),
    ("*", "install-info"),
    ("*", "init-system-helpers"),
    ("*", "update-inetd"),
    ("*", "sysvinit-utils"),
    ("*", "lsb-base"),
    ("base-files", "awk"),
    ("ca-certificates", "openssl"),
];

/// Whether a package needs another only for its scripts, which never run.
pub(crate) fn only_scripts_need(package: &str, needed: &str) -> bool {
    SCRIPTS_NEED
        .iter()
        .any(|(who, what)| *what == needed && (*who == "*" || *who == package))
}

/// What is to be done for a package with these scripts.
///
/// # Errors
/// What a script would do that is neither done nor known to be of no use.
pub(crate) fn judge(
    package: &str,
    preinst: Option<&str>,
    postinst: Option<&str>,
) -> Result<Vec<Act>, String> {
    if let Some(known) = KNOWN.iter().find(|known| is_named(known.name, package)) {
        return Ok(known.acts.to_vec());
    }
    let mut acts = Vec::new();
    for (which, script) in [("preinst", preinst), ("postinst", postinst)] {
        if let Some(script) = script {
            read(script, &mut acts).map_err(|line| wants(which, &line))?;
        }
    }
    Ok(acts)
}

fn is_named(pattern: &str, package: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == package,
        Some((before, after)) => package
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after))
            .is_some_and(|version| {
                !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit())
            }),
    }
}

fn wants(which: &str, line: &str) -> String {
    let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
    let what = if has(&["adduser", "addgroup", "useradd", "groupadd", "sysusers"]) {
        "would make a user or group"
    } else if has(&["dpkg-divert"]) {
        "would divert another package's file"
    } else if has(&["update-alternatives"]) {
        "would make an alternative that is not written out"
    } else {
        "does what is not known here"
    };
    let shown: String = line.chars().take(120).collect();
    format!("has a script (`{which}`) that {what}: `{shown}`")
}

/// Collects what is to be done; the error is the first line that is not understood.
fn read(script: &str, acts: &mut Vec<Act>) -> Result<(), String> {
    let script = script.replace("\\\n", " ");
    let mut lines = script.lines().map(str::trim);
    // Another language than the shell's says nothing to us.
    let first = lines.next().unwrap_or_default();
    let shell = first.strip_prefix("#!").map(str::trim).unwrap_or_default();
    if !matches!(
        shell.strip_suffix(" -e").unwrap_or(shell).trim(),
        "/bin/sh" | "/bin/bash" | "/bin/dash"
    ) {
        return Err(first.to_owned());
    }
    let mut helper = false;
    for line in lines {
        if let Some(by) = line.strip_prefix("# Automatically added by ") {
            let name = by.split('/').next().unwrap_or_default();
            if !HELPERS.contains(&name) {
                return Err(line.to_owned());
            }
            helper = true;
            continue;
        }
        if line.starts_with("# End automatically added") {
            helper = false;
            continue;
        }
        if let Some(words) = line.strip_prefix("update-alternatives ") {
            if let Some(alternative) = alternative(words).map_err(|()| line.to_owned())? {
                acts.push(Act::Alternative(alternative));
            }
            continue;
        }
        if !helper && !is_idle(line) {
            return Err(line.to_owned());
        }
    }
    Ok(())
}

/// A line that changes nothing, or nothing that an image has.
fn is_idle(line: &str) -> bool {
    let calls = line.contains("$(") || line.contains('`');
    let one_of = |words: &[&str]| words.contains(&line);
    let begins = |words: &[&str]| words.iter().any(|word| line.starts_with(word));
    if line.is_empty() || line.starts_with('#') {
        return true;
    }
    if calls {
        return false;
    }
    one_of(&[
        "fi",
        "else",
        "then",
        "esac",
        ";;",
        ":",
        "true",
        "exit 0",
        "exit 1",
        "set -e",
        "set -u",
        "set -eu",
        "ldconfig",
        "case \"$1\" in",
        "case $1 in",
        "case \"${1}\" in",
    ]) || is_pattern(line)
        || (begins(&["if [ ", "elif [ ", "if test "])
            && (line.ends_with("then") || line.ends_with(']')))
        || (line.starts_with("echo ") && !line.replace(">&2", "").contains(['>', '|', ';', '&']))
        || (begins(&["py3compile ", "py3clean ", "dpkg-maintscript-helper "])
            && !line.contains(['>', ';', '|', '&']))
}

/// One of a `case`: `configure|upgrade)`.
fn is_pattern(line: &str) -> bool {
    let line = line.strip_suffix(";;").unwrap_or(line).trim_end();
    line.strip_suffix(')').is_some_and(|names| {
        let legal = |byte: u8| byte.is_ascii_lowercase() || b"*|- \"'(".contains(&byte);
        names.bytes().all(legal)
    })
}

/// `None`: it takes one away.
fn alternative(words: &str) -> Result<Option<Alternative>, ()> {
    let words = words
        .split(" > /dev/null")
        .next()
        .unwrap_or_default()
        .trim_end_matches("|| true");
    if words.contains(['$', '`', '"', '\'', ';', '|', '&', '>', '<']) {
        return Err(());
    }
    let mut words = words.split_whitespace().filter(|word| *word != "--quiet");
    match words.next() {
        Some("--install") => {}
        Some("--remove" | "--remove-all" | "--auto") => return Ok(None),
        _ => return Err(()),
    }
    let link = |words: &mut dyn Iterator<Item = &str>| -> Result<Link, ()> {
        let mut next = || words.next().map(str::to_owned).ok_or(());
        let (link, name, path) = (next()?, next()?, next()?);
        let plain = !name.contains('/') && !name.starts_with('.');
        if plain && link.starts_with('/') && path.starts_with('/') {
            return Ok(Link { link, name, path });
        }
        Err(())
    };
    let mut links = vec![link(&mut words)?];
    let priority = words.next().and_then(|word| word.parse().ok()).ok_or(())?;
    while let Some(word) = words.next() {
        if word != "--slave" {
            return Err(());
        }
        links.push(link(&mut words)?);
    }
    Ok(Some(Alternative { links, priority }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_debhelper_writes_is_understood() {
        let script = "#!/bin/sh\nset -e\n# Automatically added by dh_python3\nif command -v py3compile >/dev/null 2>&1; then\n\tpy3compile -p x\nfi\n# End automatically added section\n";
        assert_eq!(judge("python3-x", None, Some(script)), Ok(Vec::new()));
        let script = "#! /bin/sh -e\ncase \"$1\" in\n  configure|abort-upgrade)\n  update-alternatives --install /usr/bin/awk awk /usr/bin/mawk 5 \\\n    --slave /usr/share/man/man1/awk.1.gz awk.1.gz /usr/share/man/man1/mawk.1.gz\n  ;;\n  *)\n  echo \"unknown argument\" >&2\n  exit 1\n  ;;\nesac\nexit 0\n";
        let acts = judge("mawk", None, Some(script)).unwrap();
        let Act::Alternative(alternative) = &acts[0] else {
            panic!("{acts:?}");
        };
        assert_eq!(alternative.priority, 5);
        assert_eq!(alternative.links[0].path, "/usr/bin/mawk");
        assert_eq!(alternative.links[1].name, "awk.1.gz");
    }

    #[test]
    fn what_is_not_understood_is_refused_by_its_line() {
        let of = |lines: &str| {
            judge(
                "thing",
                None,
                Some(&format!("#!/bin/sh\nset -e\n{lines}\n")),
            )
        };
        for (lines, want) in [
            (
                "adduser --system x",
                "has a script (`postinst`) that would make a user or group: `adduser --system x`",
            ),
            (
                "dpkg-divert --add /bin/x",
                "has a script (`postinst`) that would divert another package's file: `dpkg-divert --add /bin/x`",
            ),
            (
                "update-alternatives --install $a b /c 1",
                "has a script (`postinst`) that would make an alternative that is not written out: `update-alternatives --install $a b /c 1`",
            ),
            (
                "echo x > /etc/x",
                "has a script (`postinst`) that does what is not known here: `echo x > /etc/x`",
            ),
            (
                "echo $(touch /x)",
                "has a script (`postinst`) that does what is not known here: `echo $(touch /x)`",
            ),
            (
                "# Automatically added by dh_installsysusers/1",
                "has a script (`postinst`) that would make a user or group: `# Automatically added by dh_installsysusers/1`",
            ),
            (
                "ldconfig; rm /x",
                "has a script (`postinst`) that does what is not known here: `ldconfig; rm /x`",
            ),
        ] {
            assert_eq!(of(lines), Err(want.to_owned()), "{lines}");
        }
        let told = judge("thing", Some("#!/usr/bin/perl\n"), None).unwrap_err();
        assert!(told.contains("`#!/usr/bin/perl`"), "{told}");
        assert_eq!(judge("libc6", Some("anything"), None), Ok(Vec::new()));
        assert_eq!(
            judge("python3.11-minimal", Some("anything"), None),
            Ok(Vec::new())
        );
        judge("python3.11x-minimal", Some("anything"), None).unwrap_err();
    }

    #[test]
    fn what_only_scripts_need_is_known() {
        for (who, what, want) in [
            ("x", "debconf", true),
            ("ca-certificates", "openssl", true),
            ("python3-openssl", "openssl", false),
            ("x", "perl-base", false),
        ] {
            assert_eq!(only_scripts_need(who, what), want, "{who} {what}");
        }
    }
}
