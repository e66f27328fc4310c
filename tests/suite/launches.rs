//! What a caller sees of a launch: streams, exit codes, signals, terminal, time-out, environment, and clear words for what cannot be.

use airtight_tests::{World, parse, wait_until};
use nix::sys::signal::Signal;

use crate::every_caller;

#[test]
fn privileged_exit_codes_are_the_payloads_or_say_whose_fault() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        for (name, args, want) in [
            ("success", &["run", "test/prober", "--", "exit", "0"][..], 0),
            (
                "the payload's own",
                &["run", "test/prober", "--", "exit", "7"],
                7,
            ),
            (
                "by a signal",
                &["run", "test/prober", "--", "signal", "15"],
                143,
            ),
            ("killed", &["run", "test/prober", "--", "signal", "9"], 137),
            (
                "not found",
                &["run", "--entrypoint", "/no/such", "test/prober"],
                127,
            ),
            (
                "not in PATH",
                &["run", "--entrypoint", "nothing", "test/prober"],
                127,
            ),
            (
                "not executable",
                &["run", "--entrypoint", "/app/data", "test/prober"],
                126,
            ),
            (
                "a directory",
                &["run", "--entrypoint", "/app", "test/prober"],
                126,
            ),
            ("no such image", &["run", "no/such"], 125),
            (
                "a wrong flag",
                &["run", "--no-such-flag", "test/prober"],
                125,
            ),
            (
                "a relative working directory",
                &["run", "--workdir", "x", "test/prober"],
                125,
            ),
            (
                "a working directory that is not there",
                &["run", "--workdir", "/nowhere", "test/prober"],
                125,
            ),
        ] {
            let ran = world.airtight(args.iter().copied()).unwrap();
            assert_eq!(ran.code, Some(want), "{name}: {ran:?}");
            let ours = ran
                .stderr
                .lines()
                .any(|line| line.starts_with("airtight:") || line.starts_with("error:"));
            assert_eq!(ours, (125..128).contains(&want), "{name}: {ran:?}");
        }
    }
}

#[test]
fn privileged_what_cannot_be_is_told_with_what_to_do() {
    let Some(worlds) = every_caller() else { return };
    let world = &worlds[0];
    let file = "format = 1\nname = \"test/base\"\nbase = \"oci:not-there\"\n";
    world.write("work/based/airtight.toml", file).unwrap();
    let build = world.shown("work/based");
    let store = world.shown("work/based/airtight.toml");
    let audit = world.shown("work/no-such/audit");
    for (args, what, fix) in [
        (
            &["build", &build][..],
            "airtight.toml: `base`: ",
            "name an OCI layout that is there",
        ),
        (
            &["run", "--workdir", "/nowhere", "test/prober"],
            "chdir(\"/nowhere\")",
            "name a directory of the image",
        ),
        (
            &["run", "--workdir", "x", "test/prober"],
            "x is not absolute",
            "write it from the image's root",
        ),
        (
            &["run", "--audit", &audit, "test/prober"],
            "no-such/audit: ",
            "name a file, new or to append to",
        ),
        (
            &["images", "--store", &store],
            "airtight.toml: is no directory",
            "name another store",
        ),
        // No option: a number that is out of range.
        (
            &["run", "--cpus", "-1", "test/prober"],
            "`--cpus -1`: is not a number of CPUs",
            "write a number",
        ),
        (
            &["run", "--timeout", "-1", "test/prober"],
            "`--timeout -1`: is not a time",
            "write seconds",
        ),
    ] {
        let ran = world.airtight(args.iter().copied()).unwrap();
        let told = ran.stderr.contains(what) && ran.stderr.contains(&format!("\n  fix: {fix}"));
        assert!(ran.code == Some(125) && told, "{args:?}: {ran:?}");
    }
}

