//! The verbs one by one, as a shim calls them: `create`, `start`, `delete`, `exec`, `state`, with the default seccomp profile; and how the last of
//! many sandboxes alive at once starts against the first.
//!
//! This program is the caller that a shim is: the container's init becomes its child when the runtime exits, and is waited for.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use serde::Serialize;
use serde_json::{Value, json};

use crate::stats::{Row, ratio};
use crate::{Options, Result, floor, peers};

const OURS: &str = "airtight-runtime";
const PEERS: [&str; 2] = ["crun", "runc"];
const VERBS: [&str; 7] = [
    "run",
    "create",
    "start",
    "delete",
    "create+start+delete",
    "exec",
    "state",
];
/// Samples at each end of the row of sandboxes that are alive at once.
const ENDS: usize = 40;

#[derive(Debug, Serialize)]
pub(crate) struct Table {
    rows: Vec<Row>,
    ratios: Vec<(String, f64)>,
    alive: usize,
    /// The first and the last starts of each runtime with this many alive.
    ends: Vec<[Row; 2]>,
    /// Median of the last starts by that of the first.
    last_by_first: Vec<(String, f64)>,
}

/// One runtime, as it is called.
struct Runtime {
    name: &'static str,
    program: PathBuf,
    global: Vec<String>,
}

impl Runtime {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.global).args(args);
        command
    }

    /// Runs one verb to success. Its output goes to files: a pipe would stay open in the container that it leaves behind.
    fn time(&self, work: &Path, args: &[&str]) -> Result<Duration> {
        let errors = work.join("stderr");
        let mut command = self.command(args);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&errors)?);
        let started = Instant::now();
        let status = command.status()?;
        let elapsed = started.elapsed();
        if status.success() {
            return Ok(elapsed);
        }
        let text = fs::read_to_string(errors)?;
        Err(format!("{} {args:?} failed ({status}): {}", self.name, text.trim()).into())
    }
}

pub(crate) fn run(options: &Options, work: &Path) -> Result<Table> {
    fs::create_dir_all(work)?;
    set_child_subreaper(true)?;
    let _groups = peers::Groups;
    let runtimes = runtimes(options, work)?;
    let (quick, idle) = (work.join("quick"), work.join("idle"));
    bundle(&quick, json!(["/bin/true"]))?;
    bundle(&idle, json!(["/bin/busybox", "sleep", "1000000"]))?;

    let mut rows = Vec::new();
    let mut samples = vec![vec![Vec::new(); VERBS.len()]; runtimes.len()];
    let mut floors = Vec::new();
    for runtime in &runtimes {
        launch(runtime, work, &idle, "bench-idle")?;
    }
    for round in 0..options.runs + 5 {
        for (runtime, samples) in runtimes.iter().zip(&mut samples) {
            let times = sample(runtime, work, &quick, &format!("bench-{round}"))?;
            if round >= 5 {
                samples
                    .iter_mut()
                    .zip(times)
                    .for_each(|(all, one)| all.push(one));
            }
        }
        let floor = floor::sample(&quick.join("rootfs"))?;
        if round >= 5 {
            floors.push(floor);
        }
    }
    for runtime in &runtimes {
        end(runtime, work, "bench-idle")?;
    }
    for (runtime, samples) in runtimes.iter().zip(&samples) {
        for (verb, samples) in VERBS.iter().zip(samples) {
            rows.push(Row::of(&format!("{} {verb}", runtime.name), samples));
        }
    }
    rows.push(Row::of("bare system calls", &floors));
    let ratios = VERBS
        .iter()
        .flat_map(|verb| PEERS.iter().map(move |peer| (verb, peer)))
        .map(|(verb, peer)| (format!("{OURS} {verb}"), format!("{peer} {verb}")))
        .chain([(format!("{OURS} run"), "bare system calls".to_owned())])
        .map(|(ours, peer)| (format!("{ours} / {peer}"), ratio(&rows, &ours, &peer)))
        .collect();
    let mut ends = Vec::new();
    let mut last_by_first = Vec::new();
    for runtime in &runtimes {
        for [first, last] in alive(runtime, work, &idle, options.alive)? {
            let name = first.name.split(" first").next().unwrap_or_default();
            last_by_first.push((name.to_owned(), last.median_ms / first.median_ms));
            ends.push([first, last]);
        }
    }
    Ok(Table {
        rows,
        ratios,
        alive: options.alive,
        ends,
        last_by_first,
    })
}

fn runtimes(options: &Options, work: &Path) -> Result<Vec<Runtime>> {
    let state = |name: &str| -> Result<Vec<String>> {
        let dir = work.join("state").join(name);
        fs::create_dir_all(&dir)?;
        Ok(vec!["--root".to_owned(), dir.display().to_string()])
    };
    let mut ours = state(OURS)?;
    ours.push("--compat".to_owned());
    Ok(vec![
        Runtime {
            name: OURS,
            program: options.bin.join(OURS),
            global: ours,
        },
        Runtime {
            name: PEERS[0],
            program: PEERS[0].into(),
            global: state(PEERS[0])?,
        },
        Runtime {
            name: PEERS[1],
            program: PEERS[1].into(),
            global: state(PEERS[1])?,
        },
    ])
}

/// The peers' bundle, with this to run.
fn bundle(dir: &Path, args: Value) -> Result<()> {
    peers::bundle(dir)?;
    let path = dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
    config["process"]["args"] = args;
    fs::write(path, serde_json::to_vec_pretty(&config)?)?;
    Ok(())
}

