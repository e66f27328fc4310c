//! The example that is made of packages, from the mirror that this host's apt uses, if that can be reached.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use airtight_tests::{Need, World, has, wait_until};

use super::repository;

/// Whether it failed because there is no mirror to be had.
fn is_unreachable(told: &str) -> bool {
    [
        "is not found",
        "cannot be connected to",
        "did not answer",
        "has no source with the suite",
    ]
    .iter()
    .any(|words| told.contains(words))
}

#[test]
fn privileged_a_python_page_is_served_from_an_image_of_packages() {
    if !has(&[Need::Root, Need::File("/etc/apt")]) {
        return;
    }
    let world = World::new().unwrap();
    let example = repository().join("examples/python-web-debian");
    // A lock of the mirror's own day is not for the tree.
    for file in ["airtight.toml", "app/main.py"] {
        world
            .write(
                &format!("work/{file}"),
                std::fs::read(example.join(file)).unwrap(),
            )
            .unwrap();
    }
    let built = world
        .airtight(["build", &world.shown("work"), "-t", "test/page"])
        .unwrap();
    if is_unreachable(&built.stderr) {
        eprintln!(
            "skipped: no mirror of this host's apt can be reached: {}",
            built.stderr
        );
        return;
    }
    assert_eq!(built.code, Some(0), "{built:?}");
    assert!(Path::new(&world.path("work/airtight.lock")).exists());
    let port = TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let running = world
        .start(&["run", "--publish", &format!("{port}:8080"), "test/page"])
        .unwrap();
    let mut page = String::new();
    let up = wait_until(Duration::from_secs(30), || {
        get(port).is_some_and(|text| {
            page = text;
            true
        })
    });
    running.signal(nix::sys::signal::Signal::SIGTERM).unwrap();
    let ended = running.wait().unwrap();
    assert!(up, "{ended:?}");
    assert!(page.contains("packages"), "{page}");
    let locked = world
        .airtight([
            "build",
            &world.shown("work"),
            "-t",
            "test/page",
            "--locked",
            "--no-cache",
        ])
        .unwrap();
    assert_eq!(
        (locked.code, locked.stdout),
        (Some(0), built.stdout),
        "{}",
        locked.stderr
    );
    let lint = world.airtight(["lint", "test/page", "--json"]).unwrap();
    for finding in ["shell", "setuid"] {
        assert!(
            !lint.stdout.contains(&format!("\"rule\": \"{finding}")),
            "{lint:?}"
        );
    }
}

fn get(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .ok()?;
    stream
        .write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.contains("200 OK").then_some(text)
}
