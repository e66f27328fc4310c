//! The root and what is mounted below it: every option, propagation, ids, masked and read-only paths.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use airtight_tests::Need;
use serde_json::{Value, json};

use crate::harness::{Place, add, must, sleeps};

/// A line of mountinfo: what the kernel says of the mount, and of its file system.
#[derive(Debug)]
struct Mounted {
    options: Vec<String>,
    propagation: String,
    kind: String,
    source: String,
    superblock: Vec<String>,
    root: String,
}

fn mounted(text: &str, at: &str) -> Mounted {
    let line = text
        .lines()
        .rev()
        .find(|line| line.split(' ').nth(4) == Some(at));
    let line = line.unwrap_or_else(|| panic!("nothing is mounted at {at}: {text}"));
    let (left, right) = line.split_once(" - ").unwrap();
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    let words = |text: &str| text.split(',').map(str::to_owned).collect();
    Mounted {
        options: words(left[5]),
        propagation: left[6..].join(" "),
        kind: right[0].to_owned(),
        source: right[1].to_owned(),
        superblock: words(right[2]),
        root: left[3].to_owned(),
    }
}

const INFO: &str = "cat /proc/self/mountinfo";

/// A directory of this test's with a file in it.
fn source(place: &Place) -> String {
    let source = place.path("source");
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::write(source.join("file"), "of the source\n").unwrap();
    source.display().to_string()
}

fn bind(from: &str, to: &str, options: &[&str]) -> Value {
    json!({ "destination": to, "type": "bind", "source": from, "options": options })
}

#[test]
fn privileged_the_root_is_the_configs() {
    must("config.md: root.path is an absolute path or relative to the bundle; a directory MUST exist at it").holds(|place| {
        let container = place.container(|config| config["process"]["args"] = json!(["/bin/ls", "/"]));
        fs::write(container.rootfs("marker"), "").unwrap();
        assert!(container.run(&[]).stdout.contains("marker"));
        let rootfs = container.rootfs("");
        let told = place.told("ls /", |config| config["root"]["path"] = json!(rootfs));
        assert!(told.contains("marker"), "{told}");
        place.refused(|config| config["root"]["path"] = json!("nowhere"));
        place.refused(|config| config["root"]["path"] = json!("rootfs/bin/busybox"));
        place.refused(|config| drop(config.as_object_mut().unwrap().remove("root")));
    });
}

#[test]
fn privileged_the_root_can_be_read_only() {
    must("config.md: root.readonly true: the root MUST be read-only inside the container").holds(|place| {
        for readonly in [true, false] {
            let container = place.container(|config| {
                config["root"]["readonly"] = json!(readonly);
                config["process"]["args"] = json!(["/bin/sh", "-c", "touch /new; touch /tmp/new; touch /dev/shm/new && echo shm; cat /proc/self/mountinfo"]);
            });
            let ran = container.run(&[]);
            assert!(ran.stdout.starts_with("shm\n"), "{ran:?}");
            assert_eq!(container.rootfs("new").exists(), !readonly);
            assert_eq!(container.rootfs("tmp/new").exists(), !readonly);
            assert_eq!(mounted(&ran.stdout, "/").options[0], if readonly { "ro" } else { "rw" });
        }
    });
}

#[test]
fn privileged_nothing_of_the_host_is_below_the_root() {
    must("config-linux.md: the root is the container's: no mount of the host is left in its namespace").holds(|place| {
        let told = place.told(INFO, |_| {});
        let points: Vec<&str> = told.lines().map(|line| line.split(' ').nth(4).unwrap()).collect();
        let wanted = ["/", "/proc", "/dev", "/sys"];
        for point in &points {
            assert!(*point == "/" || wanted[1..].iter().any(|top| point.starts_with(top)), "{point}: {told}");
        }
        assert!(!told.contains("/old"), "{told}");
    });
}

#[test]
fn privileged_mounts_are_in_the_listed_order() {
    must("config.md: the runtime MUST mount entries in the listed order").holds(|place| {
        let from = source(place);
        let told = place.told("cat /mnt/inner/file; ls -d /mnt/*; ls /over", |config| {
            add(
                &mut config["mounts"],
                json!({ "destination": "/mnt", "type": "tmpfs", "source": "tmpfs" }),
            );
            add(&mut config["mounts"], bind(&from, "/mnt/inner", &["bind"]));
            add(&mut config["mounts"], bind(&from, "/over", &["bind"]));
            add(
                &mut config["mounts"],
                json!({ "destination": "/over", "type": "tmpfs", "source": "tmpfs" }),
            );
        });
        assert_eq!(told, "of the source\n/mnt/inner");
    });
}

