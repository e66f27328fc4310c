use super::super::index::tests::index;
use super::*;

fn answer(packages: &[&str], roots: &[&str], without: &[&str]) -> Result<String, String> {
    answer_on(&[], packages, roots, without)
}

fn answer_on(
    base: &[&str],
    packages: &[&str],
    roots: &[&str],
    without: &[&str],
) -> Result<String, String> {
    let base = index(base).candidates;
    let index = index(packages);
    let roots: Vec<Relation> = roots
        .iter()
        .map(|root| Relation::parse(root).unwrap())
        .collect();
    let without = without.iter().map(|name| (*name).to_owned()).collect();
    let chosen = solve(&index, &base, "amd64", &roots, &without)
        .map_err(|unsolved| format!("{}: {}", unsolved.root, unsolved.problem))?
        .chosen;
    let names: Vec<String> = chosen
        .iter()
        .map(|one| format!("{} {}", one.candidate.name, one.candidate.version))
        .collect();
    Ok(names.join(", "))
}

#[test]
fn what_is_needed_comes_along() {
    for (name, packages, roots, want) in [
        ("alone", &["aa 1"][..], &["aa"][..], "aa 1"),
        ("the latest", &["aa 1.9", "aa 1.10"], &["aa"], "aa 1.10"),
        (
            "the latest that fits",
            &["aa 1", "aa 2"],
            &["aa (<< 2)"],
            "aa 1",
        ),
        (
            "a chain",
            &["aa 1; Depends: bb", "bb 1; Pre-Depends: cc", "cc 1"],
            &["aa"],
            "aa 1, bb 1, cc 1",
        ),
        (
            "a circle",
            &["aa 1; Depends: bb", "bb 1; Depends: aa"],
            &["aa"],
            "aa 1, bb 1",
        ),
        (
            "the first alternative",
            &["aa 1; Depends: bb | cc", "bb 1", "cc 1"],
            &["aa"],
            "aa 1, bb 1",
        ),
        (
            "the first that can be had",
            &["aa 1; Depends: bb | cc", "bb 1; Depends: none", "cc 1"],
            &["aa"],
            "aa 1, cc 1",
        ),
        (
            "one that is there already",
            &["aa 1; Depends: bb | cc", "bb 1", "cc 1"],
            &["cc", "aa"],
            "cc 1, aa 1",
        ),
        (
            "a provider",
            &[
                "aa 1; Depends: mail",
                "zz 1; Provides: mail",
                "bb 1; Provides: mail",
            ],
            &["aa"],
            "aa 1, bb 1",
        ),
        (
            "a provider of the version",
            &[
                "aa 1; Depends: mail (>= 2)",
                "bb 1; Provides: mail",
                "cc 1; Provides: mail (= 2)",
            ],
            &["aa"],
            "aa 1, cc 1",
        ),
        (
            "the real one first",
            &["aa 1; Depends: mail", "bb 1; Provides: mail", "mail 1"],
            &["aa"],
            "aa 1, mail 1",
        ),
        (
            "any architecture",
            &["aa 1; Depends: bb:any, cc:amd64", "bb 1", "cc 1"],
            &["aa"],
            "aa 1, bb 1, cc 1",
        ),
        (
            "an older one, because of a conflict",
            &["aa 1", "bb 2; Conflicts: aa", "bb 1"],
            &["aa", "bb"],
            "aa 1, bb 1",
        ),
        (
            "its own name provided",
            &["aa 1; Provides: mail; Conflicts: mail"],
            &["aa"],
            "aa 1",
        ),
        (
            "breaks of an older one",
            &["aa 2", "bb 1; Breaks: aa (<< 2)"],
            &["aa", "bb"],
            "aa 2, bb 1",
        ),
    ] {
        assert_eq!(answer(packages, roots, &[]), Ok(want.to_owned()), "{name}");
    }
}

#[test]
fn what_only_scripts_need_is_left_out() {
    let packages = [
        "aa 1; Depends: dpkg (>= 1), debconf | debconf-2.0, own",
        "dpkg 1",
    ];
    assert_eq!(answer(&packages, &["aa"], &["own"]), Ok("aa 1".to_owned()));
    let asked = answer(&packages, &["dpkg", "aa"], &["own"]);
    assert_eq!(asked, Ok("dpkg 1, aa 1".to_owned()));
}

