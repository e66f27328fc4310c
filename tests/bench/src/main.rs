//! `make bench`: airtight against its peers, interleaved in one run, as ratios. Nothing here asserts a time.
//!
//! Run as root: the peers' containers and the private mount namespace need it. Only directories that this program made are used.
//!
//! ```text
//! airtight-bench --bin DIR [--runs N] [--alive N] [--cpu N] [--out FILE] [start|verbs|build|rebuild|packages|all]
//! ```

#![forbid(unsafe_code)]

mod build;
mod floor;
mod lifecycle;
mod packages;
mod peers;
mod rebuild;
mod start;
mod stats;
mod tree;

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What was typed.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    bin: PathBuf,
    runs: usize,
    /// How many sandboxes are alive at once for the last start.
    alive: usize,
    cpu: usize,
    out: Option<PathBuf>,
    what: What,
    inner: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Start,
    Verbs,
    Build,
    Rebuild,
    Packages,
    All,
}

#[derive(Debug, Serialize)]
struct Report {
    kernel: String,
    start: Option<start::Table>,
    verbs: Option<lifecycle::Table>,
    build: Option<build::Table>,
    rebuild: Option<rebuild::Table>,
    packages: Option<packages::Table>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.split_first() {
        Some((first, command)) if first == "--rss-of" => start::print_rss(command),
        Some((first, [rootfs])) if first == "--floor" => floor::run(Path::new(rootfs)),
        _ => parse(&args).and_then(|options| {
            if options.inner {
                measure(&options)
            } else {
                enter(&args, &options)
            }
        }),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            // A closed stderr leaves nobody to tell.
            drop(writeln!(std::io::stderr(), "airtight-bench: {error}"));
            ExitCode::from(125)
        }
    }
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options {
        bin: PathBuf::new(),
        runs: 40,
        alive: 1000,
        cpu: 1,
        out: None,
        what: What::All,
        inner: false,
    };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--bin" => options.bin = std::path::absolute(value()?)?,
            "--runs" => options.runs = value()?.parse()?,
            "--alive" => options.alive = value()?.parse()?,
            "--cpu" => options.cpu = value()?.parse()?,
            "--out" => options.out = Some(PathBuf::from(value()?)),
            "--inner" => options.inner = true,
            "start" => options.what = What::Start,
            "verbs" => options.what = What::Verbs,
            "build" => options.what = What::Build,
            "rebuild" => options.what = What::Rebuild,
            "packages" => options.what = What::Packages,
            "all" => options.what = What::All,
            other => {
                return Err(format!(
                    "unknown argument {other}; see the head of this program's source"
                )
                .into());
            }
        }
    }
    if !options.bin.join("airtight").exists() {
        return Err(format!(
            "{} has no `airtight`: name the release binaries with --bin",
            options.bin.display()
        )
        .into());
    }
    Ok(options)
}

/// Runs this program again in a mount namespace of its own, where a tmpfs covers the v2 hierarchy: crun refuses hybrid cgroups otherwise, and every
/// peer is measured under the same conditions. The host's mounts stay as they are.
fn enter(args: &[String], options: &Options) -> Result<ExitCode> {
    let script = "mount --make-rprivate / && if [ -d /sys/fs/cgroup/unified ]; then mount -t tmpfs -o size=64m none /sys/fs/cgroup/unified; fi && exec \"$@\"";
    let status = Command::new("taskset")
        .args([
            "-c",
            &options.cpu.to_string(),
            "unshare",
            "-m",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(std::env::current_exe()?)
        .arg("--inner")
        .args(args)
        .status()?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn measure(options: &Options) -> Result<ExitCode> {
    let work = tempfile::tempdir()?;
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2g,mode=0755", "none"])
        .arg(work.path()))?;
    let wanted = |what| options.what == what || options.what == What::All;
    let start = wanted(What::Start)
        .then(|| start::run(options, &work.path().join("start")))
        .transpose()?;
    let verbs = wanted(What::Verbs)
        .then(|| lifecycle::run(options, &work.path().join("verbs")))
        .transpose()?;
    // One CPU is for what is told in microseconds; builds and their peers have threads.
    unpin()?;
    // Beside the programs: on a tmpfs, as the others have, times prove nothing and a sync costs nothing.
    let disk = tempfile::tempdir_in(&options.bin)?;
    let build = wanted(What::Build)
        .then(|| build::run(options, &disk.path().join("build")))
        .transpose()?;
    let rebuild = wanted(What::Rebuild)
        .then(|| rebuild::run(options, &disk.path().join("rebuild")))
        .transpose()?;
    drop(disk);
    // By name only: it downloads.
    let packages = (options.what == What::Packages)
        .then(|| packages::measure(options, &work.path().join("packages")))
        .transpose()?;
    let report = Report {
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?
            .trim()
            .to_owned(),
        start,
        verbs,
        build,
        rebuild,
        packages,
    };
    run(Command::new("umount").arg("-l").arg(work.path()))?;

    let mut out = std::io::stdout().lock();
    if let Some(table) = &report.start {
        write!(out, "{table}")?;
    }
    if let Some(table) = &report.verbs {
        write!(out, "{table}")?;
    }
    if let Some(table) = &report.build {
        write!(out, "{table}")?;
    }
    if let Some(table) = &report.rebuild {
        write!(out, "{table}")?;
    }
    if let Some(table) = &report.packages {
        write!(out, "{table}")?;
    }
    if let Some(path) = &options.out {
        write_json(path, &report)?;
        writeln!(out, "\n{}", path.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes back what `taskset` did; the kernel keeps what a cpuset of this process does not allow out of it.
fn unpin() -> Result<()> {
    let mut all = CpuSet::new();
    for cpu in 0..CpuSet::count() {
        all.set(cpu)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &all)?)
}

fn write_json(path: &Path, report: &Report) -> Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(path, serde_json::to_vec_pretty(report)?)?;
    Ok(())
}

/// Runs to success with its output thrown away, or says what it printed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs to success; what it wrote, or an error that says what it printed.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} failed ({}): {}", output.status, text.trim()).into())
}