#[test]
fn privileged_the_default_filesystems_are_as_asked() {
    must("config-linux.md, Default Filesystems: /proc, /sys, /dev/pts and /dev/shm SHOULD be available with types and sources as the config says").holds(|place| {
        let told = place.told(INFO, |_| {});
        for (at, kind, from) in [("/proc", "proc", "proc"), ("/dev", "tmpfs", "tmpfs"), ("/dev/pts", "devpts", "devpts"), ("/dev/shm", "tmpfs", "shm"), ("/dev/mqueue", "mqueue", "mqueue"), ("/sys", "sysfs", "sysfs")] {
            let mount = mounted(&told, at);
            assert_eq!((mount.kind.as_str(), mount.source.as_str()), (kind, from), "{at}");
        }
        let has = |at: &str, options: &[&str]| {
            let mount = mounted(&told, at);
            for option in options {
                assert!(mount.options.iter().chain(&mount.superblock).any(|one| one == option), "{at} lacks {option}: {mount:?}");
            }
        };
        has("/dev", &["rw", "nosuid", "mode=755", "size=65536k"]);
        has("/dev/pts", &["nosuid", "noexec", "gid=5", "mode=620", "ptmxmode=666"]);
        has("/dev/shm", &["nosuid", "nodev", "noexec", "size=65536k"]);
        has("/sys", &["ro", "nosuid", "nodev", "noexec"]);
    });
}

#[test]
fn privileged_every_flag_has_its_effect() {
    must("config.md, Linux mount options: runtimes MUST implement these: their effect is the one of mount(8)'s options").holds(|place| {
        let from = source(place);
        // Of a flag and its opposite the last one counts.
        let cases: &[(&[&str], &[&str], &[&str])] = &[
            (&["ro"], &["ro"], &["rw"]),
            (&["rw"], &["rw"], &["ro"]),
            (&["ro", "rw"], &["rw"], &["ro"]),
            (&["nosuid"], &["nosuid"], &[]),
            (&["nosuid", "suid"], &[], &["nosuid"]),
            (&["nodev"], &["nodev"], &[]),
            (&["nodev", "dev"], &[], &["nodev"]),
            (&["noexec"], &["noexec"], &[]),
            (&["noexec", "exec"], &[], &["noexec"]),
            (&["noatime"], &["noatime"], &["relatime"]),
            (&["noatime", "atime"], &[], &["noatime"]),
            (&["nodiratime"], &["nodiratime"], &[]),
            (&["relatime"], &["relatime"], &["noatime"]),
            (&["strictatime"], &[], &["relatime", "noatime"]),
            (&["nosymfollow"], &["nosymfollow"], &[]),
            (&["nosuid", "nodev", "noexec", "ro"], &["nosuid", "nodev", "noexec", "ro"], &[]),
        ];
        let told = place.told(INFO, |config| {
            for (number, (options, ..)) in cases.iter().enumerate() {
                add(&mut config["mounts"], json!({ "destination": format!("/t{number}"), "type": "tmpfs", "source": "tmpfs", "options": options }));
                let options = [&["bind"], *options].concat();
                add(&mut config["mounts"], bind(&from, &format!("/b{number}"), &options));
            }
        });
        for (number, (options, there, absent)) in cases.iter().enumerate() {
            for kind in ["t", "b"] {
                // runc 1.1 leaves the access time of a bind mount as its source has it.
                if kind == "b" && options.iter().any(|option| option.ends_with("atime")) && place.is("runc") {
                    continue;
                }
                let mount = mounted(&told, &format!("/{kind}{number}"));
                for option in *there {
                    assert!(mount.options.iter().any(|one| one == option), "{kind} {options:?}: {mount:?}");
                }
                for option in *absent {
                    assert!(!mount.options.iter().any(|one| one == option), "{kind} {options:?}: {mount:?}");
                }
            }
        }
    });
}

