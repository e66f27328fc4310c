//! On this host's hierarchies, in groups of the tests' own; on v2 alone in a mount namespace where nothing else is in view.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use airtight_plan::bundle::{
    Cpu, DeviceKind, DeviceRule, Memory, Resources, Setting, group_plan, update_plan,
};
use airtight_sys::signal;

use super::*;

/// Set in the run of one test that is made inside of a namespace with v2 alone.
const INSIDE: &str = "AIRTIGHT_TEST_V2_ONLY";

/// Removed with all that is in them, however the test ends.
struct Own(Groups);

impl Drop for Own {
    fn drop(&mut self) {
        drop(self.0.remove(Inside::Killed));
    }
}

/// What this host has, or a word on why the test is skipped.
fn host() -> Option<Hierarchies> {
    let found = hierarchies().unwrap();
    let usable = nix::unistd::geteuid().is_root() && (found.v2.is_some() || !found.v1.is_empty());
    if !usable {
        assert!(
            std::env::var_os("AIRTIGHT_MUST_RUN").is_none(),
            "no cgroup may be made here"
        );
        eprintln!("skipped: no cgroup may be made here");
    }
    usable.then_some(found)
}

fn planned(name: &str, resources: &Resources, found: &Hierarchies) -> (Own, GroupPlan) {
    let path = format!("/airtight-test-{name}-{}", std::process::id());
    let plan = group_plan(Some(&path), "id", false, resources, found, false).unwrap();
    let places = plan
        .groups
        .iter()
        .map(|group| group.place.clone())
        .collect();
    (Own(Groups::new(places)), plan)
}

fn dirs(groups: &Groups) -> Vec<PathBuf> {
    groups
        .places()
        .iter()
        .map(|place| place.mount.join(&place.dir))
        .collect()
}

/// A process in all of them.
fn inhabit(groups: &Groups, script: &str) -> Child {
    let joins: String = dirs(groups)
        .iter()
        .map(|dir| format!("echo $$ > {}/cgroup.procs; ", dir.display()))
        .collect();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("{joins} {script}")]);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

/// Its first line, so that it is known to have joined.
fn inhabited(groups: &Groups) -> Child {
    let mut child = inhabit(groups, "echo in; exec sleep 1000");
    let mut line = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    child
}

