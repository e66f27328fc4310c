//! Every parser of hostile bytes: no input makes it panic, hang, or believe what it must not. How long is `AIRTIGHT_FUZZ_SECONDS`' to say, 1 unless
//! said: enough to replay the regressions and to see that a target still works.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, its helpers too"
)]

mod archives;
mod explain;
mod network;
mod packages;
mod registry;
mod text;

/// An answer, for [`airtight_fuzz::fuzz`]: that it was taken, or the words of the refusal.
fn answer<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
    result.map_or_else(
        |error| error.to_string(),
        |_| airtight_fuzz::TAKEN.to_owned(),
    )
}

/// The input as text; bytes that are none are replaced, as a parser of text never sees them.
fn text(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}
