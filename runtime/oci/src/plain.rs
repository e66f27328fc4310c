//! Calls as engines and shims write them, read without a description of all that could be said, which to put together was a fifth of what a launch works
//! out. Nothing is told from here: a line that is not plain is `None`, and clap reads it.

use std::ffi::OsString;

use crate::args::{
    Args, Command, CreateArgs, ExecArgs, Global, LogFormat, OnExcess, Rootless, RunArgs, Top,
};

/// Options by their long names or single letters, each once, with values that are not empty and begin with no dash.
pub(crate) fn read(words: &[OsString]) -> Option<Args> {
    let mut line = Line {
        words: words.get(1..)?.iter(),
        global: GlobalOptions::default(),
    };
    let verb = loop {
        match line.next()?? {
            Word::Option("--rootless", _) => return None,
            Word::Option(name, given) => line.global(name, given)?,
            Word::Plain(verb) => break verb,
        }
    };
    let command = match verb {
        "run" => line.create(true)?,
        "create" => line.create(false)?,
        "exec" => line.exec()?,
        "kill" => line.kill()?,
        "delete" => line.delete()?,
        "start" => Command::Start { id: line.id()? },
        "state" => Command::State { id: line.id()? },
        _ => return None,
    };
    Some(Args {
        top: Top {
            global: line.global.done(),
            version: false,
        },
        command: Some(command),
    })
}

struct Line<'a> {
    words: std::slice::Iter<'a, OsString>,
    global: GlobalOptions,
}

enum Word<'a> {
    /// With its dashes, and what follows a `=`.
    Option(&'a str, Option<&'a str>),
    Plain(&'a str),
}

