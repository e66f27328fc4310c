//! `state` and `features` print what the specification's schemas say. The validator knows the words that the two schema files use, and refuses others.

use serde_json::{Value, json};

use crate::harness::{must, sleeps};

const STATE: &str = include_str!("schema/state.json");
const FEATURES: &str = include_str!("schema/features.json");

/// Every place where the value is not what the schema says.
fn violations(schema: &str, value: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(schema).unwrap();
    let mut found = Vec::new();
    check(&schema, &schema, value, "", &mut found);
    found
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    for (word, rule) in schema.as_object().unwrap() {
        let kept = match word.as_str() {
            "$comment" | "$defs" => true,
            "$ref" => {
                let target = rule.as_str().unwrap().trim_start_matches('#');
                check(root, root.pointer(target).unwrap(), value, at, found);
                true
            }
            "type" => match rule.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "integer" => value.is_i64() || value.is_u64(),
                "boolean" => value.is_boolean(),
                other => panic!("type {other} is not known to the validator"),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "required" => rule
                .as_array()
                .unwrap()
                .iter()
                .all(|name| value.get(name.as_str().unwrap()).is_some()),
            "properties" => {
                for (name, rule) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        check(root, rule, value, &format!("{at}/{name}"), found);
                    }
                }
                true
            }
            "additionalProperties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    check(root, rule, value, &format!("{at}/{name}"), found);
                }
                true
            }
            "items" => {
                for (number, value) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, rule, value, &format!("{at}/{number}"), found);
                }
                true
            }
            "uniqueItems" => value.as_array().is_none_or(|items| {
                items
                    .iter()
                    .enumerate()
                    .all(|(number, item)| !items[..number].contains(item))
            }),
            "minimum" => value.as_i64() >= rule.as_i64(),
            "minLength" => value
                .as_str()
                .is_some_and(|text| text.len() as u64 >= rule.as_u64().unwrap()),
            "startsWith" => value
                .as_str()
                .is_some_and(|text| text.starts_with(rule.as_str().unwrap())),
            "semver" => value.as_str().is_some_and(is_version),
            other => panic!("{other} is not known to the validator"),
        };
        if !kept {
            found.push(format!("{at}: {word} {rule}, but it is {value}"));
        }
    }
}

/// `MAJOR.MINOR.PATCH`, with what semantic versions may have after it.
fn is_version(text: &str) -> bool {
    let (numbers, rest) = match text.find(['-', '+']) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let rest_is_legal = rest.is_empty()
        || rest.len() > 1
            && rest
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-+.".contains(&byte));
    let parts: Vec<&str> = numbers.split('.').collect();
    parts.len() == 3 && parts.into_iter().all(number) && rest_is_legal
}

#[test]
fn the_validator_finds_what_is_wrong() {
    let right = json!({ "ociVersion": "1.0.2-dev", "id": "a", "status": "stopped", "pid": 0, "bundle": "/b", "annotations": { "a": "b" } });
    assert_eq!(violations(STATE, &right), [""; 0]);
    for (name, key, value) in [
        ("version of two numbers", "ociVersion", json!("1.0")),
        ("leading zero", "ociVersion", json!("1.02.0")),
        ("empty suffix", "ociVersion", json!("1.0.0-")),
        ("empty id", "id", json!("")),
        ("unknown status", "status", json!("dead")),
        ("pid as text", "pid", json!("1")),
        ("negative pid", "pid", json!(-1)),
        ("relative bundle", "bundle", json!("b")),
        ("annotation of a number", "annotations", json!({ "a": 1 })),
        ("missing id", "id", Value::Null),
    ] {
        let mut wrong = right.clone();
        wrong[key] = value.clone();
        if value.is_null() {
            wrong.as_object_mut().unwrap().remove(key);
        }
        assert_ne!(violations(STATE, &wrong), [""; 0], "{name}");
    }
    let twice = json!({ "ociVersionMin": "1.0.0", "ociVersionMax": "1.2.0", "hooks": ["poststop", "poststop"] });
    assert_eq!(violations(FEATURES, &twice).len(), 1);
}

