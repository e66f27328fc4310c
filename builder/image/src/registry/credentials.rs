//! Where credentials are kept: the files of docker and podman, and the helpers that they name. A secret never stands in an argument.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::Settings;
use super::auth_file::{AuthFile, Credentials, Found, legal};
use super::secret::Secret;
use crate::error::{Error, Result};
use crate::store::open_regular;

/// Files of credentials are some hundred bytes.
const MAX_FILE: u64 = 1 << 20;
/// What a helper may say.
const MAX_ANSWER: u64 = 64 << 10;
/// One that asks its user for something needs a while.
const PATIENCE: Duration = Duration::from_secs(60);
/// The user name that says: the secret is an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Of the first file that knows the registry.
pub(crate) fn find(settings: &Settings, host: &str, repository: &str) -> Result<Credentials> {
    for (path, must_be) in files(settings) {
        let mut bytes = Vec::new();
        let read =
            open_regular(&path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_be => continue,
            Err(error) => return Err(Error::io(&path)(error)),
            Ok(size) if size as u64 > MAX_FILE => {
                return Err(Error::refused(
                    path.display(),
                    "is larger than 1 MiB, as no file of credentials is",
                    "name another with --authfile",
                ));
            }
            Ok(_) => {}
        }
        match AuthFile::parse(&bytes, &path)?.find(host, repository) {
            Found::Credentials(credentials) => return Ok(credentials),
            Found::Helper(name) => {
                if let Some(credentials) = ask(&name, host)? {
                    return Ok(credentials);
                }
            }
            Found::Nothing => {}
        }
    }
    Ok(Credentials::Anonymous)
}

/// In the order in which podman and skopeo look; whether it must be there.
fn files(settings: &Settings) -> Vec<(PathBuf, bool)> {
    let env = |name: &str| {
        (settings.env)(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(path) = settings
        .authfile
        .clone()
        .or_else(|| env("REGISTRY_AUTH_FILE"))
    {
        return vec![(path, true)];
    }
    let home = env("HOME");
    let below = |root: &Option<PathBuf>, sub: &str| root.as_ref().map(|root| root.join(sub));
    let config = env("XDG_CONFIG_HOME").or_else(|| below(&home, ".config"));
    [
        below(&env("XDG_RUNTIME_DIR"), "containers/auth.json"),
        below(&config, "containers/auth.json"),
        below(
            &env("DOCKER_CONFIG").or_else(|| below(&home, ".docker")),
            "config.json",
        ),
    ]
    .into_iter()
    .flatten()
    .map(|path| (path, false))
    .collect()
}

/// `docker-credential-NAME get`, with the host on its standard input. Nothing of what it says is repeated: it may be the secret.
fn ask(name: &str, host: &str) -> Result<Option<Credentials>> {
    let program = format!("docker-credential-{name}");
    let bad = |problem: &str| {
        Error::refused(
            format!("{program} get"),
            problem,
            "mend or remove the helper in the file of credentials, or name another file with --authfile",
        )
    };
    let mut command = Command::new(&program);
    command
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // What it starts ends with it.
        .process_group(0);
    let mut helper = match command.spawn() {
        Ok(child) => Helper(child),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(bad("is not to be found in PATH"));
        }
        Err(error) => return Err(Error::io(Path::new(&program))(error)),
    };
    if let Some(mut stdin) = helper.0.stdin.take() {
        // One that does not read has closed it, and its answer says the rest.
        drop(stdin.write_all(host.as_bytes()));
    }
    let (said, whole) = helper.answer().map_err(|problem| bad(&problem))?;
    if !whole {
        // Helpers say so on standard output, each in its own words; these stand in all of them.
        let text = String::from_utf8_lossy(&said).to_lowercase();
        return if text.contains("not found") || text.contains("no credentials") {
            Ok(None)
        } else {
            Err(bad("failed"))
        };
    }
    let answer: Answer = serde_json::from_slice(&said)
        .map_err(|_| bad("did not answer with a user and a secret"))?;
    if answer.secret.is_empty() {
        return Ok(None);
    }
    if answer.username == TOKEN_USER {
        return Ok(Some(Credentials::Identity(Secret::new(answer.secret))));
    }
    if answer.username.contains(':') || !legal(&answer.username.replace(' ', "")) {
        return Err(bad("gave a user that is none"));
    }
    Ok(Some(Credentials::Basic {
        user: answer.username,
        password: Secret::new(answer.secret),
    }))
}

/// Ends with the value, and with it what it started.
struct Helper(Child);

impl Helper {
    /// What it said, and whether it succeeded.
    fn answer(&mut self) -> std::result::Result<(Vec<u8>, bool), String> {
        let stdout = self.0.stdout.take().ok_or("has no output")?;
        let (send, receive) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut said = Vec::new();
            let read = stdout.take(MAX_ANSWER + 1).read_to_end(&mut said);
            // Whoever asked may have lost patience.
            drop(send.send(read.map(|_| said)));
        });
        let end = Instant::now() + PATIENCE;
        let late = format!("did not answer within {} seconds", PATIENCE.as_secs());
        let said = match receive.recv_timeout(PATIENCE) {
            Ok(said) => said.map_err(|error| error.to_string())?,
            Err(_) => return Err(late),
        };
        drop(reader.join());
        if said.len() as u64 > MAX_ANSWER {
            return Err("said more than 64 KiB".to_owned());
        }
        loop {
            match self.0.try_wait().map_err(|error| error.to_string())? {
                Some(status) => return Ok((said, status.success())),
                None if Instant::now() > end => return Err(late),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        if let Ok(pid) = i32::try_from(self.0.id()) {
            let group = nix::unistd::Pid::from_raw(pid);
            // All of it: what it started may hold the output open.
            match nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL) {
                // Gone meanwhile, which is as good.
                Ok(()) | Err(_) => {}
            }
        }
        drop(self.0.wait());
    }
}