impl<'a> Line<'a> {
    /// Inside: `None` for a word that is not plain.
    fn next(&mut self) -> Option<Option<Word<'a>>> {
        let word = self.words.next()?;
        Some(word.to_str().and_then(Word::of))
    }

    fn value(&mut self, given: Option<&'a str>) -> Option<&'a str> {
        let value = match given {
            Some(value) => value,
            None => self.words.next()?.to_str()?,
        };
        (!value.is_empty() && !value.starts_with('-')).then_some(value)
    }

    /// Stands on either side of the verb.
    fn global(&mut self, name: &str, given: Option<&'a str>) -> Option<()> {
        match name {
            "--debug" => return flag(&mut self.global.debug, given),
            "--compat" => return flag(&mut self.global.compat, given),
            "--systemd-cgroup" => return flag(&mut self.global.systemd_cgroup, given),
            _ => {}
        }
        let value = self.value(given)?;
        let global = &mut self.global;
        match (name, value) {
            ("--root", _) => once(&mut global.root, value.into()),
            ("--log", _) => once(&mut global.log, value.into()),
            ("--log-format", "text") => once(&mut global.log_format, LogFormat::Text),
            ("--log-format", "json") => once(&mut global.log_format, LogFormat::Json),
            ("--profile", _) => once(&mut global.profile, value.to_owned()),
            ("--on-excess", "refuse") => once(&mut global.on_excess, OnExcess::Refuse),
            ("--on-excess", "narrow") => once(&mut global.on_excess, OnExcess::Narrow),
            _ => None,
        }
    }

    fn create(&mut self, run: bool) -> Option<Command> {
        let (mut bundle, mut console_socket, mut pid_file) = (None, None, None);
        let (mut preserve_fds, mut id) = (None, None);
        let (mut no_pivot, mut no_new_keyring) = (false, false);
        let (mut detach, mut keep, mut no_subreaper) = (false, false, false);
        while let Some(word) = self.next() {
            match word? {
                Word::Plain(word) => once(&mut id, word.to_owned())?,
                Word::Option("-b" | "--bundle", given) => {
                    once(&mut bundle, self.value(given)?.into())?;
                }
                Word::Option("--console-socket", given) => {
                    once(&mut console_socket, self.value(given)?.into())?;
                }
                Word::Option("--pid-file", given) => {
                    once(&mut pid_file, self.value(given)?.into())?;
                }
                Word::Option("--preserve-fds", given) => {
                    once(&mut preserve_fds, number(self.value(given)?)?)?;
                }
                Word::Option("--no-pivot", given) => flag(&mut no_pivot, given)?,
                Word::Option("--no-new-keyring", given) => flag(&mut no_new_keyring, given)?,
                Word::Option("-d" | "--detach", given) if run => flag(&mut detach, given)?,
                Word::Option("--keep", given) if run => flag(&mut keep, given)?,
                Word::Option("--no-subreaper", given) if run => flag(&mut no_subreaper, given)?,
                Word::Option(name, given) => self.global(name, given)?,
            }
        }
        let create = CreateArgs {
            bundle: bundle.unwrap_or_else(|| ".".into()),
            console_socket,
            pidfd_socket: None,
            pid_file,
            no_pivot,
            no_new_keyring,
            preserve_fds: preserve_fds.unwrap_or(0),
            id: id?,
        };
        Some(if run {
            Command::Run(RunArgs {
                create,
                detach,
                keep,
                no_subreaper,
            })
        } else {
            Command::Create(create)
        })
    }

    /// What has no program of its own is plain only with `--process`.
    fn exec(&mut self) -> Option<Command> {
        let (mut console_socket, mut process, mut pid_file) = (None, None, None);
        let (mut cwd, mut user, mut env) = (None, None, Vec::new());
        let (mut tty, mut detach) = (false, false);
        let id = loop {
            match self.next()?? {
                Word::Plain(id) => break id.to_owned(),
                Word::Option("--console-socket", given) => {
                    once(&mut console_socket, self.value(given)?.into())?;
                }
                Word::Option("-p" | "--process", given) => {
                    once(&mut process, self.value(given)?.into())?;
                }
                Word::Option("--pid-file", given) => {
                    once(&mut pid_file, self.value(given)?.into())?;
                }
                Word::Option("--cwd", given) => once(&mut cwd, self.value(given)?.into())?,
                Word::Option("-u" | "--user", given) => {
                    once(&mut user, self.value(given)?.to_owned())?;
                }
                Word::Option("-e" | "--env", given) => env.push(self.value(given)?.to_owned()),
                Word::Option("-t" | "--tty", given) => flag(&mut tty, given)?,
                Word::Option("-d" | "--detach", given) => flag(&mut detach, given)?,
                Word::Option(name, given) => self.global(name, given)?,
            }
        };
        let mut command: Vec<String> = Vec::new();
        for word in self.words.by_ref() {
            let word = word.to_str()?;
            // The first might be an option of ours; what follows it is the program's.
            if command.is_empty() && (word.is_empty() || word.starts_with('-')) {
                return None;
            }
            command.push(word.to_owned());
        }
        Some(Command::Exec(Box::new(ExecArgs {
            console_socket,
            pidfd_socket: None,
            cwd,
            env,
            tty,
            user,
            additional_gids: Vec::new(),
            process,
            detach,
            pid_file,
            process_label: None,
            apparmor: None,
            no_new_privs: false,
            cap: Vec::new(),
            preserve_fds: 0,
            cgroup: Vec::new(),
            ignore_paused: false,
            no_subreaper: false,
            id,
            command,
        })))
    }

    fn kill(&mut self) -> Option<Command> {
        let (mut all, mut id, mut signal) = (false, None, None);
        while let Some(word) = self.next() {
            match word? {
                Word::Plain(word) if id.is_none() => id = Some(word.to_owned()),
                Word::Plain(word) => once(&mut signal, word.to_owned())?,
                // After the id it may be a signal.
                Word::Option("-a" | "--all", given) if id.is_none() => flag(&mut all, given)?,
                Word::Option(name, given) if id.is_none() => self.global(name, given)?,
                Word::Option(..) => return None,
            }
        }
        Some(Command::Kill {
            all,
            id: id?,
            signal: signal.unwrap_or_else(|| "SIGTERM".to_owned()),
        })
    }

    fn delete(&mut self) -> Option<Command> {
        let (mut force, mut id) = (false, None);
        while let Some(word) = self.next() {
            match word? {
                Word::Plain(word) => once(&mut id, word.to_owned())?,
                Word::Option("-f" | "--force", given) => flag(&mut force, given)?,
                Word::Option(name, given) => self.global(name, given)?,
            }
        }
        Some(Command::Delete { force, id: id? })
    }

    fn id(&mut self) -> Option<String> {
        let mut id = None;
        while let Some(word) = self.next() {
            match word? {
                Word::Plain(word) => once(&mut id, word.to_owned())?,
                Word::Option(name, given) => self.global(name, given)?,
            }
        }
        id
    }
}

impl<'a> Word<'a> {
    fn of(word: &'a str) -> Option<Self> {
        if word.is_empty() {
            return None;
        }
        if !word.starts_with('-') {
            return Some(Self::Plain(word));
        }
        match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => Some(Self::Option(name, Some(value))),
            Some(_) => None,
            None => Some(Self::Option(word, None)),
        }
    }
}

