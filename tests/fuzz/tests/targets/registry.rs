//! What a registry says, what stands between says, and what lies in the files of credentials.

use std::path::Path;

use airtight_fuzz::{TAKEN, fuzz};
use airtight_image::registry::{
    AuthFile, Challenge, Found, Platform, RegistryRef, join_location, next_page, parse_cache,
    parse_challenges, parse_document, retry_after,
};

use airtight_image::{Contents, Digest, parse_layer_record, parse_outcome};

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

#[test]
fn caches_of_layers() {
    let digest = |digit: char| format!("sha256:{}", digit.to_string().repeat(64));
    let layer = format!(
        r#"{{"layer":{{"diffId":"{}","digest":"{}","entries":3,"size":9,"uncompressed":10240}},"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","of":{{"key":"{}","shape":"{}"}}}}"#,
        digest('a'),
        digest('b'),
        digest('c'),
        digest('d')
    );
    let seeds = [
        r#"{"layers":[],"version":1}"#.to_owned(),
        format!(r#"{{"layers":[{layer}],"version":1}}"#),
        format!(
            r#"{{"layers":[{layer},{}],"version":1}}"#,
            layer.replace(&digest('c'), &digest('e'))
        ),
    ];
    let seeds: Vec<&[u8]> = seeds.iter().map(|seed| seed.as_bytes()).collect();
    let words = [
        "layer",
        "of",
        "key",
        "size",
        "18446744073709551616",
        "sha256:",
        "mediaType",
    ];
    let done = fuzz("cache-lists", &seeds, &words, |input| {
        let told = parse_cache(input);
        if let Ok(layers) = &told {
            // Each can be asked for, and by no other's key.
            assert!(layers.len() <= 256);
            for (at, layer) in layers.iter().enumerate() {
                assert_eq!(layer.descriptor().size(), layer.layer.size);
                assert!(layers[..at].iter().all(|other| other.of != layer.of));
            }
        }
        answer(told.map(|layers| layers.len()))
    });
    assert!(done.answers > 3, "{done:?}");
}

#[test]
fn records_of_layers() {
    let hex = |digit: char| format!("sha256:{}", digit.to_string().repeat(64));
    let [a, b, c, d] = ['a', 'b', 'c', 'd'].map(hex);
    let line = format!(
        r#"{{"version":1,"of":{{"shape":"{a}","key":"{b}"}},"layer":{{"digest":"{c}","diffId":"{d}","size":9,"uncompressed":10240,"entries":3}},"seen":{{"device":1,"inode":2,"changed":[3,4]}}}}"#
    );
    let whole = format!("{line}\n{}\n", airtight_image::Digest::of(line.as_bytes()));
    parse_layer_record(whole.as_bytes()).unwrap();
    let seeds = [whole.as_bytes()];
    let words = ["sha256:", "\n", "version", "seen", "18446744073709551616"];
    let done = fuzz("layer-records", &seeds, &words, |input| {
        // What a mutation breaks is only the sum: with a right one the line itself is read.
        let line = input
            .split(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        let sum = airtight_image::Digest::of(line).to_string();
        let summed = [line, b"\n", sum.as_bytes(), b"\n"].concat();
        assert!(parse_layer_record(&summed).is_err() || line.len() > 300);
        answer(parse_layer_record(input).map(|(of, _)| of))
    });
    assert!(done.answers > 2, "{done:?}");
}

#[test]
fn outcomes_of_builds() {
    let [of, shape, key] =
        ['a', 'b', 'c'].map(|digit| format!("sha256:{}", digit.to_string().repeat(64)));
    let lines = [
        format!(
            r#"{{"version":1,"of":"{of}","layers":[{{"name":"app","of":{{"shape":"{shape}","key":"{key}"}}}}]}}"#
        ),
        format!(r#"{{"version":1,"of":"{of}","layers":[]}}"#),
    ];
    let summed = |line: &[u8]| {
        let sum = Digest::of(line).to_string();
        [line, b"\n", sum.as_bytes(), b"\n"].concat()
    };
    let seeds = lines.map(|line| summed(line.as_bytes()));
    for seed in &seeds {
        parse_outcome(seed).unwrap();
    }
    let words = [
        "sha256:",
        "\n",
        "version",
        "layers",
        "{\"name\":",
        "18446744073709551616",
        "\\u0000",
    ];
    let done = fuzz("outcomes", &seeds, &words, |input| {
        // What a mutation breaks is only the sum: with a right one the line itself is read.
        let line = input
            .split(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        if let Ok((_, layers)) = parse_outcome(&summed(line)) {
            // Each layer has a name and two digests of 64.
            assert!(layers.len() * 150 <= line.len(), "{layers:?}");
        }
        let told = parse_outcome(input);
        if told.is_ok() {
            assert_eq!(summed(line), input, "one form only");
        }
        answer(told.map(|(_, layers)| layers.len()))
    });
    assert!(done.answers > 2, "{done:?}");
}

#[test]
fn records_of_files() {
    // A device, a note and a record, of the layout that the store's module tells.
    let mut whole = b"airtfile".to_vec();
    for count in [1_u32, 1, 1, 1] {
        whole.extend(count.to_le_bytes());
    }
    for word in [7_u64, 0xef53, 1] {
        whole.extend(word.to_le_bytes());
    }
    whole.extend(3_u32.to_le_bytes());
    whole.extend(b"elf");
    whole.extend([5; 88]);
    let empty = [b"airtfile".as_slice(), &1_u32.to_le_bytes(), &[0; 12]].concat();
    let seeds = [whole, empty];
    let words = ["\u{7f}\u{7f}\u{7f}\u{7f}", "\0\0\0\0"];
    let done = fuzz("file-records", &seeds, &words, |input| {
        let sum = airtight_image::Digest::of(input).to_bytes();
        let told = Contents::parse([input, &sum].concat());
        if let Ok(contents) = &told {
            assert!(contents.len() * 88 <= input.len());
        }
        answer(told.map(|contents| contents.len()))
    });
    assert!(done.answers > 3, "{done:?}");
}
