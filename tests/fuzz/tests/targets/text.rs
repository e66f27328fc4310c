//! What people write: profiles, ceilings, build files, names.

use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use airtight_build::parse;
use airtight_fuzz::{TAKEN, fuzz};
use airtight_image::{Digest, ImageRef, Output, Reference};
use airtight_profiles::{Ceiling, Endpoint, Profile, effective};

use crate::{answer, text};

const PROFILES: [&str; 4] = [
    include_str!("../../../../profiles/base.profile.toml"),
    include_str!("../../../../profiles/service.profile.toml"),
    include_str!("../../../../profiles/jit.profile.toml"),
    "format = 1\nextends = \"base\"\nconnect = [{ endpoint = \"redis:6379\", why = \"visits\" }]\n",
];
const PROFILE_WORDS: [&str; 11] = [
    "extends = 'service'
",
    "[[syscalls]]
names = ['read']
why = 'x'
",
    "when = [{ arg = 1, mask = 0xff, any = [0] }]
",
    "[[connect]]
endpoint = 'a:1'
why = 'x'
",
    "[[listen]]
port = '1-2'
why = 'x'
",
    "[[tmpfs]]
path = '/a'
size = 4096
why = 'x'
",
    "public = { why = 'x' }
",
    "write-execute = { why = 'x' }
",
    "'*'",
    "..",
    "processes = 1
",
];

#[test]
fn profile() {
    let ceiling = Ceiling::built_in();
    let done = fuzz("profile", &PROFILES, &PROFILE_WORDS, |input| {
        let profile = match Profile::parse(&text(input), Path::new("f.toml")) {
            Ok(profile) => profile,
            Err(error) => return error.to_string(),
        };
        let json = profile.canonical_json();
        assert_eq!(
            Profile::from_canonical_json(&json)
                .unwrap()
                .canonical_json(),
            json
        );
        let narrowed = profile.policy().tighten(ceiling.policy());
        assert!(
            narrowed.exceeds(ceiling.policy()).is_empty(),
            "{narrowed:?}"
        );
        TAKEN.to_owned()
    });
    assert!(done.answers > 5, "{done:?}");
}

#[test]
fn profile_annotation() {
    let seeds: Vec<String> = PROFILES
        .iter()
        .filter_map(|text| Profile::parse(text, Path::new("f")).ok())
        .map(|profile| profile.canonical_json())
        .collect();
    fuzz(
        "profile-annotation",
        &seeds,
        &[
            "\"format\":1",
            "null",
            "{",
            "[[[[[[[[",
            "\"extends\":\"base\"",
            "\\u0000",
        ],
        |input| {
            let input = text(input);
            let read = Profile::from_canonical_json(&input);
            if let Ok(profile) = &read {
                assert_eq!(profile.canonical_json(), input);
            }
            answer(read)
        },
    );
}

#[test]
fn ceiling() {
    let base = Profile::parse(PROFILES[3], Path::new("f")).unwrap();
    fuzz(
        "ceiling",
        &PROFILES,
        &[
            "extends = \"built-in\"\n",
            "path = \"*\"\n",
            "on-excess = \"narrow\"\n",
        ],
        |input| {
            let ceiling = Ceiling::parse(&text(input), Path::new("f.toml"));
            if let Ok(ceiling) = &ceiling
                && let Ok(policy) = effective(&base, ceiling, &Default::default())
            {
                assert!(policy.exceeds(ceiling.policy()).is_empty(), "{policy:?}");
            }
            answer(ceiling)
        },
    );
}

#[test]
fn build_file() {
    let seeds = [
        include_str!("../../../../examples/python-redis/airtight.toml"),
        include_str!("../../../../examples/nginx-static/airtight.toml"),
        include_str!("../../../../examples/static-rust/airtight.toml"),
    ];
    let words = [
        "[[layer]]\n",
        "copy = [{ from = \"a\", to = \"/b\" }]\n",
        "exclude = [\"**/*\"]",
        "closure = [\"/\"]\n",
        "generate = [\"passwd\"]\n",
        "[config]\n",
        "user = \"0:0\"\n",
        "base = \"oci:x:y\"\n",
        "..",
        "/",
        "mode = \"4755\"",
        "[profile]\n",
        "[annotations]\n",
    ];
    let done = fuzz("build-file", &seeds, &words, |input| {
        answer(parse(&text(input), Path::new("airtight.toml")))
    });
    assert!(done.answers > 5, "{done:?}");
}

/// What is taken is written as it is read.
fn stands<T: FromStr + Display + PartialEq>(input: &str) -> Result<(), T::Err>
where
    T::Err: std::fmt::Debug,
{
    let value: T = input.parse()?;
    let shown = value.to_string();
    assert!(
        shown.parse::<T>().unwrap() == value,
        "{input:?} is shown as {shown:?}"
    );
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    Ok(())
}

#[test]
fn values() {
    let digest = Digest::of(b"x").to_string();
    let seeds = [
        "localhost:5000/shop/api:1.2",
        "oci:/a/b:v1",
        "oci-archive:x.tar:t",
        "[::1]:80",
        "db.internal:5432",
        "10.0.0.1:80",
        &digest,
    ];
    let words = [
        "sha256:",
        "oci:",
        "oci-archive:",
        "[",
        "]",
        ":",
        "/",
        "..",
        "0x7f",
        "127.1",
        "::ffff:",
        "latest",
        "%2f",
    ];
    fuzz("values", &seeds, &words, |input| {
        let input = text(input);
        let mut told = [
            answer(stands::<Digest>(&input)),
            answer(stands::<Reference>(&input)),
            answer(stands::<Endpoint>(&input)),
            answer(input.parse::<ImageRef>()),
            answer(input.parse::<Output>()),
        ];
        // Each repeats what was written, which is no kind of answer.
        for told in &mut told {
            *told = told.replace(&input, "");
        }
        if told.iter().any(|told| told == TAKEN) {
            return format!(
                "{TAKEN} {}",
                told.map(|told| u8::from(told == TAKEN).to_string())
                    .concat()
            );
        }
        told.concat()
    });
}
