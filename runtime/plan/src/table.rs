//! A plan for people: one line for each thing that will be so.

use crate::{ChildStep, ParentStep, Plan};

/// The plan as a table of two columns, with the steps in their order.
#[must_use]
pub fn table(plan: &Plan) -> String {
    let mut rows: Vec<(String, String)> = vec![("sandbox".into(), plan.id.clone())];
    plan.parent.iter().for_each(|step| parent(step, &mut rows));
    if let Some(gate) = &plan.gate {
        for endpoint in &gate.endpoints {
            let inside: Vec<String> = endpoint.inside.iter().map(ToString::to_string).collect();
            rows.push((
                "endpoint".into(),
                format!("{} at {}", endpoint.display, inside.join(" ")),
            ));
        }
        for port in &gate.published {
            rows.push((
                "published".into(),
                format!("{} to {}", port.outside, port.inside),
            ));
        }
    }
    plan.child.iter().for_each(|step| child(step, &mut rows));
    if let Some(millis) = plan.timeout_millis {
        rows.push(("time-out".into(), format!("{millis} ms")));
    }
    for lack in &plan.shortfalls {
        rows.push((
            "shortfall".into(),
            format!("{}: {}", lack.control, lack.why),
        ));
    }
    rows.iter()
        .map(|(name, value)| format!("{name:<18} {value}\n"))
        .collect()
}

fn parent(step: &ParentStep, rows: &mut Vec<(String, String)>) {
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    match step {
        ParentStep::Cgroups { groups } => {
            for group in groups {
                let settings: Vec<String> = group
                    .settings
                    .iter()
                    .map(|(file, value)| format!("{file}={value}"))
                    .collect();
                row(
                    "cgroup",
                    format!("{} {}", group.dir.display(), settings.join(" ")),
                );
            }
        }
        ParentStep::Publish { addresses } => {
            row(
                "host listener",
                addresses
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" "),
            );
        }
        ParentStep::Gate { path } => row("gate", path.display().to_string()),
        ParentStep::Clone { namespaces } => {
            let names: Vec<String> = namespaces
                .iter()
                .map(|namespace| format!("{namespace:?}").to_lowercase())
                .collect();
            row("namespaces", names.join(" "));
        }
        ParentStep::IdMaps(maps) => {
            for (kind, maps) in [("uid map", &maps.uids), ("gid map", &maps.gids)] {
                for map in maps {
                    row(
                        kind,
                        format!(
                            "{} is {} outside, {} ids",
                            map.inside, map.outside, map.count
                        ),
                    );
                }
            }
        }
        ParentStep::IdmapLayers { layers } => layers
            .iter()
            .for_each(|layer| row("layer", format!("{} idmapped", layer.display()))),
        ParentStep::SendLayers { layers } => layers
            .iter()
            .for_each(|layer| row("layer", format!("{} with the host's ids", layer.display()))),
        ParentStep::IdmapVolumes { volumes } => {
            volumes
                .iter()
                .for_each(|volume| row("volume source", format!("{} idmapped", volume.display())));
        }
        ParentStep::Bundle(step) => rows.push(bundle(step)),
        ParentStep::Supervise => {}
    }
}