fn value(groups: &Groups, controller: &str, file: &str) -> String {
    let place = groups
        .places()
        .iter()
        .find(|place| place.has(controller))
        .unwrap();
    let path = place.mount.join(&place.dir).join(file);
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

fn limits() -> Resources {
    Resources {
        memory: Memory {
            limit: Some(64 << 20),
            ..Memory::default()
        },
        cpu: Cpu {
            shares: Some(512),
            quota: Some(50_000),
            period: Some(100_000),
            cpus: Some("0".into()),
            ..Cpu::default()
        },
        pids: Some(20),
        ..Resources::default()
    }
}

#[test]
fn privileged_groups_are_made_filled_inhabited_and_removed() {
    let Some(found) = host() else { return };
    if found.v1.is_empty() {
        return eprintln!("skipped: no v1 hierarchy is mounted here");
    }
    let (own, plan) = planned("whole", &limits(), &found);
    let made = make::make(&plan).unwrap();
    assert_eq!(made.joins.count(), plan.groups.len());
    made.keep();
    for (controller, file, want) in [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("pids", "pids.max", "20"),
        ("cpuset", "cpuset.cpus", "0"),
        // Inherited: without it nothing could join.
        ("cpuset", "cpuset.mems", "0"),
    ] {
        assert_eq!(value(&own.0, controller, file), want, "{file}");
    }
    let list = value(&own.0, "devices", "devices.list");
    assert!(
        list.contains("c 1:3 rwm") && !list.contains("a *:* rwm"),
        "{list}"
    );

    let mut child = inhabited(&own.0);
    let pid = i32::try_from(child.id()).unwrap();
    assert_eq!(own.0.pids().unwrap(), [pid]);
    let stats = own.0.stats().unwrap();
    assert_eq!(stats["pids"]["limit"], 20);
    assert_eq!(stats["memory"]["usage"]["limit"], 64 << 20);
    assert!(stats["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
    assert_eq!(stats["cpuset"]["cpus"], serde_json::json!([0]));

    own.0.freeze().unwrap();
    assert!(own.0.is_frozen().unwrap());
    own.0.thaw().unwrap();
    assert!(!own.0.is_frozen().unwrap());

    assert!(
        own.0.remove(Inside::Kept).is_err(),
        "a process keeps its group"
    );
    own.0.signal_all(signal::SIGKILL).unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()),
        Some(signal::SIGKILL)
    );
    own.0.remove(Inside::Kept).unwrap();
    assert!(dirs(&own.0).iter().all(|dir| !dir.exists()));
    // What is gone has nothing in it, and is removed.
    assert_eq!(own.0.pids().unwrap(), [0; 0]);
    assert!(!own.0.is_frozen().unwrap());
    own.0.remove(Inside::Kept).unwrap();
}

#[test]
fn privileged_a_group_without_cpus_of_its_own_shares_its_parents_scheduling_domain() {
    const FLAG: &str = "cpuset.sched_load_balance";
    let Some(found) = host() else { return };
    let Some(mount) = found
        .v1
        .iter()
        .find(|it| it.name.split(',').any(|one| one == "cpuset"))
    else {
        return eprintln!("skipped: no v1 hierarchy of cpuset is mounted here");
    };
    let of_mount = |file| std::fs::read_to_string(mount.mount.join(file)).unwrap();
    let shared = |plain: bool| {
        let resources = if plain {
            Resources::default()
        } else {
            limits()
        };
        let (own, plan) = planned("domain", &resources, &found);
        make::make(&plan).unwrap().keep();
        let values = ["cpuset.cpus", "cpuset.mems", FLAG].map(|file| value(&own.0, "cpuset", file));
        own.0.remove(Inside::Kept).unwrap();
        values
    };
    let [cpus, mems, flag] = shared(true);
    assert_eq!(cpus, of_mount("cpuset.cpus").trim());
    assert_eq!(mems, of_mount("cpuset.mems").trim());
    // The parent is one that was there, with the kernel's default.
    assert_eq!(flag, "0");
    assert_eq!(
        shared(false)[2],
        "1",
        "CPUs of its own, so a domain of its own"
    );
}

#[test]
fn privileged_a_parent_that_is_made_here_passes_its_cpus_on_and_a_strangers_stays_as_it_is() {
    let Some(found) = host() else { return };
    let Some(mount) = found.v1.iter().find(|it| it.name == "cpuset") else {
        return eprintln!("skipped: no v1 hierarchy of cpuset is mounted here");
    };
    let of_mount = |file| std::fs::read_to_string(mount.mount.join(file)).unwrap();
    let want = ["cpuset.cpus", "cpuset.mems"].map(|file| of_mount(file).trim().to_owned());
    for (name, strangers) in [("ours", false), ("strangers", true)] {
        let (above, _) = planned(name, &Resources::default(), &found);
        let at = dirs(&above.0)
            .into_iter()
            .find(|dir| dir.starts_with(&mount.mount))
            .unwrap();
        if strangers {
            std::fs::create_dir(&at).unwrap();
        }
        for child in ["one", "two"] {
            let (whole, mut plan) = planned(name, &Resources::default(), &found);
            let mut places = whole.0.places().to_vec();
            // The next one is made below the same parent.
            std::mem::forget(whole);
            for (group, place) in plan.groups.iter_mut().zip(&mut places) {
                group.place.dir.push(child);
                place.dir.push(child);
            }
            let own = Own(Groups::new(places));
            make::make(&plan).unwrap().keep();
            let values = ["cpuset.cpus", "cpuset.mems"].map(|file| value(&own.0, "cpuset", file));
            assert_eq!(values, want, "{name} {child}");
            // The kernel lets it in.
            let mut inside = inhabited(&own.0);
            inside.kill().unwrap();
            inside.wait().unwrap();
            own.0.remove(Inside::Kept).unwrap();
            assert!(dirs(&own.0).iter().all(|dir| !dir.exists()));
        }
        let told = std::fs::read_to_string(at.join("cgroup.clone_children")).unwrap();
        assert_eq!(told.trim(), if strangers { "0" } else { "1" }, "{name}");
    }
}

#[test]
fn privileged_what_was_made_goes_when_a_later_group_fails() {
    let Some(found) = host() else { return };
    let (own, mut plan) = planned("half", &Resources::default(), &found);
    let last = plan.groups.last_mut().unwrap();
    last.settings.push(Setting {
        file: "cgroup.no-such-file".into(),
        value: "1".into(),
        instead: None,
        may_lack: false,
        again: false,
    });
    last.place.dir.push("below");
    let error = make::make(&plan).unwrap_err().to_string();
    assert!(
        error.contains("this host has no such limit")
            && !error.contains("o such file or directory"),
        "{error}"
    );
    for dir in dirs(&own.0) {
        assert!(!dir.exists(), "{}", dir.display());
    }
}

#[test]
fn privileged_a_launch_that_ends_takes_back_what_it_made_and_nothing_else() {
    let Some(found) = host() else { return };
    let (own, plan) = planned("back", &Resources::default(), &found);
    let made = make::make(&plan).unwrap();
    assert!(dirs(&own.0).iter().all(|dir| dir.exists()));
    drop(made);
    assert!(dirs(&own.0).iter().all(|dir| !dir.exists()));
    make::make(&plan).unwrap().keep();
    drop(make::make(&plan).unwrap());
    assert!(
        dirs(&own.0).iter().all(|dir| dir.exists()),
        "these were there before"
    );
}

#[test]
fn privileged_an_update_goes_up_and_down_whatever_bounds_what() {
    let Some(found) = host() else { return };
    if found.v1.is_empty() {
        return eprintln!("skipped: no v1 hierarchy is mounted here");
    }
    let (own, plan) = planned("update", &limits(), &found);
    make::make(&plan).unwrap().keep();
    for (limit, swap, quota, period) in [
        (128_i64 << 20, 256_i64 << 20, 200_000_i64, 400_000_u64),
        (512 << 20, 512 << 20, 5_000, 10_000),
        (16 << 20, 32 << 20, 1_000_000, 1_000_000),
        (-1, -1, -1, 100_000),
    ] {
        let resources = Resources {
            memory: Memory {
                limit: Some(limit),
                swap: Some(swap),
                ..Memory::default()
            },
            cpu: Cpu {
                quota: Some(quota),
                period: Some(period),
                ..Cpu::default()
            },
            ..Resources::default()
        };
        let plan = update_plan(own.0.places(), &resources, &found).unwrap();
        assert_eq!(Groups::update(&plan).unwrap(), [""; 0]);
        if limit > 0 {
            assert_eq!(
                value(&own.0, "memory", "memory.limit_in_bytes"),
                limit.to_string()
            );
            assert_eq!(
                value(&own.0, "memory", "memory.memsw.limit_in_bytes"),
                swap.to_string()
            );
        }
        assert_eq!(value(&own.0, "cpu", "cpu.cfs_quota_us"), quota.to_string());
        assert_eq!(
            value(&own.0, "cpu", "cpu.cfs_period_us"),
            period.to_string()
        );
    }
    // More memory than memory and swap together: no order helps.
    let bad = Resources {
        memory: Memory {
            limit: Some(64 << 20),
            swap: Some(32 << 20),
            ..Memory::default()
        },
        ..Resources::default()
    };
    let plan = update_plan(own.0.places(), &bad, &found).unwrap();
    assert!(
        Groups::update(&plan)
            .unwrap_err()
            .to_string()
            .contains("EINVAL")
    );
}

#[test]
fn privileged_a_group_that_is_used_and_a_frozen_one_are_refused() {
    let Some(found) = host() else { return };
    let (own, plan) = planned("used", &Resources::default(), &found);
    make::make(&plan).unwrap().keep();
    let mut child = inhabited(&own.0);
    let refused = make::make(&plan).unwrap_err().to_string();
    assert!(
        refused.contains("container's cgroup is not empty: 1 process(es) found"),
        "{refused}"
    );
    own.0.freeze().unwrap();
    let refused = make::make(&plan).unwrap_err().to_string();
    assert!(
        refused.contains("container's cgroup unexpectedly frozen"),
        "{refused}"
    );
    assert!(
        dirs(&own.0).iter().all(|dir| dir.exists()),
        "what was there stays"
    );
    own.0.thaw().unwrap();
    own.0.signal_all(signal::SIGTERM).unwrap();
    child.wait().unwrap();
}

#[test]
fn privileged_groups_below_are_counted_killed_and_removed() {
    let Some(found) = host() else { return };
    let (own, plan) = planned("nested", &Resources::default(), &found);
    make::make(&plan).unwrap().keep();
    let below = Own(Groups::new(
        own.0
            .places()
            .iter()
            .map(|place| GroupPlace {
                dir: place.dir.join("a/b"),
                ..place.clone()
            })
            .collect(),
    ));
    for (dir, own) in dirs(&below.0).iter().zip(dirs(&own.0)) {
        std::fs::create_dir_all(dir).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = std::fs::read_to_string(own.join(file)) {
                std::fs::write(own.join("a").join(file), &value).unwrap();
                std::fs::write(dir.join(file), &value).unwrap();
            }
        }
    }
    let mut child = inhabited(&below.0);
    assert_eq!(own.0.pids().unwrap(), [i32::try_from(child.id()).unwrap()]);
    // It is reaped while the removal waits for it.
    let reaper = std::thread::spawn(move || child.wait().unwrap());
    own.0.remove(Inside::Killed).unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&reaper.join().unwrap()),
        Some(signal::SIGKILL)
    );
    assert!(dirs(&own.0).iter().all(|dir| !dir.exists()));
}

