//! The first build of a small and a large tree (what this host has of Python and in /usr/share, copied up to a size), against tar with a compressor,
//! umoci and buildah; and the peak memory of ours.

use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::stats::{Row, ratio};
use crate::{Options, Result};

/// What trees are copied from, in this order, again and again.
const SOURCES: [&str; 3] = ["/usr/lib/python3.11", "/usr/lib/python3", "/usr/share"];
const ROUNDS: usize = 5;
const MIB: u64 = 1 << 20;
const ZSTD: &str = "airtight build, zstd";
const GZIP: &str = "airtight build, gzip";
const TAR_ZSTD: &str = "tar | zstd -3 -T2";
const TAR_GZIP: &str = "tar | gzip -6";
const BUILDAH: &str = "buildah copy + commit";
/// What is held to what, and the promise.
const BARS: [(&str, &str, f64); 4] = [
    (ZSTD, TAR_ZSTD, 1.15),
    (GZIP, TAR_GZIP, 0.6),
    (ZSTD, BUILDAH, 0.12),
    (GZIP, BUILDAH, 0.12),
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
    for (name, files, bytes) in [("small", 5_000, 50_000_000), ("large", 26_000, 360_000_000)] {
        let work = work.join(name);
        trees.push(tree(options, &work, name, files, bytes)?);
        fs::remove_dir_all(&work)?;
    }
    Ok(Table { trees })
}

fn tree(
    options: &Options,
    work: &Path,
    name: &'static str,
    files: usize,
    bytes: u64,
) -> Result<Tree> {
    let context = work.join("context");
    let (files, bytes) = copy_up(&context.join("tree"), files, bytes)?;
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
        name,
        files,
        bytes,
        rows,
        ratios,
        peak_rss,
        max_rss: MAX_RSS,
    })
}

/// Each ends with the image or archive written; a pipe's failure is the script's.
fn contenders(options: &Options, context: &Path) -> [(&'static str, String); 6] {
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
    [
        (ZSTD, ours("zstd")),
        (TAR_ZSTD, tar("zstd -q -3 -T2")),
        (GZIP, ours("gzip")),
        (TAR_GZIP, tar("gzip -6")),
        ("umoci insert", "umoci init --layout $OUT/oci && umoci new --image $OUT/oci:bench && umoci insert --image $OUT/oci:bench $TREE /tree".to_owned()),
        (
            BUILDAH,
            "B=\"buildah --root $OUT/root --runroot $OUT/runroot --storage-driver vfs\"; c=$($B from scratch) && $B copy -q $c $TREE /tree && $B commit -q $c oci:$OUT/oci:bench".to_owned(),
        ),
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

/// Copies files until there are as many, keeping to the wanted size on the way; how many files and bytes there are.
fn copy_up(tree: &Path, files: usize, bytes: u64) -> Result<(usize, u64)> {
    let slack = bytes / 50;
    let (mut count, mut sum) = (0, 0);
    for round in 0.. {
        let before = count;
        for source in SOURCES {
            for path in regular_files(Path::new(source))? {
                if count == files {
                    return Ok((count, sum));
                }
                let length = fs::metadata(&path)?.len();
                let due = bytes / files as u64 * (count as u64 + 1) + slack;
                if sum + length > due.min(bytes) {
                    continue;
                }
                let below = path.strip_prefix("/")?;
                let to = tree.join(format!("copy{round}")).join(below);
                fs::create_dir_all(to.parent().ok_or("a file at the root")?)?;
                let mut copy = fs::File::create(&to)?;
                copy.write_all(&fs::read(&path)?)?;
                count += 1;
                sum += length;
            }
        }
        if count == before {
            break;
        }
    }
    Ok((count, sum))
}

/// Below `root`, in the order of their names; links are not followed.
fn regular_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
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