#[test]
fn privileged_streams_pass_through() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let mut running = world
            .start(&["run", "-i", "test/prober", "--", "stdin", ",", "tty"])
            .unwrap();
        running.feed("from outside").unwrap();
        let ran = running.wait().unwrap();
        let report = parse(ran.code, &ran.stdout, &ran.stderr);
        assert_eq!(report.of("stdin").detail, "from outside");
        assert_eq!(report.of("tty").detail, "false");
    }
}

#[test]
fn privileged_signals_reach_the_payload_with_their_default_action() {
    let Some(worlds) = every_caller() else { return };
    for (signal, code) in [
        (Signal::SIGTERM, 143),
        (Signal::SIGINT, 130),
        (Signal::SIGUSR1, 138),
    ] {
        let mut running = worlds[0]
            .start(&[
                "run",
                "test/prober",
                "--",
                "say",
                "up",
                ",",
                "sleep-forever",
            ])
            .unwrap();
        running.until("up").unwrap();
        running.signal(signal).unwrap();
        assert_eq!(running.wait().unwrap().code, Some(code), "{signal}");
    }
}

#[test]
fn privileged_a_caller_with_low_limits_launches_within_them() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let output = world
            .command("prlimit")
            .args([
                "--core=0",
                "--nproc=3000",
                "--memlock=65536",
                "--sigpending=500",
                "--msgqueue=1000",
            ])
            .arg(airtight_tests::binary("airtight"))
            .args(["run", "test/prober", "--", "read", "/proc/self/limits"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        for (name, limit) in [
            ("locked memory", "65536"),
            ("pending signals", "500"),
            ("msgqueue size", "1000"),
        ] {
            let line = text.split("\\n").find(|line| line.contains(name));
            assert!(
                line.is_some_and(|line| line.contains(limit)),
                "{name}: {text}"
            );
        }
    }
}

#[test]
fn privileged_a_stderr_that_the_payload_clogs_does_not_stop_the_time_out() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let mut running = world
            .command(airtight_tests::binary("airtight"))
            .args([
                "run",
                "--timeout",
                "1",
                "test/prober",
                "--",
                "clog-stderr",
                ",",
                "sleep-forever",
            ])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut code = None;
        wait_until(std::time::Duration::from_secs(20), || {
            code = running.try_wait().unwrap();
            code.is_some()
        });
        let ended = code.and_then(|status| status.code());
        if ended.is_none() {
            running.kill().unwrap();
            running.wait().unwrap();
        }
        assert_eq!(ended, Some(124));
    }
}

#[test]
fn privileged_a_destination_behind_a_link_of_the_image_is_refused() {
    let Some(worlds) = every_caller() else { return };
    let world = &worlds[0];
    world.write("work/linked/airtight.toml", "format = 1\nname = \"test/linked\"\nbase = \"scratch\"\n[[layer]]\nname = \"app\"\ncopy = [{ from = \"tree\", to = \"/\" }]\n[config]\nentrypoint = [\"/app/prober\"]\n").unwrap();
    world.write("work/linked/tree/file", "x").unwrap();
    world.write("work/linked/tree/app/x", "x").unwrap();
    std::fs::copy(
        airtight_tests::binary("airtight-prober"),
        world.path("work/linked/tree/app/prober"),
    )
    .unwrap();
    for (name, target) in [
        ("etc-link", "/etc"),
        ("proc-link", "proc"),
        ("lost", "/no/such"),
        ("up", "../../.."),
    ] {
        std::os::unix::fs::symlink(target, world.path("work/linked/tree").join(name)).unwrap();
    }
    let built = world
        .airtight(["build", &world.shown("work/linked")])
        .unwrap();
    assert_eq!(built.code, Some(0), "{built:?}");
    let data = world.shown("work/linked");
    for path in [
        "/etc-link",
        "/etc-link/x",
        "/proc-link/sys",
        "/lost",
        "/up",
        "/file",
    ] {
        for flag in ["--tmpfs", "--volume"] {
            let value = if flag == "--tmpfs" {
                path.to_owned()
            } else {
                format!("{data}:{path}")
            };
            let ran = world
                .airtight(["run", flag, &value, "test/linked", "--", "say"])
                .unwrap();
            assert_eq!(ran.code, Some(125), "{flag} {path}: {ran:?}");
            assert!(
                ran.stderr.contains(path) && ran.stderr.contains("fix:"),
                "{flag} {path}: {ran:?}"
            );
        }
    }
}