#[test]
fn privileged_a_container_that_runs_out_of_memory_is_told_once() {
    let Some(found) = host() else { return };
    let resources = Resources {
        memory: Memory {
            limit: Some(8 << 20),
            swap: Some(8 << 20),
            ..Memory::default()
        },
        ..Resources::default()
    };
    if !found
        .v1
        .iter()
        .any(|hierarchy| hierarchy.name.contains("memory"))
    {
        return eprintln!("skipped: memory is not counted on v1 here");
    }
    let (own, plan) = planned("oom", &resources, &found);
    make::make(&plan).unwrap().keep();
    let mut watch = own.0.oom_watch().unwrap().unwrap();
    assert_eq!(watch.look().unwrap(), Oom::Nothing);
    let mut child = inhabit(&own.0, "exec tail /dev/zero");
    let mut told = [watch.watch()];
    assert!(airtight_sys::poll::poll(&mut told, Some(Duration::from_secs(20))).unwrap());
    assert_eq!(watch.look().unwrap(), Oom::Happened);
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()),
        Some(signal::SIGKILL)
    );
    assert!(own.0.oom_kills().unwrap() >= 1);
    own.0.remove(Inside::Kept).unwrap();
    assert!(airtight_sys::poll::poll(&mut [watch.watch()], Some(Duration::from_secs(20))).unwrap());
    assert_eq!(watch.look().unwrap(), Oom::Ended);
}

