//! Builds after the first: nothing changed, and one file of the app changed, which is a layer of its own beside the tree. On every CPU.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::stats::{Row, ratio};
use crate::tree::{SIZES, Size, copy_up};
use crate::{Options, Result};

const ROUNDS: usize = 3;
/// Of nothing changed, in each round.
const AGAIN: usize = 5;
/// Times of files prove nothing before they are so old.
const SETTLED: Duration = Duration::from_millis(1200);

#[derive(Debug, Serialize)]
pub(crate) struct Table {
    trees: Vec<Tree>,
}

#[derive(Debug, Serialize)]
struct Tree {
    name: &'static str,
    files: usize,
    bytes: u64,
    compression: &'static str,
    rows: Vec<Row>,
    /// Name, ratio of medians, what it should be at most.
    ratios: Vec<(String, f64, f64)>,
}

const FIRST: &str = "first build";
const SAME: &str = "nothing changed";
const ONE: &str = "one file of the app changed";
/// Of the first build. The small tree's promise for nothing changed is a time: [`SMALL_MS`].
const BARS: [(&str, f64); 2] = [(SAME, 0.02), (ONE, 0.1)];
const SMALL_MS: f64 = 60.0;

pub(crate) fn run(options: &Options, work: &Path) -> Result<Table> {
    let mut trees = Vec::new();
    for size in SIZES {
        let context = work.join(size.name);
        let bytes = make(&context, size)?;
        std::thread::sleep(SETTLED);
        for compression in ["gzip", "zstd"] {
            trees.push(measure(options, &context, (size, bytes), compression)?);
        }
        fs::remove_dir_all(&context)?;
    }
    Ok(Table { trees })
}

fn measure(
    options: &Options,
    context: &Path,
    (size, bytes): (Size, u64),
    compression: &'static str,
) -> Result<Tree> {
    let store = context.join("store");
    let mut samples = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        if store.exists() {
            fs::remove_dir_all(&store)?;
        }
        // What the round before left to be written is not this one's to wait for.
        nix::unistd::sync();
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
    let ratios = BARS.map(|(name, bar)| {
        let value = ratio(&rows, name, FIRST);
        (format!("{name} / {FIRST}"), value, bar)
    });
    Ok(Tree {
        name: size.name,
        files: size.files,
        bytes,
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

/// The tree, and a small app beside it; the tree's bytes.
fn make(context: &Path, size: Size) -> Result<u64> {
    let bytes = copy_up(&context.join("tree"), size)?;
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
    Ok(bytes)
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for tree in &self.trees {
            writeln!(
                out,
                "\nbuilds of the {} tree, {} files, {} bytes, {} (ms)",
                tree.name, tree.files, tree.bytes, tree.compression
            )?;
            for row in &tree.rows {
                writeln!(
                    out,
                    "{:<34} {:>9.1} (min {:.1}, n {})",
                    row.name, row.median_ms, row.min_ms, row.runs
                )?;
            }
            for (name, ratio, bar) in &tree.ratios {
                let bar = if tree.name == "small" && name.starts_with(SAME) {
                    format!("bar {SMALL_MS} ms")
                } else {
                    format!("bar {bar}")
                };
                writeln!(out, "{name:<56} {ratio:>6.4} ({bar})")?;
            }
        }
        Ok(())
    }
}