#[test]
fn privileged_orphans_are_reaped() {
    let Some(worlds) = every_caller() else { return };
    let report = worlds[0].attempt(&[], &["orphans"]).unwrap();
    assert_eq!(report.of("orphans").detail, "0", "{report:?}");
}

#[test]
fn privileged_a_time_out_ends_the_payload() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        let ran = world
            .run(&["--timeout", "0.3"], &["sleep-forever"])
            .unwrap();
        assert_eq!(ran.code, Some(124), "{ran:?}");
    }
}

#[test]
fn privileged_the_environment_is_the_images_and_what_was_given() {
    let Some(worlds) = every_caller() else { return };
    let report = worlds[0]
        .attempt(&["--env", "A=b"], &["environment"])
        .unwrap();
    let environment = &report.of("environment").detail;
    assert!(
        environment.contains("A=b")
            && environment.contains("PATH=")
            && !environment.contains("HOME=/tmp/airtight-test"),
        "{environment}"
    );
}

#[test]
fn privileged_volumes_are_as_writable_as_was_said_and_never_executable() {
    let Some(worlds) = every_caller() else { return };
    let world = &worlds[0];
    world.write("work/data/file", "content").unwrap();
    std::fs::set_permissions(
        world.path("work/data"),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    let data = world.shown("work/data");
    let report = world
        .attempt(
            &["--volume", &format!("{data}:/data:ro")],
            &["read", "/data/file", ",", "write", "/data/new"],
        )
        .unwrap();
    assert_eq!(report.of("read").detail, "content");
    assert!(!report.of("write").ok, "{report:?}");
    let report = world
        .attempt(
            &["--volume", &format!("{data}:/data")],
            &["write", "/data/new", ",", "exec-from", "/data"],
        )
        .unwrap();
    assert!(report.of("write").ok, "{report:?}");
    assert!(!report.of("exec-from").ok, "{report:?}");
    for (volume, said) in [
        ("/:/data", "/"),
        ("/no/such/place:/data", "/no/such/place"),
        ("relative:/data", "relative"),
    ] {
        let ran = world.run(&["--volume", volume], &["say"]).unwrap();
        assert_eq!(ran.code, Some(125), "{volume}: {ran:?}");
        assert!(ran.stderr.contains(said), "{volume}: {ran:?}");
    }
}

#[test]
fn privileged_a_terminal_of_its_own_is_one() {
    let Some(worlds) = every_caller() else { return };
    for world in &worlds {
        // `script` gives the caller a terminal, as a person has.
        let command = format!(
            "{} run -it test/prober -- tty , readlink /proc/self/fd/0",
            airtight_tests::binary("airtight").display()
        );
        let output = world
            .command("script")
            .args(["-qec", &command, "/dev/null"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout)
            .replace(['\r', '\0'], "")
            .replace("^@", "");
        let report = parse(output.status.code(), &text, "");
        assert_eq!(report.of("tty").detail, "true", "{text}");
        assert_eq!(report.of("readlink").detail, "/dev/pts/0", "{text}");
    }
}

#[test]
fn a_plan_needs_no_privilege_and_reads_for_people_and_programs() {
    let world = World::new().unwrap();
    let ran = world.airtight(["plan", "test/prober"]).unwrap();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let plan = world
        .plan(&["--connect", "db=10.0.0.5:5432"], &["say"])
        .unwrap();
    assert_eq!(plan["gate"]["endpoints"][0]["display"], "db=10.0.0.5:5432");
    let doctor = world.airtight(["doctor", "--json"]).unwrap();
    assert!(
        serde_json::from_str::<serde_json::Value>(&doctor.stdout).is_ok(),
        "{doctor:?}"
    );
}
