//! A store, a build context and commands in them.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::host::shortfalls;

/// An unprivileged user that no host has.
const SOMEBODY: u32 = 54_321;
/// Subordinate ids that no account of a host has.
const RANGE: &str = "somebody:1900000000:65536\n";
/// Nothing here takes longer on a machine that works; a test that hangs must end.
const PATIENCE: Duration = Duration::from_secs(60);

/// The workspace.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("/"))
}

/// A binary of this build, from `AIRTIGHT_BIN_DIR` or beside the test.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let beside = || {
        let test = std::env::current_exe().unwrap_or_default();
        test.ancestors()
            .nth(2)
            .map(Path::to_owned)
            .unwrap_or_default()
    };
    std::env::var_os("AIRTIGHT_BIN_DIR")
        .map_or_else(beside, PathBuf::from)
        .join(name)
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Who calls the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    /// Whoever runs the tests.
    Own,
    /// An unprivileged user, who can map one id.
    User,
    /// An unprivileged user with subordinate ids, which `newuidmap` maps.
    Ranged,
}

/// A store of one's own, with an image of the prober in it.
#[derive(Debug)]
pub struct World {
    dir: TempDir,
    caller: Caller,
}

/// Runs the rest of its arguments as [`SOMEBODY`], whom the account files in the directory name and give a range: bound over the host's in a mount
/// namespace of its own, since `newuidmap` reads no others.
const AS_RANGED: &str = r#"
for file in passwd subuid subgid; do mount --bind "$0/$file" "/etc/$file" || exit 99; done
exec setpriv --reuid 54321 --regid 54321 --clear-groups -- "$@"
"#;

impl World {
    /// As the caller.
    ///
    /// # Errors
    /// The file system's, or a build that fails.
    pub fn new() -> io::Result<Self> {
        Self::make(Caller::Own)
    }

    /// As a user without any privilege; the caller is root.
    ///
    /// # Errors
    /// As [`World::new`].
    pub fn rootless() -> io::Result<Self> {
        Self::make(Caller::User)
    }

    /// As such a user, who has a range of subordinate ids too.
    ///
    /// # Errors
    /// As [`World::new`].
    pub fn ranged() -> io::Result<Self> {
        Self::make(Caller::Ranged)
    }

    fn make(caller: Caller) -> io::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("airtight-test-")
            .tempdir()?;
        let world = Self { dir, caller };
        for sub in ["home", "run", "work"] {
            fs::create_dir(world.path(sub))?;
            world.give(&world.path(sub))?;
        }
        world.give(world.dir.path())?;
        if caller == Caller::Ranged {
            let passwd = format!("root:x:0:0::/:\nsomebody:x:{SOMEBODY}:{SOMEBODY}::/:\n");
            for (file, text) in [
                ("passwd", passwd.as_str()),
                ("subuid", RANGE),
                ("subgid", RANGE),
            ] {
                fs::write(world.path(file), text)?;
            }
        }
        world.write("work/prober/airtight.toml", PROBER_IMAGE)?;
        fs::copy(binary("airtight-prober"), world.path("work/prober/prober"))?;
        world.give(&world.path("work/prober"))?;
        let built = world.airtight(["build", &world.shown("work/prober")])?;
        if built.code == Some(0) {
            Ok(world)
        } else {
            Err(io::Error::other(format!("{built:?}")))
        }
    }

    /// A path below the temporary directory.
    #[must_use]
    pub fn path(&self, sub: &str) -> PathBuf {
        self.dir.path().join(sub)
    }

    #[must_use]
    pub fn shown(&self, sub: &str) -> String {
        self.path(sub).display().to_string()
    }

    /// Writes a file with its parents.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, sub: &str, content: impl AsRef<[u8]>) -> io::Result<PathBuf> {
        let path = self.path(sub);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
            self.give(parent)?;
        }
        fs::write(&path, content)?;
        self.give(&path)?;
        Ok(path)
    }

    fn give(&self, path: &Path) -> io::Result<()> {
        if self.caller != Caller::Own {
            std::os::unix::fs::chown(path, Some(SOMEBODY), Some(SOMEBODY))
        } else {
            Ok(())
        }
    }

    /// A command with the world's own store and directories, and nothing of the caller's environment but `PATH`.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = if self.caller == Caller::Ranged {
            let mut command = Command::new("unshare");
            command
                .args(["--mount", "--propagation", "private", "sh", "-c", AS_RANGED])
                .arg(self.dir.path())
                .arg(program.as_ref());
            command
        } else {
            Command::new(program.as_ref())
        };
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir(self.path("work"));
        command
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("AIRTIGHT_STORE", self.path("home/store"));
        if self.caller == Caller::User {
            command.uid(SOMEBODY).gid(SOMEBODY);
        }
        command
    }

    /// `airtight ARGS`; a launch accepts what this host lacks.
    fn product<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.command(binary("airtight"));
        for (at, arg) in args.into_iter().enumerate() {
            command.arg(arg);
            if at == 0 && matches!(arg, "run" | "plan") {
                for control in shortfalls() {
                    command.args(["--accept-shortfall", control]);
                }
            }
        }
        command
    }

    /// `airtight ARGS`, to its end.
    ///
    /// # Errors
    /// A command that cannot be started or does not end.
    pub fn airtight<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> io::Result<Ran> {
        finish(self.product(args))
    }

    /// `airtight run FLAGS test/prober -- ATTEMPTS`.
    ///
    /// # Errors
    /// As [`World::airtight`].
    pub fn run(&self, flags: &[&str], attempts: &[&str]) -> io::Result<Ran> {
        let args = [&["run"], flags, &["test/prober", "--"], attempts].concat();
        self.airtight(args)
    }

    /// The plan of such a run, as JSON.
    ///
    /// # Errors
    /// As [`World::airtight`], or no plan.
    pub fn plan(&self, flags: &[&str], attempts: &[&str]) -> io::Result<serde_json::Value> {
        let args = [&["plan", "--json"], flags, &["test/prober", "--"], attempts].concat();
        let ran = self.airtight(args)?;
        serde_json::from_str(&ran.stdout)
            .map_err(|error| io::Error::other(format!("{error}: {ran:?}")))
    }

    /// Starts `airtight ARGS` and leaves it running.
    ///
    /// # Errors
    /// A command that cannot be started.
    pub fn start(&self, args: &[&str]) -> io::Result<Background> {
        let mut command = self.product(args.iter().copied());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().map(|child| Background { child })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Layers have directories without a write bit, which stops a user's own removal.
        drop(
            Command::new("chmod")
                .args(["-R", "u+rwX"])
                .arg(self.dir.path())
                .stderr(Stdio::null())
                .status(),
        );
    }
}