/// A group for each container, as callers have it: a runtime that removes its group must not meet another's.
fn place(bundle: &Path, id: &str) -> Result<()> {
    let path = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
    config["linux"]["cgroupsPath"] = json!(format!("{}/{id}", peers::Groups::path()));
    fs::write(path, serde_json::to_vec(&config)?)?;
    Ok(())
}

fn sample(
    runtime: &Runtime,
    work: &Path,
    bundle: &Path,
    id: &str,
) -> Result<[Duration; VERBS.len()]> {
    let dir = bundle.display().to_string();
    let pid_file = work.join("pid");
    let pid = pid_file.display().to_string();
    place(bundle, &format!("{}-{id}", runtime.name))?;
    let run = runtime.time(work, &["run", "--bundle", &dir, id])?;
    let create = runtime.time(work, &["create", "--bundle", &dir, "--pid-file", &pid, id])?;
    let start = runtime.time(work, &["start", id])?;
    let init = fs::read_to_string(&pid_file)?.trim().parse()?;
    waitpid(Pid::from_raw(init), None)?;
    let delete = runtime.time(work, &["delete", id])?;
    let exec = runtime.time(work, &["exec", "bench-idle", "/bin/true"])?;
    let state = runtime.time(work, &["state", "bench-idle"])?;
    Ok([
        run,
        create,
        start,
        delete,
        create + start + delete,
        exec,
        state,
    ])
}

/// Starts one that stays, detached.
fn launch(runtime: &Runtime, work: &Path, bundle: &Path, id: &str) -> Result<Duration> {
    place(bundle, &format!("{}-{id}", runtime.name))?;
    let dir = bundle.display().to_string();
    runtime.time(work, &["run", "--detach", "--bundle", &dir, id])
}

fn end(runtime: &Runtime, work: &Path, id: &str) -> Result<()> {
    let state = runtime.command(&["state", id]).output()?;
    let state: Value = serde_json::from_slice(&state.stdout)?;
    runtime.time(work, &["kill", id, "KILL"])?;
    let pid = state["pid"].as_i64().ok_or("`state` tells no pid")?;
    waitpid(Pid::from_raw(i32::try_from(pid)?), None)?;
    runtime.time(work, &["delete", id])?;
    Ok(())
}

/// Many alive at once, started one by one: the first starts and the last. As many as the first are started once more when all are gone, so that a machine which
/// turns slower or faster by itself meanwhile is not taken for the number of those alive. With ours also the kernel's own part at both ends.
fn alive(runtime: &Runtime, work: &Path, bundle: &Path, count: usize) -> Result<Vec<[Row; 2]>> {
    let ends = ENDS.min(count / 2).max(1);
    let rootfs = bundle.join("rootfs");
    let floors = || -> Result<Vec<Duration>> {
        let wanted = if runtime.name == OURS { ends } else { 0 };
        (0..wanted).map(|_| floor::sample(&rootfs)).collect()
    };
    let few = floors()?;
    let (times, many) = together(runtime, work, bundle, count, floors)?;
    let (again, _) = together(runtime, work, bundle, ends, || Ok(Vec::new()))?;
    let few = [few, floors()?].concat();
    let (first, last) = (
        times.get(..ends).unwrap_or(&times),
        times.get(count - ends..).unwrap_or(&times),
    );
    let row = |name: &str, which: &str, times: &[Duration]| {
        Row::of(&format!("{name} {which} of {count} alive"), times)
    };
    let mut pairs = vec![[
        row(runtime.name, "first", &[first, &again].concat()),
        row(runtime.name, "last", last),
    ]];
    if !few.is_empty() {
        pairs.push([
            row("bare system calls", "first", &few),
            row("bare system calls", "last", &many),
        ]);
    }
    Ok(pairs)
}

/// What each start took, and what `at_most` measured with all of them alive. All are ended, whatever became of the next one.
fn together(
    runtime: &Runtime,
    work: &Path,
    bundle: &Path,
    count: usize,
    at_most: impl FnOnce() -> Result<Vec<Duration>>,
) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let ids: Vec<String> = (0..count).map(|number| format!("alive-{number}")).collect();
    let mut times = Vec::new();
    let mut started = || -> Result<()> {
        for id in &ids {
            times.push(launch(runtime, work, bundle, id)?);
        }
        Ok(())
    };
    let mut outcome = started().and_then(|()| at_most());
    for id in ids.iter().take(times.len()) {
        if let Err(error) = end(runtime, work, id) {
            outcome = outcome.and(Err(error));
        }
    }
    outcome.map(|measured| (times, measured))
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "\nthe verbs of a runtime, /bin/true with the default seccomp profile, one pinned CPU, interleaved (ms)"
        )?;
        writeln!(
            out,
            "{:<38} {:>8} {:>8} {:>8} {:>5}",
            "", "median", "p95", "min", "n"
        )?;
        for row in self.rows.iter().chain(self.ends.iter().flatten()) {
            writeln!(
                out,
                "{:<38} {:>8.2} {:>8.2} {:>8.2} {:>5}",
                row.name, row.median_ms, row.p95_ms, row.min_ms, row.runs
            )?;
        }
        for (name, ratio) in &self.ratios {
            writeln!(out, "{name:<60} {ratio:>6.3}")?;
        }
        for ((name, ratio), [first, last]) in self.last_by_first.iter().zip(&self.ends) {
            // Both: a slow start grows by more, and yet by little of itself.
            writeln!(
                out,
                "{:<60} {ratio:>6.3} {:>+8.2} ms",
                format!("{name}: last starts of {} alive / first", self.alive),
                last.median_ms - first.median_ms
            )?;
        }
        Ok(())
    }
}
