//! Which attempts the sandbox will refuse, by its plan. Pure; wrong in the rare case costs a line too many or too few, never a refusal.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use airtight_plan::address::AddressClass;
use airtight_plan::{ChildStep, Plan};

use super::line::escape;

/// What the payload is about to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Connect {
        to: SocketAddr,
        /// As the kernel names it, if it could be asked.
        protocol: Option<String>,
    },
    /// Opening for writing, at the path where links lead.
    Write {
        path: PathBuf,
    },
    Exec {
        path: PathBuf,
    },
    /// Running a memory file, by this name.
    ExecMemory {
        name: Vec<u8>,
    },
}

/// One refusal, ready to be told: every name in it is escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) refused: &'static str,
    pub(super) target: String,
    pub(super) reason: String,
    /// What the operator adds if it was meant.
    pub(super) fix: Option<String>,
}

/// What the plan allows, as far as attempts are judged by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    endpoints: BTreeSet<SocketAddr>,
    /// What lies on the rootfs, by its place.
    mounts: Vec<(PathBuf, Kind)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Writable,
    ReadOnlyVolume,
    /// `/proc` and `/dev`, where each file has rules of its own.
    Kernel,
}

impl Scope {
    pub(super) fn of(plan: &Plan) -> Self {
        let mut scope = Self::default();
        if let Some(gate) = &plan.gate {
            scope.endpoints.extend(
                gate.endpoints
                    .iter()
                    .flat_map(|endpoint| endpoint.inside.iter().copied()),
            );
        }
        for step in &plan.child {
            if let ChildStep::Tmpfs { path, .. } = step {
                scope.mounts.push((path.clone(), Kind::Writable));
            } else if let ChildStep::Volume {
                destination,
                read_only,
                ..
            } = step
            {
                let kind = if *read_only {
                    Kind::ReadOnlyVolume
                } else {
                    Kind::Writable
                };
                scope.mounts.push((destination.clone(), kind));
            }
        }
        scope.mounts.extend([
            ("/proc".into(), Kind::Kernel),
            ("/dev".into(), Kind::Kernel),
            ("/dev/shm".into(), Kind::Writable),
        ]);
        scope
    }

    /// Of the innermost mount; `None` is the rootfs.
    fn kind(&self, path: &Path) -> Option<Kind> {
        let inside = self
            .mounts
            .iter()
            .filter(|(place, _)| path.starts_with(place));
        inside
            .max_by_key(|(place, _)| place.components().count())
            .map(|(_, kind)| *kind)
    }
}

pub(super) fn judge(scope: &Scope, attempt: &Attempt) -> Option<Refusal> {
    match attempt {
        Attempt::Connect { to, protocol } => connect(scope, *to, protocol.as_deref()),
        Attempt::Write { path } => write(scope, path),
        Attempt::Exec { path } => match scope.kind(path) {
            None => None,
            Some(Kind::Writable | Kind::ReadOnlyVolume | Kind::Kernel) => Some(exec(shown(path))),
        },
        Attempt::ExecMemory { name } => Some(exec(escape(name))),
    }
}

fn connect(scope: &Scope, to: SocketAddr, protocol: Option<&str>) -> Option<Refusal> {
    // A v4 address in v6 clothes is what it is; the payload's own loopback is its own affair; the unspecified address means loopback.
    let to = SocketAddr::new(to.ip().to_canonical(), to.port());
    if scope.endpoints.contains(&to) || to.ip().is_loopback() || to.ip().is_unspecified() {
        return None;
    }
    let udp = protocol.is_some_and(|name| name.starts_with("UDP"));
    let label = match protocol {
        Some(_) if udp => " (udp)",
        Some(name) if name.starts_with("TCP") => " (tcp)",
        Some(_) | None => "",
    };
    let (reason, fix) = if udp {
        ("no endpoint is reached by UDP", None)
    } else {
        let public = if AddressClass::of(to.ip()) == AddressClass::Public {
            " --public"
        } else {
            ""
        };
        (
            "not an allowed endpoint",
            Some(format!("--connect {to}{public}")),
        )
    };
    Some(Refusal {
        refused: "connect",
        target: format!("{to}{label}"),
        reason: reason.into(),
        fix,
    })
}

fn write(scope: &Scope, path: &Path) -> Option<Refusal> {
    let (reason, fix) = match scope.kind(path) {
        Some(Kind::Writable | Kind::Kernel) => return None,
        Some(Kind::ReadOnlyVolume) => (
            "this volume is read-only",
            "its --volume without :ro".to_owned(),
        ),
        // Nothing is mounted over the root itself, so the program must be told another place.
        None => match path.parent().filter(|dir| *dir != Path::new("/")) {
            Some(dir) => ("the image is read-only", format!("--tmpfs {}", shown(dir))),
            None => (
                "the image is read-only",
                "--tmpfs DIR and have it written there".to_owned(),
            ),
        },
    };
    Some(Refusal {
        refused: "write",
        target: shown(path),
        reason: reason.into(),
        fix: Some(fix),
    })
}

