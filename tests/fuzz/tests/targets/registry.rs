//! What a registry says, what stands between says, and what lies in the files of credentials.

use std::path::Path;

use airtight_fuzz::{TAKEN, fuzz};
use airtight_image::registry::{
    AuthFile, Challenge, Found, Platform, RegistryRef, join_location, next_page, parse_challenges,
    parse_document, retry_after,
};

use crate::{answer, text};

/// What is wrong, without the value that is repeated before it.
fn problem(error: &airtight_image::Error) -> String {
    let told = error.to_string();
    told.rsplit("`").next().unwrap_or_default().to_owned()
}

#[test]
fn challenges() {
    let seeds = [
        "Bearer realm=\"https://auth.example.org/token\",service=\"r.example.org\",scope=\"repository:a/b:pull,push\"",
        "Basic realm=\"Registry Realm\", Bearer realm=x, error=\"invalid_token\"",
        "Negotiate abc==, Basic realm=\"a\\\"b\"",
    ];
    let words = [
        "Bearer ", "realm=", "\"", "\\", ",", "=", " ", "scope=\"", "Basic",
    ];
    let done = fuzz("challenges", &seeds, &words, |input| {
        let input = text(input);
        let told = parse_challenges(&input);
        for challenge in &told {
            if let Challenge::Bearer { realm, .. } = challenge {
                assert!(realm.len() <= input.len());
            }
        }
        let kinds = |kind: fn(&Challenge) -> bool| told.iter().filter(|one| kind(one)).count();
        let bearers = kinds(|one| matches!(one, Challenge::Bearer { .. }));
        let others = kinds(|one| matches!(one, Challenge::Other));
        // Words, since digits make no kind of answer.
        let count = ["none", "one", "two", "more"];
        let word = |number: usize| count.get(number).unwrap_or(&"many");
        format!("{TAKEN} bearer-{} other-{}", word(bearers), word(others))
    });
    assert!(done.answers > 3, "{done:?}");
}

#[test]
fn locations() {
    let base = "https://r.example.org:5000/v2/a/blobs/uploads/1?_state=x";
    let seeds = [
        "https://s3.example.org/b?X-Signature=1&y=/",
        "/v2/a/blobs/uploads/2?_state=z",
        "2",
        "?next",
        "//other.example.org/p",
        "http://[::1]:80/#f",
    ];
    let words = [
        "https://", "http://", "//", "@", "[::1]", "..", "?", "#", ":", ":0", "\r\n", "%00",
    ];
    let done = fuzz("locations", &seeds, &words, |input| {
        let input = text(input);
        let joined = match join_location(base, &input) {
            Ok(joined) => joined,
            Err(error) => return error.to_string().replace(&input, ""),
        };
        assert!(
            joined.bytes().all(|byte| byte.is_ascii_graphic()),
            "{joined:?}"
        );
        let rest = joined.split_once("://").unwrap().1;
        let authority = rest.split('/').next().unwrap();
        assert!(
            !authority.contains('@') && !authority.is_empty(),
            "{joined:?}"
        );
        // What was made of it is read as the same.
        assert_eq!(join_location(base, &joined).unwrap(), joined);
        let kind = if joined.starts_with("https://r.example.org:5000/") {
            "own"
        } else {
            "foreign"
        };
        format!("{TAKEN} {kind}")
    });
    assert!(done.answers > 3, "{done:?}");
}

#[test]
fn headers() {
    let seeds = [
        "</v2/a/tags/list?last=b&n=2>; rel=\"next\"",
        "</p>; rel=prev, </n>; rel=next",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "120",
    ];
    let words = ["<", ">", "; rel=", "next", "\"", ",", "GMT", "9999", ":"];
    fuzz("headers", &seeds, &words, |input| {
        let input = text(input);
        let next = next_page(&input);
        let after = retry_after(&input, std::time::UNIX_EPOCH);
        assert!(next.is_none_or(|next| input.contains(next)));
        format!(
            "{TAKEN} {} {}",
            if next.is_some() { "next" } else { "last" },
            if after.is_some() { "later" } else { "now" }
        )
    });
}

