//! The three examples, built and run as their users would.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use airtight_tests::{Need, World, has, repository, wait_until};

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn build(world: &World, example: &str) -> u64 {
    let directory = repository().join("examples").join(example);
    let built = world
        .airtight([
            "build",
            &directory.display().to_string(),
            "-t",
            "test/example",
            "--json",
        ])
        .unwrap();
    assert_eq!(built.code, Some(0), "{built:?}");
    let images = world.airtight(["images", "--json"]).unwrap();
    let images: serde_json::Value = serde_json::from_str(&images.stdout).unwrap();
    let found = images
        .as_array()
        .unwrap()
        .iter()
        .find(|image| image["name"] == "test/example:latest")
        .unwrap()
        .clone();
    found["size"].as_u64().unwrap()
}

/// A page, or nothing while nobody listens.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.contains("200 OK").then_some(text)
}

#[test]
fn privileged_the_python_app_counts_in_a_real_redis_and_is_refused_all_else() {
    if !has(&[
        Need::Root,
        Need::Program("redis-server"),
        Need::File("/usr/lib/python3/dist-packages/redis"),
    ]) {
        return;
    }
    let world = World::new().unwrap();
    build(&world, "python-redis");
    let (redis_port, port) = (free_port(), free_port());
    let mut redis = Command::new("redis-server")
        .args([
            "--port",
            &redis_port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
        ])
        .arg(world.path("work"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let app = |redis: &str| {
        let env = format!("REDIS_PORT={redis_port}");
        world
            .start(&[
                "run",
                "--connect",
                redis,
                "--publish",
                &format!("{port}:8080"),
                "--env",
                &env,
                "test/example",
            ])
            .unwrap()
    };
    let running = app(&format!("redis=127.0.0.1:{redis_port}"));
    let mut first = None;
    let up = wait_until(Duration::from_secs(30), || {
        first = get(port, "/");
        first.is_some()
    });
    let second = get(port, "/");
    let tries: Vec<Option<String>> = ["/try/write", "/try/connect", "/try/exec"]
        .iter()
        .map(|path| get(port, path))
        .collect();
    running.signal(nix::sys::signal::Signal::SIGTERM).unwrap();
    let ended = running.wait().unwrap();
    redis.kill().unwrap();
    redis.wait().unwrap();
    assert!(up, "{ended:?}");
    assert_ne!(first, second, "the count rises: {ended:?}");
    for tried in &tries {
        let text = tried.as_deref().unwrap_or_default();
        assert!(
            text.contains("\"allowed\": false") && !text.contains("\"allowed\": true"),
            "{tries:?} {ended:?}"
        );
    }
    for refused in ["refused: write", "refused: connect", "refused: exec"] {
        assert!(ended.stderr.contains(refused), "{refused}: {ended:?}");
    }
}

#[test]
fn privileged_nginx_serves_from_immutable_layers() {
    if !has(&[Need::Root, Need::File("/usr/sbin/nginx")]) {
        return;
    }
    let world = World::new().unwrap();
    let size = build(&world, "nginx-static");
    let port = free_port();
    let running = world
        .start(&["run", "--publish", &format!("{port}:8080"), "test/example"])
        .unwrap();
    let mut page = None;
    let up = wait_until(Duration::from_secs(30), || {
        page = get(port, "/");
        page.is_some()
    });
    running.signal(nix::sys::signal::Signal::SIGTERM).unwrap();
    let ended = running.wait().unwrap();
    assert!(up, "{ended:?}");
    // The sum of the files in its layers, as unpacked.
    let layers = world.path("home/store/layers/sha256");
    let files = Command::new("du")
        .args(["-sb", "--apparent-size"])
        .arg(layers)
        .output()
        .unwrap();
    let bytes: u64 = String::from_utf8_lossy(&files.stdout)
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        size * 10 <= bytes * 11,
        "{size} bytes of image for {bytes} bytes of files"
    );
}

#[test]
fn privileged_the_static_binary_is_an_image_of_its_own_size() {
    let binary = repository().join("examples/static-rust/dist/hello");
    let built: &'static str = Box::leak(binary.display().to_string().into_boxed_str());
    if !has(&[Need::Root, Need::File(built)]) {
        return;
    }
    let world = World::new().unwrap();
    let size = build(&world, "static-rust");
    let own = Path::new(&binary).metadata().unwrap().len();
    assert!(size < own + 4096, "{size} bytes for a binary of {own}");
    let ran = world.airtight(["run", "test/example"]).unwrap();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(!ran.stdout.is_empty(), "{ran:?}");
}
