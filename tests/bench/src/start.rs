//! Start to exit of `/bin/true`: ours with everything on, the peers with their default seccomp profile, bubblewrap with `/proc` and `/dev`.

use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use serde::Serialize;

use crate::stats::{Row, ratio};
use crate::{Options, Result, peers};

const OURS: &str = "airtight run";
const OURS_OCI: &str = "airtight-runtime run";
const PEERS: [&str; 3] = [
    "crun run + seccomp",
    "runc run + seccomp",
    "bwrap --unshare-all + proc + dev",
];

#[derive(Debug, Serialize)]
pub(crate) struct Table {
    rows: Vec<Row>,
    ratios: Vec<(String, f64)>,
    /// Bytes.
    runtime_binary: u64,
    /// KiB, largest single process of the launch.
    peak_rss: Vec<(String, i64)>,
}

/// A command to time; `{id}` in an argument becomes a new container id each time.
struct Contender {
    name: &'static str,
    program: PathBuf,
    args: Vec<String>,
    store: PathBuf,
}

impl Contender {
    fn command(&self, id: usize) -> Command {
        let mut command = Command::new(&self.program);
        command.args(
            self.args
                .iter()
                .map(|arg| arg.replace("{id}", &format!("bench-{id}"))),
        );
        command
            .env("AIRTIGHT_STORE", &self.store)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    fn sample(&self, id: usize) -> Result<Duration> {
        let mut command = self.command(id);
        let started = Instant::now();
        let output = command.spawn()?.wait_with_output()?;
        let elapsed = started.elapsed();
        if output.status.success() {
            return Ok(elapsed);
        }
        Err(format!(
            "{} failed ({}): {}",
            self.name,
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        )
        .into())
    }
}

pub(crate) fn run(options: &Options, work: &Path) -> Result<Table> {
    let contenders = contenders(options, work)?;
    let mut samples = vec![Vec::new(); contenders.len()];
    let mut id = 0;
    for round in 0..options.runs + 5 {
        for (contender, samples) in contenders.iter().zip(&mut samples) {
            id += 1;
            let elapsed = contender.sample(id)?;
            // The first rounds fill the page cache and the compiled-filter cache.
            if round >= 5 {
                samples.push(elapsed);
            }
        }
    }
    let rows: Vec<Row> = contenders
        .iter()
        .zip(&samples)
        .map(|(contender, samples)| Row::of(contender.name, samples))
        .collect();
    let ratios = [OURS, OURS_OCI]
        .iter()
        .flat_map(|ours| PEERS.iter().map(move |peer| (ours, peer)))
        .map(|(ours, peer)| (format!("{ours} / {peer}"), ratio(&rows, ours, peer)))
        .collect();
    let mut peak_rss = Vec::new();
    for contender in &contenders {
        id += 1;
        peak_rss.push((contender.name.to_owned(), rss(contender, id)?));
    }
    let runtime_binary = fs::metadata(options.bin.join("airtight-runtime"))?.len();
    Ok(Table {
        rows,
        ratios,
        runtime_binary,
        peak_rss,
    })
}

fn contenders(options: &Options, work: &Path) -> Result<Vec<Contender>> {
    let (bundle, store, state) = (work.join("bundle"), work.join("store"), work.join("state"));
    fs::create_dir_all(&bundle)?;
    fs::create_dir_all(&state)?;
    peers::bundle(&bundle)?;
    let context = work.join("image");
    fs::create_dir_all(&context)?;
    fs::copy(bundle.join("rootfs/bin/true"), context.join("true"))?;
    fs::write(
        context.join("airtight.toml"),
        "format = 1\nname = \"bench/true\"\nbase = \"scratch\"\n[[layer]]\nname = \"app\"\ncopy = [{ from = \"true\", to = \"/bin/true\" }]\n[config]\nentrypoint = [\"/bin/true\"]\n",
    )?;
    crate::run(
        Command::new(options.bin.join("airtight"))
            .env("AIRTIGHT_STORE", &store)
            .arg("build")
            .arg(&context),
    )?;

    // A bundle of our own: ours refuses what it cannot honour, and this one asks for nothing that it must.
    let own = work.join("own");
    fs::create_dir_all(&own)?;
    crate::run(
        Command::new("cp")
            .arg("-a")
            .arg(bundle.join("rootfs"))
            .arg(&own),
    )?;
    crate::run(
        Command::new(options.bin.join("airtight-runtime"))
            .arg("spec")
            .arg("--bundle")
            .arg(&own),
    )?;
    let config = own.join("config.json");
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(&config)?)?;
    value["process"]["args"] = serde_json::json!(["/bin/true"]);
    value["process"]["terminal"] = serde_json::json!(false);
    fs::write(&config, serde_json::to_vec_pretty(&value)?)?;

    let text = |path: &Path| path.display().to_string();
    let make = |name, program: &Path, args: Vec<String>| Contender {
        name,
        program: program.to_owned(),
        args,
        store: store.clone(),
    };
    let oci = |root: &str| {
        [
            "--root".to_owned(),
            text(&state.join(root)),
            "run".to_owned(),
            "--bundle".to_owned(),
            text(&bundle),
            "{id}".to_owned(),
        ]
        .to_vec()
    };
    let mut ours_oci = oci("airtight");
    ours_oci[4] = text(&own);
    let bwrap = [
        "--unshare-all",
        "--ro-bind",
        &text(&bundle.join("rootfs")),
        "/",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "/bin/true",
    ];
    Ok(vec![
        make(
            OURS,
            &options.bin.join("airtight"),
            ["run", "bench/true"].map(str::to_owned).to_vec(),
        ),
        make(OURS_OCI, &options.bin.join("airtight-runtime"), ours_oci),
        make(PEERS[0], Path::new("crun"), oci("crun")),
        make(PEERS[1], Path::new("runc"), oci("runc")),
        make(
            PEERS[2],
            Path::new("bwrap"),
            bwrap.map(str::to_owned).to_vec(),
        ),
    ])
}

/// The kernel keeps the largest of all children ever waited for, so each contender is asked in a process of its own.
fn rss(contender: &Contender, id: usize) -> Result<i64> {
    let command = contender.command(id);
    let output = Command::new(std::env::current_exe()?)
        .arg("--rss-of")
        .arg(command.get_program())
        .args(command.get_args())
        .env("AIRTIGHT_STORE", &contender.store)
        .stdin(Stdio::null())
        .output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

pub(crate) fn print_rss(command: &[String]) -> Result<ExitCode> {
    let (program, args) = command.split_first().ok_or("--rss-of needs a command")?;
    crate::run(Command::new(program).args(args))?;
    writeln!(
        std::io::stdout(),
        "{}",
        getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss()
    )?;
    Ok(ExitCode::SUCCESS)
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "\nstart to exit of /bin/true, one pinned CPU, interleaved (ms)"
        )?;
        writeln!(
            out,
            "{:<34} {:>8} {:>8} {:>8} {:>5} {:>9}",
            "", "median", "p95", "min", "n", "RSS KiB"
        )?;
        for (row, (_, rss)) in self.rows.iter().zip(&self.peak_rss) {
            writeln!(
                out,
                "{:<34} {:>8.2} {:>8.2} {:>8.2} {:>5} {:>9}",
                row.name, row.median_ms, row.p95_ms, row.min_ms, row.runs, rss
            )?;
        }
        for (name, ratio) in &self.ratios {
            writeln!(out, "{name:<56} {ratio:>6.3}")?;
        }
        writeln!(out, "airtight-runtime: {} bytes", self.runtime_binary)
    }
}
