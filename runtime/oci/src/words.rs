//! The words of a call, read with what they can mean: a launch does not put the options of fifteen verbs together to use those of one.

use std::ffi::OsString;

use clap::{Args as _, FromArgMatches as _, Parser as _, Subcommand as _};

use crate::args::{Args, Command, Top};
use crate::plain;

/// As [`Args`] has it. A line that is not [`plain`] is read with those verbs alone that are among its words, which is the same where that succeeds: no
/// other verb can have been meant. Whatever does not, help included, is told by the whole description.
pub(crate) fn parse(words: Vec<OsString>) -> Result<Args, clap::Error> {
    if let Some(args) = plain::read(&words).or_else(|| among(&words)) {
        return Ok(args);
    }
    Args::try_parse_from(words)
}

fn among(words: &[OsString]) -> Option<Args> {
    let verbs = Command::augment_subcommands(clap::Command::new(""));
    let mut meant = verbs
        .get_subcommands()
        .filter(|verb| words.iter().any(|word| word == verb.get_name()))
        .peekable();
    meant.peek()?;
    // What `Args` says of itself and success hangs on.
    let command = Top::augment_args(clap::Command::new("airtight-runtime"))
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .subcommands(meant.cloned());
    let matches = command.try_get_matches_from(words).ok()?;
    Args::from_arg_matches(&matches).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        std::iter::once("airtight-runtime")
            .chain(line.split(' ').filter(|word| !word.is_empty()))
            .map(OsString::from)
            .collect()
    }

    /// With and without the verbs that are not among the words.
    #[test]
    fn fewer_verbs_read_the_same() {
        for (line, few) in [
            ("run c", true),
            ("--compat --root /r run --bundle /b c --log /l", true),
            ("run --root run run", true),
            ("--root exec create start", true),
            ("create start --bundle delete --pid-file=/p", true),
            ("exec -e A=B c sh -c run --help", true),
            ("exec --user 1:2 -t exec state", true),
            ("kill --all c 9", true),
            ("kill c -9", true),
            ("--rootless true state list", true),
            ("events --stats --interval 1s c", true),
            ("update --memory -1 --resources - c", true),
            ("ps c -f json -- -o pid", true),
            ("spec --rootless", true),
            ("-v", false),
            ("--version run c", true),
            ("", false),
            ("--help", false),
            ("help run", false),
            ("run", false),
            ("run --help", false),
            ("run -h c", false),
            ("runn c", false),
            ("checkpoint c", false),
            ("run c d", false),
            ("run c --no-such", false),
            ("--rootless maybe run c", false),
            ("--profile", false),
            ("-V", false),
            ("state --version c", false),
        ] {
            let whole = Args::try_parse_from(words(line));
            let told = |args: Result<Args, clap::Error>| match args {
                Ok(args) => format!("{args:?}"),
                Err(error) => error.to_string(),
            };
            assert_eq!(among(&words(line)).is_some(), few, "{line}");
            assert_eq!(told(parse(words(line))), told(whole), "{line}");
        }
    }
}