const PROBER_IMAGE: &str = r#"format = 1
name = "test/prober"
base = "scratch"
[[layer]]
name = "app"
copy = [{ from = "prober", to = "/app/prober" }, { from = "airtight.toml", to = "/app/data" }]
[config]
entrypoint = ["/app/prober"]
"#;

/// Runs to the end, with nothing on standard input.
///
/// # Errors
/// A command that cannot be started, or that is still running after a minute (it is killed).
fn finish(mut command: Command) -> io::Result<Ran> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Background {
        child: command.spawn()?,
    }
    .wait()
}

/// A process that ends with the value.
#[derive(Debug)]
pub struct Background {
    child: Child,
}

impl Background {
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(0)
    }

    /// # Errors
    /// A process that is gone.
    pub fn signal(&self, signal: nix::sys::signal::Signal) -> io::Result<()> {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal)
            .map_err(io::Error::from)
    }

    /// Writes to its standard input and closes it.
    ///
    /// # Errors
    /// A closed pipe.
    pub fn feed(&mut self, text: &str) -> io::Result<()> {
        self.child
            .stdin
            .take()
            .map_or(Ok(()), |mut stdin| stdin.write_all(text.as_bytes()))
    }

    /// Reads standard output up to a line that holds `text`.
    ///
    /// # Errors
    /// The output ends before.
    pub fn until(&mut self, text: &str) -> io::Result<String> {
        let mut seen = String::new();
        let stdout = self
            .child
            .stdout
            .as_mut()
            .ok_or_else(|| io::Error::other("no output"))?;
        let mut byte = [0];
        while !(seen.ends_with('\n') && seen.contains(text)) {
            if stdout.read(&mut byte)? == 0 {
                return Err(io::Error::other(format!("ended without {text:?}: {seen}")));
            }
            seen.push(char::from(byte[0]));
        }
        Ok(seen)
    }

    /// Waits for the end, a minute at most.
    ///
    /// # Errors
    /// It does not end; it is killed then.
    pub fn wait(mut self) -> io::Result<Ran> {
        drop(self.child.stdin.take());
        let read = |stream: Option<Box<dyn io::Read + Send>>| {
            std::thread::spawn(move || {
                let mut text = Vec::new();
                stream
                    .map_or(Ok(0), |mut stream| stream.read_to_end(&mut text))
                    .map(|_| String::from_utf8_lossy(&text).into_owned())
            })
        };
        let stdout = read(self.child.stdout.take().map(|s| Box::new(s) as _));
        let stderr = read(self.child.stderr.take().map(|s| Box::new(s) as _));
        let mut status = None;
        let ended = wait_until(PATIENCE, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        if !ended {
            self.child.kill()?;
            self.child.wait()?;
            return Err(io::Error::other("did not end within a minute"));
        }
        let text = |thread: std::thread::JoinHandle<io::Result<String>>| {
            thread.join().map_err(|_| io::Error::other("reader"))?
        };
        Ok(Ran {
            code: status.and_then(|status| status.code()),
            stdout: text(stdout)?,
            stderr: text(stderr)?,
        })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// Asks again and again until it is so; whether it was in time.
pub fn wait_until(patience: Duration, mut so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + patience;
    loop {
        if so() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// An echo server on a free port of loopback, in this process.
#[derive(Debug)]
pub struct Server {
    pub port: u16,
}

impl Server {
    /// # Errors
    /// `bind(2)`'s.
    pub fn echo() -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut write = stream.try_clone()?;
                    io::copy(&mut &stream, &mut write)?;
                    stream.shutdown(std::net::Shutdown::Write)
                });
            }
        });
        Ok(Self { port })
    }
}
