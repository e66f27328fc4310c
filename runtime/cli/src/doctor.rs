//! `airtight doctor`: the rows are the sandbox's; whether this host can launch at all is asked of the plan itself.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use airtight_plan::{
    Audit, Control, HostFacts, Init, Limits, Plan, Process, Refusal, Spec, Terminal, plan,
};
use airtight_profiles::{Additions, Ceiling, effective, shipped};
use airtight_sandbox::doctor::{Row, State, doctor};
use airtight_sandbox::{ProbeInput, probe};
use serde_json::json;

use crate::args::DoctorArgs;
use crate::format;
use crate::report::{self, Failure};

pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let facts = probe(&ProbeInput::default());
    let rows = doctor(&facts);
    let refusal = planned("base", &facts, BTreeSet::new())?.err();
    // The service profile needs no less of a host than the base does.
    let shortfalls = planned("service", &facts, Control::ALL.into())?
        .map_or_else(|_| Vec::new(), |plan| plan.shortfalls);
    if args.json {
        let launch = refusal.as_ref().map(ToString::to_string);
        report::print_json(
            &json!({ "launch": launch.is_none(), "refusal": launch, "shortfalls": shortfalls, "controls": rows, "facts": facts }),
        )?;
    } else {
        let colour = std::io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        report::print(&text(&rows, colour))?;
    }
    Ok(match refusal {
        None => ExitCode::SUCCESS,
        Some(refusal) => report::finding(&format!("this host launches nothing: {refusal}")),
    })
}

/// The plan of the plainest launch, or why it would not be made.
fn planned(
    profile: &str,
    facts: &HostFacts,
    accepted: BTreeSet<Control>,
) -> Result<Result<Plan, Refusal>, Failure> {
    let spec = Spec {
        id: "doctor".into(),
        hostname: "doctor".into(),
        layers: vec!["/".into()],
        write_execute: Vec::new(),
        process: Process {
            args: vec!["/bin/true".into()],
            env: Vec::new(),
            cwd: "/".into(),
            uid: 65532,
            gid: 65532,
            additional_gids: Vec::new(),
            terminal: Terminal::Inherit,
        },
        tmpfs: Vec::new(),
        volumes: Vec::new(),
        limits: Limits::default(),
        connect: Vec::new(),
        publish: Vec::new(),
        listen: [].into(),
        public: false,
        init: Init::Ours,
        audit: Audit::Stderr,
        accepted,
    };
    let profile = shipped(profile).ok_or_else(|| Failure::File {
        path: profile.into(),
        problem: "this build of airtight has no such profile".into(),
        fix: "install it again",
    })?;
    let policy = effective(&profile, &Ceiling::built_in(), &Additions::default())
        .map_err(Failure::Beyond)?;
    Ok(plan(&spec, &policy, facts))
}

fn text(rows: &[Row], colour: bool) -> String {
    let state = |state: State| match state {
        State::On => ("on", "32"),
        State::Partly => ("partly", "33"),
        State::Off => ("off", "31"),
    };
    let cells = |row: &Row| {
        vec![
            row.name.to_owned(),
            state(row.state).0.to_owned(),
            row.says.clone(),
        ]
    };
    let plain = format::table(&rows.iter().map(cells).collect::<Vec<_>>());
    let mut text = String::new();
    for (line, row) in plain.lines().zip(rows) {
        let (word, code) = state(row.state);
        // The first occurrence after the name's column is the state.
        let painted = match (colour, line.split_at_checked(row.name.len())) {
            (true, Some((name, rest))) => format!(
                "{name}{}",
                rest.replacen(word, &format!("\x1b[{code}m{word}\x1b[0m"), 1)
            ),
            _ => line.to_owned(),
        };
        text.push_str(&painted);
        text.push('\n');
        if !row.fix.is_empty() {
            text.push_str(&format!("    fix: {}\n", row.fix));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_its_state_what_it_costs_and_the_fix() {
        let row = |name, state, fix: &str| Row {
            name,
            state,
            says: "says on".into(),
            fix: fix.into(),
        };
        let rows = [
            row("overlay", State::On, ""),
            row("audit-on", State::Off, "Linux 5.5"),
        ];
        assert_eq!(
            text(&rows, false),
            "overlay   on   says on\naudit-on  off  says on\n    fix: Linux 5.5\n"
        );
        assert_eq!(
            text(&rows, true),
            "overlay   \x1b[32mon\x1b[0m   says on\naudit-on  \x1b[31moff\x1b[0m  says on\n    fix: Linux 5.5\n"
        );
    }
}
