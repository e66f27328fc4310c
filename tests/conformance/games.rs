//! Games with what a runtime reads of a container, or of its own state directory: none of them leads out, and none keeps anybody waiting.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;

use crate::harness::{add, must, sleeps};

#[test]
fn privileged_the_users_of_an_image_keep_nobody_waiting() {
    must("an /etc/passwd of the image that is a FIFO, a device without end or a link out is read as none")
        .differs("runc", "1.1 waits for a writer")
        .differs("crun", "likewise")
        .holds(|place| {
            if place.is("runc") {
                panic!("it would wait for ever");
            }
            for passwd in ["fifo", "/dev/zero", "/proc/self/mem", "/proc/1/root/etc/passwd"] {
                let container = place.container(sleeps);
                let at = container.rootfs("etc/passwd");
                if passwd == "fifo" {
                    mkfifo(&at, Mode::from_bits_truncate(0o644)).unwrap();
                } else {
                    symlink(passwd, &at).unwrap();
                }
                let container = container.started();
                let ran = container.exec(&[], &["/bin/sh", "-c", "echo $HOME"]);
                assert_eq!(ran.stdout, "/\n", "{passwd}: {ran:?}");
            }
        });
}

#[test]
fn privileged_a_terminal_of_a_hostile_dev_keeps_nobody_waiting() {
    must("exec --tty where the container's /dev/ptmx is none fails, and other execs go on").holds(
        |place| {
            let container = place.container(sleeps).started();
            let tricks = [
                "rm -f /dev/ptmx; mkfifo /dev/ptmx",
                "rm -f /dev/ptmx; ln -s /nowhere /dev/ptmx",
                "rm -f /dev/ptmx; echo x > /dev/ptmx",
            ];
            for trick in tricks {
                let ran = container.exec(&[], &["/bin/sh", "-c", trick]);
                assert_eq!(ran.code, Some(0), "{trick}: {ran:?}");
                let ran = container.exec(&["--tty"], &["/bin/true"]);
                assert_ne!(ran.code, Some(0), "{trick}: {ran:?}");
                let ran = container.exec(&[], &["/bin/true"]);
                assert_eq!(ran.code, Some(0), "{trick}: {ran:?}");
            }
        },
    );
}

#[test]
fn privileged_a_link_is_no_state_of_a_container() {
    must("what is in the state directory under a container's name and is a link is no container, and nothing behind it is touched")
        .differs("runc", "follows it")
        .differs("crun", "follows it")
        .holds(|place| {
            let container = place.container(sleeps).started();
            let state = place.path("state");
            let elsewhere = place.path("elsewhere");
            fs::create_dir(&elsewhere).unwrap();
            fs::write(elsewhere.join("state"), "precious").unwrap();
            symlink(&elsewhere, state.join("link")).unwrap();
            symlink(state.join(&container.id), state.join("alias")).unwrap();
            for name in ["link", "alias"] {
                for verb in ["state", "start", "pause", "ps"] {
                    let ran = place.call(&[verb, name]);
                    assert_ne!(ran.code, Some(0), "{verb} {name}: {ran:?}");
                }
                assert_ne!(place.call(&["kill", name, "KILL"]).code, Some(0));
                // By force it is no error that there is none.
                drop(place.call(&["delete", "--force", name]));
            }
            assert_eq!(container.status(), "running");
            assert_eq!(fs::read(elsewhere.join("state")).unwrap(), b"precious");
            assert_eq!(place.call(&["list", "--quiet"]).stdout.trim(), container.id);
        });
}

#[test]
fn privileged_a_program_of_the_image_does_not_steer_the_callers_terminal() {
    must("what a program of the image says, and what a config names, is shown and not done by a terminal")
        .differs("runc", "prints it as it is")
        .differs("crun", "likewise")
        .holds(|place| {
            let container = place.container(|config| {
                sleeps(config);
                let script = "printf '\\033]0;taken\\007\\r'; exit 3";
                let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
                add(&mut config["hooks"]["startContainer"], hook);
            });
            container.ok("create", &[]);
            let failed = container.verb("start", &[]);
            let named = place.sh("", |config| config["process"]["args"] = json!(["/bin/\u{1b}[2J"]));
            for ran in [failed, named] {
                assert_ne!(ran.code, Some(0), "{ran:?}");
                assert!(ran.stderr.contains("\\u{1b}"), "{ran:?}");
                assert!(!ran.stderr.contains(['\u{1b}', '\u{7}', '\r']), "{ran:?}");
            }
        });
}
