//! The build file as written: what TOML and serde can tell. Legality and defaults are [`crate::spec`]'s.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::Problem;

/// Bytes of a build file that are looked at before anything is parsed.
pub(crate) const MAX_FILE: usize = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct BuildFile {
    pub(crate) format: i64,
    pub(crate) name: String,
    pub(crate) base: Option<String>,
    pub(crate) compression: Option<String>,
    #[serde(default)]
    pub(crate) debian: DebianFile,
    #[serde(default)]
    pub(crate) layer: Vec<LayerFile>,
    #[serde(default)]
    pub(crate) config: ConfigFile,
    pub(crate) profile: Option<toml::Table>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LayerFile {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) packages: Vec<String>,
    #[serde(default)]
    pub(crate) copy: Vec<CopyFile>,
    #[serde(default)]
    pub(crate) closure: Vec<String>,
    #[serde(default)]
    pub(crate) generate: Vec<String>,
    pub(crate) time_zones: Option<Vec<String>>,
    pub(crate) split: Option<String>,
}

/// Where the layers' packages come from.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct DebianFile {
    pub(crate) suite: Option<String>,
    pub(crate) mirror: Option<String>,
    #[serde(default)]
    pub(crate) components: Vec<String>,
    pub(crate) keyring: Option<String>,
    #[serde(default)]
    pub(crate) include: Vec<String>,
    #[serde(default)]
    pub(crate) exclude: Vec<String>,
    #[serde(default)]
    pub(crate) without: Vec<String>,
    #[serde(default)]
    pub(crate) scripts: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct CopyFile {
    pub(crate) from: String,
    pub(crate) to: String,
    #[serde(default)]
    pub(crate) exclude: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ConfigFile {
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) cmd: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) user: Option<String>,
    pub(crate) workdir: Option<String>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) expose: Vec<String>,
    pub(crate) stop_signal: Option<String>,
}

/// Reads the text into the written form. Never touches the file system.
pub(crate) fn read(text: &str) -> Result<BuildFile, Problem> {
    if text.len() > MAX_FILE {
        return Err(Problem::new(
            "the file",
            format!("is {} bytes; a build file may have {MAX_FILE}", text.len()),
            "name trees in `copy` instead of single files",
        ));
    }
    toml::from_str(text).map_err(|err| explain(text, &err))
}

/// Turns serde's words into a key, a problem and a fix.
fn explain(text: &str, err: &toml::de::Error) -> Problem {
    let message = err.message().lines().next().unwrap_or_default();
    let Ok(document) = DeTable::parse(text) else {
        let (line, column) = position(text, err.span().map_or(0, |span| span.start));
        return Problem::new(
            format!("line {line}, column {column}"),
            format!("is not TOML: {message}"),
            "correct the syntax there; strings need quotes, tables need `[name]`",
        );
    };
    // The document itself has an empty span, which its first key would seem to hold.
    let span = err.span().filter(|span| *span != document.span());
    let place = span
        .map(|span| key_at(document.get_ref(), &span))
        .unwrap_or_default();
    if let Some(field) = quoted_after(message, "missing field `") {
        return Problem::new(
            join(&place, field),
            "is missing",
            format!("add `{field} = …`"),
        );
    }
    if quoted_after(message, "unknown field `").is_some() {
        let known = message.split_once("expected ").map_or("", |(_, rest)| rest);
        let known = known.trim_start_matches("one of ");
        return Problem::new(
            place,
            "is not a key of a build file here",
            format!("use one of {known}"),
        );
    }
    Problem::new(
        named(place),
        message,
        "write what is expected; `airtight.toml` under examples/ shows each key",
    )
}

fn named(place: String) -> String {
    if place.is_empty() {
        "the file".to_owned()
    } else {
        place
    }
}

fn quoted_after<'a>(message: &'a str, prefix: &str) -> Option<&'a str> {
    message.strip_prefix(prefix)?.split('`').next()
}

fn join(place: &str, key: &str) -> String {
    if place.is_empty() {
        key.to_owned()
    } else {
        format!("{place}.{key}")
    }
}

/// Line and column from 1. `at` may lie past the end.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

/// The key whose own or whose value's text is the shortest that holds `span`. A parent's span does not always hold its
/// children (`[a.b]` headers), so every node is looked at.
fn key_at(root: &DeTable<'_>, span: &Range<usize>) -> String {
    let mut best: Option<(usize, String)> = None;
    in_table(root, "", span, &mut best);
    best.map(|(_, key)| key).unwrap_or_default()
}

fn in_table(
    table: &DeTable<'_>,
    place: &str,
    span: &Range<usize>,
    best: &mut Option<(usize, String)>,
) {
    for (key, value) in table {
        let place = join(place, key.get_ref());
        offer(&key.span(), &place, span, best);
        in_value(value, &place, span, best);
    }
}

fn in_value(
    value: &Spanned<DeValue<'_>>,
    place: &str,
    span: &Range<usize>,
    best: &mut Option<(usize, String)>,
) {
    offer(&value.span(), place, span, best);
    if let Some(table) = value.get_ref().as_table() {
        in_table(table, place, span, best);
    }
    for (index, item) in value
        .get_ref()
        .as_array()
        .into_iter()
        .flat_map(|array| array.iter())
        .enumerate()
    {
        in_value(item, &format!("{place}[{index}]"), span, best);
    }
}

fn offer(
    candidate: &Range<usize>,
    place: &str,
    span: &Range<usize>,
    best: &mut Option<(usize, String)>,
) {
    let holds = candidate.start <= span.start && span.end <= candidate.end;
    // A single element has the span of its array of tables' only header: the deeper one, seen later, is the exact one.
    if holds
        && best
            .as_ref()
            .is_none_or(|(length, _)| candidate.len() <= *length)
    {
        *best = Some((candidate.len(), place.to_owned()));
    }
}
