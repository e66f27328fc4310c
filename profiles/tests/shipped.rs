//! The profiles that are shipped: what they must hold whatever is edited in them.

#![expect(
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test's own functions may end it"
)]

use std::path::Path;

use airtight_profiles::{
    Additions, ArgOp, Ceiling, Policy, Profile, SHIPPED, SeccompFilter, effective, shipped,
};

fn policy(name: &str) -> Policy {
    shipped(name)
        .unwrap_or_else(|| panic!("{name} does not parse"))
        .policy()
}

/// Whether the filter lets the call pass with these arguments.
fn allows(filter: &SeccompFilter, name: &str, args: [u64; 6]) -> bool {
    filter
        .allow
        .iter()
        .filter(|rule| rule.name == name)
        .any(|rule| {
            rule.when.iter().all(|condition| {
                let arg = args[usize::from(condition.arg)];
                match condition.op {
                    ArgOp::Eq => arg == condition.value,
                    ArgOp::Masked(mask) => arg & mask == condition.value,
                    ArgOp::Ne | ArgOp::Lt | ArgOp::Le | ArgOp::Gt | ArgOp::Ge => {
                        panic!("a profile's conditions are masked equalities")
                    }
                }
            })
        })
}

#[test]
fn every_shipped_profile_is_within_the_built_in_ceiling() {
    for name in SHIPPED {
        let profile = shipped(name).unwrap_or_else(|| panic!("{name} does not parse"));
        let got = effective(&profile, &Ceiling::built_in(), &Additions::default());
        assert_eq!(got, Ok(profile.policy()), "{name}");
    }
}

#[test]
fn no_shipped_profile_grants_what_leads_out() {
    // DESIGN's invariant 5, and the calls that later kernels added beside them.
    let never = [
        "unshare",
        "setns",
        "mount",
        "umount2",
        "pivot_root",
        "chroot",
        "open_tree",
        "open_tree_attr",
        "move_mount",
        "fsopen",
        "fsconfig",
        "fsmount",
        "fspick",
        "mount_setattr",
        "statmount",
        "listmount",
        "keyctl",
        "add_key",
        "request_key",
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "process_madvise",
        "pidfd_getfd",
        "kcmp",
        "quotactl",
        "quotactl_fd",
        "kexec_load",
        "kexec_file_load",
        "init_module",
        "finit_module",
        "delete_module",
        "reboot",
        "swapon",
        "swapoff",
        "settimeofday",
        "clock_settime",
        "adjtimex",
        "clock_adjtime",
        "acct",
        "nfsservctl",
        "name_to_handle_at",
        "open_by_handle_at",
        "lookup_dcookie",
        "iopl",
        "ioperm",
        "syslog",
        "vhangup",
        "sethostname",
        "setdomainname",
        "modify_ldt",
        "memfd_secret",
        "fanotify_init",
        "clone3",
        "lsm_set_self_attr",
        "uselib",
        "ustat",
        "sysfs",
        "vmsplice",
        "remap_file_pages",
        "move_pages",
        "migrate_pages",
        "mbind",
        "set_mempolicy",
        "process_mrelease",
    ];
    for name in SHIPPED {
        let filter = policy(name).filter();
        for call in never {
            assert!(
                !filter.allow.iter().any(|rule| rule.name == call),
                "{name} grants {call}"
            );
        }
    }
}

