//! Hosts that lack something: what cannot be had is refused by name, or is a shortfall that the operator accepted by name.

use airtight_tests::{Ran, World, binary};

use crate::every_caller;

/// `airtight ARGS` behind `wrapper`.
fn behind(world: &World, wrapper: &[&str], args: &[&str]) -> Ran {
    let (program, before) = wrapper.split_first().unwrap();
    let mut command = world.command(program);
    command.args(before).arg(binary("airtight")).args(args);
    let output = command.output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

const PROBE: [&str; 4] = ["run", "test/prober", "--", "say"];

#[test]
fn privileged_without_landlock_nothing_runs_unless_that_is_accepted_by_name() {
    let Some(worlds) = every_caller() else { return };
    let prober = binary("airtight-prober");
    // landlock_create_ruleset(2); the filter needs no_new_privs, which newuidmap cannot work under.
    let wrapper = [prober.to_str().unwrap(), "without-call", "444"];
    for world in &worlds[..2] {
        let ran = behind(world, &wrapper, &PROBE);
        assert_eq!(ran.code, Some(125), "{ran:?}");
        assert_eq!(ran.stdout, "", "{ran:?}");
        assert!(
            ran.stderr.contains("landlock")
                && ran.stderr.contains("fix:")
                && ran.stderr.contains("--accept-shortfall landlock"),
            "{ran:?}"
        );
        let args = [
            "run",
            "--accept-shortfall",
            "landlock",
            "--accept-shortfall",
            "landlock-net",
            "--accept-shortfall",
            "landlock-scopes",
            "test/prober",
            "--",
            "write",
            "/new",
        ];
        let ran = behind(world, &wrapper, &args);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(
            ran.stdout.contains("\"errno\":30"),
            "the mount still denies: {ran:?}"
        );
        let doctor = behind(world, &wrapper, &["doctor", "--json"]);
        let told: serde_json::Value = serde_json::from_str(&doctor.stdout).unwrap();
        assert_eq!(told["shortfalls"][0]["control"], "landlock", "{told}");
        let row = told["controls"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["name"] == "landlock")
            .unwrap();
        assert_eq!(row["state"], "off", "{row}");
    }
}

#[test]
fn privileged_without_user_namespaces_nothing_runs() {
    let Some(worlds) = every_caller() else { return };
    // A limit of the namespace that the test makes, not of the host.
    let none = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --ambient-caps=-all --inh-caps=-all -- \"$@\"";
    for (map, script, said) in [
        (
            "--map-root-user",
            "exec \"$@\"",
            "is one of a user namespace",
        ),
        ("--map-current-user", none, "user.max_user_namespaces is 0"),
    ] {
        // Rights within the new namespace are needed to set its limit, and are dropped then.
        let wrapper = [
            "unshare",
            "--user",
            map,
            "--keep-caps",
            "sh",
            "-c",
            script,
            "sh",
        ];
        let world = &worlds[1];
        let ran = behind(world, &wrapper, &PROBE);
        assert_eq!(ran.code, Some(125), "{map}: {ran:?}");
        assert_eq!(ran.stdout, "", "{map}: {ran:?}");
        assert!(
            ran.stderr.contains("user namespaces")
                && ran.stderr.contains(said)
                && ran.stderr.contains("fix:"),
            "{map}: {ran:?}"
        );
        let doctor = behind(world, &wrapper, &["doctor"]);
        assert!(
            doctor.stdout.contains("nothing can be launched"),
            "{map}: {doctor:?}"
        );
    }
}
