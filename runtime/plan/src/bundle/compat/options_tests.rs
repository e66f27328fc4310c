//! Every word of the specification's table of mount options.

use super::*;

fn of(words: &str) -> Options {
    let words: Vec<String> = words
        .split(',')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    options(&words)
}

/// Set and cleared, as the kernel's numbers.
fn own(set: u64, clear: u64) -> Options {
    Options {
        own: Attributes { set, clear },
        ..Options::default()
    }
}

#[test]
fn a_word_is_the_kernels_attribute() {
    for (word, set, clear) in [
        ("ro", 0x1, 0),
        ("rw", 0, 0x1),
        ("nosuid", 0x2, 0),
        ("suid", 0, 0x2),
        ("nodev", 0x4, 0),
        ("dev", 0, 0x4),
        ("noexec", 0x8, 0),
        ("exec", 0, 0x8),
        ("noatime", 0x10, 0x70),
        ("atime", 0, 0x70),
        ("strictatime", 0x20, 0x70),
        ("nostrictatime", 0, 0x70),
        ("relatime", 0, 0x70),
        ("norelatime", 0, 0x70),
        ("nodiratime", 0x80, 0),
        ("diratime", 0, 0x80),
        ("nosymfollow", 0x20_0000, 0),
        ("symfollow", 0, 0x20_0000),
    ] {
        assert_eq!(of(word), own(set, clear), "{word}");
        let below = Options {
            below: Attributes { set, clear },
            ..Options::default()
        };
        assert_eq!(of(&format!("r{word}")), below, "r{word}");
    }
}

#[test]
fn the_last_word_counts() {
    for (words, want) in [
        ("ro,rw", own(0, 0x1)),
        ("rw,ro", own(0x1, 0)),
        ("nosuid,suid,nosuid", own(0x2, 0)),
        ("noatime,relatime", own(0, 0x70)),
        ("strictatime,noatime", own(0x10, 0x70)),
        ("noatime,nostrictatime", own(0x10, 0x70)),
        ("noatime,atime", own(0, 0x70)),
        ("nosuid,noexec,nodev,ro", own(0xf, 0)),
        (
            "sync,async,lazytime,nolazytime,mand,nomand",
            Options::default(),
        ),
    ] {
        assert_eq!(of(words), want, "{words}");
    }
}

#[test]
fn a_bind_that_says_one_says_all() {
    for (words, locked, set, clear) in [
        ("", false, 0, 0),
        ("ro", false, 0x1, 0x20_000e),
        ("rw", false, 0, 0x20_000f),
        ("rw", true, 0, 0x20_0001),
        ("ro,noexec", false, 0x9, 0x20_0006),
        ("nosymfollow", false, 0x20_0000, 0xf),
        ("ro", true, 0x1, 0x20_0000),
        ("noatime", false, 0x10, 0x20_007f),
        ("rro", false, 0, 0),
    ] {
        let whole = of(words).own.whole(locked);
        assert_eq!(whole, Attributes { set, clear }, "{words} {locked}");
    }
}

#[test]
fn words_that_are_no_attributes() {
    let data = |key: &str, value: Option<&str>| Options {
        data: vec![(key.to_owned(), value.map(str::to_owned))],
        ..Options::default()
    };
    let propagation = |propagation| Options {
        propagation: vec![propagation],
        ..Options::default()
    };
    for (word, want) in [
        (
            "bind",
            Options {
                bind: true,
                ..Options::default()
            },
        ),
        (
            "rbind",
            Options {
                bind: true,
                recursive: true,
                ..Options::default()
            },
        ),
        (
            "remount",
            Options {
                remount: true,
                ..Options::default()
            },
        ),
        (
            "tmpcopyup",
            Options {
                copy_up: true,
                ..Options::default()
            },
        ),
        (
            "idmap",
            Options {
                idmap: Some(false),
                ..Options::default()
            },
        ),
        (
            "ridmap",
            Options {
                idmap: Some(true),
                ..Options::default()
            },
        ),
        ("private", propagation(Propagation::Private)),
        ("rprivate", propagation(Propagation::RPrivate)),
        ("slave", propagation(Propagation::Slave)),
        ("rslave", propagation(Propagation::RSlave)),
        ("shared", propagation(Propagation::Shared)),
        ("rshared", propagation(Propagation::RShared)),
        ("unbindable", propagation(Propagation::Unbindable)),
        ("runbindable", propagation(Propagation::RUnbindable)),
        ("sync", data("sync", None)),
        ("dirsync", data("dirsync", None)),
        ("lazytime", data("lazytime", None)),
        ("mand", data("mand", None)),
        ("defaults", Options::default()),
        ("silent", Options::default()),
        ("loud", Options::default()),
        ("acl", Options::default()),
        ("noacl", Options::default()),
        ("iversion", Options::default()),
        ("noiversion", Options::default()),
        ("size=65536k", data("size", Some("65536k"))),
        ("newinstance", data("newinstance", None)),
        ("rbindx", data("rbindx", None)),
        ("rsize=1", data("rsize", Some("1"))),
        ("a=b=c", data("a", Some("b=c"))),
    ] {
        assert_eq!(of(word), want, "{word}");
    }
}

#[test]
fn every_word_that_is_told_to_callers_is_understood() {
    let told = mount_options();
    for word in &told {
        let taken = of(word);
        let flag = ["sync", "dirsync", "lazytime", "mand"].contains(word);
        assert_eq!(taken.data.len(), usize::from(flag), "{word}");
    }
    assert_eq!(told.len(), 28 + 18 + 18);
}
