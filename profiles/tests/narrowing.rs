//! Policies only ever narrow: the laws of `tighten`, over policies made at random.

#![expect(
    clippy::panic,
    reason = "a strategy that makes a bad case is a bad test"
)]

use std::path::Path;

use airtight_profiles::{Additions, Ceiling, Policy, Profile, SHIPPED, effective, narrow, shipped};
use proptest::prelude::*;

/// A profile or ceiling, as text, from a small pool so that two of them share much.
fn any_policy() -> impl Strategy<Value = Policy> {
    let extends = prop::sample::select(vec!["base", "service", "jit", "build", "built-in"]);
    let endpoints = prop::sample::subsequence(vec!["a:1", "b:2", "10.0.0.1:3"], 0..=3);
    let listen = prop::collection::vec((1u16..20, 0u16..10), 0..3);
    let tmpfs = prop::collection::vec(
        (prop::sample::select(vec!["/a", "/b", "/c"]), 1u64..100),
        0..3,
    );
    let any = prop::option::weighted(0.2, 1u64..100);
    let prctl = prop::sample::subsequence(vec![1u64, 15, 22], 0..=3);
    (extends, endpoints, listen, tmpfs, any, prctl, any_flags(), 1u64..10, 1u64..10).prop_map(
        |(extends, endpoints, listen, tmpfs, any, prctl, (public, write), files, processes)| {
            let mut text = format!("format = 1\nextends = '{extends}'\nopen-files = {{ limit = {files}, why = 'x' }}\nprocesses = {{ limit = {processes}, why = 'x' }}\n");
            for (key, on) in [("public", public), ("write-execute", write)] {
                text += &if on { format!("{key} = {{ why = 'x' }}\n") } else { String::new() };
            }
            for endpoint in endpoints {
                text += &format!("[[connect]]\nendpoint = '{endpoint}'\nwhy = 'x'\n");
            }
            for (first, more) in listen {
                text += &format!("[[listen]]\nport = '{first}-{}'\nwhy = 'x'\n", first + more);
            }
            for (path, size) in tmpfs {
                text += &format!("[[tmpfs]]\npath = '{path}'\nsize = {size}\nwhy = 'x'\n");
            }
            if let Some(size) = any {
                text += &format!("[[tmpfs]]\npath = '*'\nsize = {size}\nwhy = 'x'\n");
            }
            if !prctl.is_empty() {
                // All 64 bits: narrower than the shipped condition, so the sets overlap in part.
                text += &format!("[[syscalls]]\nnames = ['prctl']\nwhen = [{{ arg = 0, any = {prctl:?} }}, {{ arg = 2, any = [0] }}]\nwhy = 'x'\n");
            }
            Ceiling::parse(&text, Path::new("random")).unwrap_or_else(|err| panic!("{err}\n{text}")).policy().clone()
        },
    )
}

fn any_flags() -> impl Strategy<Value = (bool, bool)> {
    (any::<bool>(), any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_narrowed_policy_is_within_both(a in any_policy(), b in any_policy()) {
        let both = a.tighten(&b);
        prop_assert_eq!(both.exceeds(&a), vec![]);
        prop_assert_eq!(both.exceeds(&b), vec![]);
    }

    #[test]
    fn narrowing_is_idempotent_and_commutative(a in any_policy(), b in any_policy()) {
        prop_assert_eq!(a.tighten(&a), a.clone());
        prop_assert_eq!(a.tighten(&b), b.tighten(&a));
        prop_assert_eq!(a.tighten(&b).tighten(&b), a.tighten(&b));
    }

    #[test]
    fn what_lies_within_is_not_changed(a in any_policy(), b in any_policy()) {
        let both = a.tighten(&b);
        prop_assert_eq!(both.tighten(&a), both.clone());
        prop_assert_eq!(a.exceeds(&b).is_empty(), both == a);
    }

    #[test]
    fn the_text_is_read_without_panic(text in "(format = 1\n)?[a-z\\[\\]{}=\"'0-9.,\n -]{0,200}") {
        drop(Profile::parse(&text, Path::new("random")));
        drop(Profile::from_canonical_json(&text));
    }
}

#[test]
fn an_endpoint_that_only_the_image_asks_for_is_not_granted() {
    let text = "format = 1\nconnect = [{ endpoint = 'db:5432', why = 'orders' }]\npublic = { why = 'cdn' }";
    let profile = Profile::parse(text, Path::new("app.profile.toml")).unwrap();
    let excess = effective(&profile, &Ceiling::built_in(), &Additions::default()).unwrap_err();
    let told: Vec<String> = excess.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "`connect`: db:5432: beyond this host's ceiling\n  fix: name it yourself: --connect db:5432",
            "`public`: endpoints at public addresses: beyond this host's ceiling\n  fix: say so yourself: --public",
        ]
    );
    let (narrowed, _) = narrow(&profile, &Ceiling::built_in(), &Additions::default());
    assert!(narrowed.connect.is_empty() && !narrowed.public);

    let operator = Additions {
        connect: ["db:5432".parse().unwrap()].into(),
        public: true,
        ..Additions::default()
    };
    assert_eq!(
        effective(&profile, &Ceiling::built_in(), &operator),
        Ok(profile.policy())
    );
}

#[test]
fn the_operator_adds_to_the_ask_and_not_to_the_ceiling() {
    let base = shipped("base").unwrap();
    let huge = Additions {
        tmpfs: [("/data".into(), 1 << 40)].into(),
        ..Additions::default()
    };
    let excess = effective(&base, &Ceiling::built_in(), &huge).unwrap_err();
    assert_eq!(
        excess.iter().map(|one| one.key).collect::<Vec<_>>(),
        ["tmpfs"]
    );
}

#[test]
fn an_empty_profile_has_the_base_set_and_nothing_else() {
    let empty = Profile::parse("format = 1", Path::new("app.profile.toml")).unwrap();
    assert_eq!(empty.policy(), shipped("base").unwrap().policy());
    for name in SHIPPED {
        let policy = shipped(name).unwrap().policy();
        assert!(
            policy.connect.is_empty() && !policy.public && policy.listen.count() == 0,
            "{name}"
        );
    }
}