#[test]
fn privileged_flags_of_a_superblock_have_theirs() {
    must("config.md: sync, dirsync, lazytime and data of the file system are its superblock's").holds(|place| {
        let told = place.told(INFO, |config| {
            for (at, options) in [("/a", &["sync", "dirsync", "size=1m", "nr_inodes=10", "mode=0711", "uid=5", "gid=6"][..]), ("/b", &["async", "noatime", "size=50%"]), ("/c", &["silent", "loud", "lazytime", "norelatime"])] {
                add(&mut config["mounts"], json!({ "destination": at, "type": "tmpfs", "source": "name of mine", "options": options }));
            }
        });
        let first = mounted(&told, "/a");
        for option in ["sync", "dirsync", "size=1024k", "nr_inodes=10", "mode=711", "uid=5", "gid=6"] {
            assert!(first.superblock.iter().any(|one| one == option), "{option}: {first:?}");
        }
        assert_eq!(first.source, "name\\040of\\040mine");
        assert!(mounted(&told, "/b").superblock[0] == "rw");
        assert!(mounted(&told, "/c").superblock.iter().any(|one| one == "lazytime"));
    });
}

#[test]
fn privileged_defaults_change_nothing() {
    must("config.md, Linux mount options: defaults is rw, suid, dev, exec, auto, nouser, async: no option of the file system").differs("runc", "1.1 hands it to the file system").holds(|place| {
        let told = place.told(INFO, |config| add(&mut config["mounts"], json!({ "destination": "/d", "type": "tmpfs", "source": "tmpfs", "options": ["defaults", "size=1m"] })));
        let mount = mounted(&told, "/d");
        assert_eq!((mount.options[0].as_str(), mount.superblock[0].as_str()), ("rw", "rw"));
    });
}

#[test]
fn privileged_a_bind_mount_is_the_source() {
    must("config.md: bind mounts: source is a file or directory, absolute or relative to the bundle; destination is made where missing").holds(|place| {
        let from = source(place);
        let container = place.container(|config| {
            add(&mut config["mounts"], bind(&from, "/deep/er/dir", &["bind"]));
            add(&mut config["mounts"], bind(&format!("{from}/file"), "/deep/file", &["bind", "ro"]));
            add(&mut config["mounts"], bind("beside", "/beside", &["rbind"]));
            // The type is not needed when an option says so.
            add(&mut config["mounts"], json!({ "destination": "/untyped", "source": from, "options": ["rbind"] }));
            config["process"]["args"] = json!(["/bin/sh", "-c", "cat /deep/er/dir/file /deep/file /beside/file /untyped/file; echo new > /deep/er/dir/written; echo x 2>/dev/null > /deep/file || echo read-only"]);
        });
        fs::create_dir(container.bundle.join("beside")).unwrap();
        fs::write(container.bundle.join("beside/file"), "relative\n").unwrap();
        let ran = container.run(&[]);
        assert_eq!(ran.stdout, "of the source\nof the source\nrelative\nof the source\nread-only\n", "{ran:?}");
        assert_eq!(fs::read_to_string(Path::new(&from).join("written")).unwrap(), "new\n");
        place.refused(|config| add(&mut config["mounts"], bind("/nowhere", "/x", &["bind"])));
    });
}

