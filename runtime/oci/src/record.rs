//! What is written down of a container: enough to tell its state, start it, signal it, enter it and take back all of it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use airtight_plan::Control;
use airtight_plan::bundle::{Config, GroupPlace, GroupPlan, Hook, NamespaceKind};
use airtight_sandbox::StateDocument;
use airtight_sandbox::groups::Groups;
use airtight_sys::process::start_time;
use serde_json::{Value, json};

use crate::report;

/// A process that cannot be mistaken for a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Clock ticks after boot.
    pub(crate) start_time: u64,
}

impl Process {
    /// The second line of a container's state.
    pub(crate) fn to_line(self) -> String {
        format!("[{},{}]\n", self.pid, self.start_time)
    }

    fn from_json(value: &Value) -> Option<Self> {
        Some(Self {
            pid: i32::try_from(value[0].as_i64()?).ok()?,
            start_time: value[1].as_u64()?,
        })
    }

    /// The process of this number now.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        start_time(pid).map(|start_time| Self { pid, start_time })
    }

    /// It is there and more than a zombie.
    pub(crate) fn is_alive(self) -> bool {
        start_time(self.pid) == Some(self.start_time)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) document: StateDocument,
    /// `None` until the container's process is there.
    pub(crate) process: Option<Process>,
    pub(crate) rootfs: PathBuf,
    /// RFC 3339.
    pub(crate) created: String,
    /// The config has a process, so that there is something to start.
    pub(crate) startable: bool,
    /// Its end is the end of every other process of the container.
    pub(crate) own_pid_namespace: bool,
    /// `startContainer` hooks: their failure is an answer to `start`.
    pub(crate) start_hooks: bool,
    pub(crate) poststart: Vec<Hook>,
    pub(crate) poststop: Vec<Hook>,
    pub(crate) groups: Vec<GroupPlace>,
    pub(crate) mode: Mode,
}

/// By which rules the container was made, and `exec` goes on by them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Compat,
    Airtight {
        /// `--profile`.
        profile: Option<String>,
        /// Asks that lie beyond were left out.
        narrow: bool,
        /// `--accept-shortfall`.
        accepted: BTreeSet<Control>,
    },
}

impl Record {
    /// Of a container to be.
    pub(crate) fn new(
        config: &Config,
        id: String,
        bundle: PathBuf,
        groups: &GroupPlan,
        mode: Mode,
    ) -> Self {
        let confined = mode != Mode::Compat;
        let own = |kind| {
            config
                .linux
                .namespaces
                .iter()
                .any(|entry| entry.kind == kind && entry.path.is_none())
        };
        // A sandbox has none, whatever its config says.
        let hooks = |hooks: &[Hook]| if confined { Vec::new() } else { hooks.to_vec() };
        Self {
            document: StateDocument {
                oci_version: config.oci_version.clone(),
                id,
                bundle,
                annotations: config.annotations.clone(),
            },
            process: None,
            rootfs: config.root.path.clone(),
            created: report::now(),
            startable: config.process.is_some(),
            own_pid_namespace: confined || own(NamespaceKind::Pid),
            start_hooks: !hooks(&config.hooks.start_container).is_empty(),
            poststart: hooks(&config.hooks.poststart),
            poststop: hooks(&config.hooks.poststop),
            groups: groups
                .groups
                .iter()
                .map(|group| group.place.clone())
                .collect(),
            mode,
        }
    }

    pub(crate) fn groups(&self) -> Groups {
        Groups::new(self.groups.clone())
    }

    /// One line: all that is known before the container's process is there.
    pub(crate) fn to_line(&self) -> String {
        let Self {
            document,
            process: _,
            rootfs,
            created,
            startable,
            own_pid_namespace,
            start_hooks,
            poststart,
            poststop,
            groups,
            mode,
        } = self;
        let groups: Vec<Value> = groups
            .iter()
            .map(|group| {
                json!([
                    group.hierarchy,
                    group.mount.to_string_lossy(),
                    group.dir.to_string_lossy()
                ])
            })
            .collect();
        let mut value = json!({
            "document": document.json("", None),
            "rootfs": rootfs.to_string_lossy(),
            "created": created,
            "startable": startable,
            "ownPidNamespace": own_pid_namespace,
            "startHooks": start_hooks,
            "poststart": hooks(poststart),
            "poststop": hooks(poststop),
            "groups": groups,
        });
        match mode {
            Mode::Compat => value["compat"] = true.into(),
            Mode::Airtight {
                profile,
                narrow,
                accepted,
            } => {
                let names: Vec<&str> = accepted.iter().map(|control| control.name()).collect();
                value["accepted"] = json!(names);
                value["profile"] = profile.clone().into();
                value["narrow"] = (*narrow).into();
            }
        }
        let mut line = value.to_string();
        line.push('\n');
        line
    }

    /// Of [`Self::to_line`], and [`Process::to_line`] once the process is there. A line that does not end was not written whole.
    pub(crate) fn from_lines(text: &str) -> Option<Self> {
        let (record, rest) = text.split_once('\n')?;
        let mut record = Self::from_json(&serde_json::from_str(record).ok()?)?;
        if let Some((process, _)) = rest.split_once('\n') {
            record.process = Some(Process::from_json(&serde_json::from_str(process).ok()?)?);
        }
        Some(record)
    }

