//! What this host gives, said to its operator: each control, whether it is there, what its absence costs, and what would turn it on. Pure
//! over the facts of the probe.

use airtight_plan::{Have, HostFacts};
use serde::Serialize;

/// One line of `airtight doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    pub name: &'static str,
    pub state: State,
    /// What is there, or what its absence costs.
    pub says: String,
    /// What the operator can do; empty where there is nothing to do.
    pub fix: String,
}

/// How much of it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    On,
    Partly,
    Off,
}

/// A fact that is there or not.
struct Simple {
    name: &'static str,
    there: bool,
    gives: &'static str,
    costs: &'static str,
    fix: &'static str,
}

/// All rows, what a launch cannot do without first.
#[must_use]
pub fn doctor(facts: &HostFacts) -> Vec<Row> {
    let mut rows = vec![user_namespaces(facts)];
    rows.extend(required(facts).map(row));
    rows.push(landlock(facts.landlock_abi));
    rows.extend(accepted(facts).map(row));
    rows.push(identity(facts));
    rows.push(limits(facts));
    rows
}

fn row(fact: Simple) -> Row {
    let Simple {
        name,
        there,
        gives,
        costs,
        fix,
    } = fact;
    let (state, says, fix) = if there {
        (State::On, gives, "")
    } else {
        (State::Off, costs, fix)
    };
    Row {
        name,
        state,
        says: says.to_owned(),
        fix: fix.to_owned(),
    }
}

fn user_namespaces(facts: &HostFacts) -> Row {
    let name = "user namespaces";
    match &facts.user_namespaces {
        Have::Yes => Row {
            name,
            state: State::On,
            says: "no id of the host exists inside".to_owned(),
            fix: String::new(),
        },
        Have::No(why) => {
            let (why, fix) = why
                .split_once("; ")
                .unwrap_or((why, "use a kernel with CONFIG_USER_NS"));
            Row {
                name,
                state: State::Off,
                says: format!("nothing can be launched: {why}"),
                fix: fix.to_owned(),
            }
        }
    }
}

/// Without these nothing is launched.
fn required(facts: &HostFacts) -> impl Iterator<Item = Simple> {
    [
        Simple {
            name: "seccomp",
            there: facts.seccomp,
            gives: "system calls are an allowlist",
            costs: "nothing can be launched",
            fix: "use a kernel with CONFIG_SECCOMP_FILTER",
        },
        Simple {
            name: "overlay",
            there: facts.overlay,
            gives: "layers are joined in the kernel",
            costs: "nothing can be launched",
            fix: "modprobe overlay; it needs Linux 5.11",
        },
        Simple {
            name: "gate",
            there: facts.gate.is_some(),
            gives: "--connect and --publish carry traffic",
            costs: "a sandbox has no network at all: --connect and --publish are refused",
            fix: "install airtight-gate beside airtight",
        },
    ]
    .into_iter()
}

/// A launch goes without these if the operator accepts it, or needs them for a part only.
fn accepted(facts: &HostFacts) -> impl Iterator<Item = Simple> {
    [
        Simple {
            name: "audit-listener",
            there: facts.seccomp_notify,
            gives: "refusals are told",
            costs: "refusals are silent",
            fix: "Linux 5.5",
        },
        Simple {
            name: "memfd-noexec",
            there: facts.memfd_noexec,
            gives: "memory files cannot be executed, in the pid namespace",
            costs: "payloads get no memory files at all, unless accepted by name",
            fix: "Linux 6.6",
        },
        Simple {
            name: "deny-write-execute",
            there: facts.mdwe,
            gives: "memory that was written is never executed",
            costs: "the filter alone keeps written memory from being executed",
            fix: "Linux 6.3",
        },
        Simple {
            name: "idmapped-mounts",
            there: facts.idmapped_mounts || !facts.privileged,
            gives: "files inside have the ids of the image",
            costs: "as root, files of the image belong to nobody inside",
            fix: "Linux 5.19",
        },
        Simple {
            name: "ipv6",
            there: facts.ipv6,
            gives: "endpoints have an address of each family",
            costs: "endpoints have an IPv4 address only",
            fix: "boot without ipv6.disable=1",
        },
    ]
    .into_iter()
}

fn landlock(abi: u32) -> Row {
    let (state, says, fix) = match abi {
        0 => (
            State::Off,
            "files and ports are fenced by mounts and namespaces only",
            "Linux 5.13 with `landlock` in the lsm= boot parameter",
        ),
        1..=3 => (
            State::Partly,
            "binding of ports, abstract sockets and signals are not fenced a second time",
            "Linux 6.12",
        ),
        4 | 5 => (
            State::Partly,
            "abstract sockets and signals are not fenced a second time",
            "Linux 6.12",
        ),
        6.. => (State::On, "files, ports, abstract sockets and signals", ""),
    };
    Row {
        name: "landlock",
        state,
        says: format!("ABI {abi}: {says}"),
        fix: fix.to_owned(),
    }
}