#[test]
fn privileged_a_recursive_bind_mount_takes_what_is_below() {
    must(
        "config.md: rbind is a recursive bind mount, bind is not; the options with r are recursive",
    )
    .holds(|place| {
        let from = source(place);
        let container = place.container(|config| {
            add(
                &mut config["mounts"],
                json!({ "destination": "/from", "type": "tmpfs", "source": "tmpfs" }),
            );
            config["process"]["args"] = json!(["/bin/sh", "-c", INFO]);
        });
        // A mount below the source, in a namespace of this case's own.
        let script =
            "mount --bind \"$1\" \"$1\" && mount -t tmpfs inner \"$1/sub\" && shift && exec \"$@\"";
        let under = |edit: &dyn Fn(&mut Value)| {
            let container = place.container(|config| {
                config["process"]["args"] = json!(["/bin/sh", "-c", INFO]);
                edit(config);
            });
            let inner = container.command("run", &[]);
            let mut command = std::process::Command::new("unshare");
            command
                .args(["-m", "sh", "-c", script, "sh", &from])
                .arg(inner.get_program())
                .args(inner.get_args())
                .stdin(std::process::Stdio::null());
            let ran = place.finish(command);
            assert_eq!(ran.code, Some(0), "{ran:?}");
            ran.stdout
        };
        drop(container);
        let told = under(&|config| {
            add(&mut config["mounts"], bind(&from, "/plain", &["bind"]));
            add(&mut config["mounts"], bind(&from, "/deep", &["rbind"]));
            add(
                &mut config["mounts"],
                bind(&from, "/deepro", &["rbind", "ro"]),
            );
            add(
                &mut config["mounts"],
                bind(
                    &from,
                    "/allro",
                    &["rbind", "rro", "rnosuid", "rnodev", "rnoexec", "rnoatime"],
                ),
            );
            add(
                &mut config["mounts"],
                bind(&from, "/mixed", &["rbind", "rrw"]),
            );
        });
        let at = |point: &str| mounted(&told, point);
        assert!(!told.contains(" /plain/sub "), "{told}");
        assert_eq!(
            (
                at("/deep/sub").kind.as_str(),
                at("/deep/sub").source.as_str()
            ),
            ("tmpfs", "inner")
        );
        assert_eq!(
            (
                at("/deepro").options[0].as_str(),
                at("/deepro/sub").options[0].as_str()
            ),
            ("ro", "rw")
        );
        for point in ["/allro", "/allro/sub"] {
            for option in ["ro", "nosuid", "nodev", "noexec", "noatime"] {
                assert!(
                    at(point).options.iter().any(|one| one == option),
                    "{point} {option}: {told}"
                );
            }
        }
        assert_eq!(at("/mixed/sub").options[0], "rw");
    });
}

#[test]
fn privileged_a_bind_that_says_one_flag_says_them_all() {
    must("a bind mount without flags is as its source; with any, it has those and no other, as mount(8)'s remount has it").holds(|place| {
        let from = source(place);
        let script = "mount -t tmpfs -o nosuid,nodev,noexec,noatime held \"$1\" && shift && exec \"$@\"";
        let container = place.container(|config| {
            config["process"]["args"] = json!(["/bin/sh", "-c", INFO]);
            for (point, options) in [("/plain", &["bind"][..]), ("/ro", &["bind", "ro"]), ("/some", &["rbind", "noexec", "rprivate"])] {
                add(&mut config["mounts"], bind(&from, point, options));
            }
        });
        let inner = container.command("run", &[]);
        let mut command = std::process::Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh", &from]).arg(inner.get_program()).args(inner.get_args());
        let ran = place.finish(command);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        for (point, wanted) in [
            ("/plain", &["rw", "nosuid", "nodev", "noexec", "noatime"][..]),
            ("/ro", &["ro", "noatime"]),
            ("/some", &["rw", "noexec", "noatime"]),
        ] {
            assert_eq!(mounted(&ran.stdout, point).options, wanted, "{point}: {}", ran.stdout);
        }
    });
}

