use super::*;

fn read(json: &str) -> (Option<SeccompProfile>, String) {
    let mut problems = Problems::default();
    let mut object = Object::root(serde_json::from_str(json).unwrap());
    let profile = seccomp(&mut object, &mut problems);
    (profile, problems.to_string().replace("\n  ", "\n"))
}

#[test]
fn podmans_profile_is_read_whole() {
    let json = include_str!("../../../../tests/fixtures/seccomp-podman.json");
    let (profile, problems) = read(json);
    let profile = profile.unwrap();
    assert_eq!(problems, "");
    assert_eq!(profile.default_action, SeccompAction::Errno(38));
    assert_eq!(
        profile.architectures,
        ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    );
    assert_eq!(
        profile
            .syscalls
            .iter()
            .map(|rule| rule.names.len())
            .sum::<usize>(),
        437
    );
    assert_eq!(profile.syscalls[0].action, SeccompAction::Errno(1));
    let socket = profile
        .syscalls
        .iter()
        .find(|rule| rule.args.len() == 2)
        .unwrap();
    assert_eq!(
        *socket,
        SeccompRule {
            names: vec!["socket".into()],
            action: SeccompAction::Errno(22),
            args: vec![
                ArgCondition {
                    arg: 0,
                    op: ArgOp::Eq,
                    value: 16
                },
                ArgCondition {
                    arg: 2,
                    op: ArgOp::Eq,
                    value: 9
                },
            ],
        }
    );
}

#[test]
fn every_action_operator_and_flag_is_read() {
    for (name, action) in ACTIONS {
        let json = format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/l", "syscalls": [{{"names": ["read"], "action": "{name}"}}]}}"#
        );
        let (profile, problems) = read(&json);
        assert_eq!(
            (profile.unwrap().syscalls[0].action, &*problems),
            (action, ""),
            "{name}"
        );
    }
    for (name, op, value) in [
        ("SCMP_CMP_NE", ArgOp::Ne, 6),
        ("SCMP_CMP_LT", ArgOp::Lt, 6),
        ("SCMP_CMP_LE", ArgOp::Le, 6),
        ("SCMP_CMP_EQ", ArgOp::Eq, 6),
        ("SCMP_CMP_GE", ArgOp::Ge, 6),
        ("SCMP_CMP_GT", ArgOp::Gt, 6),
        ("SCMP_CMP_MASKED_EQ", ArgOp::Masked(6), 2),
    ] {
        assert!(OPERATORS.contains(&name));
        let json = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": [{{"names": ["read"], "action": "SCMP_ACT_TRACE",
               "errnoRet": 9, "args": [{{"index": 5, "op": "{name}", "value": 6, "valueTwo": 3}}]}}]}}"#
        );
        let (profile, problems) = read(&json);
        let profile = profile.unwrap();
        assert_eq!(problems, "", "{name}");
        assert_eq!(profile.default_action, SeccompAction::Errno(1));
        assert_eq!(profile.flags, ["SECCOMP_FILTER_FLAG_LOG"]);
        assert_eq!(profile.syscalls[0].action, SeccompAction::Trace(9));
        assert_eq!(
            profile.syscalls[0].args,
            [ArgCondition { arg: 5, op, value }],
            "{name}"
        );
    }
}

#[test]
fn a_listener_is_kept_where_somebody_is_told() {
    let with = |rules: &str| {
        format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/l", "listenerMetadata": "m", "syscalls": [{rules}]}}"#
        )
    };
    let (profile, problems) = read(&with(
        r#"{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}"#,
    ));
    let listener = SeccompListener {
        path: "/run/l".into(),
        metadata: "m".into(),
    };
    assert_eq!(
        (profile.unwrap().listener, &*problems),
        (Some(listener), "")
    );
    let (profile, problems) = read(&with(""));
    assert_eq!((profile.unwrap().listener, &*problems), (None, ""));
}

#[test]
fn what_asks_for_nothing_is_no_filter() {
    for json in [
        "{}",
        r#"{"defaultAction": ""}"#,
        r#"{"defaultAction": null, "syscalls": []}"#,
    ] {
        assert_eq!(read(json), (None, String::new()), "{json}");
    }
}

