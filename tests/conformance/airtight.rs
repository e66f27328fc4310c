//! Bundles without `--compat`: what other callers of runtimes get where the operator has not said that a bundle is honoured as it says.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use airtight_tests::{Need, binary, has};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use crate::harness::{Container, Place};

/// A common config asks for root, capabilities and a writable root: the rest of it is to run.
const NARROW: [&str; 2] = ["--on-excess", "narrow"];
const BUSYBOX: &str = "/bin/busybox";

fn script(config: &mut Value, script: &str) {
    config["process"]["args"] = json!(["/bin/sh", "-c", script]);
}

/// Ids outside, none of which is an account of the host's.
fn assert_maps(text: &str) {
    for line in text.lines() {
        let outside: u32 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!(outside >= 1 << 19, "{text}");
    }
    assert!(!text.trim().is_empty());
}

/// The whole life of one that says who it is.
fn lives(container: &Container<'_>) {
    container.ok("create", &[]);
    assert_eq!(container.status(), "created");
    assert_eq!(container.said(), "");
    container.ok("start", &[]);
    let said = container.says("ready\n");
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("65532"), "{said}");
    assert_eq!(lines.next(), Some("refused"), "{said}");
    assert_maps(lines.next().unwrap());
    let ran = container.exec(
        &[],
        &[
            "/bin/sh",
            "-c",
            "id -u; grep Cap /proc/self/status; touch /new",
        ],
    );
    assert!(ran.stdout.starts_with("65532\n"), "{ran:?}");
    for line in ran.stdout.lines().skip(1) {
        assert!(line.ends_with("\t0000000000000000"), "{ran:?}");
    }
    assert!(
        ran.code == Some(1) && ran.stderr.contains("Read-only"),
        "{ran:?}"
    );
    // Our own file is no program inside, by whatever name (CVE-2019-5736).
    let ran = container.exec(&[], &["/proc/self/exe", "--version"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(126), ""), "{ran:?}");
    container.kill("KILL");
    container.becomes("stopped");
    container.ok("delete", &[]);
    assert_eq!(container.groups(), [] as [&Path; 0]);
}

const WHO: &str = "id -u; touch /x 2>/dev/null || echo refused; cat /proc/self/uid_map; echo ready; exec sleep 1000";

#[test]
fn privileged_a_sandbox_outlives_the_command_that_made_it() {
    if !has(&[Need::Root, Need::File(BUSYBOX)]) {
        return;
    }
    let place = Place::airtight(&NARROW);
    let container = place.container(|config| script(config, WHO));
    lives(&container);
}

/// As engines mount an image: its own layers below, a writable one above.
struct Overlay(std::path::PathBuf);

