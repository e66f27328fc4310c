//! Images and neighbours that want a runtime to touch the host: each case lays a trap outside the root, shows that the trap works, and then that the runtime stays
//! out of it.
//!
//! What a runtime makes outside is seen in the trap itself; what it mounts outside is seen by a hook, which reads the mounts before the root changes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use airtight_tests::{Need, Ran, has, wait_until};
use nix::fcntl::{RenameFlags, renameat2};
use serde_json::{Value, json};

use crate::harness::{Container, Place, add, must};

/// A directory of the host that no container may touch.
struct Trap {
    dir: PathBuf,
    mounts: PathBuf,
}

const PRECIOUS: &str = "of the host\n";

impl Trap {
    fn lay(place: &Place) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = place.path(format!("trap{number}"));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("file"), PRECIOUS).unwrap();
        fs::create_dir(dir.join("sub")).unwrap();
        Self {
            mounts: dir.with_extension("mounts"),
            dir,
        }
    }

    /// The ways in which a link below `at`, a directory of a root, can lead to it: by the host's path, and up from the root.
    fn ways(&self, at: &Path) -> [PathBuf; 2] {
        let up: PathBuf = std::iter::repeat_n("..", at.components().count()).collect();
        let relative = self.dir.strip_prefix("/").unwrap();
        [self.dir.clone(), up.join(relative)]
    }

    /// Has the container's mounts written down right before its root changes.
    fn watch(&self, config: &mut Value) {
        let script = format!("cat /proc/self/mountinfo > {}", self.mounts.display());
        add(
            &mut config["hooks"]["createContainer"],
            json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] }),
        );
    }

    /// Nothing was made, changed, covered or mounted there.
    fn is_untouched(&self) {
        let mut names: Vec<_> = fs::read_dir(&self.dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["file", "sub"], "made in the trap");
        assert_eq!(fs::read_to_string(self.dir.join("file")).unwrap(), PRECIOUS);
        assert_eq!(fs::read_dir(self.dir.join("sub")).unwrap().count(), 0);
        // Without the hook the runtime refused before any payload could see a mount.
        let mounts = fs::read_to_string(&self.mounts).unwrap_or_default();
        let inside = format!(" {}", self.dir.display());
        assert!(!mounts.contains(&inside), "mounted in the trap: {mounts}");
    }
}

/// The root's `name` becomes a link to `target`.
fn replace(container: &Container<'_>, name: &str, target: &Path) -> PathBuf {
    let at = container.rootfs(name);
    drop(fs::remove_dir_all(&at));
    symlink(target, &at).unwrap();
    at
}

fn bind(from: &Path, to: &str) -> Value {
    json!({ "destination": to, "type": "bind", "source": from, "options": ["bind"] })
}

