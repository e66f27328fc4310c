//! What the command line says of itself: help, completions, man pages.

use std::process::Command;

use airtight_tests::{World, binary, repository};

const COMMANDS: [&str; 22] = [
    "",
    "build",
    "update",
    "run",
    "plan",
    "images",
    "inspect",
    "why",
    "diff",
    "lint",
    "rm",
    "gc",
    "import",
    "export",
    "push",
    "pull",
    "copy",
    "verify",
    "profile",
    "doctor",
    "index",
    "index create",
];

const RUNTIME: [&str; 16] = [
    "", "create", "start", "run", "state", "kill", "delete", "exec", "list", "ps", "pause",
    "resume", "update", "events", "spec", "features",
];

fn help(program: &str, command: &str) -> String {
    let output = Command::new(binary(program))
        .args(command.split_whitespace())
        .arg("--help")
        .env_clear()
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    assert!(output.status.success(), "{program} {command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The file in `tests/golden/help`; `BLESS=1` writes it.
fn golden(name: &str, text: &str) {
    let path = repository().join("tests/golden/help").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text,
        want,
        "{} differs; BLESS=1 writes it anew",
        path.display()
    );
}

#[test]
fn help_is_as_it_was() {
    for command in COMMANDS {
        let name = if command.is_empty() {
            "airtight"
        } else {
            command
        };
        let name = name.replace(' ', "-");
        golden(&format!("{name}.txt"), &help("airtight", command));
    }
    for command in RUNTIME {
        let name = format!("airtight-runtime {command}");
        golden(
            &format!("{}.txt", name.trim().replace(' ', "-")),
            &help("airtight-runtime", command),
        );
    }
}

#[test]
fn help_has_no_colour_where_nobody_sees_it() {
    assert!(!help("airtight", "run").contains('\u{1b}'));
}

#[test]
fn every_shell_gets_completions_and_every_command_a_page() {
    let world = World::new().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = world.airtight(["completions", shell]).unwrap();
        assert_eq!(ran.code, Some(0), "{shell}");
        for word in ["accept-shortfall", "connect", "inspect"] {
            assert!(ran.stdout.contains(word), "{shell}: {word}");
        }
    }
    let ran = world
        .airtight(["completions", "bash", "--program", "airtight-runtime"])
        .unwrap();
    for word in ["console-socket", "preserve-fds", "pause"] {
        assert!(ran.stdout.contains(word), "airtight-runtime: {word}");
    }
    let ran = world.airtight(["man", &world.shown("work/man")]).unwrap();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for command in COMMANDS {
        let page = format!("airtight-{command}.1").replace(' ', "-");
        let page = world.path("work/man").join(page.replace("-.1", ".1"));
        assert!(page.is_file(), "{}", page.display());
    }
    for command in RUNTIME {
        let page = format!("airtight-runtime-{command}.1").replace("-.1", ".1");
        let page = world.path("work/man").join(page);
        assert!(page.is_file(), "{}", page.display());
    }
    let page = std::fs::read_to_string(world.path("work/man/airtight-run.1")).unwrap();
    assert!(
        page.contains(".SH OPTIONS") && page.contains("Examples"),
        "{page}"
    );
}
