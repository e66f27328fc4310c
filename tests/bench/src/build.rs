//! Image building from a tree of 5,000 files and about 50 MB, against tar with a compressor, umoci and buildah.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::stats::{Row, ratio};
use crate::{Options, Result};

const FILES: usize = 5000;
const ROUNDS: usize = 3;
const OURS: &str = "airtight build";

#[derive(Debug, Serialize)]
pub(crate) struct Table {
    files: usize,
    bytes: u64,
    rows: Vec<Row>,
    ratios: Vec<(String, f64)>,
}

pub(crate) fn run(options: &Options, work: &Path) -> Result<Table> {
    let tree = work.join("context/tree");
    let bytes = make_tree(&tree)?;
    fs::write(
        work.join("context/airtight.toml"),
        "format = 1\nname = \"bench/tree\"\nbase = \"scratch\"\n[[layer]]\nname = \"app\"\ncopy = [{ from = \"tree\", to = \"/tree\" }]\n[config]\nentrypoint = [\"/tree/d00/e00/file-0.txt\"]\n",
    )?;
    let contenders: [(&str, String); 5] = [
        (OURS, format!("AIRTIGHT_STORE=$OUT/store {}/airtight build -o oci:$OUT/oci:bench {}/context", options.bin.display(), work.display())),
        ("tar | gzip -6", "tar --sort=name -C $TREE -cf - . | gzip -6 > $OUT/layer.tar.gz".to_owned()),
        ("tar | zstd -3", "tar --sort=name -C $TREE -cf - . | zstd -q -3 > $OUT/layer.tar.zst".to_owned()),
        ("umoci insert", "umoci init --layout $OUT/oci && umoci new --image $OUT/oci:bench && umoci insert --image $OUT/oci:bench $TREE /tree".to_owned()),
        (
            "buildah copy + commit",
            "B=\"buildah --root $OUT/root --runroot $OUT/runroot --storage-driver vfs\"; c=$($B from scratch) && $B copy -q $c $TREE /tree && $B commit -q $c oci:$OUT/oci:bench".to_owned(),
        ),
    ];
    let mut samples = vec![Vec::new(); contenders.len()];
    for _ in 0..ROUNDS {
        for ((name, script), samples) in contenders.iter().zip(&mut samples) {
            samples.push(sample(name, script, &tree, &work.join("out"))?);
        }
    }
    let rows: Vec<Row> = contenders
        .iter()
        .zip(&samples)
        .map(|((name, _), samples)| Row::of(name, samples))
        .collect();
    let ratios = contenders
        .iter()
        .skip(1)
        .map(|(name, _)| (format!("{OURS} / {name}"), ratio(&rows, OURS, name)))
        .collect();
    Ok(Table {
        files: FILES,
        bytes,
        rows,
        ratios,
    })
}

/// One cold run: an empty output directory each time, so nobody profits from a cache.
fn sample(name: &str, script: &str, tree: &Path, out: &Path) -> Result<Duration> {
    if out.exists() {
        fs::remove_dir_all(out)?;
    }
    fs::create_dir_all(out)?;
    let mut command = Command::new("sh");
    command
        .arg("-ec")
        .arg(script)
        .env("TREE", tree)
        .env("OUT", out);
    let started = Instant::now();
    crate::run(&mut command).map_err(|error| format!("{name}: {error}"))?;
    Ok(started.elapsed())
}

/// Files of mixed kinds and sizes, the same on every machine: text that compresses and bytes that do not.
fn make_tree(tree: &Path) -> Result<u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut total = 0;
    for number in 0..FILES {
        let dir: PathBuf = tree.join(format!("d{:02}/e{:02}", number % 50, number / 50 % 20));
        fs::create_dir_all(&dir)?;
        let len = 512 + next() % 19_500;
        let mut content = Vec::new();
        while (content.len() as u64) < len {
            if number % 3 == 0 {
                content.extend_from_slice(&next().to_le_bytes());
            } else {
                content.extend_from_slice(
                    format!(
                        "def function_{}(argument): return argument + {}\n",
                        next() % 64,
                        next() % 1000
                    )
                    .as_bytes(),
                );
            }
        }
        total += content.len() as u64;
        let path = dir.join(format!("file-{number}.txt"));
        fs::write(&path, content)?;
        if number == 0 {
            // The entrypoint of the image, which is never run.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(total)
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "\nimage from {} files, {} bytes, cold each time (ms)",
            self.files, self.bytes
        )?;
        for row in &self.rows {
            writeln!(
                out,
                "{:<34} {:>9.0} (min {:.0}, n {})",
                row.name, row.median_ms, row.min_ms, row.runs
            )?;
        }
        for (name, ratio) in &self.ratios {
            writeln!(out, "{name:<56} {ratio:>6.3}")?;
        }
        Ok(())
    }
}