/// A container with `link` leading to the trap in each way, run to its end.
fn each_way(
    place: &Place,
    link: &str,
    edit: impl Fn(&mut Value),
    judge: impl Fn(&Container<'_>, &Ran),
) {
    for way in 0..2 {
        let trap = Trap::lay(place);
        let container = place.container(|config| {
            trap.watch(config);
            edit(config);
        });
        let parent = container.rootfs(link).parent().unwrap().to_owned();
        fs::create_dir_all(&parent).unwrap();
        let at = replace(&container, link, &trap.ways(&parent)[way]);
        // Who goes by the path on the host's side is in the trap.
        assert_eq!(
            fs::read_to_string(at.join("file")).unwrap(),
            PRECIOUS,
            "the trap does not work"
        );
        judge(&container, &container.run(&[]));
        trap.is_untouched();
    }
}

#[test]
fn privileged_proc_is_no_link_to_the_host() {
    must("a /proc of the image that is a link is refused, and nothing is mounted where it leads (CVE-2019-19921, CVE-2025-31133's kin)").holds(|place| {
        each_way(place, "proc", |_| {}, |_, ran| {
            assert_ne!(ran.code, Some(0), "{ran:?}");
            assert!(ran.stderr.contains("must be mounted on ordinary directory"), "{ran:?}");
        });
        // Inside the root too: another directory would be trusted as /proc.
        for target in ["tmp", "/tmp", "..", "."] {
            let container = place.container(|_| {});
            replace(&container, "proc", Path::new(target));
            let ran = container.run(&[]);
            assert!(ran.code != Some(0) && ran.stderr.contains("ordinary directory"), "{target}: {ran:?}");
        }
    });
}

#[test]
fn privileged_dev_is_no_link_to_the_host() {
    must("a /dev of the image that is a link is refused: nodes and links would be made where it leads (CVE-2026-41579)")
        .differs("runc", "1.1 makes /dev/ptmx and the other links by path")
        .differs("crun", "follows it below the root")
        .holds(|place| {
            let refused = |_: &Container<'_>, ran: &Ran| assert_ne!(ran.code, Some(0), "{ran:?}");
            each_way(place, "dev", |_| {}, refused);
            let none = |config: &mut Value| {
                let mounts = config["mounts"].as_array_mut().unwrap();
                mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
            };
            // Likewise where the config mounts no /dev, and the nodes go into the image's own.
            each_way(place, "dev", none, refused);
            for target in ["tmp", "/tmp", "..", ".", "proc"] {
                let container = place.container(|_| {});
                replace(&container, "dev", Path::new(target));
                let ran = container.run(&[]);
                assert_ne!(ran.code, Some(0), "{target}: {ran:?}");
            }
        });
}

#[test]
fn privileged_the_images_null_device_masks_nothing() {
    must("what masks a file is the real /dev/null, whatever the image calls so (CVE-2025-31133)")
        .differs("runc", "1.1 takes the container's")
        .differs("crun", "takes the container's")
        .holds(|place| {
            let trap = Trap::lay(place);
            for null in ["file", "link", "device"] {
                let container = place.container(|config| {
                    trap.watch(config);
                    let mounts = config["mounts"].as_array_mut().unwrap();
                    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
                    // A bind over /dev is the caller's own: no nodes are made there.
                    let dev = json!({ "destination": "/dev", "type": "bind", "source": "dev", "options": ["bind"] });
                    mounts.push(dev);
                    config["linux"]["maskedPaths"] = json!(["/secret", "/proc/keys"]);
                    config["process"]["args"] = json!(["/bin/sh", "-c", "stat -c '%t:%T' /secret /proc/keys; cat /secret; grep -c trap /proc/self/mountinfo"]);
                });
                fs::create_dir(container.bundle.join("dev")).unwrap();
                fs::write(container.rootfs("secret"), "secret\n").unwrap();
                let at = container.bundle.join("dev/null");
                match null {
                    "file" => fs::write(&at, "forged\n").unwrap(),
                    "link" => symlink(trap.dir.join("file"), &at).unwrap(),
                    _ => nix::sys::stat::mknod(&at, nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::Mode::from_bits_truncate(0o666), nix::sys::stat::makedev(1, 5)).unwrap(),
                }
                let ran = container.run(&[]);
                assert_eq!(ran.stdout, "1:3\n1:3\n0\n", "{null}: {ran:?}");
                trap.is_untouched();
            }
        });
    must("a /dev/null of the image that is none is refused where the config wants the device there (CVE-2025-31133)")
        .differs("runc", "leaves what is there")
        .differs("crun", "leaves what is there")
        .holds(|place| {
            let trap = Trap::lay(place);
            for link in [false, true] {
                let container = place.container(|config| {
                    let mounts = config["mounts"].as_array_mut().unwrap();
                    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
                });
                let at = container.rootfs("dev/null");
                if link {
                    symlink(trap.dir.join("file"), &at).unwrap();
                } else {
                    fs::write(&at, "forged").unwrap();
                }
                let ran = container.run(&[]);
                assert_ne!(ran.code, Some(0), "{ran:?}");
                trap.is_untouched();
            }
        });
}

#[test]
fn privileged_destinations_behind_links_stay_inside() {
    must("a mount whose destination leads through a link of the image lands inside the root, and what it lacks is made there (CVE-2021-30465, CVE-2024-45310)").holds(|place| {
        let source = place.path("source");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("hosts"), "of the caller\n").unwrap();
        // What podman and docker bind over every container's /etc.
        let hosts = |config: &mut Value| {
            add(&mut config["mounts"], bind(&source.join("hosts"), "/etc/hosts"));
            add(&mut config["mounts"], bind(&source.join("hosts"), "/etc/file"));
            config["process"]["args"] = json!(["/bin/cat", "/etc/hosts", "/etc/file"]);
        };
        each_way(place, "etc", hosts, |_, ran| {
            assert_eq!(ran.stdout, "of the caller\nof the caller\n", "{ran:?}");
        });
        let below = |config: &mut Value| {
            for destination in ["/link/sub/a/b", "/link/new/er", "/link"] {
                add(&mut config["mounts"], bind(&source, destination));
            }
            add(&mut config["mounts"], bind(&source.join("hosts"), "/link/made/file"));
            config["process"]["args"] = json!(["/bin/sh", "-c", "cat /link/hosts /link/made/file"]);
        };
        each_way(place, "link", below, |_, ran| {
            assert_eq!(ran.stdout, "of the caller\nof the caller\n", "{ran:?}");
        });
        let tmpfs = |config: &mut Value| {
            add(&mut config["mounts"], json!({ "destination": "/deep/link", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }));
            config["process"]["args"] = json!(["/bin/sh", "-c", "cat /deep/link/file 2>/dev/null; touch /deep/link/new"]);
        };
        each_way(place, "deep/link", tmpfs, |_, ran| {
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");
        });
    });
}

