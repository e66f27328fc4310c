//! What in an image should not be there, or is missing. Each finding has a rule's id, so that it can be ignored by name.

mod files;
mod rules;
mod settings;

use std::str::FromStr;

use airtight_image::{Digest, Image, Store};
use serde::Serialize;

use super::contents::{Contents, Want};
use super::dpkg::Owners;
use super::reasons::Reasons;
use super::{ExplainError, Kept, kept};

pub use rules::{RULES, Rule};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Note,
    Warning,
    Error,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule's id.
    pub rule: &'static str,
    pub level: Level,
    /// Of the image; none for what is in its configuration or in no file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    pub says: String,
    pub fix: &'static str,
}

/// A rule that does not count, for all of an image or for a path and what lies below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoreRule {
    rule: &'static str,
    path: Option<String>,
}

impl FromStr for IgnoreRule {
    type Err = String;

    /// `RULE` or `RULE:PATH`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (id, path) = match text.split_once(':') {
            Some((id, path)) => (id, Some(path)),
            None => (text, None),
        };
        let Some(rule) = RULES.iter().find(|rule| rule.id == id) else {
            return Err(format!("`{}` is no rule", id.escape_debug()));
        };
        if path.is_some_and(|path| !path.starts_with('/')) {
            return Err("has a path that is not absolute".to_owned());
        }
        let path = path.map(|path| path.trim_end_matches('/').to_owned());
        Ok(Self {
            rule: rule.id,
            path,
        })
    }
}

impl IgnoreRule {
    fn covers(&self, finding: &Finding) -> bool {
        let path = match (&self.path, &finding.path) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(path), Some(found)) => found
                .strip_prefix(path.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        };
        path && self.rule == finding.rule
    }
}

/// All that was found, the worst first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LintReport {
    /// Of the manifest.
    pub image: Digest,
    pub findings: Vec<Finding>,
    /// How many were ignored by name.
    pub ignored: usize,
    /// What stood in the way and did not stop it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl LintReport {
    /// The worst level that was found.
    #[must_use]
    pub fn worst(&self) -> Option<Level> {
        self.findings.iter().map(|finding| finding.level).max()
    }
}

/// What the rules look at.
struct Subject<'a> {
    image: &'a Image,
    contents: &'a Contents,
    reasons: &'a Reasons<'a>,
    owners: &'a Owners,
    found: Vec<Finding>,
}

impl Subject<'_> {
    fn find(&mut self, id: &'static str, path: Option<String>, says: impl Into<String>) {
        if let Some(rule) = RULES.iter().find(|rule| rule.id == id) {
            let (level, fix) = (rule.level, rule.fix);
            self.found.push(Finding {
                rule: rule.id,
                level,
                path,
                says: says.into(),
                fix,
            });
        }
    }
}

/// Holds an image of the store against all rules but those that are ignored.
///
/// # Errors
/// An image that is damaged.
pub fn lint(
    store: &Store,
    image: &Image,
    ignored: &[IgnoreRule],
) -> Result<LintReport, ExplainError> {
    let want = Want {
        digests: false,
        programs: true,
        secrets: true,
    };
    let contents = Contents::read(store, image, want)?;
    let Kept { ledger, warning } = kept(store, image);
    let owners = Owners::of(&contents);
    let mut subject = Subject {
        image,
        contents: &contents,
        reasons: &Reasons::of(ledger.as_ref(), image),
        owners: &owners,
        found: Vec::new(),
    };
    files::check(&mut subject);
    settings::check(&mut subject);
    let mut findings = subject.found;
    let before = findings.len();
    findings.retain(|finding| !ignored.iter().any(|rule| rule.covers(finding)));
    findings.sort_by(|one, other| {
        (other.level, one.rule, &one.path, &one.says).cmp(&(
            one.level,
            other.rule,
            &other.path,
            &other.says,
        ))
    });
    Ok(LintReport {
        image: image.digest.clone(),
        ignored: before - findings.len(),
        findings,
        warnings: warning.into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_ignored_by_name_and_place() {
        let finding = |path: Option<&str>| Finding {
            rule: "setuid",
            level: Level::Error,
            path: path.map(str::to_owned),
            says: String::new(),
            fix: "",
        };
        for (text, path, want) in [
            ("setuid", Some("/bin/su"), true),
            ("setuid", None, true),
            ("setgid", Some("/bin/su"), false),
            ("setuid:/bin/su", Some("/bin/su"), true),
            ("setuid:/bin/", Some("/bin/su"), true),
            ("setuid:/bi", Some("/bin/su"), false),
            ("setuid:/bin", None, false),
        ] {
            let rule: IgnoreRule = text.parse().unwrap();
            assert_eq!(rule.covers(&finding(path)), want, "{text}");
        }
        assert_eq!("x".parse::<IgnoreRule>().unwrap_err(), "`x` is no rule");
        assert_eq!(
            "setuid:bin".parse::<IgnoreRule>().unwrap_err(),
            "has a path that is not absolute"
        );
    }

    #[test]
    fn rules_are_sorted_and_said_in_words() {
        assert!(RULES.windows(2).all(|pair| pair[0].id < pair[1].id));
        for rule in RULES {
            assert!(!rule.what.is_empty() && !rule.fix.is_empty(), "{}", rule.id);
        }
    }
}
