//! The Python example that is made of packages, against what `debootstrap` makes of the same suite: minbase with python3 and certificates.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde::Serialize;

use crate::{Options, Result, output, run};

/// Of the example's build file.
const SUITE: &str = "bookworm";

#[derive(Debug, Serialize)]
pub(crate) struct Table {
    /// Bytes of the image, compressed.
    image: u64,
    /// Bytes of its layers, as tar archives.
    image_plain: u64,
    /// Bytes of the peer's root without apt's caches, through `gzip -6`.
    peer: u64,
    /// Bytes of the same as a tar archive.
    peer_plain: u64,
    /// Seconds of the first build, its downloads included.
    first: f64,
    /// Seconds of a build from the lock and the store.
    locked: f64,
    ratio: f64,
}

/// Compares in `work`; the example is copied there, so that its lock is not left in the tree.
pub(crate) fn measure(options: &Options, work: &Path) -> Result<Table> {
    let example = work.join("example");
    fs::create_dir_all(&example)?;
    run(Command::new("cp")
        .args(["-r", "examples/python-web-debian/.", "--target-directory"])
        .arg(&example))?;
    let build = |flags: &[&str]| -> Result<(f64, serde_json::Value)> {
        let started = Instant::now();
        let mut command = Command::new(options.bin.join("airtight"));
        command
            .arg("build")
            .arg(&example)
            .args(["--json", "--store"])
            .arg(work.join("store"))
            .args(flags);
        let told = output(&mut command)?;
        Ok((
            started.elapsed().as_secs_f64(),
            serde_json::from_slice(&told)?,
        ))
    };
    let (first, image) = build(&[])?;
    let (locked, _) = build(&["--locked"])?;
    let root = work.join("peer");
    run(Command::new("debootstrap")
        .args([
            "--variant=minbase",
            "--include=python3,ca-certificates",
            SUITE,
        ])
        .arg(&root))?;
    for cache in ["var/cache/apt", "var/lib/apt/lists"] {
        fs::remove_dir_all(root.join(cache))?;
    }
    let size = |script: &str| -> Result<u64> {
        let told = output(Command::new("sh").args(["-ec", script]).env("ROOT", &root))?;
        Ok(String::from_utf8_lossy(&told).trim().parse()?)
    };
    let peer = size("tar --sort=name -C \"$ROOT\" -cf - . | gzip -6 | wc -c")?;
    let peer_plain = size("tar --sort=name -C \"$ROOT\" -cf - . | wc -c")?;
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
    let layers = image["layers"].as_array().cloned().unwrap_or_default();
    let bytes = number(&image["size"]);
    Ok(Table {
        image: bytes,
        image_plain: layers
            .iter()
            .map(|layer| number(&layer["uncompressed"]))
            .sum(),
        peer,
        peer_plain,
        first,
        locked,
        ratio: ratio(bytes, peer),
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes of images, for a ratio of two digits"
)]
fn ratio(ours: u64, peer: u64) -> f64 {
    ours as f64 / peer as f64
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nPackages: the Python example against debootstrap minbase + python3"
        )?;
        writeln!(
            f,
            "  {:<26} {:>12} bytes compressed {:>12} plain",
            "airtight build", self.image, self.image_plain
        )?;
        writeln!(
            f,
            "  {:<26} {:>12} bytes compressed {:>12} plain",
            "debootstrap", self.peer, self.peer_plain
        )?;
        writeln!(f, "  {:<26} {:>12.3}", "ratio", self.ratio)?;
        writeln!(
            f,
            "  first build {:.2} s, from the lock {:.3} s",
            self.first, self.locked
        )
    }
}