#[test]
fn arguments_decide_where_the_name_alone_would_grant_too_much() {
    const HIGH: u64 = 0xdead_0000_0000;
    let service = policy("service").filter();
    let jit = policy("jit").filter();
    for (what, name, args, in_service, in_jit) in [
        ("a thread", "clone", [0x3d0f00, 0, 0, 0, 0, 0], true, true),
        (
            "a user namespace",
            "clone",
            [0x1000_0011, 0, 0, 0, 0, 0],
            false,
            false,
        ),
        (
            "a mount namespace",
            "clone",
            [0x0002_0011, 0, 0, 0, 0, 0],
            false,
            false,
        ),
        ("TCP", "socket", [2, 1 | 0o2000000, 6, 0, 0, 0], true, true),
        ("UDP over IPv6", "socket", [10, 2, 0, 0, 0, 0], true, true),
        ("a unix stream", "socket", [1, 1, 0, 0, 0, 0], true, true),
        ("a raw socket", "socket", [2, 3, 1, 0, 0, 0], false, false),
        ("a ping socket", "socket", [2, 2, 1, 0, 0, 0], false, false),
        ("MPTCP", "socket", [2, 1, 262, 0, 0, 0], false, false),
        (
            "a packet socket",
            "socket",
            [17, 3, 0, 0, 0, 0],
            false,
            false,
        ),
        (
            "a packet socket with high bits",
            "socket",
            [17 | HIGH, 3, 0, 0, 0, 0],
            false,
            false,
        ),
        ("vsock", "socket", [40, 1, 0, 0, 0, 0], false, false),
        ("AF_ALG", "socket", [38, 5, 0, 0, 0, 0], false, false),
        (
            "route netlink",
            "socket",
            [16, 3 | 0o2000000, 0, 0, 0, 0],
            true,
            true,
        ),
        ("audit netlink", "socket", [16, 3, 9, 0, 0, 0], false, false),
        ("TCGETS", "ioctl", [0, 0x5401, 0, 0, 0, 0], true, true),
        ("FIONBIO", "ioctl", [0, 0x5421, 0, 0, 0, 0], true, true),
        ("TIOCSTI", "ioctl", [0, 0x5412, 0, 0, 0, 0], false, false),
        (
            "TIOCSTI with high bits",
            "ioctl",
            [0, 0x5412 | HIGH, 0, 0, 0, 0],
            false,
            false,
        ),
        ("TIOCLINUX", "ioctl", [0, 0x541c, 0, 0, 0, 0], false, false),
        ("TIOCSETD", "ioctl", [0, 0x5423, 0, 0, 0, 0], false, false),
        (
            "writable memory",
            "mmap",
            [0, 4096, 3, 0x22, 0, 0],
            true,
            true,
        ),
        ("code of a file", "mmap", [0, 4096, 5, 2, 3, 0], true, true),
        (
            "anonymous code",
            "mmap",
            [0, 4096, 5, 0x22, 0, 0],
            false,
            true,
        ),
        ("writable code", "mmap", [0, 4096, 7, 2, 3, 0], false, true),
        (
            "memory made code",
            "mprotect",
            [0, 4096, 5, 0, 0, 0],
            false,
            true,
        ),
        (
            "memory made code by key",
            "pkey_mprotect",
            [0, 4096, 5, 0, 0, 0],
            false,
            true,
        ),
        (
            "memory made read-only",
            "mprotect",
            [0, 4096, 1, 0, 0, 0],
            true,
            true,
        ),
        (
            "a memfd, which can be mapped as code",
            "memfd_create",
            [0, 0, 0, 0, 0, 0],
            false,
            true,
        ),
        (
            "shared memory as code",
            "shmat",
            [0, 0, 0o100000, 0, 0, 0],
            false,
            false,
        ),
        ("shared memory", "shmat", [0, 0, 0, 0, 0, 0], true, true),
        (
            "the personality asked for",
            "personality",
            [0xffff_ffff, 0, 0, 0, 0, 0],
            true,
            true,
        ),
        (
            "READ_IMPLIES_EXEC",
            "personality",
            [0x0040_0000, 0, 0, 0, 0, 0],
            false,
            false,
        ),
        (
            "no address randomisation",
            "personality",
            [0x0004_0000, 0, 0, 0, 0, 0],
            false,
            false,
        ),
        ("a fifo", "mknodat", [0, 0, 0o010644, 0, 0, 0], true, true),
        (
            "a block device",
            "mknodat",
            [0, 0, 0o060644, 0, 0, 0],
            false,
            false,
        ),
        (
            "a character device",
            "mknod",
            [0, 0o020644, 0, 0, 0, 0],
            false,
            false,
        ),
        ("its own name", "prctl", [15, 0, 0, 0, 0, 0], true, true),
        ("PR_SET_MM", "prctl", [35, 0, 0, 0, 0, 0], false, false),
        (
            "PR_SET_SECUREBITS",
            "prctl",
            [28, 0, 0, 0, 0, 0],
            false,
            false,
        ),
        ("PR_CAP_AMBIENT", "prctl", [47, 0, 0, 0, 0, 0], false, false),
        (
            "a filter that narrows",
            "seccomp",
            [1, 0, 0, 0, 0, 0],
            true,
            true,
        ),
        (
            "a filter with a listener",
            "seccomp",
            [1, 8, 0, 0, 0, 0],
            false,
            false,
        ),
    ] {
        assert_eq!(allows(&service, name, args), in_service, "service: {what}");
        assert_eq!(allows(&jit, name, args), in_jit, "jit: {what}");
    }
}

