//! Tables of what a command line means.

use clap::Parser;

use super::*;
use crate::args::{Cli, Command};

fn launch(words: &str) -> LaunchArgs {
    let words = ["airtight", "run"]
        .into_iter()
        .chain(words.split_whitespace());
    match Cli::try_parse_from(words).unwrap().command {
        Command::Run(run) => run.launch,
        other => panic!("{other:?}"),
    }
}

fn ask(words: &str) -> Ask {
    Ask::check(&launch(words), Vec::new(), 0xfeed_beef_cafe_0000).unwrap()
}

fn wishes() -> Wishes {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    Wishes {
        entrypoint: words("/bin/api serve"),
        cmd: words("--port 80"),
        env: words("PATH=/bin LANG=C.UTF-8"),
        workdir: "/srv".into(),
        user: "app".into(),
    }
}

fn spec(words: &str, wishes: Wishes) -> Spec {
    ask(words).spec(
        wishes,
        Layers {
            trees: vec!["/layer".into()],
            ..Layers::default()
        },
        Account {
            uid: 7,
            gid: 8,
            additional_gids: vec![9],
        },
    )
}

#[test]
fn flags_end_at_two_dashes_or_at_the_first_other_word() {
    for (words, image, args, public) in [
        ("img", "img", "", false),
        ("--public img", "img", "", true),
        ("img --public", "img", "", true),
        ("img -- --public", "img", "--public", false),
        ("img run --public -x", "img", "run --public -x", false),
        ("img -- run -- --public", "img", "run -- --public", false),
        ("img run -- --public", "img", "run -- --public", false),
    ] {
        let launch = launch(words);
        assert_eq!(
            (
                launch.image.as_str(),
                launch.args.join(" ").as_str(),
                launch.public
            ),
            (image, args, public),
            "{words}"
        );
    }
}

#[test]
fn arguments_replace_the_images_and_another_entrypoint_drops_them() {
    for (words, want) in [
        ("img", "/bin/api serve --port 80"),
        ("img -- --port 81", "/bin/api serve --port 81"),
        ("--entrypoint /bin/sh img", "/bin/sh"),
        ("--entrypoint /bin/sh img -- -c id", "/bin/sh -c id"),
        ("--entrypoint= img -- /bin/id -u", "/bin/id -u"),
    ] {
        assert_eq!(
            spec(words, wishes()).process.args.join(" "),
            want,
            "{words}"
        );
    }
}

#[test]
fn the_operator_wins_over_the_image_and_the_image_over_the_defaults() {
    for (words, wishes, cwd, user) in [
        ("img", Wishes::default(), "/", "65532:65532"),
        ("img", wishes(), "/srv", "app"),
        ("-w /data -u 5:6 img", wishes(), "/data", "5:6"),
    ] {
        assert_eq!(ask(words).user(&wishes), user, "{words}");
        assert_eq!(
            spec(words, wishes).process.cwd,
            PathBuf::from(cwd),
            "{words}"
        );
    }
}

#[test]
fn a_path_is_there_and_a_terminal_has_a_name() {
    for (words, wishes, want) in [
        ("img", Wishes::default(), vec![DEFAULT_PATH]),
        ("img", wishes(), vec!["PATH=/bin", "LANG=C.UTF-8"]),
        (
            "-t img",
            wishes(),
            vec!["PATH=/bin", "LANG=C.UTF-8", "TERM=xterm"],
        ),
    ] {
        assert_eq!(spec(words, wishes).process.env, want, "{words}");
    }
    let set = Ask {
        env: vec!["LANG=de".into(), "TERM=vt100".into()],
        ..ask("-t img")
    };
    let spec = set.spec(wishes(), Layers::default(), Account::default());
    assert_eq!(spec.process.env, ["PATH=/bin", "LANG=de", "TERM=vt100"]);
}

#[test]
fn every_flag_reaches_the_spec() {
    let words = "--connect db=10.0.0.5:5432 --public -p 8080:80 --listen 9090 --hostname web --name one --tmpfs /run:1m -v /srv:/data:ro \
                 -m 64m --pids-limit 9 --cpus 0.5 --timeout 2 -t --audit a.json --accept-shortfall landlock-net img";
    let spec = spec(words, wishes());
    assert_eq!((spec.id.as_str(), spec.hostname.as_str()), ("one", "web"));
    assert_eq!(
        spec.connect.first().map(Connect::display).as_deref(),
        Some("db=10.0.0.5:5432")
    );
    assert_eq!(
        spec.publish
            .first()
            .map(|publish| (publish.host_port, publish.port)),
        Some((8080, 80))
    );
    assert!(spec.public && spec.listen.contains(&9090));
    assert_eq!(
        spec.tmpfs,
        [Tmpfs {
            path: "/run".into(),
            size: 1 << 20
        }]
    );
    assert_eq!(
        spec.volumes,
        [Volume {
            source: "/srv".into(),
            destination: "/data".into(),
            read_only: true
        }]
    );
    let limits = Limits {
        memory: Some(64 << 20),
        pids: Some(9),
        cpu_millis: Some(500),
        timeout_millis: Some(2000),
    };
    assert_eq!(spec.limits, limits);
    assert_eq!(spec.process.terminal, Terminal::Own);
    assert_eq!(
        (
            spec.process.uid,
            spec.process.gid,
            spec.process.additional_gids
        ),
        (7, 8, vec![9])
    );
    assert_eq!(spec.audit, Audit::File("a.json".into()));
    assert_eq!(spec.accepted, BTreeSet::from([Control::LandlockNet]));
    assert_eq!(spec.init, Init::Ours);
}

#[test]
fn a_sandbox_without_a_name_gets_a_random_one() {
    let spec = spec("img", wishes());
    assert_eq!(
        (spec.id.as_str(), spec.hostname.as_str()),
        ("feedbeefcafe", "feedbeefcafe")
    );
    assert_eq!(spec.audit, Audit::Stderr);
    assert_eq!(ask("--no-audit img").audit, Audit::Off);
}

#[test]
fn a_control_that_does_not_exist_cannot_be_accepted() {
    let wrong = Ask::check(&launch("--accept-shortfall all img"), Vec::new(), 0).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "`--accept-shortfall all`: is not a control that can be gone without\n  fix: name one of landlock, landlock-net, landlock-scopes, \
         memfd-noexec, audit-listener, idmapped-mounts"
    );
}