fn exec(target: String) -> Refusal {
    let (reason, fix) = (
        "only files of the image are executed",
        "it to a layer of the image",
    );
    Refusal {
        refused: "exec",
        target,
        reason: reason.into(),
        fix: Some(fix.into()),
    }
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope {
            endpoints: [
                "198.18.0.1:6379".parse().unwrap(),
                "[fd00::1]:6379".parse().unwrap(),
            ]
            .into(),
            mounts: vec![
                ("/tmp".into(), Kind::Writable),
                ("/data".into(), Kind::Writable),
                ("/data/fixed".into(), Kind::ReadOnlyVolume),
                ("/dev".into(), Kind::Kernel),
                ("/dev/shm".into(), Kind::Writable),
                ("/proc".into(), Kind::Kernel),
            ],
        }
    }

    #[test]
    fn a_connection_is_told_unless_it_is_an_endpoint_or_the_sandboxs_own() {
        let not = "not an allowed endpoint";
        for (to, protocol, want) in [
            ("198.18.0.1:6379", "TCP", None),
            ("[::ffff:198.18.0.1]:6379", "TCPv6", None),
            ("[fd00::1]:6379", "TCPv6", None),
            ("127.0.0.1:80", "TCP", None),
            ("127.9.9.9:1", "UDP", None),
            ("[::1]:80", "TCPv6", None),
            ("0.0.0.0:80", "TCP", None),
            (
                "198.18.0.1:6380",
                "TCP",
                Some((
                    "198.18.0.1:6380 (tcp)",
                    not,
                    Some("--connect 198.18.0.1:6380"),
                )),
            ),
            (
                "10.0.0.5:5432",
                "TCP",
                Some(("10.0.0.5:5432 (tcp)", not, Some("--connect 10.0.0.5:5432"))),
            ),
            (
                "169.254.169.254:80",
                "",
                Some((
                    "169.254.169.254:80",
                    not,
                    Some("--connect 169.254.169.254:80"),
                )),
            ),
            (
                "[::ffff:1.1.1.1]:443",
                "TCPv6",
                Some((
                    "1.1.1.1:443 (tcp)",
                    not,
                    Some("--connect 1.1.1.1:443 --public"),
                )),
            ),
            (
                "[fd00::2]:1",
                "TCPv6",
                Some(("[fd00::2]:1 (tcp)", not, Some("--connect [fd00::2]:1"))),
            ),
            (
                "8.8.8.8:53",
                "UDP",
                Some(("8.8.8.8:53 (udp)", "no endpoint is reached by UDP", None)),
            ),
        ] {
            let protocol = (!protocol.is_empty()).then(|| protocol.to_owned());
            let got = judge(
                &scope(),
                &Attempt::Connect {
                    to: to.parse().unwrap(),
                    protocol,
                },
            );
            let got = got
                .as_ref()
                .map(|r| (r.target.as_str(), r.reason.as_str(), r.fix.as_deref()));
            assert_eq!(got, want, "{to}");
        }
    }

    #[test]
    fn a_file_is_judged_by_the_mount_that_it_lies_on() {
        for (path, write, exec) in [
            ("/app/main.py", Some("--tmpfs /app"), false),
            ("/new", Some("--tmpfs DIR and have it written there"), false),
            ("/tmp/x", None, true),
            (
                "/tmpx",
                Some("--tmpfs DIR and have it written there"),
                false,
            ),
            ("/data/deep/x", None, true),
            ("/data/fixed/x", Some("its --volume without :ro"), true),
            ("/dev/null", None, true),
            ("/dev/shm/x", None, true),
            ("/proc/self/comm", None, true),
        ] {
            let told = judge(&scope(), &Attempt::Write { path: path.into() });
            assert_eq!(told.and_then(|r| r.fix).as_deref(), write, "write {path}");
            let told = judge(&scope(), &Attempt::Exec { path: path.into() });
            assert_eq!(
                told.map(|r| r.refused),
                exec.then_some("exec"),
                "exec {path}"
            );
        }
        let told = judge(
            &scope(),
            &Attempt::ExecMemory {
                name: b"memfd:\n".to_vec(),
            },
        )
        .unwrap();
        assert_eq!(told.target, "memfd:\\n");
    }
}