#[test]
fn the_base_profile_asks_for_less_than_the_others() {
    let base = policy("base");
    for name in ["service", "jit", "build"] {
        assert_eq!(base.exceeds(&policy(name)), [], "{name}");
    }
    assert!(!policy("service").exceeds(&base).is_empty());
    assert!(!policy("jit").exceeds(&policy("service")).is_empty());
}

#[test]
fn clone3_is_answered_as_absent_so_that_libc_falls_back() {
    for name in SHIPPED {
        assert_eq!(policy(name).filter().enosys, ["clone3"], "{name}");
    }
}

#[test]
fn the_digest_follows_the_rules() {
    let (service, jit) = (policy("service").filter(), policy("jit").filter());
    assert_eq!(service.digest(), policy("service").filter().digest());
    assert_ne!(service.digest(), jit.digest());
    assert_eq!(service.digest().len(), 64);
}

#[test]
fn the_published_schema_knows_every_key_that_shipped_profiles_use() {
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../profile.schema.json")).unwrap();
    for name in SHIPPED {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{name}.profile.toml"));
        #[expect(
            clippy::disallowed_methods,
            reason = "the test looks at the file as it is shipped"
        )]
        let text = std::fs::read_to_string(path).unwrap();
        let table: toml::Table = text.parse().unwrap();
        described(&schema, &schema, &toml::Value::Table(table), name);
    }
}

/// Each key of `value` is a property of `schema`, all the way down.
fn described(root: &serde_json::Value, schema: &serde_json::Value, value: &toml::Value, at: &str) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => root
            .pointer(reference.trim_start_matches('#'))
            .unwrap_or_else(|| panic!("{at}: {reference}")),
        None => schema,
    };
    match value {
        toml::Value::Table(table) => {
            assert_eq!(schema["additionalProperties"], false, "{at}");
            for (key, value) in table {
                let property = &schema["properties"][key];
                assert!(!property.is_null(), "{at}: `{key}` is not in the schema");
                described(root, property, value, &format!("{at}.{key}"));
            }
        }
        toml::Value::Array(values) => values
            .iter()
            .for_each(|value| described(root, &schema["items"], value, at)),
        _ => {}
    }
}

#[test]
fn a_profile_of_its_own_keeps_its_bytes_through_json() {
    for name in SHIPPED {
        let json = shipped(name).unwrap().canonical_json();
        assert!(json.len() < 64 * 1024, "{name}: {} bytes", json.len());
    }
    let text = "format = 1\nextends = 'jit'\nlisten = [{ port = 8080, why = 'http' }]";
    let profile = Profile::parse(text, Path::new("a.profile.toml")).unwrap();
    assert_eq!(
        profile.canonical_json(),
        r#"{"extends":"jit","format":1,"listen":[{"port":8080,"why":"http"}]}"#
    );
    assert_eq!(
        Profile::from_canonical_json(&profile.canonical_json()),
        Ok(profile)
    );
}