/// Runs one test again where the v2 tree of this host is all that there is.
fn in_v2_only(test: &str) {
    let Some(found) = host() else { return };
    let Some(v2) = found.v2 else {
        return eprintln!("skipped: no cgroup v2 here");
    };
    let mount = v2.mount.display();
    let script =
        format!("mount --bind {mount} /sys/fs/cgroup && exec \"$0\" --exact \"$1\" --nocapture");
    let status = Command::new("unshare")
        .args(["-m", "--propagation", "private", "/bin/sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .arg(format!("bundle::groups::tests::{test}"))
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(
        status.success(),
        "{test} in a namespace with v2 alone: {status}"
    );
}

fn inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

#[test]
fn privileged_v2_alone_is_made_frozen_counted_and_killed() {
    if !inside() {
        return in_v2_only("privileged_v2_alone_is_made_frozen_counted_and_killed");
    }
    let found = hierarchies().unwrap();
    assert!(found.v1.is_empty(), "{found:?}");
    let (own, plan) = planned("v2", &Resources::default(), &found);
    let made = make::make(&plan).unwrap();
    assert_eq!(made.joins.count(), 1);
    made.keep();
    let mut child = inhabited(&own.0);
    let pid = i32::try_from(child.id()).unwrap();
    assert_eq!(own.0.pids().unwrap(), [pid]);
    own.0.freeze().unwrap();
    assert!(own.0.is_frozen().unwrap());
    own.0.thaw().unwrap();
    assert!(!own.0.is_frozen().unwrap());
    let stats = own.0.stats().unwrap();
    assert!(
        stats["cpu"]["usage"]["total"].as_u64().unwrap() > 0,
        "{stats}"
    );
    assert!(stats["cpu"]["psi"]["some"]["total"].is_u64(), "{stats}");
    assert_eq!(own.0.signal_all(signal::SIGKILL).unwrap(), None);
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()),
        Some(signal::SIGKILL)
    );
    own.0.remove(Inside::Kept).unwrap();

    let asked = Resources {
        pids: Some(5),
        ..Resources::default()
    };
    let refused = group_plan(Some("/x"), "id", false, &asked, &found, false);
    if !found
        .v2
        .unwrap()
        .controllers
        .iter()
        .any(|name| name == "pids")
    {
        assert_eq!(
            refused.unwrap_err().problem,
            "cannot set pids limit: container could not join or create cgroup"
        );
    }
}