impl Overlay {
    fn over(container: &Container<'_>) -> Self {
        let root = container.rootfs("");
        let dir = |name: &str| container.bundle.join(name);
        fs::rename(&root, dir("lower")).unwrap();
        for name in ["rootfs", "upper", "work"] {
            fs::create_dir(dir(name)).unwrap();
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            dir("lower").display(),
            dir("upper").display(),
            dir("work").display()
        );
        let none = MsFlags::empty();
        mount(
            Some("overlay"),
            &root,
            Some("overlay"),
            none,
            Some(options.as_str()),
        )
        .unwrap();
        Self(root)
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        // The directory that it is in goes next, and says what is wrong.
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

#[test]
fn privileged_an_overlay_is_a_root_by_the_operators_word() {
    if !has(&[Need::Root, Need::File(BUSYBOX)]) {
        return;
    }
    let place = Place::airtight(&NARROW);
    let container = place.container(|config| script(config, WHO));
    let overlay = Overlay::over(&container);
    let ran = container.create(&[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for text in [
        "idmapped-mounts",
        "takes no id map",
        "--accept-shortfall idmapped-mounts",
    ] {
        assert!(ran.stderr.contains(text), "{ran:?}");
    }
    drop(overlay);

    let place =
        Place::airtight(&[&NARROW[..], &["--accept-shortfall", "idmapped-mounts"]].concat());
    let container = place.container(|config| script(config, WHO));
    // What others may not read is out of reach, and no reason not to start.
    for (name, uid, mode) in [
        ("root", 0, 0o700),
        ("app", 65532, 0o700),
        ("open", 0, 0o755),
    ] {
        let path = container.rootfs(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), "x").unwrap();
        chown(&path, Some(uid), Some(uid)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let _overlay = Overlay::over(&container);
    container.ok("create", &[]);
    container.ok("start", &[]);
    container.says("ready\n");
    let files = "stat -c %u /open/file; cat /root/file; cat /app/file";
    let ran = container.exec(&[], &["/bin/sh", "-c", files]);
    assert_eq!(ran.stdout, "65534\n", "{ran:?}");
    assert_eq!(
        ran.stderr.matches("Permission denied").count(),
        2,
        "{ran:?}"
    );
    container.ok("delete", &["--force"]);

    let container = place.container(|config| script(config, WHO));
    let _overlay = Overlay::over(&container);
    lives(&container);
}

/// A podman of its own, whose containers are sandboxes.
const PODMAN: &str = r#"
cd "$1"; runtime=$2
mkdir -p image/bin image/tmp image/etc image/root
cp /bin/busybox image/bin
for applet in sh id cat touch sleep; do ln -s busybox image/bin/$applet; done
chmod 700 image/root
echo 'me:x:1000:1000:me:/:/bin/sh' > image/etc/passwd
tar -C image -c . > image.tar
hard=$(ulimit -H -n)
printf '[containers]\ndefault_ulimits = ["nofile=1024:%s", "nproc=1024:4096"]\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n' "$hard" > containers.conf
export CONTAINERS_CONF=$PWD/containers.conf
pm() {
  podman --root "$PWD/root" --runroot "$PWD/run" --tmpdir "$PWD/tmp" --storage-driver overlay --runtime "$runtime" \
    --runtime-flag on-excess=narrow --runtime-flag accept-shortfall=idmapped-mounts "$@"
}
trap 'pm rm -af -t 0 >/dev/null 2>&1; umount -l "$PWD"/root/overlay 2>/dev/null' EXIT
pm import image.tar localhost/box >/dev/null 2>&1
pm run --rm --network none --user 1000 localhost/box sh -c 'id -un; touch /new || echo refused; cat /proc/self/uid_map'
pm run -d --name long --network none --user 1000 localhost/box sh -c 'echo up; exec sleep 1000' >/dev/null
until pm logs long 2>&1 | grep -q up; do sleep 0.05; done
pm exec long id -un
pm pause long >/dev/null
pm inspect --format '{{.State.Status}}' long
pm unpause long >/dev/null
pm rm -f -t 0 long >/dev/null
pm run --rm --network none localhost/box nowhere || echo "code $?"
pm run --rm --network none localhost/box sh -c 'exit 7' || echo "code $?"
"#;

#[test]
fn privileged_podmans_containers_are_sandboxes() {
    let needs = [Need::Root, Need::File(BUSYBOX), Need::Program("podman")];
    if !has(&needs) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("bash")
        .args(["-c", PODMAN, "bash"])
        .arg(dir.path())
        .arg(binary("airtight-runtime"))
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 7, "{stdout}{stderr}");
    assert_eq!(lines[..2], ["me", "refused"], "{stdout}{stderr}");
    assert_maps(lines[2]);
    assert_eq!(lines[3], "me");
    assert!(lines[4] == "paused", "{stdout}{stderr}");
    assert_eq!(lines[5..], ["code 127", "code 7"], "{stdout}{stderr}");
}

/// The text of `file` in every group of the container that has it.
fn values(container: &Container<'_>, file: &str) -> Vec<String> {
    let groups = container.groups().into_iter();
    groups
        .filter_map(|group| fs::read_to_string(group.join(file)).ok())
        .collect()
}

#[test]
fn privileged_a_sandbox_sets_no_limits_of_others() {
    let needs = [Need::Root, Need::File(BUSYBOX)];
    if !has(&needs) {
        return;
    }
    let place = Place::airtight(&NARROW);
    let victim = place
        .container(|config| {
            script(config, "echo ready; exec sleep 1000");
            config["linux"]["resources"]["pids"]["limit"] = json!(77);
        })
        .started();
    victim.says("ready");
    let before = values(&victim, "pids.max");
    assert_eq!(before, ["77\n"]);
    let own = victim.config["linux"]["cgroupsPath"].clone();
    let below = victim
        .groups()
        .iter()
        .map(|group| group.join("below"))
        .collect::<Vec<_>>();
    let join = |path: &Value| {
        let thief = place.container(|config| {
            script(config, "true");
            config["linux"]["cgroupsPath"] = path.clone();
            config["linux"]["resources"]["pids"]["limit"] = json!(1);
        });
        let ran = thief.run(&[]);
        assert_ne!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stderr.contains("is another's"), "{ran:?}");
    };
    join(&own);
    assert_eq!(values(&victim, "pids.max"), before);
    // A group that only has others below it is theirs too.
    for group in &below {
        fs::create_dir(group).unwrap();
    }
    victim.kill("KILL");
    victim.becomes("stopped");
    join(&own);
    assert_eq!(values(&victim, "pids.max"), before);
    victim.ok("delete", &[]);
    assert_eq!(victim.groups(), [] as [&Path; 0]);
}

#[test]
fn privileged_exec_reads_a_file_and_writes_to_one() {
    if !has(&[Need::Root, Need::File(BUSYBOX)]) {
        return;
    }
    let place = Place::airtight(&NARROW);
    let container = place
        .container(|config| script(config, "exec sleep 1000"))
        .started();
    let told = place.path("told");
    fs::write(&told, "to be read\n").unwrap();
    let mut command = container.command("exec", &[]);
    command.args([
        "/bin/sh",
        "-c",
        "cat; cat /proc/self/fd/0; stat -Lc %F /dev/stdin",
    ]);
    command.stdin(fs::File::open(&told).unwrap());
    let ran = place.finish(command);
    assert_eq!(ran.stdout, "to be read\nfifo\n", "{ran:?}");
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn privileged_a_callers_filter_keeps_ours_from_nothing() {
    if !has(&[Need::Root, Need::File(BUSYBOX)]) {
        return;
    }
    let place = Place::airtight(&NARROW);
    // What it answers with 0 looks done, and is not.
    let rule =
        |names: &[&str]| json!([{ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 0 }]);
    let none = json!([{ "names": ["execve", "execveat", "exit_group", "write", "read"], "action": "SCMP_ACT_ALLOW" }]);
    for (default, errno, rules, runs) in [
        ("SCMP_ACT_ALLOW", None, rule(&["chmod"]), true),
        ("SCMP_ACT_ALLOW", None, rule(&["seccomp"]), false),
        (
            "SCMP_ACT_ALLOW",
            None,
            rule(&["seccomp", "pread64", "read"]),
            false,
        ),
        ("SCMP_ACT_ERRNO", Some(0), none, false),
    ] {
        let container = place.container(|config| {
            script(config, "grep Seccomp_filters: /proc/self/status; exec sleep 1000");
            config["linux"]["seccomp"] = json!({
                "defaultAction": default, "defaultErrnoRet": errno, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules
            });
        });
        container.ok("create", &[]);
        // Nobody waits for what it says, where no hook does.
        drop(container.verb("start", &[]));
        if runs {
            assert_eq!(container.says("\n"), "Seccomp_filters:\t2\n");
            assert_eq!(container.exec(&[], &["/bin/true"]).code, Some(0));
        } else {
            container.becomes("stopped");
            assert_eq!(container.said(), "", "{rules}");
            let ran = container.verb("delete", &[]);
            assert_eq!(ran.code, Some(0), "{ran:?}");
            let ran = container.run(&[]);
            assert_ne!(ran.code, Some(0), "{ran:?}");
            assert!(!ran.stdout.contains("Seccomp"), "{ran:?}");
        }
    }
}