#[test]
fn privileged_a_tmpfs_can_be_given_a_copy() {
    must("config.md: tmpcopyup: the tmpfs gets a copy of what was at its destination").holds(|place| {
        let container = place.container(|config| {
            add(&mut config["mounts"], json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=1m"] }));
            config["process"]["args"] = json!(["/bin/sh", "-c", "cat /data/a/file; readlink /data/link; stat -c %a:%u:%g /data/a/file /data/a; echo changed > /data/a/file; grep -c ' /data ' /proc/self/mountinfo"]);
        });
        fs::create_dir_all(container.rootfs("data/a")).unwrap();
        fs::write(container.rootfs("data/a/file"), "copied\n").unwrap();
        fs::set_permissions(container.rootfs("data/a/file"), fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::chown(container.rootfs("data/a/file"), Some(7), Some(8)).unwrap();
        symlink("a/file", container.rootfs("data/link")).unwrap();
        let ran = container.run(&[]);
        assert_eq!(ran.stdout, "copied\na/file\n644:7:8\n755:0:0\n1\n", "{ran:?}");
        assert_eq!(fs::read_to_string(container.rootfs("data/a/file")).unwrap(), "copied\n");
    });
}

#[test]
fn privileged_propagation_is_as_asked() {
    must("config.md: shared, slave, private, unbindable and their recursive forms are the mount's propagation").holds(|place| {
        let from = source(place);
        let cases = [("shared", "shared:"), ("rshared", "shared:"), ("private", ""), ("rprivate", ""), ("unbindable", "unbindable"), ("runbindable", "unbindable")];
        let told = place.told(INFO, |config| {
            for (option, _) in cases {
                add(&mut config["mounts"], bind(&from, &format!("/{option}"), &["rbind", option]));
                add(&mut config["mounts"], json!({ "destination": format!("/t{option}"), "type": "tmpfs", "source": "tmpfs", "options": [option] }));
            }
            add(&mut config["mounts"], bind(&from, "/slave", &["rbind", "rslave"]));
        });
        for (option, wanted) in cases {
            for point in [format!("/{option}"), format!("/t{option}")] {
                let got = mounted(&told, &point).propagation;
                assert!(got.starts_with(wanted) && (!wanted.is_empty() || got.is_empty()), "{point}: {got}");
            }
        }
        let slave = mounted(&told, "/slave").propagation;
        assert!(!slave.contains("shared:"), "{slave}");
    });
}

#[test]
fn privileged_the_roots_propagation_is_as_asked() {
    must("config-linux.md: rootfsPropagation sets the rootfs's mount propagation")
        .differs("runc", "1.1 leaves a root below a private mount private")
        .holds(|place| {
            for (value, wanted) in [
                ("shared", "shared:"),
                ("rshared", "shared:"),
                ("private", ""),
                ("rprivate", ""),
                ("unbindable", "unbindable"),
                ("runbindable", "unbindable"),
            ] {
                let told = place.told(INFO, |config| {
                    config["linux"]["rootfsPropagation"] = json!(value)
                });
                let got = mounted(&told, "/").propagation;
                assert!(
                    got.starts_with(wanted) && (!wanted.is_empty() || got.is_empty()),
                    "{value}: {got}"
                );
            }
            let told = place.told(INFO, |config| {
                config["linux"]["rootfsPropagation"] = json!("rslave")
            });
            assert!(
                !mounted(&told, "/").propagation.contains("shared:"),
                "{told}"
            );
            place.refused(|config| config["linux"]["rootfsPropagation"] = json!("sideways"));
        });
}

#[test]
fn privileged_mounts_do_not_come_back_to_the_host() {
    must("a mount that the payload or the runtime makes is not seen outside, whatever the propagation of the host's mounts").holds(|place| {
        let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let container = place.container(sleeps);
        let container = container.started();
        let during = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let new: Vec<&str> = during.lines().filter(|line| !before.contains(*line) && line.contains(&container.id)).collect();
        assert_eq!(new, [""; 0]);
    });
}

#[test]
fn privileged_ids_of_a_mount_can_be_mapped() {
    must("config.md: uidMappings and gidMappings of a mount convert its ids; option idmap takes the container's")
        .differs("runc", "since 1.2")
        .holds(|place| {
            let from = source(place);
            std::os::unix::fs::chown(Path::new(&from).join("file"), Some(1000), Some(2000)).unwrap();
            let mapping = |inside: u32, outside: u32| json!([{ "containerID": inside, "hostID": outside, "size": 65536 }]);
            let told = place.told("stat -c %u:%g /mapped/file /plain/file", |config| {
                let mut mount = bind(&from, "/mapped", &["rbind", "ridmap"]);
                mount["uidMappings"] = mapping(0, 100_000);
                mount["gidMappings"] = mapping(0, 200_000);
                add(&mut config["mounts"], mount);
                add(&mut config["mounts"], bind(&from, "/plain", &["rbind"]));
            });
            assert_eq!(told, "101000:202000\n1000:2000");
        });
}

#[test]
fn privileged_ids_of_a_mount_can_be_those_of_the_user_namespace() {
    must("config.md: idmap: the mount's ids are mapped by the container's user namespace")
        .since("since 1.2")
        .holds(|place| {
            let from = source(place);
            std::os::unix::fs::chown(Path::new(&from).join("file"), Some(1000), Some(2000))
                .unwrap();
            let container = place.container(|config| {
                crate::namespaces::in_user_namespace(config);
                let mut mount = bind(&from, "/mapped", &["bind", "idmap"]);
                // Some want them to be said though they are those of the namespace.
                mount["uidMappings"] = config["linux"]["uidMappings"].clone();
                mount["gidMappings"] = config["linux"]["gidMappings"].clone();
                add(&mut config["mounts"], mount);
                config["process"]["args"] = json!(["/bin/stat", "-c", "%u:%g", "/mapped/file"]);
            });
            crate::namespaces::owned(&container);
            let ran = container.run(&[]);
            assert_eq!(ran.stdout, "1000:2000\n", "{ran:?}");
        });
}

#[test]
fn privileged_masked_paths_cannot_be_read() {
    must("config-linux.md: maskedPaths MUST be absolute paths in the container; they are not readable").holds(|place| {
        let container = place.container(|config| {
            config["linux"]["maskedPaths"] = json!(["/secret", "/secrets", "/proc/kcore", "/not/there", "/link"]);
            config["process"]["args"] = json!(["/bin/sh", "-c", "wc -c < /secret; ls /secrets | wc -l; stat -c %F /secret; echo x 2>/dev/null > /secrets/new || echo no; dd if=/proc/kcore bs=1 count=1 2>/dev/null | wc -c; ls -d /not 2>/dev/null; wc -c < /target"]);
        });
        fs::write(container.rootfs("secret"), "secret").unwrap();
        fs::write(container.rootfs("target"), "").unwrap();
        fs::create_dir(container.rootfs("secrets")).unwrap();
        fs::write(container.rootfs("secrets/file"), "secret").unwrap();
        let ran = container.run(&[]);
        assert_eq!(ran.stdout, "0\n0\ncharacter special file\nno\n0\n0\n", "{ran:?}");
    });
}

#[test]
fn privileged_readonly_paths_cannot_be_written() {
    must("config-linux.md: readonlyPaths MUST be absolute paths in the container; they are not writable").holds(|place| {
        let container = place.container(|config| {
            config["linux"]["readonlyPaths"] = json!(["/file", "/directory", "/proc/sys", "/not/there"]);
            config["process"]["args"] = json!(["/bin/sh", "-c", "for f in /file /directory/new /proc/sys/kernel/domainname; do { echo x > $f; } 2>/dev/null && echo wrote $f; done; cat /file; cat /proc/self/mountinfo"]);
        });
        fs::write(container.rootfs("file"), "as it was\n").unwrap();
        fs::create_dir(container.rootfs("directory")).unwrap();
        let ran = container.run(&[]);
        assert!(ran.stdout.starts_with("as it was\n"), "{ran:?}");
        for at in ["/file", "/directory", "/proc/sys"] {
            assert_eq!(mounted(&ran.stdout, at).options[0], "ro");
        }
        // What the source's mount forbids stays forbidden.
        assert!(mounted(&ran.stdout, "/proc/sys").options.len() >= 2);
        assert_eq!(mounted(&ran.stdout, "/proc/sys").root, "/sys");
    });
}

#[test]
fn privileged_a_cgroup_mount_is_the_containers() {
    must("config-linux.md, cgroups: a mount of type cgroup shows the container's groups, read-only when asked").holds(|place| {
        let container = place.container(|config| {
            add(&mut config["mounts"], json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }));
            config["process"]["args"] = json!(["/bin/sh", "-c", "cat /sys/fs/cgroup/pids/cgroup.procs || cat /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/pids/new 2>/dev/null || echo read-only"]);
        });
        let ran = container.run(&[]);
        let lines: Vec<&str> = ran.stdout.lines().collect();
        assert!(lines.contains(&"1") && lines.last() == Some(&"read-only"), "{ran:?}");
    });
    must("config-linux.md, cgroup namespace: its own group is the root of what the container sees").needs(airtight_tests::Need::File("/sys/fs/cgroup/pids")).holds(|place| {
        let container = place.container(|config| {
            add(&mut config["mounts"], json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }));
            add(&mut config["linux"]["namespaces"], json!({ "type": "cgroup" }));
            config["process"]["args"] = json!(["/bin/sh", "-c", "cat /sys/fs/cgroup/pids/cgroup.procs | head -n 1; cat /proc/self/cgroup /proc/self/mountinfo; ls -d /sys/fs/cgroup/pids/*/"]);
        });
        let ran = container.run(&[]);
        assert!(ran.stdout.starts_with("1\n"), "{ran:?}");
        assert!(ran.stdout.contains(":pids:/\n"), "{ran:?}");
        let pids = mounted(&ran.stdout, "/sys/fs/cgroup/pids");
        // Nothing is passed on to it from the host's mount.
        let (root, kind, propagation) = (pids.root.as_str(), pids.kind.as_str(), pids.propagation.as_str());
        assert_eq!((root, kind, propagation, pids.options[0].as_str()), ("/", "cgroup", "", "ro"));
        // No group but its own: neither above nor beside it.
        assert!(!ran.stdout.lines().any(|line| line.starts_with("/sys/fs/cgroup/pids/")), "{ran:?}");
    });
}

