//! What lies in the store: damaged, in the way, or of somebody else.

use super::*;

#[test]
fn a_fifo_in_the_store_is_refused_and_not_waited_for() {
    for place in ["refs/a%1", "blob"] {
        let at = Place::new();
        let layout = at
            .layout("a")
            .image("a:1", &[plain(file("a"))], same)
            .done();
        let digest = at.store.import(&layout, None).unwrap()[0].digest.clone();
        let path = match place {
            "blob" => at.path("store/blobs/sha256").join(digest.hex()),
            other => at.path("store").join(other),
        };
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let problems = in_time(place, move || {
            assert_eq!(at.names(), Vec::<String>::new());
            at.store.verify().unwrap().problems
        });
        assert!(
            problems.iter().any(|line| line.contains("no regular file")),
            "{place}: {problems:?}"
        );
    }
}

#[test]
fn a_damaged_blob_is_healed_by_storing_it_again() {
    let at = Place::new();
    let layout = at
        .layout("a")
        .image("a:1", &[plain(file("a"))], same)
        .done();
    at.store.import(&layout, None).unwrap();
    for blob in fs::read_dir(at.path("store/blobs/sha256")).unwrap() {
        let path = blob.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        bytes[0] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    assert_eq!(at.store.verify().unwrap().problems.len(), 4);
    at.store.import(&layout, None).unwrap();
    assert_eq!(at.store.verify().unwrap().problems, Vec::<String>::new());
    let (digest, _) = at.store.put_blob_bytes(b"config").unwrap();
    fs::write(at.path("store/blobs/sha256").join(digest.hex()), b"Config").unwrap();
    at.store.put_blob_bytes(b"config").unwrap();
    assert_eq!(at.store.verify().unwrap().problems, Vec::<String>::new());
}

#[test]
fn one_damaged_image_or_a_stray_file_does_not_hide_the_others() {
    let at = Place::new();
    for (name, content) in [("a:1", "a"), ("b:1", "b"), ("c:1", "c")] {
        let layout = at
            .layout(content)
            .image(name, &[plain(file(content))], same)
            .done();
        at.store.import(&layout, None).unwrap();
    }
    for stray in ["refs/.a.swp", "blobs/sha256/.b.swp", "layers/sha256/x"] {
        fs::write(at.path("store").join(stray), "").unwrap();
    }
    assert_eq!(at.store.gc().unwrap().blobs, 0);
    assert_eq!(at.names(), ["a:1", "b:1", "c:1"]);
    assert_eq!(at.store.verify().unwrap().problems.len(), 3);
    let bad = at.store.resolve(&"a:1".parse().unwrap()).unwrap();
    fs::write(at.path("store/blobs/sha256").join(bad.hex()), "{}").unwrap();
    fs::write(at.path("store/refs/b%1"), "{").unwrap();
    assert_eq!(at.names(), ["c:1"]);
    let damaged = at.store.damaged().unwrap();
    for said_of_it in [".a.swp", "image a:1: ", "image b:1: "] {
        assert!(
            damaged.iter().any(|line| line.contains(said_of_it)),
            "{said_of_it}: {damaged:?}"
        );
    }
    // What it needs cannot be known, so nothing is collected until its name is gone.
    for name in ["b:1", "a:1"] {
        assert!(said(at.store.gc()).contains(&format!("airtight rm {name}")));
        at.store.untag(&name.parse::<Reference>().unwrap()).unwrap();
    }
    assert!(at.store.gc().unwrap().blobs > 0);
    assert_eq!(at.names(), ["c:1"]);
}

#[test]
fn a_store_that_others_can_write_is_refused() {
    for (mode, taken) in [
        (0o700, true),
        (0o755, true),
        (0o775, false),
        (0o777, false),
        (0o1777, false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        let opened = Store::open(dir.path());
        assert_eq!(opened.is_ok(), taken, "{mode:o}");
        if let Err(error) = opened {
            assert!(
                error.to_string().contains(&format!("{mode:04o}"))
                    && error.to_string().contains("fix:"),
                "{error}"
            );
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{mode:o}");
        }
    }
}

#[test]
fn verify_and_gc_wait_for_one_another() {
    let at = Place::new();
    let lock = File::create(at.path("store/lock")).unwrap();
    lock.lock().unwrap();
    let root = at.path("store");
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let report = Store::open(&root).unwrap().verify();
        drop(send.send(report.unwrap().problems));
    });
    // Beside gc, what was listed would be gone when it is read.
    let waits = receive.recv_timeout(Duration::from_millis(200));
    assert_eq!(waits, Err(std::sync::mpsc::RecvTimeoutError::Timeout));
    drop(lock);
    assert_eq!(
        receive.recv_timeout(Duration::from_secs(20)),
        Ok(Vec::new())
    );
}
