//! A fuzzer that needs no other compiler than the workspace's: seeds, a mutator, and the target's own answers in place of coverage.
//!
//! A target gives back what it answered. An input whose answer is new in kind (digits do not count) joins the corpus, so that the inputs work their way
//! past one check after another. The same `AIRTIGHT_FUZZ_SEED` makes the same inputs in the same order; `AIRTIGHT_FUZZ_SECONDS` says how long.
//! An input that makes a target panic, or keeps it for longer than [`SLOW`], is kept in a file and the test fails; once mended, it belongs into
//! `tests/fuzz/regressions/TARGET/`, which every run replays first.

#![forbid(unsafe_code)]

mod mutate;

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use mutate::Mutator;

/// What a target answers where nothing was wrong; every seed must be so.
pub const TAKEN: &str = "taken";
/// No parser here needs this long for [`INPUT_MAX`] bytes, on any machine.
pub const SLOW: Duration = Duration::from_secs(20);
/// Inputs do not grow beyond this.
pub const INPUT_MAX: usize = 16 << 10;
/// Inputs that are kept for further mutation.
const CORPUS_MAX: usize = 1024;

/// What a run did.
#[derive(Clone, Copy, Debug)]
pub struct Fuzzed {
    pub inputs: u64,
    /// Different kinds of answers.
    pub answers: usize,
}

/// Runs `target` on the regressions, the seeds and then mutations of them. `words` are pieces that a random change would not hit upon.
///
/// # Panics
/// A seed that is not taken; or as the target does, after the input is kept; or on an input that takes longer than [`SLOW`].
#[expect(
    clippy::print_stderr,
    reason = "how deep it went; seen with --nocapture"
)]
pub fn fuzz<R: AsRef<[u8]>>(
    name: &str,
    seeds: &[R],
    words: &[&str],
    mut target: impl FnMut(&[u8]) -> String,
) -> Fuzzed {
    let mut answers = BTreeSet::new();
    let mut inputs = 0;
    let mut corpus: Vec<Vec<u8>> = Vec::new();
    let mut run = |input: &[u8]| {
        inputs += 1;
        let answer = one(name, input, &mut target);
        (answers.insert(kind(&answer)), answer)
    };
    for kept in regressions(name) {
        run(&kept);
        corpus.push(kept);
    }
    for seed in seeds {
        let (_, answer) = run(seed.as_ref());
        assert!(
            answer.contains(TAKEN),
            "{name}: a seed is refused, so that no mutation of it goes deep: {answer}"
        );
        corpus.push(seed.as_ref().to_vec());
    }
    let mut mutator = Mutator::new(number("AIRTIGHT_FUZZ_SEED", 1), words);
    let end = Instant::now() + Duration::from_secs(number("AIRTIGHT_FUZZ_SECONDS", 1));
    while Instant::now() < end && !corpus.is_empty() {
        let input = mutator.next(&corpus);
        if run(&input).0 && corpus.len() < CORPUS_MAX {
            corpus.push(input);
        }
    }
    let done = Fuzzed {
        inputs,
        answers: answers.len(),
    };
    eprintln!("{name}: {done:?}");
    done
}

#[expect(
    clippy::print_stderr,
    reason = "where the input is, beside the panic's own message"
)]
fn one(name: &str, input: &[u8], target: &mut impl FnMut(&[u8]) -> String) -> String {
    let start = Instant::now();
    match catch_unwind(AssertUnwindSafe(|| target(input))) {
        Ok(answer) => {
            assert!(
                start.elapsed() < SLOW,
                "{name}: too slow on {}",
                keep(name, input).display()
            );
            answer
        }
        Err(panic) => {
            // The panic's own message is out already.
            eprintln!(
                "{name}: the input is kept at {}",
                keep(name, input).display()
            );
            resume_unwind(panic)
        }
    }
}

/// What is left of an answer when values are taken out.
fn kind(answer: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    answer
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| (2..16).contains(&word.len()))
        .take(64)
        .for_each(|word| word.hash(&mut hasher));
    hasher.finish()
}

fn keep(name: &str, input: &[u8]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let path = std::env::temp_dir().join(format!("airtight-fuzz-{name}-{:016x}", hasher.finish()));
    match fs::write(&path, input) {
        Ok(()) => path,
        Err(error) => PathBuf::from(format!("{}: not written: {error}", path.display())),
    }
}

fn regressions(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("regressions")
        .join(name);
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
        .iter()
        .filter_map(|path| fs::read(path).ok())
        .collect()
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_past_two_checks_is_found() {
        let mut reached = false;
        fuzz("own", &[b"abc"], &["key"], |input| {
            let first = input.windows(3).any(|window| window == b"key");
            let second = input.ends_with(&[0xff]);
            reached |= first && second;
            format!("{TAKEN} {first} {second}")
        });
        assert!(reached);
    }

    #[test]
    fn the_same_seed_makes_the_same_inputs() {
        let corpus = [b"some seed 12".to_vec(), b"another".to_vec()];
        let inputs = |seed| {
            let mut mutator = Mutator::new(seed, &["word"]);
            (0..200).map(|_| mutator.next(&corpus)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(7), inputs(7));
        assert_ne!(inputs(7), inputs(8));
    }

    #[test]
    fn a_panic_of_the_target_is_the_run_s() {
        let caught = catch_unwind(|| fuzz("own-panic", &[b"x"], &[], |_| panic!("as meant")));
        let text = caught.unwrap_err().downcast_ref::<&str>().copied();
        assert_eq!(text, Some("as meant"));
        for entry in fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with("airtight-fuzz-own-panic-")
            {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}
