//! Devices: those of the config, the default ones, their links, and the rules of who may open which.

use std::fs;

use serde_json::json;

use crate::harness::{add, must};

#[test]
fn privileged_default_devices_are_there() {
    must("config-linux.md, Default Devices: the runtime MUST also supply /dev/null, zero, full, random, urandom, tty and ptmx, which are usable").holds(|place| {
        let told = place.told("for d in null zero full random urandom tty; do stat -c '%n %F %t:%T %a %u:%g' /dev/$d; done; echo x > /dev/null; head -c 2 /dev/zero | wc -c; head -c 2 /dev/urandom | wc -c; echo x 2>/dev/null > /dev/full || echo full; readlink /dev/ptmx", |_| {});
        let lines: Vec<&str> = told.lines().collect();
        for (line, (name, numbers)) in lines.iter().zip([("null", "1:3"), ("zero", "1:5"), ("full", "1:7"), ("random", "1:8"), ("urandom", "1:9"), ("tty", "5:0")]) {
            assert_eq!(*line, format!("/dev/{name} character special file {numbers} 666 0:0"));
        }
        assert_eq!(lines[6..], ["2", "2", "full", "pts/ptmx"]);
    });
}

#[test]
fn privileged_default_links_are_there() {
    must("runtime-linux.md, Dev symbolic links: the runtime MUST create /dev/fd, stdin, stdout and stderr when the source is there").holds(|place| {
        let told = place.told("for l in fd stdin stdout stderr; do readlink /dev/$l; done", |_| {});
        assert_eq!(told, "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2");
    });
}

#[test]
fn privileged_devices_are_the_configs() {
    must("config-linux.md: devices lists devices that MUST be available in the container: type, numbers, mode, owner").holds(|place| {
        let told = place.told("stat -c '%n %F %t:%T %a %u:%g' /dev/mine /dev/deep/block /dev/pipe /top; ls -l /dev/plain | cut -c1-10", |config| {
            config["linux"]["devices"] = json!([
                { "path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7, "gid": 8 },
                { "path": "/dev/deep/block", "type": "b", "major": 7, "minor": 5, "fileMode": 0o600, "uid": 0, "gid": 0 },
                { "path": "/dev/pipe", "type": "p", "fileMode": 0o622, "uid": 1, "gid": 2 },
                { "path": "/top", "type": "u", "major": 1, "minor": 5, "fileMode": 0o666, "uid": 0, "gid": 0 },
                { "path": "/dev/plain", "type": "c", "major": 1, "minor": 7 }
            ]);
        });
        let wanted = [
            "/dev/mine character special file 1:3 640 7:8",
            "/dev/deep/block block special file 7:5 600 0:0",
            "/dev/pipe fifo 0:0 622 1:2",
            "/top character special file 1:5 666 0:0",
        ];
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines[..4], wanted);
        assert!(lines[4].starts_with('c'), "{told}");
    });
}

#[test]
fn privileged_wrong_devices_are_errors() {
    must("config-linux.md: devices: type, path are REQUIRED; an unknown type is an error").holds(
        |place| {
            place.refused(|config| {
                config["linux"]["devices"] =
                    json!([{ "path": "/dev/x", "type": "z", "major": 1, "minor": 3 }])
            });
        },
    );
    must("config-linux.md: the same device SHOULD NOT be used for multiple devices; runtimes MUST generate an error if a file exists at path that does not match the device")
        .differs("runc", "leaves what is there")
        .holds(|place| {
            let container = place.container(|config| config["linux"]["devices"] = json!([{ "path": "/file", "type": "c", "major": 1, "minor": 3 }]));
            fs::write(container.rootfs("file"), "not a device").unwrap();
            assert_ne!(container.create(&[]).code, Some(0));
            assert_eq!(fs::read_to_string(container.rootfs("file")).unwrap(), "not a device");
        });
}

#[test]
fn privileged_the_rules_say_what_may_be_opened() {
    must("config-linux.md: resources.devices: allow, type, major, minor and access, in their order").holds(|place| {
        // loop devices are there on every host, whether or not anything is attached.
        let script = "mknod /n c 1 3 && echo made; mknod /z c 1 5 2>/dev/null && echo made too; cat /null && echo read; { echo x > /null; } 2>/dev/null && echo wrote; cat /kmsg 2>/dev/null >/dev/null || echo refused; cat /dev/zero 2>/dev/null | head -c 1 | wc -c";
        let container = place.container(|config| {
            for set in ["bounding", "effective", "permitted"] {
                add(&mut config["process"]["capabilities"][set], json!("CAP_MKNOD"));
                add(&mut config["process"]["capabilities"][set], json!("CAP_SYSLOG"));
            }
            config["process"]["args"] = json!(["/bin/sh", "-c", script]);
            // Without a tmpfs of its own the root decides.
            config["linux"]["devices"] = json!([{ "path": "/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666 }, { "path": "/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666 }]);
            config["linux"]["resources"]["devices"] = json!([
                { "allow": false, "access": "rwm" },
                { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rm" }
            ]);
        });
        let ran = container.run(&[]);
        // The default devices are allowed besides: write to null, make and read zero.
        assert!(ran.stdout.starts_with("made\n"), "{ran:?}");
        assert!(ran.stdout.contains("read\n") && ran.stdout.ends_with("refused\n1\n"), "{ran:?}");
    });
    must("config-linux.md: resources.devices: an allowed device can be used").holds(|place| {
        let told = place.told("dd if=/kmsg bs=8192 count=1 2>/dev/null | wc -l", |config| {
            for set in ["bounding", "effective", "permitted"] {
                add(&mut config["process"]["capabilities"][set], json!("CAP_SYSLOG"));
            }
            config["linux"]["devices"] = json!([{ "path": "/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666 }]);
            config["linux"]["resources"]["devices"] = json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" }]);
        });
        assert_ne!(told, "0");
    });
}

#[test]
fn privileged_the_list_of_devices_has_the_rules() {
    must(
        "config-linux.md: resources.devices on v1: devices.list has what is allowed, wildcards too",
    )
    .needs(airtight_tests::Need::File("/sys/fs/cgroup/devices"))
    .holds(|place| {
        let container = place.container(|config| {
            crate::harness::sleeps(config);
            config["linux"]["resources"]["devices"] = json!([
                { "allow": false, "access": "rwm" },
                { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm" },
                { "allow": true, "type": "b", "major": 8, "access": "r" },
                { "allow": true, "type": "b", "major": 9, "minor": 1, "access": "rwm" },
                { "allow": false, "type": "b", "major": 9, "minor": 1, "access": "w" }
            ]);
        });
        container.ok("create", &[]);
        let list = fs::read_to_string(container.group("devices").join("devices.list")).unwrap();
        let lines: Vec<&str> = list.lines().collect();
        for wanted in [
            "c 10:229 rwm",
            "b 8:* r",
            "b 9:1 rm",
            "c 1:3 rwm",
            "c 136:* rwm",
            "c 5:2 rwm",
            "c *:* m",
            "b *:* m",
        ] {
            assert!(lines.contains(&wanted), "{wanted}: {list}");
        }
        assert!(!lines.contains(&"a *:* rwm"), "{list}");
        // Readers of the list go by its order too.
        let listed: Vec<&str> = lines.iter().take(3).copied().collect();
        if !place.is("runc") {
            assert_eq!(listed, ["c 10:229 rwm", "b 8:* r", "b 9:1 rm"], "{list}");
        }
    });
}
