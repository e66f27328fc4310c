//! Configs that are taken, and what is told of those that are not.

use serde_json::{Value, json};

use super::*;

fn read(config: Value) -> Result<Parsed<Config>, String> {
    let Value::Object(document) = config else {
        panic!("not an object")
    };
    super::config(document).map_err(|problems| problems.to_string().trim().to_owned())
}

#[test]
fn a_capability_of_a_newer_kernel_is_worth_a_word() {
    let parsed = read(json!({
        "root": { "path": "rootfs" },
        "process": { "capabilities": { "bounding": ["CAP_KILL", "CAP_NEW"], "effective": ["CAP_NEW"] } },
    }))
    .unwrap();
    let capabilities = parsed.value.process.unwrap().capabilities.unwrap();
    assert_eq!((capabilities.bounding, capabilities.effective), (1 << 5, 0));
    assert_eq!(
        parsed.warnings,
        ["ignoring unknown or unavailable capabilities: [CAP_NEW]"]
    );
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other}"),
    }
}

#[test]
fn a_process_alone_is_read_as_one_of_a_config() {
    let parsed = process(object(json!({
        "terminal": true, "consoleSize": { "height": 24, "width": 80 }, "args": ["id"], "cwd": "/",
        "user": { "uid": 7, "additionalGids": [1, 2], "umask": 63 },
        "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 1, "hard": 18_446_744_073_709_551_615_u64 }],
        "scheduler": { "policy": "SCHED_RR", "priority": 3, "flags": ["SCHED_FLAG_RECLAIM"] },
        "ioPriority": { "class": "IOPRIO_CLASS_IDLE", "priority": 7 },
        "execCPUAffinity": { "initial": "0-2,7", "final": "1" },
        "oomScoreAdj": -1000,
    })))
    .unwrap()
    .value;
    assert_eq!(parsed.console_size, Some((80, 24)));
    assert_eq!(
        (
            parsed.user.uid,
            parsed.user.umask,
            &parsed.user.additional_gids[..]
        ),
        (7, Some(63), &[1, 2][..])
    );
    let limit = parsed.rlimits[0];
    assert_eq!((limit.resource, limit.soft, limit.hard), (7, 1, u64::MAX));
    let scheduler = parsed.scheduler.unwrap();
    assert_eq!(
        (scheduler.policy, scheduler.priority, scheduler.flags),
        (2, 3, 2)
    );
    assert_eq!(parsed.exec_affinity.initial, [0, 1, 2, 7]);
    assert_eq!(parsed.exec_affinity.last, [1]);
    assert_eq!(parsed.oom_score_adj, Some(-1000));
    assert_eq!(parsed.capabilities, None);
}

#[test]
fn resources_alone_are_read_as_those_of_a_config() {
    let parsed = resources(object(json!({
        "devices": [{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 1, "minor": -1, "access": "rw" }],
        "memory": { "limit": 1, "swap": -1, "swappiness": 60, "disableOOMKiller": true },
        "cpu": { "shares": 2, "quota": -1, "cpus": "0-1", "mems": "" },
        "pids": { "limit": -1 },
        "blockIO": { "weight": 10, "throttleReadBpsDevice": [{ "major": 8, "minor": 0, "rate": 9 }] },
        "hugepageLimits": [{ "pageSize": "2MB", "limit": 5 }],
        "network": { "classID": 6, "priorities": [{ "name": "lo", "priority": 3 }] },
        "rdma": { "mlx5_1": { "hcaHandles": 3 } },
        "unified": { "memory.high": "1" },
    })))
    .unwrap()
    .value;
    assert_eq!(parsed.devices.len(), 2);
    assert_eq!(
        (parsed.devices[1].major, parsed.devices[1].minor),
        (Some(1), None)
    );
    assert_eq!(
        (parsed.memory.limit, parsed.memory.swap),
        (Some(1), Some(-1))
    );
    assert_eq!(
        (parsed.cpu.cpus.as_deref(), parsed.cpu.mems),
        (Some("0-1"), None)
    );
    assert_eq!(parsed.block_io.read_bps, [(8, 0, 9)]);
    assert_eq!(parsed.hugepages, [("2MB".to_owned(), 5)]);
    assert_eq!(parsed.network_priorities, [("lo".to_owned(), 3)]);
    assert_eq!(parsed.rdma, [("mlx5_1".to_owned(), Some(3), None)]);
    assert_eq!(parsed.unified["memory.high"], "1");
}

#[test]
fn a_bundle_is_loaded_with_its_root_found() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = dir.path().canonicalize().unwrap();
    let write = |path: &str| {
        let config = json!({ "ociVersion": "1.2.0", "root": { "path": path } });
        std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        load(&bundle)
            .map(|loaded| loaded.parsed.value.root.path)
            .map_err(|failure| failure.to_string().replace(bundle.to_str().unwrap(), "DIR"))
    };
    std::fs::create_dir(bundle.join("tree")).unwrap();
    std::os::unix::fs::symlink("tree", bundle.join("link")).unwrap();
    let fix = "\n  fix: name the root file system in `root.path`";
    assert_eq!(write("link"), Ok(bundle.join("tree")));
    assert_eq!(
        write("gone"),
        Err(format!(
            "DIR/gone: invalid rootfs: No such file or directory (os error 2){fix}"
        ))
    );
    assert_eq!(
        write("config.json"),
        Err(format!(
            "DIR/config.json: invalid rootfs: not a directory{fix}"
        ))
    );
    std::fs::remove_file(bundle.join("config.json")).unwrap();
    assert_eq!(
        load(&bundle).unwrap_err().to_string().lines().next(),
        Some(format!("{}: not found", bundle.join("config.json").display()).as_str())
    );
}

#[test]
fn a_list_of_cpus_costs_no_more_than_the_cpus_there_are() {
    // As long as a config may be: 20 GB, if each range were written out.
    let text = "0-8191,".repeat(500_000);
    let start = std::time::Instant::now();
    let affinity = json!({ "execCPUAffinity": { "initial": text, "final": "8191-8192" } });
    let problems = process(object(affinity)).unwrap_err().to_string();
    assert_eq!(
        problems.trim(),
        "`execCPUAffinity.final`: is not a list of CPUs (0-3,7)"
    );
    assert!(
        start.elapsed().as_secs() < 20,
        "{}",
        start.elapsed().as_secs()
    );
}

#[test]
fn no_id_is_the_one_that_changes_nothing() {
    for (user, key) in [
        (json!({ "uid": u32::MAX }), "user.uid"),
        (json!({ "uid": 1, "gid": u32::MAX }), "user.gid"),
        (
            json!({ "uid": 1, "additionalGids": [u32::MAX] }),
            "user.additionalGids[0]",
        ),
    ] {
        let problems = process(object(json!({ "user": user }))).unwrap_err();
        assert_eq!(
            problems.to_string().trim(),
            format!("`{key}`: is not an id")
        );
    }
}