#[test]
fn what_cannot_be_is_told_by_its_key() {
    let cases = [
        (
            r#"{"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#,
            "`defaultAction`: is missing",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_X"}"#,
            "`defaultAction`: is not a valid action for seccomp",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#,
            "`defaultAction`: SCMP_ACT_NOTIFY cannot be used as default action",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}"#,
            "`defaultAction`: returns no error number, and one is given",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 65536}"#,
            "`defaultErrnoRet`: is not an error number",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_VAX"]}"#,
            "`architectures[0]`: `SCMP_ARCH_VAX` is not known for seccomp",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "flags": ["F"]}"#,
            "`flags[0]`: `F` is not known for seccomp",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"action": "SCMP_ACT_ALLOW"}]}"#,
            "`syscalls[0].names`: has an empty name, or none",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read", ""], "action": "SCMP_ACT_ALLOW"}]}"#,
            "`syscalls[0].names`: has an empty name, or none",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"]}]}"#,
            "`syscalls[0].action`: is missing",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}"#,
            "`listenerPath`: is missing, and SCMP_ACT_NOTIFY has nobody to tell",
        ),
    ];
    for (json, want) in cases {
        assert_eq!(read(json).1.trim(), want, "{json}");
    }
    for (condition, want) in [
        (
            r#"{"index": 6, "op": "SCMP_CMP_EQ"}"#,
            "index`: is not 0 to 5",
        ),
        (
            r#"{"index": -1, "op": "SCMP_CMP_EQ"}"#,
            "index`: is not 0 to 5",
        ),
        (
            r#"{"index": 0, "op": "="}"#,
            "op`: is not a valid operator for seccomp",
        ),
        (
            r#"{"index": 0, "op": "SCMP_CMP_EQ", "value": -1}"#,
            "value`: is not a whole number from 0 on",
        ),
    ] {
        let json = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{condition}]}}]}}"#
        );
        assert_eq!(
            read(&json).1.trim(),
            format!("`syscalls[0].args[0].{want}"),
            "{json}"
        );
    }
}

#[test]
fn features_name_what_is_read() {
    let features = features(&["SECCOMP_FILTER_FLAG_LOG"]);
    assert_eq!(features["enabled"], true);
    for (key, count) in [
        ("actions", 9),
        ("operators", 7),
        ("archs", 22),
        ("knownFlags", 4),
        ("supportedFlags", 1),
    ] {
        let names = features[key].as_array().unwrap();
        assert_eq!(names.len(), count, "{key}");
    }
}

/// `make fuzz` runs it for longer.
#[test]
fn any_profile_is_read_or_told() {
    let seed = include_str!("../../../../tests/fixtures/seccomp-podman.json");
    let small = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86"], "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "listenerPath": "/l", "listenerMetadata": "m", "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_NOTIFY",
        "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#;
    let mut words: Vec<&str> = OPERATORS.to_vec();
    words.extend(ACTIONS.map(|(name, _)| name));
    words.extend(SECCOMP_FLAGS.map(|(name, _)| name));
    words.extend([
        "18446744073709551615",
        "-1",
        "null",
        "\"errnoRet\": 1,",
        "{}",
        "[]",
    ]);
    let taken = |input: &[u8]| -> String {
        let Ok(map) = serde_json::from_slice(input) else {
            return "no object".to_owned();
        };
        let mut problems = Problems::default();
        let profile = seccomp(&mut Object::root(map), &mut problems);
        if problems.is_empty() {
            // What is taken is in the kernel's terms.
            let rules = profile.map(|profile| profile.syscalls).unwrap_or_default();
            assert!(rules.iter().flat_map(|rule| &rule.args).all(|c| c.arg < 6));
            airtight_fuzz::TAKEN.to_owned()
        } else {
            problems.to_string()
        }
    };
    airtight_fuzz::fuzz("seccomp-profile", &[seed, small], &words, taken);
}
