//! The first build of a small and a large tree, against tar with a compressor, umoci and buildah; and the peak memory of ours. On every CPU, and on a
//! disk, which is where stores lie: what a tool does to be safe from a power failure is part of its time.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::stats::{Row, ratio};
use crate::tree::{SIZES, Size, copy_up};
use crate::{Options, Result};

const ROUNDS: usize = 3;
const MIB: u64 = 1 << 20;
const ZSTD: &str = "airtight build, zstd";
const GZIP: &str = "airtight build, gzip";
const TAR_ZSTD: &str = "tar | zstd -3 -T2";
const TAR_GZIP: &str = "tar | gzip -6";
/// It compresses nothing.
const BUILDAH: &str = "buildah copy + commit";
const BUILDAH_GZIP: &str = "buildah copy + commit, gzip";
/// What is held to what, and the promise.
const BARS: [(&str, &str, f64); 5] = [
    (ZSTD, TAR_ZSTD, 1.15),
    (GZIP, TAR_GZIP, 0.6),
    (ZSTD, BUILDAH, 0.12),
    (GZIP, BUILDAH, 0.12),
    (GZIP, BUILDAH_GZIP, 0.12),
];
/// Of peak memory, whatever the tree.
const MAX_RSS: u64 = 64 * MIB;

#[derive(Debug, Serialize)]
pub(crate) struct Table {
    trees: Vec<Tree>,
}

#[derive(Debug, Serialize)]
struct Tree {
    name: &'static str,
    files: usize,
    bytes: u64,
    rows: Vec<Row>,
    /// Name, ratio of medians, what it should be at most.
    ratios: Vec<(String, f64, f64)>,
    /// Name and bytes.
    peak_rss: Vec<(&'static str, u64)>,
    max_rss: u64,
}

pub(crate) fn run(options: &Options, work: &Path) -> Result<Table> {
    let mut trees = Vec::new();
    for size in SIZES {
        let work = work.join(size.name);
        trees.push(tree(options, &work, size)?);
        fs::remove_dir_all(&work)?;
    }
    Ok(Table { trees })
}

fn tree(options: &Options, work: &Path, size: Size) -> Result<Tree> {
    let context = work.join("context");
    let bytes = copy_up(&context.join("tree"), size)?;
    fs::write(
        context.join("airtight.toml"),
        "format = 1\nname = \"bench/tree\"\n[[layer]]\nname = \"app\"\ncopy = [{ from = \"tree\", to = \"/tree\" }]\n",
    )?;
    let contenders = contenders(options, &context);
    let out = work.join("out");
    let mut samples = vec![Vec::new(); contenders.len()];
    for _ in 0..ROUNDS {
        for ((name, script), samples) in contenders.iter().zip(&mut samples) {
            samples.push(sample(name, script, &context, &out)?);
        }
    }
    let rows: Vec<Row> = contenders
        .iter()
        .zip(&samples)
        .map(|((name, _), samples)| Row::of(name, samples))
        .collect();
    let ratios = BARS
        .iter()
        .map(|(ours, theirs, bar)| {
            let name = format!("{ours} / {theirs}");
            (name, ratio(&rows, ours, theirs), *bar)
        })
        .collect();
    let peak_rss = contenders
        .iter()
        .filter(|(name, _)| [ZSTD, GZIP].contains(name))
        .map(|(name, script)| Ok((*name, rss(script, &context, &out)?)))
        .collect::<Result<_>>()?;
    Ok(Tree {
        name: size.name,
        files: size.files,
        bytes,
        rows,
        ratios,
        peak_rss,
        max_rss: MAX_RSS,
    })
}

/// Each ends with the image or archive written; a pipe's failure is the script's.
fn contenders(options: &Options, context: &Path) -> [(&'static str, String); 7] {
    let ours = |format: &str| {
        format!(
            "AIRTIGHT_STORE=$OUT/store exec {}/airtight build --compression-format {format} {}",
            options.bin.display(),
            context.display()
        )
    };
    let tar = |compressor: &str| {
        format!("set -o pipefail; tar --sort=name -C $TREE -cf - . | {compressor} > $OUT/layer")
    };
    let buildah = |options: &str| {
        format!(
            "B=\"buildah --root $OUT/root --runroot $OUT/runroot --storage-driver vfs\"; c=$($B from scratch) && $B copy -q $c $TREE /tree && \
             $B commit -q {options} $c oci:$OUT/oci:bench"
        )
    };
    [
        (ZSTD, ours("zstd")),
        (TAR_ZSTD, tar("zstd -q -3 -T2")),
        (GZIP, ours("gzip")),
        (TAR_GZIP, tar("gzip -6")),
        ("umoci insert", "umoci init --layout $OUT/oci && umoci new --image $OUT/oci:bench && umoci insert --image $OUT/oci:bench $TREE /tree".to_owned()),
        (BUILDAH, buildah("")),
        (BUILDAH_GZIP, buildah("--disable-compression=false")),
    ]
}

/// An empty output directory each time, so nobody profits from a cache.
fn command(program: &str, script: &str, context: &Path, out: &Path) -> Result<Command> {
    if out.exists() {
        fs::remove_dir_all(out)?;
    }
    fs::create_dir_all(out)?;
    // What the run before left to be written is not this one's to wait for.
    nix::unistd::sync();
    let mut command = Command::new(program);
    command.args(match program {
        "bash" => vec!["-ec", script],
        _ => vec!["--rss-of", "bash", "-ec", script],
    });
    command
        .env("TREE", context.join("tree"))
        .env("OUT", out)
        .stdin(Stdio::null());
    Ok(command)
}

fn sample(name: &str, script: &str, context: &Path, out: &Path) -> Result<Duration> {
    let mut command = command("bash", script, context, out)?;
    let started = Instant::now();
    crate::run(&mut command).map_err(|error| format!("{name}: {error}"))?;
    Ok(started.elapsed())
}

/// In a process of its own: the kernel keeps the largest of all children ever waited for.
fn rss(script: &str, context: &Path, out: &Path) -> Result<u64> {
    let own = std::env::current_exe()?;
    let output = command(&own.to_string_lossy(), script, context, out)?.output()?;
    let kibibytes: u64 = String::from_utf8(output.stdout)?.trim().parse()?;
    Ok(kibibytes * 1024)
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for tree in &self.trees {
            writeln!(
                out,
                "\nfirst image from the {} tree, {} files, {} bytes, an empty store each time (ms)",
                tree.name, tree.files, tree.bytes
            )?;
            for row in &tree.rows {
                writeln!(
                    out,
                    "{:<34} {:>9.0} (min {:.0}, n {})",
                    row.name, row.median_ms, row.min_ms, row.runs
                )?;
            }
            for (name, ratio, bar) in &tree.ratios {
                writeln!(out, "{name:<56} {ratio:>6.3} (bar {bar})")?;
            }
            for (name, bytes) in &tree.peak_rss {
                let mib = |bytes: u64| bytes / MIB;
                let name = format!("{name}, peak RSS");
                writeln!(
                    out,
                    "{name:<56} {:>3} MiB (bar {})",
                    mib(*bytes),
                    mib(tree.max_rss)
                )?;
            }
        }
        Ok(())
    }
}
