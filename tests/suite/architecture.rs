//! The rooms' edges, as ARCHITECTURE.md has them: down only.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// A crate and what it may use of ours. `build` uses less than it may.
const ALLOWED: &[(&str, &[&str])] = &[
    ("airtight-profiles", &[]),
    ("airtight-sys", &[]),
    ("airtight-plan", &["airtight-profiles"]),
    ("airtight-image", &["airtight-sys"]),
    ("airtight-sandbox", &["airtight-plan", "airtight-sys"]),
    ("airtight-gate", &["airtight-plan", "airtight-sys"]),
    (
        "airtight-runtime",
        &[
            "airtight-plan",
            "airtight-profiles",
            "airtight-sandbox",
            "airtight-sys",
        ],
    ),
    (
        "airtight-build",
        &[
            "airtight-image",
            "airtight-plan",
            "airtight-profiles",
            "airtight-sandbox",
        ],
    ),
    (
        "airtight",
        &[
            "airtight-build",
            "airtight-image",
            "airtight-plan",
            "airtight-profiles",
            "airtight-sandbox",
        ],
    ),
    ("containerd-shim-airtight-v1", &[]),
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(airtight_tests::repository())
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn crates_use_only_what_lies_below_them() {
    let metadata = metadata();
    let mut seen = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let Some((_, allowed)) = ALLOWED.iter().find(|(room, _)| *room == name) else {
            continue;
        };
        seen.insert(name);
        for dependency in package["dependencies"].as_array().unwrap() {
            if dependency["kind"] == "dev" {
                continue;
            }
            let uses = dependency["name"].as_str().unwrap();
            let ours = ALLOWED.iter().any(|(room, _)| *room == uses);
            assert!(
                !ours || allowed.contains(&uses),
                "{name} may not use {uses}"
            );
        }
    }
    assert_eq!(
        seen.len(),
        ALLOWED.len(),
        "rooms that are missing: {seen:?}"
    );
}

#[test]
fn only_the_system_call_crate_says_unsafe() {
    let root = airtight_tests::repository();
    for room in [
        "profiles",
        "builder/image",
        "builder/build",
        "runtime/plan",
        "runtime/sandbox",
        "runtime/gate",
        "runtime/cli",
        "runtime/oci",
        "runtime/shim",
    ] {
        let source = root.join(room).join("src");
        let entry = ["lib.rs", "main.rs"]
            .iter()
            .map(|file| source.join(file))
            .find(|path| path.exists())
            .unwrap();
        let text = std::fs::read_to_string(&entry).unwrap();
        assert!(
            text.contains("#![forbid(unsafe_code)]"),
            "{}",
            entry.display()
        );
    }
}