#[test]
fn privileged_destinations_stay_below_the_root() {
    must("config.md: destination is a path inside the container: links of the image lead nowhere else").holds(|place| {
        let from = source(place);
        let outside = place.path("outside");
        fs::create_dir(&outside).unwrap();
        for target in [outside.to_str().unwrap(), "../../../../../../../../../..", "/"] {
            let container = place.container(|config| {
                add(&mut config["mounts"], bind(&from, "/link/made", &["bind"]));
                config["process"]["args"] = json!(["/bin/cat", "/link/made/file"]);
            });
            symlink(target, container.rootfs("link")).unwrap();
            let ran = container.run(&[]);
            assert_eq!(ran.stdout, "of the source\n", "{target}: {ran:?}");
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
            assert!(!Path::new("/made").exists());
        }
    });
    must("a link of the image at /proc or /sys is refused: it would move what the runtime trusts (CVE-2019-19921, CVE-2023-27561)").holds(|place| {
        for at in ["proc", "sys"] {
            let container = place.container(|_| {});
            fs::remove_dir(container.rootfs(at)).unwrap();
            fs::create_dir(container.rootfs("elsewhere")).unwrap();
            symlink("elsewhere", container.rootfs(at)).unwrap();
            let ran = container.run(&[]);
            // runc 1.1.5 follows the one of /sys below the root.
            assert!(ran.code != Some(0) || at == "sys" && place.is("runc"), "{at}: {ran:?}");
        }
    });
}