#[test]
fn privileged_the_device_program_holds_and_is_replaced_in_one_step() {
    if !inside() {
        return in_v2_only("privileged_the_device_program_holds_and_is_replaced_in_one_step");
    }
    let found = hierarchies().unwrap();
    let rule = |allow, kind, major, minor| DeviceRule {
        allow,
        kind,
        major,
        minor,
        read: true,
        write: true,
        mknod: true,
    };
    let deny = Resources {
        devices: vec![rule(false, DeviceKind::Any, None, None)],
        ..Resources::default()
    };
    let (own, plan) = planned("devices", &deny, &found);
    make::make(&plan).unwrap().keep();
    // kmsg is no device of every container; zero is.
    let opens = |device: &str| {
        let mut child = inhabit(
            &own.0,
            &format!("exec 3< {device} 2> /dev/null && echo yes"),
        );
        let mut said = String::new();
        std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        child.wait().unwrap();
        said == "yes\n"
    };
    assert!(
        std::fs::File::open("/dev/kmsg").is_ok(),
        "it is there outside"
    );
    assert!(opens("/dev/zero") && !opens("/dev/kmsg"));

    let mut allow = deny;
    allow
        .devices
        .push(rule(true, DeviceKind::Character, Some(1), Some(11)));
    let (again, plan) = planned("devices", &allow, &found);
    std::mem::forget(again);
    make::make(&plan).unwrap().keep();
    assert!(opens("/dev/zero") && opens("/dev/kmsg"));
    let dir = Dir::open(&own.0.places()[0]).unwrap();
    assert_eq!(
        airtight_sys::bpf::attached_device_programs(&dir).unwrap(),
        1,
        "none is left beside it"
    );
}