#[test]
fn privileged_a_link_to_what_is_missing_makes_nothing_outside() {
    must("a mount point below a link to a path that the host lacks is made inside the root (CVE-2024-45310)").holds(|place| {
        let source = place.path("source");
        fs::create_dir(&source).unwrap();
        let missing = place.path("missing");
        let container = place.container(|config| add(&mut config["mounts"], bind(&source, "/link/a/b")));
        let at = replace(&container, "link", &missing);
        // Who makes it by path makes it on the host.
        fs::create_dir(&missing).unwrap();
        fs::create_dir_all(at.join("a/b")).unwrap();
        assert!(missing.join("a/b").exists(), "the trap does not work");
        fs::remove_dir_all(&missing).unwrap();
        let ran = container.run(&[]);
        assert!(!missing.exists(), "{ran:?}");
    });
}

#[test]
fn privileged_what_is_masked_or_read_only_is_found_inside() {
    must("a link in the place of a masked or a read-only path is followed inside the root only, and covers what it leads to there").holds(|place| {
        let paths = |config: &mut Value| {
            config["linux"]["maskedPaths"] = json!(["/link/file", "/link"]);
            config["linux"]["readonlyPaths"] = json!(["/link/sub", "/link"]);
        };
        each_way(place, "link", paths, |_, ran| assert_eq!(ran.code, Some(0), "{ran:?}"));
        let container = place.container(|config| {
            config["linux"]["maskedPaths"] = json!(["/masked"]);
            config["linux"]["readonlyPaths"] = json!(["/fixed"]);
            config["process"]["args"] = json!(["/bin/sh", "-c", "cat /secret; { echo x > /etc/new; } 2>/dev/null || echo read-only"]);
        });
        fs::write(container.rootfs("secret"), "secret\n").unwrap();
        symlink("../../secret", container.rootfs("masked")).unwrap();
        symlink("/etc", container.rootfs("fixed")).unwrap();
        let ran = container.run(&[]);
        assert_eq!(ran.stdout, "read-only\n", "{ran:?}");
    });
}

#[test]
fn privileged_a_name_for_proc_is_proc() {
    must("a link to /proc is no way around what may be mounted there (CVE-2019-19921)").holds(
        |place| {
            let source = place.path("source");
            fs::create_dir(&source).unwrap();
            for (target, destination) in [
                ("proc", "/alias/self/attr"),
                ("/proc/sys", "/alias"),
                ("../proc", "/alias/fs"),
            ] {
                let container = place
                    .container(|config| add(&mut config["mounts"], bind(&source, destination)));
                replace(&container, "alias", Path::new(target));
                let ran = container.run(&[]);
                assert!(
                    ran.code != Some(0) && ran.stderr.contains("/proc"),
                    "{target}: {ran:?}"
                );
            }
        },
    );
}

#[test]
fn privileged_the_working_directory_is_made_inside() {
    must("a working directory behind a link of the image is made inside the root, and one that is the host's is not entered (CVE-2024-21626)").holds(|place| {
        let cwd = |config: &mut Value| {
            config["process"]["cwd"] = json!("/link/sub/a/b");
            config["process"]["args"] = json!(["/bin/touch", "made"]);
        };
        // It may be refused: runc makes no directory through such a link.
        each_way(place, "link", cwd, |_, _| {});
        let trap = Trap::lay(place);
        for number in 3..24 {
            let up = format!("/proc/self/fd/{number}");
            let container = place.container(|config| {
                config["process"]["cwd"] = json!(up);
                let host = format!("../../../../../../../../..{}/file", trap.dir.display());
                config["process"]["args"] = json!(["/bin/cat", host]);
            });
            // The caller has a directory of the host open, under a number that is easy to guess.
            let script = format!("exec {number}< / && exec \"$@\"");
            let inner = container.command("run", &[]);
            let mut command = std::process::Command::new("bash");
            command
                .args(["-c", &script, "bash"])
                .arg(inner.get_program())
                .args(inner.get_args())
                .stdin(std::process::Stdio::null());
            let ran = place.finish(command);
            assert!(!ran.stdout.contains(PRECIOUS.trim_end()), "{number}: {ran:?}");
        }
        trap.is_untouched();
    });
}