#[test]
fn privileged_what_mounts_over_proc_is_chosen() {
    must("runc allows mounts below /proc for a few files only: the rest would hide what the runtime checks").holds(|place| {
        let from = source(place);
        place.refused(|config| add(&mut config["mounts"], bind(&from, "/proc/self/attr", &["bind"])));
        place.refused(|config| add(&mut config["mounts"], bind(&from, "/proc/sys", &["bind"])));
        let file = format!("{from}/file");
        assert_eq!(place.told("cat /proc/uptime", |config| add(&mut config["mounts"], bind(&file, "/proc/uptime", &["bind"]))), "of the source");
    });
}

#[test]
fn privileged_a_file_system_of_the_kernel_can_be_mounted() {
    must("config.md: mounts: type is the filesystem's, options are handed to it: an overlay works").needs(Need::Root).holds(|place| {
        let container = place.container(|config| {
            config["process"]["args"] = json!(["/bin/sh", "-c", "cat /merged/low /merged/up; echo x > /merged/new; grep ' /merged ' /proc/self/mountinfo | grep -c overlay"]);
        });
        let mut container = container;
        let dir = container.bundle.clone();
        for sub in ["low", "up", "work"] {
            fs::create_dir(dir.join(sub)).unwrap();
        }
        fs::write(dir.join("low/low"), "low\n").unwrap();
        fs::write(dir.join("up/up"), "up\n").unwrap();
        let shown = dir.display();
        let options = [format!("lowerdir={shown}/low"), format!("upperdir={shown}/up"), format!("workdir={shown}/work")];
        container.edit(|config| add(&mut config["mounts"], json!({ "destination": "/merged", "type": "overlay", "source": "overlay", "options": options })));
        let ran = container.run(&[]);
        assert_eq!(ran.stdout, "low\nup\n1\n", "{ran:?}");
        assert!(dir.join("up/new").metadata().unwrap().size() > 0);
        place.refused(|config| add(&mut config["mounts"], json!({ "destination": "/x", "type": "nosuchfs", "source": "x" })));
        place.refused(|config| add(&mut config["mounts"], json!({ "destination": "/x", "type": "tmpfs", "source": "x", "options": ["nosuchoption"] })));
    });
}

#[test]
fn privileged_without_pivot_the_root_is_the_same() {
    must(
        "runc's command line: --no-pivot changes the root where pivot_root cannot, as on a ramdisk",
    )
    .holds(|place| {
        let container = place.container(|config| {
            config["process"]["args"] = json!([
                "/bin/sh",
                "-c",
                "ls -d /bin /etc/debian_version 2>/dev/null; echo end"
            ])
        });
        let ran = container.run(&["--no-pivot"]);
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (Some(0), "/bin\nend\n"),
            "{ran:?}"
        );
    });
}
