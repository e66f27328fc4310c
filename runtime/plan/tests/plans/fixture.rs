//! A spec and a host to start from; each test changes what it is about.

use std::collections::{BTreeMap, BTreeSet};

use airtight_plan::{
    Arch, Audit, Cgroup, CgroupV2, Connect, Have, HostFacts, Init, Limits, Masked, Plan, Process,
    Publish, Refusal, Spec, SubIds, Terminal, plan,
};
use airtight_profiles::{Ceiling, Profile, effective};

pub(crate) fn spec() -> Spec {
    Spec {
        id: "web-1".into(),
        hostname: "web".into(),
        layers: vec![
            "/var/lib/airtight/layers/sha256/aa/rootfs".into(),
            "/var/lib/airtight/layers/sha256/bb/rootfs".into(),
        ],
        write_execute: Vec::new(),
        process: Process {
            args: vec!["/bin/app".into(), "--serve".into()],
            env: vec!["PATH=/usr/bin:/bin".into(), "LANG=C.UTF-8".into()],
            cwd: "/".into(),
            uid: 65532,
            gid: 65532,
            additional_gids: vec![],
            terminal: Terminal::Inherit,
        },
        tmpfs: vec![],
        volumes: vec![],
        limits: Limits::default(),
        connect: vec![],
        publish: vec![],
        listen: BTreeSet::new(),
        public: false,
        init: Init::Ours,
        audit: Audit::Off,
        accepted: BTreeSet::new(),
    }
}

/// Root on a current kernel with cgroup v1.
pub(crate) fn root() -> HostFacts {
    let v1 = ["cpu", "memory", "pids"].map(|name| {
        (
            name.to_owned(),
            format!("/sys/fs/cgroup/{name}/here").into(),
        )
    });
    let mask = |path: &str, directory| Masked {
        path: path.into(),
        directory,
    };
    HostFacts {
        arch: Arch::Amd64,
        kernel: (6, 18),
        euid: 0,
        egid: 0,
        privileged: true,
        user_namespaces: Have::Yes,
        seccomp: true,
        seccomp_notify: true,
        landlock_abi: 7,
        overlay: true,
        idmapped_mounts: true,
        plain_layers: Vec::new(),
        memfd_noexec: true,
        mdwe: true,
        ipv6: true,
        subids: None,
        cgroup: Cgroup {
            v1: BTreeMap::from(v1),
            v2: None,
        },
        proc_to_mask: vec![
            mask("kcore", false),
            mask("keys", false),
            mask("sysrq-trigger", false),
            mask("scsi", true),
        ],
        nofile_hard: 20_000,
        gate: Some("/usr/libexec/airtight-gate".into()),
    }
}

/// A user with no subordinate ids and a delegated cgroup v2.
pub(crate) fn user() -> HostFacts {
    let v2 = CgroupV2 {
        dir: "/sys/fs/cgroup/user.slice/app.scope".into(),
        controllers: vec!["memory".into(), "pids".into()],
    };
    HostFacts {
        euid: 1000,
        egid: 1000,
        privileged: false,
        cgroup: Cgroup {
            v1: BTreeMap::new(),
            v2: Some(v2),
        },
        ..root()
    }
}

pub(crate) fn user_with_range() -> HostFacts {
    let subids = SubIds {
        uids: (100_000, 65_536),
        gids: (100_000, 65_536),
        newuidmap: "/usr/bin/newuidmap".into(),
        newgidmap: "/usr/bin/newgidmap".into(),
    };
    HostFacts {
        subids: Some(subids),
        ..user()
    }
}

pub(crate) fn connect(name: &str, address: Option<&str>, port: u16) -> Connect {
    let address = address
        .map(|text| text.parse().unwrap())
        .or_else(|| name.parse().ok());
    Connect {
        name: name.into(),
        address,
        port,
    }
}

pub(crate) fn publish(address: &str, host_port: u16, port: u16) -> Publish {
    Publish {
        address: address.parse().unwrap(),
        host_port,
        port,
    }
}

pub(crate) fn profile(text: &str) -> Profile {
    Profile::parse(&format!("format = 1\n{text}"), "test.profile.toml".as_ref())
        .unwrap_or_else(|err| panic!("{err}"))
}

/// The whole way from a profile and the operator's flags to a plan.
pub(crate) fn planned(profile_text: &str, spec: &Spec, facts: &HostFacts) -> Result<Plan, Refusal> {
    let policy = effective(
        &profile(profile_text),
        &Ceiling::built_in(),
        &spec.additions()?,
    )
    .unwrap_or_else(|excess| panic!("{excess:?}"));
    plan(spec, &policy, facts)
}