/// [`Global`], before it is known what was not said.
#[derive(Default)]
struct GlobalOptions {
    root: Option<std::path::PathBuf>,
    log: Option<std::path::PathBuf>,
    log_format: Option<LogFormat>,
    debug: bool,
    compat: bool,
    profile: Option<String>,
    on_excess: Option<OnExcess>,
    systemd_cgroup: bool,
}

impl GlobalOptions {
    fn done(&mut self) -> Global {
        let said = std::mem::take(self);
        Global {
            root: said.root,
            log: said.log,
            log_format: said.log_format.unwrap_or(LogFormat::Text),
            debug: said.debug,
            compat: said.compat,
            profile: said.profile,
            on_excess: said.on_excess,
            accept_shortfall: Vec::new(),
            systemd_cgroup: said.systemd_cgroup,
            rootless: Rootless::Auto,
            criu: None,
        }
    }
}

/// A second value is clap's to judge.
fn once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

fn flag(slot: &mut bool, given: Option<&str>) -> Option<()> {
    let first = given.is_none() && !std::mem::replace(slot, true);
    first.then_some(())
}

fn number(digits: &str) -> Option<u32> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        let words = std::iter::once("airtight-runtime").chain(line.split(' '));
        words.map(OsString::from).collect()
    }

    /// Whether it is plain. What is read is what clap reads, and nothing that clap refuses.
    fn plain(line: &str) -> bool {
        let Some(args) = read(&words(line)) else {
            return false;
        };
        let whole = Args::try_parse_from(words(line)).map_err(|error| error.to_string());
        assert_eq!(
            Ok(format!("{args:?}")),
            whole.map(|args| format!("{args:?}")),
            "{line:?}"
        );
        true
    }

    const PLAIN: [&str; 13] = [
        "--root /r --log /l --log-format json create --bundle /b --pid-file /p c",
        "--compat --root=/r create --bundle /b --no-pivot --no-new-keyring --preserve-fds 2 c",
        "--debug --on-excess narrow --profile jit run -b /b --console-socket=/s c --keep",
        "run --detach --no-subreaper --root /r c --systemd-cgroup",
        "run run",
        "--log-format text exec --process /f --detach --pid-file /p --console-socket /s c",
        "exec -t -u 1:2 --cwd / -e A=B --env C=D c sh -c --root=/x",
        "exec c ls -- --tty",
        "kill c KILL",
        "kill --all --root /r c 9",
        "delete -f c --root /r",
        "start c",
        "state --log-format json c",
    ];

    #[test]
    fn what_callers_write_is_read_as_the_whole_description_reads_it() {
        for line in PLAIN {
            assert!(plain(line), "{line}");
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_it() {
        for line in [
            "",
            "--help",
            "run",
            "run --help c",
            "run c d",
            "run c --bundle",
            "run c --bundle /a --bundle /b",
            "run c --bundle -x",
            "run c --bundle=",
            "run c --detach=true",
            "run c --keep --keep",
            "run -- c",
            "create c --keep",
            "--rootless true run c",
            "--version run c",
            "run c --preserve-fds +1",
            "run c --preserve-fds 4294967296",
            "--log-format xml run c",
            "exec c",
            "exec c -t sh",
            "kill c -9",
            "kill c --all",
            "list",
            "--accept-shortfall landlock run c",
        ] {
            // `exec` of nothing but an id reads the same either way.
            assert_eq!(plain(line), line == "exec c", "{line}");
        }
    }

    #[test]
    fn no_line_is_read_otherwise() {
        let seeds: Vec<String> = PLAIN.map(str::to_owned).into();
        let mut known: Vec<String> = PLAIN
            .iter()
            .flat_map(|line| line.split(' '))
            .map(|word| format!(" {word} "))
            .collect();
        known.extend(
            [
                "--",
                "-",
                "=",
                " -9 ",
                "--rootless",
                " -dt ",
                "--no",
                "true",
                "\u{e9}",
                " ",
            ]
            .map(str::to_owned),
        );
        let words: Vec<&str> = known.iter().map(String::as_str).collect();
        airtight_fuzz::fuzz("command line", &seeds, &words, |input| {
            if plain(&String::from_utf8_lossy(input)) {
                airtight_fuzz::TAKEN.to_owned()
            } else {
                "not plain".to_owned()
            }
        });
    }
}