fn child(step: &ChildStep, rows: &mut Vec<(String, String)>) {
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    match step {
        ChildStep::Loopback { addresses } => {
            row(
                "lo",
                addresses
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" "),
            );
        }
        ChildStep::Sysctl { path, value } => row("sysctl", format!("{} = {value}", path.display())),
        ChildStep::Rootfs { layers, count, .. } => {
            for layer in layers.iter().flatten() {
                row("layer", layer.display().to_string());
            }
            row(
                "mount /",
                format!("overlay of {count} layers, read-only, no upper"),
            );
        }
        ChildStep::Proc => row("mount /proc", "proc read-only nosuid nodev noexec".into()),
        ChildStep::MaskProc { path, .. } => row("masked", format!("/proc/{}", path.display())),
        ChildStep::Dev { nodes, shm_bytes } => {
            let nodes: Vec<String> = nodes
                .iter()
                .map(|node| format!("{node:?}").to_lowercase())
                .collect();
            row(
                "mount /dev",
                format!(
                    "tmpfs read-only noexec: {}; shm {shm_bytes} bytes",
                    nodes.join(" ")
                ),
            );
        }
        ChildStep::Tmpfs { path, bytes, .. } => row(
            "mount",
            format!(
                "{} tmpfs nosuid nodev noexec, {bytes} bytes",
                path.display()
            ),
        ),
        ChildStep::Volume {
            destination,
            read_only,
            ..
        } => {
            let mode = if *read_only { "read-only" } else { "writable" };
            row(
                "mount",
                format!(
                    "{} volume nosuid nodev noexec {mode}",
                    destination.display()
                ),
            );
        }
        ChildStep::Hostname { name } => row("hostname", name.clone()),
        ChildStep::Rlimit {
            resource,
            soft,
            hard,
        } => row(
            "rlimit",
            format!("{resource:?} {soft} of {hard}").to_lowercase(),
        ),
        ChildStep::Umask { mask } => row("umask", format!("{mask:04o}")),
        ChildStep::SetIds { uid, gid, groups } => {
            let groups = groups
                .iter()
                .flatten()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ");
            row(
                "user",
                format!("uid {uid} gid {gid} groups [{groups}], no capability"),
            );
        }
        ChildStep::WorkingDirectory { path } => {
            row("working directory", path.display().to_string())
        }
        ChildStep::Landlock(rules) => landlock(rules, rows),
        ChildStep::Canary { probes } => {
            row(
                "canary",
                probes
                    .iter()
                    .map(|probe| format!("{probe:?}"))
                    .collect::<Vec<_>>()
                    .join(" "),
            );
        }
        ChildStep::Seccomp(filter) => seccomp(filter, rows),
        ChildStep::Exec { args, env } => {
            row(
                "execute",
                args.iter()
                    .map(|arg| format!("{arg:?}"))
                    .collect::<Vec<_>>()
                    .join(" "),
            );
            // Names only: a value may be a secret, and this table goes to logs.
            let names: Vec<&str> = env
                .iter()
                .filter_map(|pair| pair.split('=').next())
                .collect();
            row("environment", names.join(" "));
        }
        ChildStep::DieWithParent
        | ChildStep::JoinCgroups
        | ChildStep::UnshareCgroup
        | ChildStep::AwaitParent
        | ChildStep::BecomeNamespaceRoot
        | ChildStep::SlavePropagation
        | ChildStep::GateSockets { .. }
        | ChildStep::PivotRoot
        | ChildStep::VerifyMounts
        | ChildStep::SessionKeyring
        | ChildStep::CloseDescriptors => {}
        ChildStep::Terminal => row("terminal", "of its own".into()),
        ChildStep::PipeStreams => row("streams", "files and sockets behind pipes".into()),
        ChildStep::NewSession => row("session", "of its own, keyring too".into()),
        ChildStep::DropBoundingSet => row("bounding set", "empty".into()),
        ChildStep::SecureBits => row("securebits", "locked".into()),
        ChildStep::ClearCapabilities => row("capabilities", "none in any set".into()),
        ChildStep::NoNewPrivs => row("no_new_privs", "on".into()),
        ChildStep::NotDumpable => row("dumpable", "no, until exec".into()),
        ChildStep::DenyWriteExecute => row("write-execute", "denied by the kernel".into()),
        ChildStep::Init => row("pid 1", "ours, confined".into()),
        ChildStep::Bundle(step) => rows.push(bundle(step)),
    }
}

/// A bundle's step by its name, with what its JSON says.
fn bundle(step: &impl serde::Serialize) -> (String, String) {
    let mut value = serde_json::to_value(step).unwrap_or_default();
    let name = value
        .as_object_mut()
        .and_then(|map| map.remove("bundle-step"))
        .and_then(|name| name.as_str().map(str::to_owned))
        .unwrap_or_default();
    (name, value.to_string())
}

fn landlock(rules: &crate::LandlockRules, rows: &mut Vec<(String, String)>) {
    let paths = |paths: &[std::path::PathBuf]| {
        paths
            .iter()
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let ports = rules
        .bind_tcp
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ");
    let scopes = if rules.scopes { "on" } else { "off" };
    for (name, value) in [
        ("landlock", format!("ABI {}, scopes {scopes}", rules.abi)),
        ("  no execution", paths(&rules.no_execute)),
        ("  write", paths(&rules.write)),
        ("  devices", paths(&rules.devices)),
        ("  bind tcp", ports),
    ] {
        rows.push((name.to_owned(), value));
    }
}

fn seccomp(filter: &airtight_profiles::SeccompFilter, rows: &mut Vec<(String, String)>) {
    let names = |rules: &[airtight_profiles::SyscallRule]| {
        let mut names: Vec<String> = Vec::new();
        for rule in rules {
            let name = if rule.when.is_empty() {
                rule.name.clone()
            } else {
                format!("{}(…)", rule.name)
            };
            if names.last() != Some(&name) {
                names.push(name);
            }
        }
        names.join(" ")
    };
    rows.push(("seccomp".into(), filter.digest()));
    rows.push(("  allowed".into(), names(&filter.allow)));
    rows.push(("  told".into(), names(&filter.notify)));
    rows.push(("  not there".into(), filter.enosys.join(" ")));
}