/// A second process that shares a volume with the root and swaps a directory and a link in it, until this is dropped.
struct Swapper<'a> {
    stop: &'a AtomicBool,
}

impl Drop for Swapper<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn while_swapping(here: &Path, there: &Path, run: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Bounded, should the other side never end.
            let end = Instant::now() + Duration::from_secs(60);
            while !stop.load(Ordering::Relaxed) && Instant::now() < end {
                renameat2(
                    nix::fcntl::AT_FDCWD,
                    here,
                    nix::fcntl::AT_FDCWD,
                    there,
                    RenameFlags::RENAME_EXCHANGE,
                )
                .unwrap();
            }
        });
        let swapper = Swapper { stop: &stop };
        run();
        drop(swapper);
    });
}

#[test]
fn privileged_a_swapped_directory_leads_nowhere() {
    must("a directory on the way to a mount point that is swapped for a link to the host all the time leads nowhere (CVE-2021-30465, CVE-2024-45310)").differs("runc", "1.1 makes the mount point by its path").holds(|place| {
        let source = place.path("source");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("file"), "").unwrap();
        let trap = Trap::lay(place);
        let volume = place.path("volume");
        fs::create_dir_all(volume.join("dir")).unwrap();
        symlink(&trap.dir, volume.join("link")).unwrap();
        let (here, there) = (volume.join("dir"), volume.join("link"));
        // Who makes it by path is outside sooner or later.
        while_swapping(&here, &there, || {
            let fell = wait_until(Duration::from_secs(20), || {
                drop(fs::create_dir_all(here.join("a/b")));
                trap.dir.join("a").exists()
            });
            assert!(fell, "the trap does not work");
        });
        fs::remove_dir_all(trap.dir.join("a")).unwrap();
        for number in 0..25 {
            let container = place.container(|config| {
                trap.watch(config);
                let shared = json!({ "destination": "/volume", "type": "bind", "source": volume, "options": ["rbind"] });
                add(&mut config["mounts"], shared);
                let at = format!("/volume/dir/n{number}");
                add(&mut config["mounts"], bind(&source, &format!("{at}/a/b")));
                add(&mut config["mounts"], bind(&source.join("file"), &format!("{at}/f")));
                add(&mut config["mounts"], bind(&source, "/volume/dir/sub"));
                add(&mut config["mounts"], json!({ "destination": format!("{at}/t"), "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }));
                config["linux"]["maskedPaths"] = json!(["/volume/dir/file", "/volume/dir/sub"]);
                config["linux"]["readonlyPaths"] = json!(["/volume/dir", "/volume/dir/sub"]);
                config["process"]["cwd"] = json!(format!("{at}/cwd"));
            });
            // It may run or be refused.
            while_swapping(&here, &there, || drop(container.run(&[])));
            trap.is_untouched();
        }
    });
}

#[test]
fn privileged_a_root_that_is_swapped_for_a_link_is_not_followed() {
    if !has(&[Need::Root, Need::File("/bin/busybox")]) {
        return;
    }
    // What is left out of it is not what this is about.
    let place = Place::airtight(&["--on-excess", "narrow"]);
    let outside = place.container(|_| {});
    fs::write(outside.rootfs("which"), "trapped\n").unwrap();
    let (mut own, mut refused) = (0, 0);
    for _ in 0..60 {
        let container = place.container(|config| {
            config["process"]["args"] = json!(["/bin/cat", "/which"]);
        });
        fs::write(container.rootfs("which"), "own\n").unwrap();
        let link = container.bundle.join("link");
        symlink(outside.bundle.join("rootfs"), &link).unwrap();
        while_swapping(&container.bundle.join("rootfs"), &link, || {
            let ran = container.run(&[]);
            match ran.stdout.as_str() {
                "own\n" => own += 1,
                "" => refused += 1,
                other => panic!("{other}: {ran:?}"),
            }
        });
    }
    assert!(own > 0 && refused > 0, "{own} and {refused}");
}
