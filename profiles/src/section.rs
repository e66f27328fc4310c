//! A table of a user's file, read key by key, so that each error names its key and what no one reads is refused.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// What is wrong in a profile or a ceiling.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: `{key}`: {problem}\n  fix: {fix}", file.display())]
pub struct ProfileError {
    /// The file that was read.
    pub file: PathBuf,
    /// The key in it, like `connect[1].endpoint`.
    pub key: String,
    /// What is wrong, in words that follow the key.
    pub problem: String,
    /// What to write instead.
    pub fix: String,
}

type Result<T> = std::result::Result<T, ProfileError>;

/// One table, emptied as it is read.
pub(crate) struct Section<'a> {
    file: &'a Path,
    prefix: String,
    table: Table,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub(crate) fn new(table: Table, file: &'a Path, prefix: &str) -> Self {
        Self {
            file,
            prefix: prefix.to_owned(),
            table,
            known: Vec::new(),
        }
    }

    pub(crate) fn error(
        &self,
        key: &str,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> ProfileError {
        ProfileError {
            file: self.file.to_owned(),
            key: self.key(key),
            problem: problem.into(),
            fix: fix.into(),
        }
    }

    fn key(&self, key: &str) -> String {
        match (self.prefix.is_empty(), key.is_empty()) {
            (true, _) => key.to_owned(),
            (false, true) => self.prefix.clone(),
            (false, false) => format!("{}.{key}", self.prefix),
        }
    }

    pub(crate) fn value(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }

    pub(crate) fn text(&mut self, key: &'static str) -> Result<Option<String>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.error(
                key,
                format!("is {}, not a string", kind(&other)),
                "put it in quotes",
            )),
        }
    }

    pub(crate) fn integer(&mut self, key: &'static str) -> Result<Option<u64>> {
        self.value(key)
            .map(|value| self.unsigned(key, &value))
            .transpose()
    }

    pub(crate) fn required<T>(&self, key: &str, value: Option<T>, fix: &str) -> Result<T> {
        value.ok_or_else(|| self.error(key, "is missing", fix))
    }

    /// The reason that every grant has.
    pub(crate) fn why(&mut self) -> Result<String> {
        let why = self.text("why")?.unwrap_or_default();
        if why.trim().is_empty() {
            return Err(self.error(
                "why",
                "is missing or empty",
                "say what the payload needs this grant for",
            ));
        }
        if why.chars().any(char::is_control) {
            return Err(self.error(
                "why",
                "has a line break or control character",
                "write it on one line",
            ));
        }
        Ok(why)
    }

    pub(crate) fn integers(&mut self, key: &'static str) -> Result<Vec<u64>> {
        let values = self.array(key)?;
        values
            .iter()
            .enumerate()
            .map(|(at, value)| self.unsigned(&format!("{key}[{at}]"), value))
            .collect()
    }

    pub(crate) fn texts(&mut self, key: &'static str) -> Result<Vec<String>> {
        let values = self.array(key)?;
        let text = |(at, value): (usize, &Value)| {
            let problem = || {
                self.error(
                    &format!("{key}[{at}]"),
                    format!("is {}, not a string", kind(value)),
                    "put it in quotes",
                )
            };
            value.as_str().map(str::to_owned).ok_or_else(problem)
        };
        values.iter().enumerate().map(text).collect()
    }

    /// A table below this one.
    pub(crate) fn section(&mut self, key: &'static str) -> Result<Option<Section<'a>>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Table(table)) => Ok(Some(Section::new(table, self.file, &self.key(key)))),
            Some(other) => {
                let problem = format!("is {}, not a table", kind(&other));
                Err(self.error(
                    key,
                    problem,
                    format!("write `{key} = {{ …, why = \"…\" }}`"),
                ))
            }
        }
    }

    /// The tables of an array.
    pub(crate) fn sections(&mut self, key: &'static str) -> Result<Vec<Section<'a>>> {
        let mut sections = Vec::new();
        for (at, value) in self.array(key)?.into_iter().enumerate() {
            let name = format!("{key}[{at}]");
            let problem = format!("is {}, not a table", kind(&value));
            let Value::Table(table) = value else {
                return Err(self.error(
                    &name,
                    problem,
                    "write `{ …, why = \"…\" }`: every grant has a reason",
                ));
            };
            sections.push(Section::new(table, self.file, &self.key(&name)));
        }
        Ok(sections)
    }

    /// Refuses what nobody read.
    pub(crate) fn finish(self) -> Result<()> {
        let Some(unknown) = self.table.keys().next() else {
            return Ok(());
        };
        let fix = match unknown.as_str() {
            "capabilities" | "devices" => {
                "remove it: no payload gets a capability or a device".to_owned()
            }
            _ => format!("the keys here are {}", self.known.join(", ")),
        };
        Err(self.error(unknown, "is not a key", fix))
    }

    fn array(&mut self, key: &'static str) -> Result<Vec<Value>> {
        match self.value(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => Ok(values),
            Some(other) => Err(self.error(
                key,
                format!("is {}, not an array", kind(&other)),
                "put it in `[ ]`",
            )),
        }
    }

    fn unsigned(&self, key: &str, value: &Value) -> Result<u64> {
        let number = value.as_integer().ok_or_else(|| {
            self.error(
                key,
                format!("is {}, not a number", kind(value)),
                "write a whole number",
            )
        })?;
        u64::try_from(number).map_err(|_| {
            self.error(
                key,
                format!("{number} is below 0"),
                "write a whole number from 0",
            )
        })
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a number",
        Value::Float(_) => "a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "an array",
        Value::Table(_) => "a table",
    }
}
