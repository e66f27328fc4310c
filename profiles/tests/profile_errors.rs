//! What a wrong profile is told: file, key, problem and fix, word for word.

use std::path::Path;

use airtight_profiles::{Ceiling, Profile};

fn problem(text: &str) -> String {
    Profile::parse(text, Path::new("app.profile.toml"))
        .map_or_else(|err| err.to_string(), |_| "no error".to_owned())
}

#[test]
fn each_mistake_is_told_with_its_key_and_the_fix() {
    for (text, want) in [
        ("", "`format`: is missing\n  fix: write `format = 1`"),
        (
            "format = 2",
            "`format`: 2 is not a format that this release reads\n  fix: write `format = 1`",
        ),
        (
            "format = 1\nformat = 1",
            "`profile`: line 2: duplicate key\n  fix: correct the TOML",
        ),
        (
            "format = 1\nextends = 'root'",
            "`extends`: `root` is not a shipped profile\n  fix: name one of base, service, jit, build",
        ),
        (
            "format = 1\nextends = 'built-in'",
            "`extends`: `built-in` is not a shipped profile\n  fix: name one of base, service, jit, build",
        ),
        (
            "format = 1\nsyscall = []",
            "`syscall`: is not a key\n  fix: the keys here are extends, connect, listen, open-files, processes, public, syscalls, tmpfs, write-execute",
        ),
        (
            "format = 1\ncapabilities = ['CAP_SYS_ADMIN']",
            "`capabilities`: is not a key\n  fix: remove it: no payload gets a capability or a device",
        ),
        (
            "format = 1\nconnect = [{ endpoint = 'redis:6379', why = 'x' }, { endpoint = '*:443', why = 'x' }]",
            "`connect[1].endpoint`: `*:443` is not a host name: labels of letters, digits, `-` and `_`, joined by dots\n  fix: name one host and one port, like `redis:6379`",
        ),
        (
            "format = 1\nconnect = [{ endpoint = 'redis:6379' }]",
            "`connect[0].why`: is missing or empty\n  fix: say what the payload needs this grant for",
        ),
        (
            "format = 1\nconnect = ['redis:6379']",
            "`connect[0]`: is a string, not a table\n  fix: write `{ …, why = \"…\" }`: every grant has a reason",
        ),
        (
            "format = 1\nwrite-execute = true",
            "`write-execute`: is true or false, not a table\n  fix: write `write-execute = { …, why = \"…\" }`",
        ),
        (
            "format = 1\nlisten = [{ port = 70000, why = 'x' }]",
            "`listen[0].port`: 70000 is not a port or a range of ports\n  fix: write a port from 1 to 65535, or a range like \"8000-8009\"",
        ),
        (
            "format = 1\nlisten = [{ port = '1-65535', why = 'x' }]",
            "`listen`: asks for 65535 ports, more than 256\n  fix: name the ports that are bound",
        ),
        (
            "format = 1\ntmpfs = [{ path = '*', size = '1M', why = 'x' }]",
            "`tmpfs[0].path`: `*` is not an absolute path without `..`\n  fix: write one like `/var/cache/app`",
        ),
        (
            "format = 1\ntmpfs = [{ path = '/a', size = '99999999999G', why = 'x' }]",
            "`tmpfs[0].size`: \"99999999999G\" is not a size\n  fix: write bytes, or a number with K, M or G, like \"64M\"",
        ),
        (
            "format = 1\nsyscalls = [{ names = ['opnat'], why = 'x' }]",
            "`syscalls[0].names[0]`: `opnat` is not a system call\n  fix: look the name up in syscalls(2)",
        ),
        (
            "format = 1\nsyscalls = [{ names = ['bpf'], why = 'x' }]",
            "`syscalls[0].names`: `bpf` is granted to no payload: it leads out of the sandbox or is not needed in one\n  fix: remove it",
        ),
        (
            "format = 1\nsyscalls = [{ names = ['clone'], why = 'x' }]",
            "`syscalls[0].when`: `clone` is wider than any shipped profile\n  fix: take the conditions of `service`",
        ),
        (
            "format = 1\nsyscalls = [{ names = ['memfd_create'], why = 'x' }]",
            "`syscalls[0].names`: `memfd_create` makes files that can be mapped executable\n  fix: ask for `write-execute`, which brings it",
        ),
        (
            "format = 1\nsyscalls = [{ names = ['prctl'], when = [{ arg = 0, mask = 0x0f, any = [0x10] }], why = 'x' }]",
            "`syscalls[0].when[0].any`: 0x10 has bits outside of the mask, so nothing would match\n  fix: widen the mask",
        ),
        (
            "format = 1\nsyscalls = [{ names = ['prctl'], when = [{ arg = 0, any = [1] }, { arg = 0, any = [2] }], why = 'x' }]",
            "`syscalls[0].when`: names one argument twice\n  fix: give one condition for each argument",
        ),
        (
            "format = 1\nopen-files = { limit = 0, why = 'x' }",
            "`open-files.limit`: 0 is not from 1 to 1048576\n  fix: write a number in that range",
        ),
        (
            "format = 1\npublic = { why = \"a\\nb\" }",
            "`public.why`: has a line break or control character\n  fix: write it on one line",
        ),
    ] {
        assert_eq!(problem(text), format!("app.profile.toml: {want}"), "{text}");
    }
}

#[test]
fn a_profile_of_more_than_64_kib_is_not_read() {
    let text = format!("format = 1\n#{}", "x".repeat(65 * 1024));
    assert_eq!(
        problem(&text),
        "app.profile.toml: `profile`: is longer than 65536 bytes\n  fix: extend a shipped profile instead of listing its grants"
    );
}

#[test]
fn the_table_of_a_build_file_is_told_with_its_own_key() {
    let table: toml::Table = "extends = 'service'\nlisten = [{ port = 0, why = 'x' }]"
        .parse()
        .unwrap();
    let err = Profile::from_table(table, Path::new("airtight.toml"), "profile").unwrap_err();
    assert_eq!(err.key, "profile.listen[0].port");
    let table: toml::Table = "format = 1".parse().unwrap();
    let err = Profile::from_table(table, Path::new("airtight.toml"), "profile").unwrap_err();
    assert_eq!(
        (err.key.as_str(), err.problem.as_str()),
        ("profile.format", "is not a key")
    );
}

#[test]
fn an_annotation_that_is_not_canonical_is_refused() {
    for (text, want) in [
        (
            r#"{"format":1, "extends":"jit"}"#,
            "is not in canonical form",
        ),
        (r#"{"extends":"base","extends":"jit","format":1}"#, ""),
        ("[]", "is not a JSON object"),
        (r#"{"extends":"jit"}"#, "is missing"),
    ] {
        let err = Profile::from_canonical_json(text).unwrap_err();
        assert!(err.problem.starts_with(want), "{text}: {err}");
    }
}

#[test]
fn a_ceiling_may_start_from_the_built_in_one() {
    let text = "format = 1\nextends = 'built-in'\nconnect = [{ endpoint = 'redis:6379', why = 'the shared cache' }]";
    let ceiling = Ceiling::parse(text, Path::new("ceiling.toml")).unwrap();
    assert_eq!(Ceiling::built_in().policy().exceeds(ceiling.policy()), []);
    assert_eq!(
        ceiling.policy().exceeds(Ceiling::built_in().policy()).len(),
        1
    );
}
