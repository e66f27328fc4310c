//! Bundles, and the runtimes that are given them. A container, its groups and its processes end with the value, also when a case fails.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use airtight_tests::{Need, Ran, binary, has, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;

/// No call of a runtime takes longer on a machine that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const BUSYBOX: &str = "/bin/busybox";
/// What the scripts of the cases call.
const APPLETS: &[&str] = &[
    "sh",
    "cat",
    "echo",
    "true",
    "false",
    "id",
    "ls",
    "stat",
    "sleep",
    "env",
    "pwd",
    "touch",
    "mkdir",
    "rmdir",
    "rm",
    "ln",
    "readlink",
    "hostname",
    "mount",
    "umount",
    "grep",
    "sed",
    "awk",
    "head",
    "tail",
    "tr",
    "wc",
    "test",
    "tty",
    "stty",
    "ionice",
    "taskset",
    "kill",
    "trap",
    "uname",
    "dd",
    "mknod",
    "chmod",
    "chown",
    "chroot",
    "ip",
    "cut",
    "sort",
    "seq",
    "mkfifo",
    "date",
    "nproc",
    "ps",
    "find",
    "unshare",
    "sync",
    "basename",
    "printf",
    "cp",
    "mv",
    "setsid",
    "dnsdomainname",
    "cmp",
    "fallocate",
    "truncate",
    "od",
];

/// A program that takes an OCI runtime's command line.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) name: &'static str,
    command: Vec<OsString>,
}

/// Some versions of it refuse a host with two kinds of groups, so it sees a host without the second.
const CRUN: &str = r#"mount -t tmpfs -o size=4m none /sys/fs/cgroup/unified && exec crun "$@""#;

/// runc and ours, or those that `AIRTIGHT_CONFORMANCE` names.
fn runtimes() -> &'static [Runtime] {
    static ALL: OnceLock<Vec<Runtime>> = OnceLock::new();
    ALL.get_or_init(|| {
        let ours = binary("airtight-runtime").into_os_string();
        let hybrid = Path::new("/sys/fs/cgroup/unified").is_dir();
        let crun: &[&str] = if hybrid {
            &["unshare", "-m", "sh", "-c", CRUN, "crun"]
        } else {
            &["crun"]
        };
        let words = |words: &[&str]| words.iter().map(OsString::from).collect();
        let all = [
            ("runc", words(&["runc"])),
            ("airtight", vec![ours, OsString::from("--compat")]),
            ("crun", words(crun)),
        ];
        let named = std::env::var("AIRTIGHT_CONFORMANCE").unwrap_or("runc,airtight".to_owned());
        let wanted = |name: &str| named.split(',').any(|one| one == name);
        let all = all.into_iter().filter(|(name, _)| wanted(name));
        all.map(|(name, command)| Runtime { name, command })
            .collect()
    })
}

/// A sentence of the specification, or of what callers rely on, and the runtimes that are known not to keep it.
pub(crate) struct Must {
    says: &'static str,
    differing: Vec<(&'static str, &'static str)>,
    needs: Vec<Need>,
    with_crun: bool,
}

/// `says` is held by every runtime of the table.
pub(crate) fn must(says: &'static str) -> Must {
    Must {
        says,
        differing: Vec::new(),
        needs: vec![Need::Root, Need::Program("runc"), Need::File(BUSYBOX)],
        with_crun: false,
    }
}

impl Must {
    /// This runtime, in the version that distributions have, does not keep it.
    pub(crate) fn differs(mut self, runtime: &'static str, why: &'static str) -> Self {
        self.differing.push((runtime, why));
        self
    }

    pub(crate) fn needs(mut self, need: Need) -> Self {
        self.needs.push(need);
        self
    }

    /// runc came to this late, so that crun says whether the case is right.
    pub(crate) fn since(mut self, why: &'static str) -> Self {
        self.with_crun = true;
        self.differs("runc", why)
    }

