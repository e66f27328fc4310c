//! `[config]` as understood: what becomes the image's configuration. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::error::Problem;
use crate::file::ConfigFile;
use crate::path::ImagePath;

/// Uid and gid of the image's user unless the file says otherwise; distributions keep it free, and it is not `nobody`.
pub(crate) const DEFAULT_ID: u32 = 65532;

/// Signals that end a process by default or that servers give a meaning of "stop" to.
const STOP_SIGNALS: &[&str] = &[
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGABRT",
    "SIGKILL",
    "SIGUSR1",
    "SIGUSR2",
    "SIGTERM",
    "SIGWINCH",
    "SIGPWR",
    "SIGRTMIN+3",
];

/// Checked `[config]`. `None` means that the base's value stays, or that there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub env: BTreeMap<String, String>,
    pub user: User,
    pub workdir: Option<ImagePath>,
    pub labels: BTreeMap<String, String>,
    /// `PORT/PROTOCOL`.
    pub expose: BTreeSet<String>,
    pub stop_signal: Option<String>,
}

/// Who the payload is; never root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    Ids {
        uid: u32,
        gid: u32,
    },
    /// Looked up in the image's own `/etc/passwd` and `/etc/group`.
    Named {
        user: String,
        group: Option<String>,
    },
}

/// As the image's configuration has it.
impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ids { uid, gid } => write!(f, "{uid}:{gid}"),
            Self::Named { user, group: None } => f.write_str(user),
            Self::Named {
                user,
                group: Some(group),
            } => write!(f, "{user}:{group}"),
        }
    }
}

pub(crate) fn check_config(written: ConfigFile) -> Result<Config, Problem> {
    let ConfigFile {
        entrypoint,
        cmd,
        env,
        user,
        workdir,
        labels,
        expose,
        stop_signal,
    } = written;
    for (key, words) in [("config.entrypoint", &entrypoint), ("config.cmd", &cmd)] {
        check_words(words.as_deref().unwrap_or_default(), key)?;
    }
    if entrypoint
        .as_ref()
        .is_some_and(|words| words.first().is_none_or(String::is_empty))
    {
        return Err(Problem::new(
            "config.entrypoint",
            "names no program",
            "write the program first, like `[\"/bin/api\"]`",
        ));
    }
    for (name, value) in &env {
        let key = format!("config.env.{name}");
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Problem::new(
                key,
                "is no name of a variable",
                "leave `=` out of it: `env = { LANG = \"C.UTF-8\" }`",
            ));
        }
        no_nul(value, &key)?;
    }
    for (name, value) in &labels {
        no_nul(value, &format!("config.labels.{name}"))?;
    }
    Ok(Config {
        entrypoint,
        cmd,
        env,
        user: user.as_deref().map_or(
            Ok(User::Ids {
                uid: DEFAULT_ID,
                gid: DEFAULT_ID,
            }),
            check_user,
        )?,
        workdir: workdir.as_deref().map(check_workdir).transpose()?,
        labels,
        expose: expose
            .iter()
            .enumerate()
            .map(|(index, text)| check_port(text, index))
            .collect::<Result<_, _>>()?,
        stop_signal: stop_signal.map(check_signal).transpose()?,
    })
}

fn check_words(words: &[String], key: &str) -> Result<(), Problem> {
    words
        .iter()
        .enumerate()
        .try_for_each(|(index, word)| no_nul(word, &format!("{key}[{index}]")))
}

/// The kernel ends arguments and variables at a NUL byte, so one inside would be cut silently.
pub(crate) fn no_nul(text: &str, key: &str) -> Result<(), Problem> {
    if text.contains('\0') {
        return Err(Problem::new(key, "holds a NUL byte", "take it out"));
    }
    Ok(())
}

fn check_user(text: &str) -> Result<User, Problem> {
    let bad = || {
        let problem = format!("`{}` is no user", text.escape_debug());
        Problem::new(
            "config.user",
            problem,
            "write UID, UID:GID or a name, like `65532:65532`",
        )
    };
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    if !is_name(user) || !group.is_none_or(is_name) {
        return Err(bad());
    }
    let number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !number(user) {
        if user == "root" {
            return Err(root(text));
        }
        return Ok(User::Named {
            user: user.to_owned(),
            group: group.map(str::to_owned),
        });
    }
    let uid: u32 = user.parse().map_err(|_| bad())?;
    // Without a group the OCI runtimes would take 0 for it.
    let gid: u32 = group.map_or(Ok(uid), str::parse).map_err(|_| bad())?;
    if uid == 0 {
        return Err(root(text));
    }
    if uid == u32::MAX || gid == u32::MAX {
        return Err(bad());
    }
    Ok(User::Ids { uid, gid })
}

fn is_name(part: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !part.is_empty() && part.len() <= 32 && part.bytes().all(legal) && !part.starts_with('-')
}

fn root(text: &str) -> Problem {
    Problem::new(
        "config.user",
        format!("`{text}` is root, and a sandbox runs nothing as root"),
        "leave `user` out for 65532, or name another",
    )
}

fn check_workdir(text: &str) -> Result<ImagePath, Problem> {
    ImagePath::parse(text).map_err(|problem| {
        Problem::new(
            "config.workdir",
            format!("`{}` {problem}", text.escape_debug()),
            "write a directory of the image, like `/app`",
        )
    })
}

fn check_port(text: &str, index: usize) -> Result<String, Problem> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number = port.parse::<u16>().ok().filter(|port| *port != 0);
    match (number, protocol) {
        (Some(number), "tcp" | "udp" | "sctp") => Ok(format!("{number}/{protocol}")),
        _ => {
            let problem = format!("`{}` is no port", text.escape_debug());
            Err(Problem::new(
                format!("config.expose[{index}]"),
                problem,
                "write PORT or PORT/PROTOCOL, like `8080/tcp`",
            ))
        }
    }
}

fn check_signal(text: String) -> Result<String, Problem> {
    if STOP_SIGNALS.contains(&text.as_str()) {
        return Ok(text);
    }
    let problem = format!("`{}` is no signal to stop with", text.escape_debug());
    Err(Problem::new(
        "config.stop-signal",
        problem,
        format!("use one of {}", STOP_SIGNALS.join(", ")),
    ))
}