#[test]
fn what_cannot_be_is_told_with_the_way_that_leads_there() {
    for (name, packages, roots, want) in [
        (
            "unknown",
            &["aa 1"][..],
            &["bb"][..],
            "0: `bb` is asked for, and there is no such package",
        ),
        (
            "too old",
            &["aa 1; Depends: bb", "bb 1; Depends: cc (>= 2)", "cc 1"],
            &["aa"],
            "0: `cc (>= 2)` is needed by bb 1 <- aa 1, and there is only cc 1",
        ),
        (
            "another architecture",
            &["aa 1; Depends: bb:i386", "bb 1"],
            &["aa"],
            "0: `bb:i386` is needed by aa 1, and there is only bb 1",
        ),
        (
            "a conflict",
            &["aa 1", "bb 1; Depends: cc", "cc 1; Conflicts: aa (<= 1)"],
            &["aa", "bb"],
            "1: cc 1 cannot be together with aa 1, by `aa (<= 1)` (the one is needed by bb 1, the other is needed by the build file)",
        ),
        (
            "two versions",
            &["aa 1", "bb 1; Depends: aa (>= 2)", "aa 2"],
            &["aa (= 1)", "bb"],
            "1: `aa (>= 2)` is needed by bb 1, and there is only aa 2, aa 1",
        ),
    ] {
        assert_eq!(answer(packages, roots, &[]), Err(want.to_owned()), "{name}");
    }
}

#[test]
fn what_the_base_has_counts_and_stays() {
    for (name, base, packages, roots, want) in [
        (
            "what is there is not taken again, in no later version either",
            &["cc 1; Depends: gone"][..],
            &["aa 1; Depends: bb, cc", "bb 1", "cc 2"][..],
            &["aa"][..],
            Ok("aa 1, bb 1"),
        ),
        (
            "what it provides is there",
            &["cc 1; Provides: mail"],
            &["aa 1; Depends: mail", "mail 1"],
            &["aa"],
            Ok("aa 1"),
        ),
        ("asked for and there", &["aa 1"], &["aa 2"], &["aa"], Ok("")),
        (
            "another alternative than the base's too old one",
            &["bb 1"],
            &["aa 1; Depends: bb (>= 2) | cc", "bb 2", "cc 1"],
            &["aa"],
            Ok("aa 1, cc 1"),
        ),
        (
            "too old",
            &["bb 1"],
            &["aa 1; Depends: bb (>= 2)", "bb 2"],
            &["aa"],
            Err("0: `bb (>= 2)` is needed by aa 1, and the base has bb 1, which stays as it is"),
        ),
        (
            "asked for in another version",
            &["aa 1"],
            &["aa 2"],
            &["aa (= 2)"],
            Err("0: `aa (= 2)` is asked for, and the base has aa 1, which stays as it is"),
        ),
        (
            "the base's refuses it",
            &["bb 1; Conflicts: aa"],
            &["aa 1"],
            &["aa"],
            Err(
                "0: bb 1 cannot be together with aa 1, by `aa` (the one is the base's, the other is needed by the build file)",
            ),
        ),
        (
            "it refuses the base's",
            &["bb 1"],
            &["aa 1; Breaks: bb (<< 2)"],
            &["aa"],
            Err(
                "0: aa 1 cannot be together with bb 1, by `bb (<< 2)` (the one is needed by the build file, the other is the base's)",
            ),
        ),
    ] {
        let want = want.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(answer_on(base, packages, roots, &[]), want, "{name}");
    }
}

#[test]
fn many_choices_that_all_fail_end() {
    let mut packages = vec!["aa 1; Depends: x0".to_owned()];
    for at in 0..40 {
        for kind in ["p", "q"] {
            packages.push(format!(
                "{kind}{at} 1; Provides: x{at}; Depends: x{}",
                at + 1
            ));
        }
    }
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    let told = answer(&packages, &["aa"], &[]).unwrap_err();
    assert!(told.contains("`x40` is needed by p39 1 <- "), "{told}");
}
