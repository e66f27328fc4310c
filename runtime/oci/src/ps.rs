//! `ps`: the container's processes as the host numbers them, or the lines that ps(1) has of them.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use crate::args::{Global, ListFormat};
use crate::report::{self, Failure};
use crate::state::Root;

pub(crate) fn ps(
    global: &Global,
    id: &str,
    format: ListFormat,
    options: &[String],
) -> Result<(), Failure> {
    let record = Root::find(global.root.as_deref())?.home(id)?.known()?;
    let pids = record.groups().pids().map_err(Failure::Groups)?;
    match format {
        ListFormat::Json => {
            // As runc has it for none.
            let value = if pids.is_empty() {
                Value::Null
            } else {
                json!(pids)
            };
            report::print(&format!("{value}\n"))
        }
        ListFormat::Table => report::print(&lines(&pids, options)?),
    }
}

fn lines(pids: &[i32], options: &[String]) -> Result<String, Failure> {
    let mut command = Command::new("ps");
    match options {
        [] => command.arg("-ef"),
        options => command.args(options),
    };
    let output = command
        .output()
        .map_err(|error| Failure::io("exec: \"ps\"", &error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::Said(format!(
            "ps: {}: {}",
            output.status,
            said.trim()
        )));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    filter(&text, &pids.iter().copied().collect())
}

/// The heading, and the lines whose PID is one of these.
fn filter(text: &str, pids: &BTreeSet<i32>) -> Result<String, Failure> {
    let mut lines = text.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading
        .split_whitespace()
        .position(|title| title == "PID")
        .ok_or_else(|| Failure::said("couldn't find PID field in ps output"))?;
    let mut kept = format!("{heading}\n");
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let pid = line.split_whitespace().nth(column).unwrap_or_default();
        let pid = pid
            .parse()
            .map_err(|_| Failure::Said(format!("unable to parse pid: {pid:?}")))?;
        if pids.contains(&pid) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_by_their_pid_wherever_its_column_is() {
        let text = "UID    PID  CMD\nroot     7  a b 8\nroot    77  c\n\n";
        let kept = |text: &str| filter(text, &[7].into()).map_err(|failure| failure.to_string());
        assert_eq!(
            kept(text).as_deref(),
            Ok("UID    PID  CMD\nroot     7  a b 8\n")
        );
        assert_eq!(kept("  PID\n    7\n").as_deref(), Ok("  PID\n    7\n"));
        assert_eq!(
            kept("CMD\nx\n").unwrap_err(),
            "couldn't find PID field in ps output"
        );
        assert_eq!(kept("PID\nx\n").unwrap_err(), "unable to parse pid: \"x\"");
    }
}
