//! What networks and hostile registries do, by a proxy between.

use std::time::{Duration, Instant};

use airtight_tests::registry::{Access, Fault, Proxy, REGISTRY, Registry};
use airtight_tests::{World, has};

use super::{MIB, files, largest, nothing_pulled, told, world};

fn answer(status: &str, headers: &str, body: &str) -> Fault {
    Fault::Answer(format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    ))
}

const DIGEST_OF_NOTHING: &str =
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const UPLOADS: &str = "/blobs/uploads/";

#[test]
fn a_push_comes_through_what_networks_do() {
    if !has(REGISTRY) {
        return;
    }
    let world = world(20 * MIB);
    let registry = Registry::start(None, Access::Everybody).unwrap();
    let proxy = Proxy::before(registry.port).unwrap();
    let many = "429 Too Many Requests";
    for (at, (name, method, path, times, fault)) in [
        (
            "cut in a piece",
            "PATCH",
            UPLOADS,
            1,
            Fault::CutRequest(3 * MIB),
        ),
        ("cut at the end", "PUT", UPLOADS, 1, Fault::CutRequest(0)),
        (
            "cut at every first piece",
            "PATCH",
            UPLOADS,
            3,
            Fault::CutRequest(100),
        ),
        (
            "a piece whose answer is lost",
            "PATCH",
            UPLOADS,
            1,
            Fault::LoseAnswer,
        ),
        (
            "an end whose answer is lost",
            "PUT",
            UPLOADS,
            1,
            Fault::LoseAnswer,
        ),
        (
            "a manifest whose answer is lost",
            "PUT",
            "/manifests/",
            1,
            Fault::LoseAnswer,
        ),
        (
            "a beginning that fails",
            "POST",
            UPLOADS,
            2,
            answer("500 Internal Server Error", "", "{}"),
        ),
        (
            "too many",
            "PUT",
            UPLOADS,
            1,
            answer(many, "Retry-After: 1\r\n", ""),
        ),
        (
            "a look that fails",
            "HEAD",
            "/blobs/",
            2,
            answer("503 Service Unavailable", "", ""),
        ),
        (
            "an upload that is lost",
            "PATCH",
            UPLOADS,
            2,
            answer("404 Not Found", "", ""),
        ),
        (
            "pieces are not taken",
            "PATCH",
            UPLOADS,
            1,
            answer("405 Method Not Allowed", "", ""),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let repository = format!("through/{at}");
        let to = proxy.name(&format!("{repository}:1"));
        // Nothing may be mounted: all of it is to be sent.
        drop(std::fs::remove_dir_all(
            world.path("home/store/cache/origins"),
        ));
        proxy.clear();
        proxy.fault(method, path, times, fault);
        let start = Instant::now();
        let pushed = told(&world, &["push", "test/app:1", &to]);
        if name == "too many" {
            assert!(
                start.elapsed() >= Duration::from_secs(1),
                "{name}: it was asked to wait"
            );
        }
        assert!(registry.has_tag(&repository, "1"), "{name}");
        let again = told(
            &world,
            &[
                "push",
                "test/app:1",
                &registry.name(&format!("{repository}:1")),
            ],
        );
        assert_eq!(again["sent"], 0, "{name}: {pushed}");
        assert!(files(&world, "tmp").is_empty(), "{name}");
    }
}

#[test]
fn a_push_claims_nothing_that_is_not_there() {
    if !has(REGISTRY) {
        return;
    }
    let world = world(MIB);
    let registry = Registry::start(None, Access::Everybody).unwrap();
    let proxy = Proxy::before(registry.port).unwrap();
    for (at, (name, method, path, fault, want)) in [
        (
            "a blob is taken and is not there",
            "PUT",
            UPLOADS,
            answer("201 Created", "", ""),
            "was taken by the registry and is not there",
        ),
        (
            "another blob was taken",
            "PUT",
            UPLOADS,
            answer(
                "201 Created",
                &format!("Docker-Content-Digest: {DIGEST_OF_NOTHING}\r\n"),
                "",
            ),
            "and says it is another",
        ),
        (
            "a blob is there in another length",
            "HEAD",
            "/blobs/sha256",
            answer("200 OK", "", "").clone(),
            "bytes there and",
        ),
        (
            "a manifest is taken and is not there",
            "PUT",
            "/manifests/",
            answer("201 Created", "", ""),
            "was put and holds nothing",
        ),
        (
            "the registry is full",
            "PUT",
            UPLOADS,
            answer(
                "507 Insufficient Storage",
                "",
                "{\"errors\":[{\"code\":\"FULL\",\"message\":\"no\\u001b[2J space\"}]}",
            ),
            "(507: FULL: no\\u{1b}[2J space)",
        ),
        (
            "it is to be tried again in a day",
            "POST",
            UPLOADS,
            answer("429 Too Many Requests", "Retry-After: 86400\r\n", ""),
            "asks to come back in 86400 seconds",
        ),
        (
            "an upload leads to plain text elsewhere",
            "POST",
            UPLOADS,
            answer("202 Accepted", "Location: http://192.0.2.1/x\r\n", ""),
            "points to http://192.0.2.1, which has no TLS",
        ),
        (
            "an upload leads nowhere",
            "POST",
            UPLOADS,
            answer("202 Accepted", "", ""),
            "without saying where",
        ),
        (
            "an upload leads to a user",
            "POST",
            UPLOADS,
            answer("202 Accepted", "Location: https://u:p@localhost/\r\n", ""),
            "has no host that is one",
        ),
        (
            "a look fails for ever",
            "HEAD",
            "/manifests/",
            answer("500 Internal Server Error", "", ""),
            "is busy (500",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        proxy.clear();
        drop(std::fs::remove_dir_all(
            world.path("home/store/cache/origins"),
        ));
        proxy.fault(method, path, 99, fault);
        let repository = &format!("claims/{at}");
        let pushed = world
            .airtight([
                "push",
                "--retry",
                "1",
                "test/app:1",
                &proxy.name(&format!("{repository}:1")),
            ])
            .unwrap();
        assert_eq!(pushed.code, Some(125), "{name}: {pushed:?}");
        assert!(pushed.stderr.contains(want), "{name}: {pushed:?}");
        assert!(pushed.stdout.is_empty(), "{name}: {pushed:?}");
        assert!(!registry.has_tag(repository, "1"), "{name}");
    }
}

#[test]
fn a_pull_comes_through_what_networks_do() {
    if !has(REGISTRY) {
        return;
    }
    let world = world(12 * MIB);
    let registry = Registry::start(None, Access::Everybody).unwrap();
    let pushed = told(
        &world,
        &["push", "test/app:1", &registry.name("test/app:1")],
    );
    let (digest, size) = largest(&pushed);
    let blob: &'static str = Box::leak(digest.into_boxed_str());
    let proxy = Proxy::before(registry.port).unwrap();
    let from = proxy.name("test/app:1");
    for (name, path, times, fault) in [
        ("cut", blob, 3, Fault::CutAnswer(2 * MIB)),
        ("cut at once", blob, 2, Fault::CutAnswer(0)),
        ("busy", blob, 2, answer("502 Bad Gateway", "", "")),
        (
            "too many",
            "/manifests/",
            1,
            answer("429 Too Many Requests", "Retry-After: 1\r\n", ""),
        ),
        ("a cut manifest", "/manifests/", 2, Fault::CutAnswer(20)),
        ("lost", blob, 1, Fault::LoseAnswer),
    ] {
        let other = World::new().unwrap();
        proxy.clear();
        proxy.fault("GET", path, times, fault);
        let pulled = told(&other, &["pull", &from]);
        assert_eq!(pulled["digest"], pushed["digest"], "{name}");
        if name == "cut" {
            let layer = pulled["blobs"]
                .as_array()
                .unwrap()
                .iter()
                .find(|one| one["digest"] == blob)
                .unwrap();
            assert_eq!(layer["bytes"], size, "each byte came once");
        }
        assert_eq!(other.airtight(["verify"]).unwrap().code, Some(0), "{name}");
        assert!(files(&other, "tmp").is_empty(), "{name}");
    }
}

#[test]
fn a_pull_believes_nothing_and_leaves_nothing_unverified() {
    if !has(REGISTRY) {
        return;
    }
    let world = world(3 * MIB);
    let registry = Registry::start(None, Access::Everybody).unwrap();
    let pushed = told(
        &world,
        &["push", "test/app:1", &registry.name("test/app:1")],
    );
    let (digest, _) = largest(&pushed);
    let blob: &'static str = Box::leak(digest.into_boxed_str());
    let proxy = Proxy::before(registry.port).unwrap();
    let from = proxy.name("test/app:1");
    let again = Box::leak(
        format!("http://localhost:{}/v2/test/app/blobs/{blob}", proxy.port).into_boxed_str(),
    );
    let said = format!(
        "Docker-Content-Digest: {DIGEST_OF_NOTHING}\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\n"
    );
    let json = "Content-Type: application/json\r\n";
    for (name, path, fault, want) in [
        (
            "a blob with another byte",
            blob,
            Fault::Corrupt,
            "has the digest",
        ),
        (
            "a blob that is said to be longer",
            blob,
            Fault::Lengthen(7),
            "and the manifest says",
        ),
        (
            "a blob that is longer",
            blob,
            Fault::Append(7),
            "and the manifest says",
        ),
        (
            "a blob that is cut each time",
            blob,
            Fault::CutAnswer(1000),
            "was cut off",
        ),
        (
            "a blob that drips",
            blob,
            Fault::Drip,
            "slower than 1024 bytes a second",
        ),
        (
            "a blob that is not said",
            blob,
            Fault::Silence(Duration::from_secs(9)),
            "did not answer within 1 seconds",
        ),
        ("a head without end", blob, Fault::LongHead, "header"),
        (
            "a redirect without end",
            blob,
            answer(
                "307 Temporary Redirect",
                &format!("Location: {again}\r\n"),
                "",
            ),
            "redirects more than 5 times",
        ),
        (
            "a redirect to plain text elsewhere",
            blob,
            answer("302 Found", "Location: http://192.0.2.1/x\r\n", ""),
            "points to http://192.0.2.1, which has no TLS",
        ),
        (
            "a range that was not asked for",
            blob,
            answer(
                "206 Partial Content",
                "Content-Range: bytes 5-9/10\r\n",
                "12345",
            ),
            "gives the range",
        ),
        (
            "no blob",
            blob,
            answer("404 Not Found", "", ""),
            "cannot be fetched (404)",
        ),
        (
            "a manifest of another digest",
            "/manifests/",
            answer("200 OK", &said, "{}"),
            "and is said to have",
        ),
        (
            "a manifest with another byte",
            "/manifests/",
            Fault::Corrupt,
            "and is said to have",
        ),
        (
            "a manifest that is none",
            "/manifests/",
            answer("200 OK", json, "[]"),
            "is no manifest",
        ),
        (
            "a page for people",
            "/manifests/",
            answer("200 OK", "Content-Type: text/html\r\n", "<html>"),
            "is no manifest",
        ),
        (
            "a manifest without end",
            "/manifests/",
            Fault::Lengthen(5 << 20),
            "is larger than 4194304 bytes",
        ),
        (
            "no HTTP",
            "/manifests/",
            Fault::Answer("SSH-2.0-x\r\n\r\n".to_owned()),
            "localhost",
        ),
        (
            "two lengths",
            "/manifests/",
            Fault::Answer(
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}".to_owned(),
            ),
            "localhost",
        ),
    ] {
        let other = World::new().unwrap();
        proxy.clear();
        proxy.fault("GET", path, 99, fault);
        let start = Instant::now();
        let pulled = other
            .airtight(["pull", "--retry", "1", "--timeout", "1", &from])
            .unwrap();
        assert_eq!(pulled.code, Some(125), "{name}: {pulled:?}");
        assert!(pulled.stderr.contains(want), "{name}: {pulled:?}");
        assert!(
            start.elapsed() < Duration::from_secs(15),
            "{name}: {:?}",
            start.elapsed()
        );
        assert!(proxy.of("GET").len() < 20, "{name}: {:?}", proxy.seen());
        nothing_pulled(&other);
        assert!(
            !files(&other, "blobs/sha256").contains(&blob.trim_start_matches("sha256:").to_owned()),
            "{name}"
        );
        // And it goes on from there once the registry is well.
        proxy.clear();
        assert_eq!(
            told(&other, &["pull", &from])["digest"],
            pushed["digest"],
            "{name}"
        );
    }
}
