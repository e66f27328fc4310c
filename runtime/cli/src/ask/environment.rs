//! Variables of the payload: `--env` and `--env-file`. No message shows a value: it may be a secret.

use std::path::Path;

use super::Wrong;

/// The variables of the files' texts, then those of the flags, in their order. A name alone passes the caller's own value, if it has one.
///
/// # Errors
/// A line or a flag without a name.
pub(crate) fn variables(
    files: &[(&Path, String)],
    flags: &[String],
    caller: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, Wrong> {
    let mut variables = Vec::new();
    for (file, text) in files {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let place = || format!("--env-file {}", file.display());
            let pair = variable(line, &caller).ok_or_else(|| {
                Wrong::new(
                    place(),
                    format!("line {} has no name", number + 1),
                    "write KEY=VALUE, or KEY alone",
                )
            })?;
            variables.extend(pair);
        }
    }
    for flag in flags {
        let pair = variable(flag, &caller).ok_or_else(|| {
            Wrong::new(
                "--env",
                "one has no name",
                "write --env KEY=VALUE, or --env KEY",
            )
        })?;
        variables.extend(pair);
    }
    Ok(variables)
}

/// Replaces the variable of the same name, or adds one.
pub(super) fn set(env: &mut Vec<String>, pair: String) {
    let name = pair.split('=').next().unwrap_or_default();
    let same = |known: &&mut String| known.split('=').next() == Some(name);
    match env.iter_mut().find(same) {
        Some(known) => *known = pair,
        None => env.push(pair),
    }
}

/// `Some(None)`: the caller has no such variable, so the payload gets none, as docker has it.
fn variable(text: &str, caller: impl Fn(&str) -> Option<String>) -> Option<Option<String>> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text.trim_end(), caller(text.trim_end())),
    };
    if name.is_empty() || name.contains(char::is_whitespace) {
        return None;
    }
    Some(value.map(|value| format!("{name}={value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_come_from_files_then_flags() {
        let caller = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
        let file = (
            Path::new("app.env"),
            "# comment\n\n  A=1\nTOKEN\nB=x y = z\nABSENT\n".to_owned(),
        );
        let flags = ["A=2", "TOKEN", "EMPTY=", "ABSENT"].map(str::to_owned);
        assert_eq!(
            variables(&[file], &flags, caller).unwrap(),
            [
                "A=1",
                "TOKEN=s3cret",
                "B=x y = z",
                "A=2",
                "TOKEN=s3cret",
                "EMPTY="
            ]
        );
    }

    #[test]
    fn a_line_without_a_name_is_told_without_its_value() {
        for (name, file, flag, want) in [
            (
                "file",
                "A=1\n=s3cret\n",
                "A=1",
                "`--env-file app.env`: line 2 has no name\n  fix: write KEY=VALUE, or KEY alone",
            ),
            (
                "export",
                "export A=s3cret\n",
                "A=1",
                "`--env-file app.env`: line 1 has no name\n  fix: write KEY=VALUE, or KEY alone",
            ),
            (
                "flag",
                "",
                "=s3cret",
                "`--env`: one has no name\n  fix: write --env KEY=VALUE, or --env KEY",
            ),
        ] {
            let error = variables(
                &[(Path::new("app.env"), file.to_owned())],
                &[flag.to_owned()],
                |_| None,
            )
            .unwrap_err();
            assert_eq!(error.to_string(), want, "{name}");
        }
    }

    #[test]
    fn a_later_variable_replaces_an_earlier_one() {
        let mut env = vec!["A=1".to_owned(), "AB=2".to_owned()];
        set(&mut env, "A=3".to_owned());
        set(&mut env, "C=4".to_owned());
        assert_eq!(env, ["A=3", "AB=2", "C=4"]);
    }
}