#[test]
fn privileged_state_is_what_the_schema_says() {
    must("runtime.md: when serialized in JSON, the format MUST adhere to the JSON Schema").holds(
        |place| {
            let container = place.container(|config| {
                sleeps(config);
                config["annotations"] = json!({ "org.example.key": "value" });
            });
            container.ok("create", &[]);
            let created = container.state();
            assert_eq!(violations(STATE, &created), [""; 0], "{created}");
            assert_eq!(created["id"], json!(container.id));
            assert_eq!(created["status"], "created");
            assert_eq!(
                created["bundle"],
                json!(container.bundle.canonicalize().unwrap())
            );
            assert_eq!(
                created["annotations"],
                json!({ "org.example.key": "value" })
            );
            let pid = created["pid"].as_i64().unwrap();
            assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
            container.ok("start", &[]);
            let running = container.state();
            assert_eq!(violations(STATE, &running), [""; 0], "{running}");
            assert_eq!(running["status"], "running");
            assert_eq!(running["pid"], json!(pid));
            assert_eq!(container.kill("KILL").code, Some(0));
            container.becomes("stopped");
            let stopped = container.state();
            assert_eq!(violations(STATE, &stopped), [""; 0], "{stopped}");
        },
    );
}

#[test]
fn privileged_state_tells_what_callers_read_beside_it() {
    must("runc's state has owner, created and rootfs too, which list and callers read").holds(
        |place| {
            let container = place.container(sleeps);
            container.ok("create", &[]);
            let state = container.state();
            assert_eq!(
                state["rootfs"],
                json!(container.rootfs("").canonicalize().unwrap())
            );
            assert_eq!(state["owner"], "");
            let created = state["created"].as_str().unwrap();
            assert!(
                created.len() >= 20 && created.ends_with('Z') && created.contains('T'),
                "{created}"
            );
        },
    );
}

#[test]
fn features_are_what_the_schema_says() {
    must("features.md: a runtime's features MUST be a JSON object of this form").holds(|place| {
        let ran = place.call(&["features"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let features: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(violations(FEATURES, &features), [""; 0], "{features}");
        let names = |pointer: &str| -> Vec<String> {
            let list = features.pointer(pointer).and_then(Value::as_array);
            let list = list.unwrap_or_else(|| panic!("{pointer} is not there: {features}"));
            list.iter()
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect()
        };
        for (pointer, wanted) in [
            (
                "/hooks",
                &[
                    "prestart",
                    "createRuntime",
                    "createContainer",
                    "startContainer",
                    "poststart",
                    "poststop",
                ][..],
            ),
            (
                "/mountOptions",
                &[
                    "bind",
                    "rbind",
                    "ro",
                    "nosuid",
                    "rprivate",
                    "rro",
                    "tmpcopyup",
                ][..],
            ),
            (
                "/linux/namespaces",
                &["cgroup", "ipc", "mount", "network", "pid", "user", "uts"][..],
            ),
            ("/linux/capabilities", &["CAP_CHOWN", "CAP_SYS_ADMIN"][..]),
            (
                "/linux/seccomp/actions",
                &[
                    "SCMP_ACT_ALLOW",
                    "SCMP_ACT_ERRNO",
                    "SCMP_ACT_KILL_PROCESS",
                    "SCMP_ACT_NOTIFY",
                ][..],
            ),
            (
                "/linux/seccomp/operators",
                &["SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ"][..],
            ),
            ("/linux/seccomp/archs", &["SCMP_ARCH_X86_64"][..]),
        ] {
            let names = names(pointer);
            for name in wanted {
                assert!(
                    names.iter().any(|known| known == name),
                    "{pointer} lacks {name}: {names:?}"
                );
            }
        }
    });
}

#[test]
fn features_tell_what_the_specification_brought_since() {
    must("features-linux.md: time namespaces, idmapped mounts, seccomp flags")
        .differs("runc", "since 1.2")
        .holds(|place| {
            let ran = place.call(&["features"]);
            let features: Value = serde_json::from_str(&ran.stdout).unwrap();
            let has = |pointer: &str, name: &str| {
                features
                    .pointer(pointer)
                    .and_then(Value::as_array)
                    .is_some_and(|list| list.iter().any(|known| known == name))
            };
            assert!(has("/linux/namespaces", "time"), "{features}");
            assert_eq!(
                features.pointer("/linux/mountExtensions/idmap/enabled"),
                Some(&json!(true))
            );
            assert!(
                has(
                    "/linux/seccomp/knownFlags",
                    "SECCOMP_FILTER_FLAG_SPEC_ALLOW"
                ),
                "{features}"
            );
        });
}