    /// Runs the case for each runtime and fails with the names of those that fail.
    pub(crate) fn holds(self, case: impl Fn(&Place)) {
        if !has(&self.needs) {
            return;
        }
        let mut failed = Vec::new();
        let crun_too = std::env::var("AIRTIGHT_CONFORMANCE").is_ok();
        for runtime in runtimes() {
            if runtime.name == "crun" && !(self.with_crun || crun_too) {
                continue;
            }
            let why = self
                .differing
                .iter()
                .find(|(name, _)| *name == runtime.name);
            let kept = catch_unwind(AssertUnwindSafe(|| case(&Place::new(runtime))));
            match (kept, why) {
                (Ok(()), None) => {}
                (Ok(()), Some((name, _))) => eprintln!("{name} keeps it here: {}", self.says),
                (Err(_), Some((name, why))) => {
                    eprintln!("{name} does not keep it ({why}): {}", self.says);
                }
                (Err(_), None) => failed.push(runtime.name),
            }
        }
        assert!(
            failed.is_empty(),
            "{failed:?} does not keep it: {}",
            self.says
        );
    }
}

/// A directory for one case and one runtime: bundles and a state directory.
pub(crate) struct Place {
    pub(crate) runtime: &'static Runtime,
    /// What takes containers back, also where a case lost the other.
    rescue: &'static Runtime,
    dir: TempDir,
}

fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("t{}-{number}", std::process::id())
}

/// Copied by another process: a descriptor of ours that writes to the program would be open for a moment in what other tests start, and the program busy (ETXTBSY).
pub(crate) fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let mut cp = Command::new("cp");
    cp.arg("--").arg(from.as_ref()).arg(to.as_ref());
    assert!(cp.status().unwrap().success(), "{cp:?}");
}

impl Place {
    fn new(runtime: &'static Runtime) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("airtight-test-")
            .tempdir()
            .unwrap();
        // A payload that is mapped to other ids has to reach its root.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            runtime,
            rescue: runtime,
            dir,
        }
    }

    /// Ours without `--compat`, with these flags: what is narrowed, not honoured.
    pub(crate) fn airtight(flags: &[&str]) -> Self {
        let program = binary("airtight-runtime").into_os_string();
        let flags = flags.iter().map(OsString::from);
        Self::new(Box::leak(Box::new(Runtime {
            name: "airtight",
            command: std::iter::once(program).chain(flags).collect(),
        })))
    }

    /// The same runtime as a file of this place, which a case may lose.
    pub(crate) fn with_own_copy(&self) -> (Self, PathBuf) {
        let (program, rest) = self.runtime.command.split_first().unwrap();
        let found = Command::new("which").arg(program).output().unwrap().stdout;
        let found = PathBuf::from(String::from_utf8(found).unwrap().trim_end());
        let place = Self::new(self.runtime);
        let copy = place.path(found.file_name().unwrap());
        copy_program(&found, &copy);
        let command = [&[copy.clone().into_os_string()], rest].concat();
        let runtime = Box::leak(Box::new(Runtime {
            name: self.runtime.name,
            command,
        }));
        (Self { runtime, ..place }, copy)
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.runtime.name == name
    }

    pub(crate) fn path(&self, sub: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(sub)
    }

    pub(crate) fn shown(&self, sub: &str) -> String {
        self.path(sub).display().to_string()
    }

    /// `RUNTIME --root STATE`, to which a verb is to be added.
    pub(crate) fn command(&self) -> Command {
        self.command_of(self.runtime)
    }

    fn command_of(&self, runtime: &Runtime) -> Command {
        let (program, rest) = runtime.command.split_first().unwrap();
        let mut command = Command::new(program);
        command
            .args(rest)
            .arg("--root")
            .arg(self.path("state"))
            .stdin(Stdio::null());
        command
    }

    /// `RUNTIME --root STATE ARGS`, to its end.
    pub(crate) fn call<A: Into<OsString> + Clone>(&self, args: &[A]) -> Ran {
        let mut command = self.command();
        command.args(args.iter().cloned().map(Into::into));
        self.finish(command)
    }

    /// Its output goes to files, which a container that stays does not hold the reader of.
    pub(crate) fn finish(&self, command: Command) -> Ran {
        self.start(command).wait()
    }

    /// Starts a command and leaves it running.
    pub(crate) fn start(&self, mut command: Command) -> Running {
        let out = self.path(unique());
        let err = out.with_extension("err");
        let shown = format!("{command:?}");
        command
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap());
        // runc makes its own file busy for moments, where a container has a handle on it and tries to write.
        let mut busy = 0;
        let child = loop {
            match command.spawn() {
                Err(error)
                    if error.kind() == std::io::ErrorKind::ExecutableFileBusy
                        && self.is("runc")
                        && busy < 200 =>
                {
                    busy += 1;
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                spawned => break spawned.expect(&shown),
            }
        };
        Running {
            child,
            out,
            err,
            shown,
        }
    }

    /// A bundle with a root of its own, whose config `edit` changes. Nothing is created yet.
    pub(crate) fn container(&self, edit: impl FnOnce(&mut Value)) -> Container<'_> {
        let container = self.bundle(edit);
        let rootfs = container.rootfs("");
        for sub in ["bin", "proc", "dev", "sys", "tmp", "etc"] {
            fs::create_dir_all(rootfs.join(sub)).unwrap();
        }
        copy_program(BUSYBOX, rootfs.join("bin/busybox"));
        for applet in APPLETS {
            symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
        fs::set_permissions(rootfs.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        container
    }

    /// A bundle whose root is said by `edit`.
    pub(crate) fn bundle(&self, edit: impl FnOnce(&mut Value)) -> Container<'_> {
        let id = unique();
        let bundle = self.path(&id);
        fs::create_dir(&bundle).unwrap();
        let mut config = base(&id);
        edit(&mut config);
        let container = Container {
            place: self,
            id,
            bundle,
            config,
            output: Cell::default(),
        };
        container.write();
        container
    }

    /// A container of `script`, run in the foreground to its end and deleted.
    pub(crate) fn sh(&self, script: &str, edit: impl FnOnce(&mut Value)) -> Ran {
        let container = self.container(|config| {
            config["process"]["args"] = json!(["/bin/sh", "-c", script]);
            edit(config);
        });
        container.run(&[])
    }

    /// What such a script prints; it must succeed.
    pub(crate) fn told(&self, script: &str, edit: impl FnOnce(&mut Value)) -> String {
        let ran = self.sh(script, edit);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.stdout.trim_end().to_owned()
    }

    /// The config is refused, and the runtime says why.
    pub(crate) fn refused(&self, edit: impl FnOnce(&mut Value)) -> Ran {
        let container = self.container(edit);
        let ran = container.create(&[]);
        assert!(
            ran.code.is_some_and(|code| code != 0) && !ran.stderr.is_empty(),
            "not refused: {ran:?}"
        );
        let state = container.verb("state", &[]);
        assert_ne!(state.code, Some(0), "it is there all the same: {state:?}");
        ran
    }
}

