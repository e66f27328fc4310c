//! Builds after the first: nothing changed, and one file of the app changed. Trees of 5,000 files of at most 60 kB and 26,000 of at most 300 kB, copied from what
//! Debian installs; the app is a layer of its own beside them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::stats::{Row, ratio};
use crate::{Options, Result};

const ROUNDS: usize = 3;
/// Of nothing changed, in each round.
const AGAIN: usize = 5;
const SOURCES: [&str; 5] = [
    "/usr/lib/python3",
    "/usr/lib/python3.11",
    "/usr/share",
    "/usr/include",
    "/usr/lib/x86_64-linux-gnu",
];
/// Times of files prove nothing before they are so old.
const SETTLED: Duration = Duration::from_millis(1200);

#[derive(Debug, Serialize)]
pub(crate) struct Table {
    trees: Vec<Tree>,
}

#[derive(Debug, Serialize)]
struct Tree {
    files: usize,
    bytes: u64,
    compression: &'static str,
    rows: Vec<Row>,
    ratios: Vec<(String, f64)>,
}

const FIRST: &str = "first build";
const SAME: &str = "nothing changed";
const ONE: &str = "one file of the app changed";

pub(crate) fn run(options: &Options, work: &Path) -> Result<Table> {
    let mut trees = Vec::new();
    for (files, largest) in [(5_000, 60_000), (26_000, 300_000)] {
        let context = work.join(files.to_string());
        if context.exists() {
            fs::remove_dir_all(&context)?;
        }
        let (files, bytes) = make(&context, files, largest)?;
        std::thread::sleep(SETTLED);
        for compression in ["gzip", "zstd"] {
            trees.push(Tree {
                files,
                bytes,
                compression,
                ..measure(options, &context, compression)?
            });
        }
        fs::remove_dir_all(&context)?;
    }
    Ok(Table { trees })
}

fn measure(options: &Options, context: &Path, compression: &'static str) -> Result<Tree> {
    let store = context.join("store");
    let mut samples = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        if store.exists() {
            fs::remove_dir_all(&store)?;
        }
        let build = || build(options, context, &store, compression);
        let (spent, first) = build()?;
        samples[0].push(spent);
        for _ in 0..AGAIN {
            let (spent, again) = build()?;
            samples[1].push(spent);
            if again["digest"] != first["digest"] {
                return Err("what did not change was built otherwise".into());
            }
        }
        fs::write(context.join("app/main.py"), format!("print({round})\n"))?;
        let (spent, changed) = build()?;
        samples[2].push(spent);
        let same = |at: usize| changed["layers"][at]["digest"] == first["layers"][at]["digest"];
        if !same(0) || same(1) {
            return Err("another layer than the app's is new".into());
        }
        std::thread::sleep(SETTLED);
    }
    let rows: Vec<Row> = [FIRST, SAME, ONE]
        .iter()
        .zip(&samples)
        .map(|(name, samples)| Row::of(name, samples))
        .collect();
    let ratios = [SAME, ONE].map(|name| (format!("{name} / {FIRST}"), ratio(&rows, name, FIRST)));
    Ok(Tree {
        files: 0,
        bytes: 0,
        compression,
        rows,
        ratios: ratios.into(),
    })
}

fn build(
    options: &Options,
    context: &Path,
    store: &Path,
    compression: &str,
) -> Result<(Duration, serde_json::Value)> {
    let mut command = Command::new(options.bin.join("airtight"));
    command
        .arg("build")
        .arg(context)
        .args(["--json", "--compression-format", compression])
        .env("AIRTIGHT_STORE", store);
    let started = Instant::now();
    let output = command.output()?;
    let spent = started.elapsed();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok((spent, serde_json::from_slice(&output.stdout)?))
}

/// Copies `count` files below `context/tree`, and makes a small app beside them.
fn make(context: &Path, count: usize, largest: u64) -> Result<(usize, u64)> {
    let tree = context.join("tree");
    let (mut files, mut bytes) = (0, 0);
    let mut waiting: Vec<PathBuf> = SOURCES.iter().rev().map(PathBuf::from).collect();
    while let Some(directory) = waiting.pop() {
        let Ok(read) = directory.read_dir() else {
            continue;
        };
        let mut entries: Vec<_> = read.filter_map(std::result::Result::ok).collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, metadata) = (entry.path(), entry.metadata()?);
            if metadata.is_dir() {
                waiting.push(path);
            } else if metadata.is_file() && metadata.len() <= largest && files < count {
                let to = tree.join(path.strip_prefix("/")?);
                if let Some(parent) = to.parent() {
                    fs::create_dir_all(parent)?;
                }
                fs::copy(&path, &to)?;
                files += 1;
                bytes += metadata.len();
            }
        }
    }
    for number in 0..50 {
        let path = context.join(format!("app/part-{number}.py"));
        fs::create_dir_all(context.join("app"))?;
        fs::write(path, format!("def part():\n    return {number}\n"))?;
    }
    fs::write(context.join("app/main.py"), "print('first')\n")?;
    fs::write(
        context.join("airtight.toml"),
        "format = 1\nname = \"bench/rebuild\"\n[[layer]]\nname = \"tree\"\ncopy = [{ from = \"tree\", to = \"/tree\" }]\n\
         [[layer]]\nname = \"app\"\ncopy = [{ from = \"app\", to = \"/app\" }]\n",
    )?;
    Ok((files, bytes))
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for tree in &self.trees {
            writeln!(
                out,
                "\nbuilds of {} files, {} bytes, {} (ms)",
                tree.files, tree.bytes, tree.compression
            )?;
            for row in &tree.rows {
                writeln!(
                    out,
                    "{:<34} {:>9.1} (min {:.1}, n {})",
                    row.name, row.median_ms, row.min_ms, row.runs
                )?;
            }
            for (name, ratio) in &tree.ratios {
                writeln!(out, "{name:<56} {ratio:>6.4}")?;
            }
        }
        Ok(())
    }
}
