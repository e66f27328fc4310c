//! Whole plans against files: a change of policy shows as a diff of what a sandbox does. `BLESS=1` rewrites them.

use std::path::Path;

use airtight_plan::{Audit, Control, HostFacts, Limits, Plan, Spec, Volume};

use crate::fixture::{connect, planned, publish, root, spec, user, user_with_range};

#[expect(
    clippy::disallowed_methods,
    reason = "golden files are files, and BLESS is how they are written"
)]
fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(name);
    if std::env::var("BLESS").is_ok() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let want = std::fs::read_to_string(&path)
        .unwrap_or_else(|err| panic!("{}: {err}; BLESS=1 writes it", path.display()));
    assert!(
        want == text,
        "{} differs; look at the diff after BLESS=1\n{text}",
        path.display()
    );
}

fn busy() -> Spec {
    Spec {
        connect: vec![
            connect("redis", Some("10.0.0.5"), 6379),
            connect("db.internal", None, 5432),
            connect("10.0.0.9", None, 80),
        ],
        publish: vec![publish("127.0.0.1", 8080, 80)],
        limits: Limits {
            memory: Some(256 << 20),
            pids: Some(128),
            cpu_millis: Some(1500),
            timeout_millis: Some(60_000),
        },
        volumes: vec![Volume {
            source: "/srv/site".into(),
            destination: "/srv/site".into(),
            read_only: true,
        }],
        audit: Audit::Stderr,
        ..spec()
    }
}

fn old_kernel() -> HostFacts {
    HostFacts {
        kernel: (5, 15),
        landlock_abi: 0,
        memfd_noexec: false,
        mdwe: false,
        ..root()
    }
}

fn plans() -> Vec<(&'static str, Plan)> {
    let accepted = Spec {
        accepted: [Control::Landlock, Control::MemfdNoexec].into(),
        ..spec()
    };
    [
        ("root-base", planned("", &spec(), &root())),
        (
            "root-service-busy",
            planned("extends = 'service'", &busy(), &root()),
        ),
        (
            "rootless-single",
            planned("extends = 'service'", &spec(), &user()),
        ),
        (
            "rootless-range",
            planned("extends = 'service'", &spec(), &user_with_range()),
        ),
        ("root-jit", planned("extends = 'jit'", &spec(), &root())),
        (
            "no-landlock-accepted",
            planned("extends = 'jit'", &accepted, &old_kernel()),
        ),
    ]
    .map(|(name, plan)| (name, plan.unwrap_or_else(|err| panic!("{name}: {err}"))))
    .into()
}

#[test]
fn the_plans_are_as_written_down() {
    for (name, plan) in plans() {
        assert_golden(
            &format!("plan-{name}.json"),
            &format!("{}\n", serde_json::to_string_pretty(&plan).unwrap()),
        );
    }
}

#[test]
fn the_table_of_a_busy_service_is_as_written_down() {
    let plan = planned("extends = 'service'", &busy(), &root()).unwrap();
    assert_golden("plan-root-service-busy.txt", &airtight_plan::table(&plan));
}

#[test]
fn a_plan_is_the_same_after_json() {
    for (name, plan) in plans() {
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan, "{name}");
    }
}