/// A command that has not ended.
pub(crate) struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    shown: String,
}

impl Running {
    pub(crate) fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    pub(crate) fn wait(mut self) -> Ran {
        let mut status = None;
        wait_until(PATIENCE, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let text =
            |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let ran = Ran {
            code: status.and_then(|status| status.code()),
            stdout: text(&self.out),
            stderr: text(&self.err),
        };
        assert!(status.is_some(), "{} did not end: {ran:?}", self.shown);
        ran
    }

    /// What it has written so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// A bundle and the container that a runtime makes of it.
pub(crate) struct Container<'a> {
    place: &'a Place,
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) config: Value,
    output: Cell<PathBuf>,
}

impl Container<'_> {
    fn write(&self) {
        fs::write(self.bundle.join("config.json"), self.config.to_string()).unwrap();
    }

    pub(crate) fn rootfs(&self, sub: &str) -> PathBuf {
        self.bundle.join("rootfs").join(sub)
    }

    /// Changes the config that is not in use yet.
    pub(crate) fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        edit(&mut self.config);
        self.write();
    }

    /// `VERB FLAGS ID`, which is to be started.
    pub(crate) fn command(&self, verb: &str, flags: &[&str]) -> Command {
        let mut command = self.place.command();
        command.arg(verb).args(flags);
        if matches!(verb, "create" | "run") {
            command.arg("--bundle").arg(&self.bundle);
        }
        command.arg(&self.id);
        command
    }

    pub(crate) fn verb(&self, verb: &str, flags: &[&str]) -> Ran {
        self.place.finish(self.command(verb, flags))
    }

    pub(crate) fn create(&self, flags: &[&str]) -> Ran {
        let running = self.place.start(self.command("create", flags));
        self.output.set(running.out.clone());
        running.wait()
    }

    pub(crate) fn run(&self, flags: &[&str]) -> Ran {
        let running = self.place.start(self.command("run", flags));
        self.output.set(running.out.clone());
        running.wait()
    }

    /// `exec FLAGS ID ARGS`.
    pub(crate) fn exec(&self, flags: &[&str], args: &[&str]) -> Ran {
        let mut command = self.command("exec", flags);
        command.args(args);
        self.place.finish(command)
    }

    /// `kill ID SIGNAL`.
    pub(crate) fn kill(&self, signal: &str) -> Ran {
        let mut command = self.command("kill", &[]);
        command.arg(signal);
        self.place.finish(command)
    }

    /// A verb that must succeed.
    pub(crate) fn ok(&self, verb: &str, flags: &[&str]) -> Ran {
        let ran = match verb {
            "create" => self.create(flags),
            "run" => self.run(flags),
            _ => self.verb(verb, flags),
        };
        assert_eq!(ran.code, Some(0), "{verb}: {ran:?}");
        ran
    }

    /// Created, and started.
    pub(crate) fn started(self) -> Self {
        self.ok("create", &[]);
        self.ok("start", &[]);
        self
    }

    /// What the container that was created last wrote so far.
    pub(crate) fn said(&self) -> String {
        let path = self.output.take();
        let text = fs::read_to_string(&path).unwrap_or_default();
        self.output.set(path);
        text
    }

    /// The container's own output is waited for until it holds `text`.
    pub(crate) fn says(&self, text: &str) -> String {
        let told = wait_until(PATIENCE, || self.said().contains(text));
        assert!(told, "{text:?} is not in {:?}", self.said());
        self.said()
    }

    pub(crate) fn state(&self) -> Value {
        let ran = self.ok("state", &[]);
        serde_json::from_str(&ran.stdout).unwrap()
    }

    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    pub(crate) fn pid(&self) -> i32 {
        self.state()["pid"].as_i64().unwrap().try_into().unwrap()
    }

    /// Waits until it is in this state.
    pub(crate) fn becomes(&self, status: &str) {
        let so = wait_until(PATIENCE, || self.status() == status);
        assert!(so, "{} is not {status}", self.status());
    }

    /// Where its group lies in a hierarchy.
    pub(crate) fn group(&self, controller: &str) -> PathBuf {
        Path::new("/sys/fs/cgroup")
            .join(controller)
            .join(group_name(&self.id))
    }

    /// The directories of its groups.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        groups(&group_name(&self.id))
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if self.place.path("state").join(&self.id).exists() {
            let mut command = self.place.command_of(self.place.rescue);
            command.args(["delete", "--force", &self.id]);
            drop(self.place.finish(command));
        }
        for group in self.groups() {
            sweep(&group);
        }
    }
}

