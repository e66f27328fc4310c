//! A program that writes to a file through a shared mapping, beside builds: the kernel notes the file's times when a page becomes dirty, not at each store to it.

#![expect(clippy::unwrap_used, reason = "a test's own preparations end the test")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use airtight_build::{BuildRequest, Built, build};
use airtight_image::Store;

const FILE: &str = "format = 1\nname = \"cache/mapped:1\"\n[[layer]]\nname = \"app\"\ncopy = [{ from = \"app\", to = \"/srv/app\" }]\n";

/// Stores the byte that it is told into a mapping that stays, and says so.
const WRITER: &str = "
import mmap, sys
file = open(sys.argv[1], 'r+b')
pages = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED)
for line in sys.stdin:
    pages[int(line)] = pages[int(line)] + 1
    print('stored', flush=True)
";

struct Writer {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Writer {
    /// `None` without python3, which the tests of the product need anyway.
    fn start(file: &Path) -> Option<Self> {
        let mut command = Command::new("python3");
        command.args(["-c", WRITER]).arg(file);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.spawn().ok()?;
        let said = BufReader::new(child.stdout.take()?);
        Some(Self { child, said })
    }

    fn store(&mut self, at: usize) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{at}").unwrap();
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert_eq!(line, "stored\n");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn built(dir: &Path, cache: bool) -> Built {
    let request = BuildRequest {
        file: dir.join("airtight.toml"),
        cache,
        ..BuildRequest::default()
    };
    build(&request, &Store::open(&dir.join("store")).unwrap()).unwrap()
}

#[test]
fn a_store_through_a_mapping_is_noticed_by_the_next_build() {
    // Which build is the first that may know the file by its times: one that writes the layer, or one that finds it and reads the file to know.
    let small = 3 * 4096;
    for (name, before, length) in [
        ("while written", 0, small),
        ("while written in several pieces", 0, 3 << 20),
        ("while read", 1, small),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        fs::create_dir(dir.join("app")).unwrap();
        fs::write(dir.join("airtight.toml"), FILE).unwrap();
        fs::write(dir.join("app/pages"), vec![0; length]).unwrap();
        let Some(mut writer) = Writer::start(&dir.join("app/pages")) else {
            eprintln!("skipped: python3 is not installed");
            return;
        };
        let near = 4096 + 7;
        writer.store(near);
        for _ in 0..before {
            built(dir, true);
        }
        // Times prove something when they lie well before.
        std::thread::sleep(Duration::from_millis(1100));
        let mut last = built(dir, true).digest;
        for round in 0..3 {
            // The page is dirty since then, for all that anybody but us knows.
            writer.store(near);
            let now = built(dir, true).digest;
            assert_eq!(now, built(dir, false).digest, "{name}, {round}");
            assert_ne!(now, last, "{name}, {round}");
            last = now;
            std::thread::sleep(Duration::from_millis(1100));
            assert_eq!(built(dir, true).digest, last, "{name}, {round}");
        }
    }
}