fn identity(facts: &HostFacts) -> Row {
    let (state, says, fix) = match (facts.privileged, &facts.subids) {
        (true, _) => (
            State::On,
            "root: every id of an image, mapped to high ids of the host".to_owned(),
            "",
        ),
        (false, Some(ids)) => {
            let whole = ids.uids.1 >= 65_535 && ids.gids.1 >= 65_535;
            let says = format!(
                "rootless with {} subordinate uids and {} gids",
                ids.uids.1, ids.gids.1
            );
            if whole {
                (State::On, says, "")
            } else {
                (
                    State::Partly,
                    says,
                    "give ranges of 65536 in /etc/subuid and /etc/subgid",
                )
            }
        }
        (false, None) => (
            State::Partly,
            "rootless with one id: the payload is the caller, and files of the image belong to it"
                .to_owned(),
            "install uidmap and give the user a range: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER",
        ),
    };
    Row {
        name: "ids",
        state,
        says,
        fix: fix.to_owned(),
    }
}

fn limits(facts: &HostFacts) -> Row {
    let given = |name: &str| {
        let unified = facts
            .cgroup
            .v2
            .as_ref()
            .is_some_and(|v2| v2.controllers.iter().any(|controller| controller == name));
        unified || facts.cgroup.v1.contains_key(name)
    };
    let flags = [
        ("memory", "--memory"),
        ("pids", "--pids"),
        ("cpu", "--cpus"),
    ];
    let (have, lack): (Vec<_>, Vec<_>) =
        flags.iter().partition(|(controller, _)| given(controller));
    let names = |flags: &[&(&str, &str)]| {
        flags
            .iter()
            .map(|(_, flag)| *flag)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let fix =
        "run below a delegated cgroup: systemd-run --user --scope -p Delegate=yes airtight run …";
    let (state, says) = match (have.as_slice(), lack.as_slice()) {
        (have, []) => (State::On, format!("{} are enforced", names(have))),
        ([], lack) => (State::Off, format!("{} are refused", names(lack))),
        (have, lack) => (
            State::Partly,
            format!("{} enforced; {} refused", names(have), names(lack)),
        ),
    };
    Row {
        name: "limits",
        state,
        says,
        fix: if lack.is_empty() {
            String::new()
        } else {
            fix.to_owned()
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use airtight_plan::{Arch, Cgroup, SubIds};

    use super::*;

    fn facts() -> HostFacts {
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
                v1: BTreeMap::from(
                    ["memory", "pids", "cpu"].map(|name| (name.to_owned(), "/x".into())),
                ),
                v2: None,
            },
            proc_to_mask: Vec::new(),
            nofile_hard: 1024,
            gate: Some("/x/airtight-gate".into()),
        }
    }

    #[test]
    fn a_host_with_everything_has_nothing_to_fix() {
        for row in doctor(&facts()) {
            assert_eq!(
                (row.state, row.fix.as_str()),
                (State::On, ""),
                "{}",
                row.name
            );
        }
    }

    #[test]
    fn what_is_missing_has_a_price_and_a_fix() {
        type Change = fn(&mut HostFacts);
        let cases: [(&str, Change, State, &str); 10] = [
            (
                "user namespaces",
                |f| f.user_namespaces = Have::No("x is 0; sysctl -w x=1".into()),
                State::Off,
                "x is 0",
            ),
            (
                "seccomp",
                |f| f.seccomp = false,
                State::Off,
                "nothing can be launched",
            ),
            ("gate", |f| f.gate = None, State::Off, "no network"),
            ("landlock", |f| f.landlock_abi = 0, State::Off, "ABI 0"),
            ("landlock", |f| f.landlock_abi = 4, State::Partly, "ABI 4"),
            (
                "memfd-noexec",
                |f| f.memfd_noexec = false,
                State::Off,
                "no memory files",
            ),
            ("ids", |f| f.privileged = false, State::Partly, "one id"),
            (
                "ids",
                |f| {
                    let of = |name: &str| format!("/usr/bin/{name}").into();
                    f.privileged = false;
                    f.subids = Some(SubIds {
                        uids: (100_000, 10),
                        gids: (100_000, 10),
                        newuidmap: of("newuidmap"),
                        newgidmap: of("newgidmap"),
                    });
                },
                State::Partly,
                "10 subordinate uids",
            ),
            (
                "limits",
                |f| drop(f.cgroup.v1.remove("cpu")),
                State::Partly,
                "--cpus refused",
            ),
            (
                "limits",
                |f| f.cgroup = Cgroup::default(),
                State::Off,
                "--memory, --pids, --cpus are refused",
            ),
        ];
        for (name, change, state, says) in cases {
            let mut facts = facts();
            change(&mut facts);
            let row = doctor(&facts)
                .into_iter()
                .find(|row| row.name == name)
                .unwrap();
            assert!(
                row.state == state && row.says.contains(says) && !row.fix.is_empty(),
                "{name}: {row:?}"
            );
        }
    }
}