pub(crate) fn group_name(id: &str) -> String {
    format!("airtight-test-{id}")
}

/// The directories of this name at the top of the hierarchies.
pub(crate) fn groups(name: &str) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
    let tops = hierarchies.flatten().map(|entry| entry.path());
    tops.chain([PathBuf::from("/sys/fs/cgroup")])
        .map(|top| top.join(name))
        .filter(|path| path.is_dir())
        .collect()
}

/// Ends what a failed runtime left in a group of this test's own.
pub(crate) fn sweep(group: &Path) {
    let below: Vec<PathBuf> = fs::read_dir(group)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    below.iter().for_each(|group| sweep(group));
    drop(fs::write(group.join("freezer.state"), "THAWED"));
    wait_until(Duration::from_secs(5), || {
        let members = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines().filter_map(|line| line.parse().ok()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            // One that is gone already is what is wanted.
            let gone = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            assert_ne!(gone, Err(nix::errno::Errno::EPERM));
        }
        match fs::remove_dir(group) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(()) => true,
        }
    });
}

/// What every case starts from: the namespaces, mounts and limits that callers commonly ask for.
fn base(id: &str) -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs" },
        "hostname": "box",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] }
        ],
        "linux": {
            "cgroupsPath": format!("/{}", group_name(id)),
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [{ "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}

/// Adds to a list of the config, which may not be there yet.
pub(crate) fn add(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        _ => *list = Value::Array(vec![item]),
    }
}

/// A script that stays until it is killed.
pub(crate) fn sleeps(config: &mut Value) {
    config["process"]["args"] = json!(["/bin/sleep", "1000"]);
}
