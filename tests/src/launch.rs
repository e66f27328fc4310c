//! Launches of a plan from which something was taken, and what the prober said.

use std::collections::BTreeMap;
use std::io;
use std::process::Stdio;

use serde_json::Value;

use crate::{World, binary};

/// What came of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    pub ok: bool,
    pub errno: i64,
    pub detail: String,
}

/// All attempts of a run, by name; the last of a name counts.
#[derive(Clone, Debug)]
pub struct Report {
    pub code: Option<i32>,
    pub stderr: String,
    tried: BTreeMap<String, Tried>,
}

impl Report {
    /// What came of `attempt`.
    ///
    /// # Panics
    /// When it was not made.
    #[must_use]
    #[expect(clippy::panic, reason = "a test asks for what it attempted")]
    pub fn of(&self, attempt: &str) -> &Tried {
        self.tried
            .get(attempt)
            .unwrap_or_else(|| panic!("{attempt} was not attempted: {self:?}"))
    }
}

/// The prober's lines.
#[must_use]
pub fn parse(code: Option<i32>, stdout: &str, stderr: &str) -> Report {
    let mut tried = BTreeMap::new();
    for line in stdout.lines() {
        let Ok(value) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let text = |key: &str| {
            value
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let ok = value.get("ok").and_then(Value::as_bool).unwrap_or(false);
        let errno = value.get("errno").and_then(Value::as_i64).unwrap_or(-1);
        tried.insert(
            text("attempt"),
            Tried {
                ok,
                errno,
                detail: text("detail"),
            },
        );
    }
    Report {
        code,
        stderr: stderr.to_owned(),
        tried,
    }
}

/// A change to a plan: which control is taken out of it.
#[derive(Clone, Debug)]
pub enum Without {
    /// Every child step of this name.
    Step(&'static str),
    /// Every child step of this name whose JSON holds this text.
    StepWith(&'static str, &'static str),
    /// A namespace of the clone.
    Namespace(&'static str),
    /// A key of every child step of this name gets another value.
    Set(&'static str, &'static str, Value),
}

impl World {
    /// Attempts through the product itself.
    ///
    /// # Errors
    /// A launch that does not end.
    pub fn attempt(&self, flags: &[&str], attempts: &[&str]) -> io::Result<Report> {
        let ran = self.run(flags, attempts)?;
        Ok(parse(ran.code, &ran.stdout, &ran.stderr))
    }

    /// The same attempts under the same plan, less these controls.
    ///
    /// # Errors
    /// A launch that does not end.
    pub fn attempt_without(
        &self,
        flags: &[&str],
        without: &[Without],
        attempts: &[&str],
    ) -> io::Result<Report> {
        self.attempt_without_from(Stdio::null(), flags, without, attempts)
    }

    /// Likewise, with a standard input.
    ///
    /// # Errors
    /// A launch that does not end.
    pub fn attempt_without_from(
        &self,
        stdin: impl Into<Stdio>,
        flags: &[&str],
        without: &[Without],
        attempts: &[&str],
    ) -> io::Result<Report> {
        let mut plan = self.plan(flags, attempts)?;
        // The trees must be there, which `plan` alone need not see to.
        self.run(&[], &["say"])?;
        for change in without {
            apply(&mut plan, change);
        }
        let file = self.write("work/plan.json", plan.to_string())?;
        let mut command = self.command(binary("examples/launch-plan"));
        command
            .arg(file)
            .arg(self.path("home/store/cache"))
            .stdin(stdin);
        let output = command.output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(parse(
            output.status.code(),
            &text(&output.stdout),
            &text(&output.stderr),
        ))
    }
}

fn apply(plan: &mut Value, change: &Without) {
    let Some(Value::Array(steps)) = plan.get_mut("child") else {
        return;
    };
    let named = |step: &Value, name: &str| step.get("step").and_then(Value::as_str) == Some(name);
    match change {
        Without::Step(name) => steps.retain(|step| !named(step, name)),
        Without::StepWith(name, text) => {
            steps.retain(|step| !(named(step, name) && step.to_string().contains(text)))
        }
        Without::Set(name, key, value) => {
            for step in steps.iter_mut().filter(|step| named(step, name)) {
                step[*key] = value.clone();
            }
        }
        Without::Namespace(name) => {
            let clones = plan
                .get_mut("parent")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten();
            for step in clones {
                if let Some(Value::Array(namespaces)) = step.get_mut("namespaces") {
                    namespaces.retain(|namespace| namespace != name);
                }
            }
        }
    }
}