#[test]
fn auth_files() {
    let seeds = [
        "{\"auths\":{\"r.example.org\":{\"auth\":\"dXNlcjpodW50ZXIy\"}}}",
        "{\"auths\":{\"https://r.example.org/v1/\":{\"username\":\"user\",\"password\":\"hunter2\"},\"r.example.org/a\":{\"identitytoken\":\"hunter2\"}}}",
        "{\"auths\":{\"r.example.org\":{}},\"credHelpers\":{\"h.example.org\":\"own\"},\"credsStore\":\"all\",\"HttpHeaders\":{\"a\":\"b\"}}",
    ];
    let words = [
        "\"registrytoken\":\"hunter2\"",
        "\"credsStore\":\"../x\"",
        "null",
        "{}",
        "[",
        "\"r.example.org\":",
        "\\n",
        "\\u0000",
    ];
    let done = fuzz("auth-files", &seeds, &words, |input| {
        let file = match AuthFile::parse(input, Path::new("f")) {
            Ok(file) => file,
            Err(error) => {
                let told = error.to_string();
                assert!(
                    !told.contains("hunter2") && !told.contains("dXNlcj"),
                    "{told}"
                );
                return told;
            }
        };
        match file.find("r.example.org", "a/b") {
            Found::Helper(name) => {
                assert!(!name.contains('/') && !name.starts_with('.'), "{name:?}");
                format!("{TAKEN} helper")
            }
            Found::Credentials(found) => {
                let shown = format!("{found:?}");
                assert!(!shown.contains("hunter2"), "{shown}");
                format!("{TAKEN} credentials")
            }
            Found::Nothing => format!("{TAKEN} nothing"),
        }
    });
    assert!(done.answers > 3, "{done:?}");
}

#[test]
fn references() {
    let digest = airtight_image::Digest::of(b"x");
    let seeds = [
        "registry.example.org/shop/api:1.2".to_owned(),
        "docker://localhost:5000/a__b/c-d".to_owned(),
        format!("[::1]:5000/a:tag@{digest}"),
    ];
    let words = [
        "docker://",
        "@sha256:",
        ":",
        "/",
        "..",
        "localhost",
        "[",
        "]",
        "%2f",
        "?",
    ];
    let done = fuzz("registry-references", &seeds, &words, |input| {
        let input = text(input);
        let reference = match input.parse::<RegistryRef>() {
            Ok(reference) => reference,
            Err(error) => return problem(&error),
        };
        let shown = reference.to_string();
        assert_eq!(
            shown.parse::<RegistryRef>().unwrap(),
            reference,
            "{input:?}"
        );
        let plain = |part: &str| !part.contains(['?', '#', '%', ' ', '@']) && !part.contains("..");
        assert!(
            plain(reference.host()) && plain(reference.repository()),
            "{shown:?}"
        );
        let platform = input.parse::<Platform>();
        format!("{TAKEN} {}", platform.map_or("no", |_| "platform"))
    });
    assert!(done.answers > 3, "{done:?}");
}

#[test]
fn documents() {
    let digest = airtight_image::Digest::of(b"x");
    let blob = format!(
        "{{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"{digest}\",\"size\":1}}"
    );
    let seeds = [
        format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{blob},\"layers\":[{blob}],\"subject\":{blob}}}"
        ),
        format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[{{\"platform\":{{\"os\":\"linux\",\"architecture\":\"amd64\",\"variant\":\"v1\"}},{}}}]}}",
            blob.trim_matches(['{', '}'])
        ),
    ];
    let words = [
        "\"manifests\":[]",
        "\"layers\":[]",
        "\"size\":-1",
        "18446744073709551616",
        "null",
        "\"mediaType\":\"\"",
        "\"schemaVersion\":1",
        "[[[[",
    ];
    let done = fuzz("registry-documents", &seeds, &words, |input| {
        let told = [
            "",
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.oci.image.index.v1+json",
        ]
        .map(|said| parse_document(input, said));
        // What is taken for one thing by its own word is not another by the registry's.
        let [own, manifest, index] = &told;
        assert!(
            !(own.is_ok() && manifest.is_ok() && index.is_ok()),
            "{own:?}"
        );
        let [own, ..] = told;
        answer(own)
    });
    assert!(done.answers > 3, "{done:?}");
}