    /// `None` for what this version did not write.
    fn from_json(value: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let document = &value["document"];
        let annotations = document["annotations"].as_object();
        Some(Self {
            document: StateDocument {
                oci_version: text(&document["ociVersion"])?,
                id: text(&document["id"])?,
                bundle: text(&document["bundle"])?.into(),
                annotations: annotations
                    .into_iter()
                    .flatten()
                    .map(|(key, value)| Some((key.clone(), text(value)?)))
                    .collect::<Option<_>>()?,
            },
            process: None,
            rootfs: text(&value["rootfs"])?.into(),
            created: text(&value["created"])?,
            mode: match &value["compat"] {
                Value::Bool(true) => Mode::Compat,
                _ => Mode::Airtight {
                    profile: text(&value["profile"]),
                    narrow: value["narrow"].as_bool()?,
                    accepted: value["accepted"]
                        .as_array()?
                        .iter()
                        .map(|name| name.as_str()?.parse().ok())
                        .collect::<Option<_>>()?,
                },
            },
            startable: value["startable"].as_bool()?,
            own_pid_namespace: value["ownPidNamespace"].as_bool()?,
            start_hooks: value["startHooks"].as_bool()?,
            poststart: hooks_of(&value["poststart"])?,
            poststop: hooks_of(&value["poststop"])?,
            groups: value["groups"]
                .as_array()?
                .iter()
                .map(|group| {
                    Some(GroupPlace {
                        hierarchy: text(&group[0])?,
                        mount: text(&group[1])?.into(),
                        dir: text(&group[2])?.into(),
                    })
                })
                .collect::<Option<_>>()?,
        })
    }
}

fn hooks(hooks: &[Hook]) -> Vec<Value> {
    hooks
        .iter()
        .map(|hook| {
            json!({
                "path": hook.path.to_string_lossy(),
                "args": hook.args,
                "env": hook.env,
                "timeout": hook.timeout_seconds,
            })
        })
        .collect()
}

fn hooks_of(value: &Value) -> Option<Vec<Hook>> {
    let texts = |value: &Value| {
        value
            .as_array()?
            .iter()
            .map(|text| text.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
    };
    value
        .as_array()?
        .iter()
        .map(|hook| {
            Some(Hook {
                path: hook["path"].as_str()?.into(),
                args: texts(&hook["args"])?,
                env: texts(&hook["env"])?,
                timeout_seconds: hook["timeout"].as_u64(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let hook = Hook {
            path: "/h".into(),
            args: vec!["h".into(), "\"x\"".into()],
            env: vec!["A=B".into()],
            timeout_seconds: Some(3),
        };
        let record = Record {
            document: StateDocument {
                oci_version: "1.2.0".into(),
                id: "c".into(),
                bundle: "/b".into(),
                annotations: [("k".to_owned(), "v".to_owned())].into(),
            },
            process: Some(Process {
                pid: 7,
                start_time: u64::MAX,
            }),
            rootfs: "/b/rootfs".into(),
            created: "2026-01-01T00:00:00.000000001Z".into(),
            startable: true,
            own_pid_namespace: false,
            start_hooks: false,
            poststart: vec![
                hook.clone(),
                Hook {
                    timeout_seconds: None,
                    ..hook.clone()
                },
            ],
            poststop: vec![hook],
            groups: vec![GroupPlace {
                hierarchy: "cpu,cpuacct".into(),
                mount: "/sys/fs/cgroup/cpu".into(),
                dir: "a/b".into(),
            }],
            mode: Mode::Compat,
        };
        let creating = Record {
            process: None,
            groups: Vec::new(),
            mode: Mode::Airtight {
                profile: Some("jit".into()),
                narrow: true,
                accepted: [Control::Landlock].into(),
            },
            ..record.clone()
        };
        for record in [record, creating] {
            let mut text = record.to_line();
            assert_eq!(text.matches('\n').count(), 1);
            assert_eq!(Record::from_lines(text.trim_end()), None, "cut");
            if let Some(process) = record.process {
                text.push_str(&process.to_line());
                let cut = Record::from_lines(text.trim_end()).unwrap();
                assert_eq!(cut.process, None);
            }
            assert_eq!(Record::from_lines(&text), Some(record));
        }
        assert_eq!(Record::from_lines("{\"document\":{}}\n"), None);
    }

    /// Whoever can write the state directory is the caller or root; a file that was cut or damaged is still no more than an error.
    #[test]
    fn no_state_is_more_than_an_error() {
        let line = r#"{"document":{"ociVersion":"1.2.0","id":"c","bundle":"/b","annotations":{"k":"v"}},"rootfs":"/r","created":"t","startable":true,"ownPidNamespace":true,"startHooks":false,"poststart":[],"poststop":[{"path":"/h","args":["h"],"env":["A=b"],"timeout":3}],"groups":[["cpu","/m","a/b"]],"compat":true}"#;
        let confined = line.replace(
            r#""compat":true"#,
            r#""accepted":["landlock"],"narrow":true,"profile":"jit""#,
        );
        let process = Process {
            pid: 7,
            start_time: 9,
        };
        let seeds = [
            format!("{line}\n"),
            format!("{confined}\n{}", process.to_line()),
        ];
        let words = [
            "\n",
            "null",
            "-1",
            "[[",
            "\"compat\":false,",
            "1e400",
            "../",
            "{}",
        ];
        airtight_fuzz::fuzz("state", &seeds, &words, |input| {
            let text = String::from_utf8_lossy(input);
            match Record::from_lines(&text) {
                // What was read is written the same.
                Some(record) => {
                    let mut again = record.to_line();
                    if let Some(process) = record.process {
                        again.push_str(&process.to_line());
                    }
                    assert_eq!(Record::from_lines(&again), Some(record));
                    airtight_fuzz::TAKEN.to_owned()
                }
                None => "no state".to_owned(),
            }
        });
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let own = Process::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.is_alive());
        assert!(
            !Process {
                start_time: own.start_time + 1,
                ..own
            }
            .is_alive()
        );
        assert_eq!(Process::of(i32::MAX), None);
    }
}
