//! The commands that explain images, in words. What is said of them is `airtight-build`'s to find.

use std::process::ExitCode;

use airtight_build::{
    Change, ConfigChange, Diff, FileChange, FileState, Level, LintReport, RULES, Step, Why,
};
use airtight_image::Store;
use serde_json::Value;

use crate::args::{DiffArgs, FailOn, LintArgs, WhyArgs};
use crate::ask::Wrong;
use crate::format;
use crate::images::image;
use crate::report::{self, Failure};

/// Something was found, or something differs: as grep(1) and diff(1) have it, it is no fault of the command.
const FOUND: u8 = 1;

pub(crate) fn why(args: &WhyArgs, store: &Store) -> Result<(), Failure> {
    let image = image(&args.image, args.platform.as_deref(), store)?;
    let why = airtight_build::why(store, &image, &args.path)?;
    warn(&why.warnings);
    if args.json {
        return report::print_json(&why);
    }
    let mut rows = vec![vec![why.kind.to_owned(), described(&why)]];
    rows.push(vec!["layer".to_owned(), layer(&why)]);
    rows.extend(why.chain.iter().enumerate().map(|(at, step)| {
        let word = if at == 0 { "why" } else { "" };
        vec![word.to_owned(), chain(step, at > 0)]
    }));
    if why.chain.is_empty() {
        rows.push(vec!["why".to_owned(), unexplained(&why).to_owned()]);
    }
    rows.extend(
        why.package
            .iter()
            .map(|package| vec!["package".to_owned(), format::escape(package)]),
    );
    if !why.needed_by.is_empty() {
        rows.push(vec![
            "needed by".to_owned(),
            format::escape(&why.needed_by.join(", ")),
        ]);
    }
    rows.extend(why.holds.iter().enumerate().map(|(at, part)| {
        let word = if at == 0 { "holds" } else { "" };
        let files = if part.files == 1 { "file" } else { "files" };
        let text = format!(
            "{} {files}, {}: {}",
            part.files,
            format::bytes(part.bytes),
            part.reason
        );
        vec![word.to_owned(), format::escape(&text)]
    }));
    report::print(&format!(
        "{}\n{}",
        format::escape(&why.path),
        indented(&format::table(&rows))
    ))
}

/// Beside what is told, so that a reader of it is not fooled by what is missing.
fn warn(warnings: &[String]) {
    for warning in warnings {
        report::say(&format!("airtight: warning: {}", format::escape(warning)));
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

fn described(why: &Why) -> String {
    let target = why
        .target
        .as_ref()
        .map(|target| format!("to {}, ", format::escape(target)))
        .unwrap_or_default();
    let size = if why.kind == "file" {
        format!("{}, ", format::bytes(why.size))
    } else {
        String::new()
    };
    format!("{target}{size}mode {}, {}:{}", why.mode, why.uid, why.gid)
}

fn layer(why: &Why) -> String {
    let layer = &why.layer;
    let name = layer
        .name
        .as_ref()
        .map(|name| format!("{name}, "))
        .unwrap_or_default();
    format!(
        "{}{} of {}, {}",
        format::escape(&name),
        layer.index + 1,
        layer.count,
        layer.digest
    )
}

fn chain(step: &Step, names: bool) -> String {
    let path = if names {
        format!("{} is ", step.path)
    } else {
        String::new()
    };
    let base = if step.inherited {
        " of the base's build file"
    } else {
        ""
    };
    format::escape(&format!(
        "{path}{} (`{}`{base})",
        step.says, step.because.key
    ))
}

fn unexplained(why: &Why) -> &'static str {
    match (why.explained, why.path.as_str()) {
        (_, "/") => "the root of every image",
        (true, _) => {
            "the image says why its files are there, but not of this one: it is of a base that does not"
        }
        (false, _) => {
            "not known: the image does not say why its files are there, as one does that airtight built"
        }
    }
}

pub(crate) fn diff(args: &DiffArgs, store: &Store) -> Result<ExitCode, Failure> {
    let (before, after) = (
        image(&args.before, args.platform.as_deref(), store)?,
        image(&args.after, args.platform.as_deref(), store)?,
    );
    let diff = airtight_build::diff(store, &before, &after)?;
    warn(&diff.warnings);
    if args.json {
        report::print_json(&diff)?;
    } else {
        report::print(&differences(&diff))?;
    }
    let found = args.exit_code && !diff.is_empty();
    Ok(ExitCode::from(if found { FOUND } else { 0 }))
}

fn differences(diff: &Diff) -> String {
    let sizes = &diff.sizes;
    let mut text = format!(
        "size      {} -> {} in layers, {} -> {} in files; {} of {} layers are shared\n",
        format::bytes(sizes.before),
        format::bytes(sizes.after),
        format::bytes(sizes.files_before),
        format::bytes(sizes.files_after),
        sizes.layers_shared,
        sizes.layers_after
    );
    let changes = diff
        .config
        .iter()
        .map(|change| ("config", change))
        .chain(diff.profile.iter().map(|change| ("profile", change)));
    for (word, ConfigChange { key, before, after }) in changes {
        let key = key
            .strip_prefix(word)
            .and_then(|key| key.strip_prefix('.'))
            .unwrap_or(key);
        text.push_str(&format!(
            "{word:<10}{}: {} -> {}\n",
            format::escape(key),
            value(before),
            value(after)
        ));
    }
    for package in &diff.packages {
        let version = |version: &Option<String>| {
            version
                .as_ref()
                .map_or_else(|| "none".to_owned(), |version| format::escape(version))
        };
        text.push_str(&format!(
            "package   {} {} -> {}\n",
            format::escape(&package.name),
            version(&package.before),
            version(&package.after)
        ));
    }
    for group in &diff.files {
        let sign = if group.grew < 0 { "-" } else { "+" };
        text.push_str(&format!(
            "files     {}: {sign}{}\n",
            format::escape(&group.reason),
            format::bytes(group.grew.unsigned_abs())
        ));
        text.extend(group.files.iter().map(file));
    }
    if diff.is_empty() {
        text.push_str("nothing differs that a payload could see\n");
    }
    text
}

fn value(value: &Option<Value>) -> String {
    value.as_ref().map_or_else(
        || "none".to_owned(),
        |value| format::escape(&value.to_string()),
    )
}

fn file(change: &FileChange) -> String {
    let state = |state: &FileState| {
        let target = state
            .target
            .as_ref()
            .map(|target| format!(" to {}", format::escape(target)))
            .unwrap_or_default();
        format!(
            "{}{target} {} {} {}:{}",
            state.kind,
            format::bytes(state.size),
            state.mode,
            state.uid,
            state.gid
        )
    };
    let path = format::escape(&change.path);
    match (change.change, &change.before, &change.after) {
        (Change::Changed, Some(before), Some(after)) => {
            let (old, new) = (state(before), state(after));
            if old == new {
                return format!("  ~ {path}  {new}, other content\n");
            }
            format!("  ~ {path}  {old} -> {new}\n")
        }
        (_, _, Some(after)) => format!("  + {path}  {}\n", state(after)),
        (_, Some(before), None) => format!("  - {path}  {}\n", state(before)),
        (_, None, None) => String::new(),
    }
}

pub(crate) fn lint(
    args: &LintArgs,
    store: impl FnOnce() -> Result<Store, Failure>,
) -> Result<ExitCode, Failure> {
    if args.rules {
        let rows: Vec<Vec<String>> = RULES
            .iter()
            .map(|rule| {
                vec![
                    rule.id.to_owned(),
                    level(rule.level).to_owned(),
                    format!("{}: {}", rule.what, rule.fix),
                ]
            })
            .collect();
        return report::print(&format::table(&rows)).map(|()| ExitCode::SUCCESS);
    }
    let Some(name) = args.image.as_deref() else {
        return Err(Wrong::new("lint", "names no image", "airtight lint IMAGE, or --rules").into());
    };
    let ignored = args
        .ignore
        .iter()
        .map(|text| {
            text.parse().map_err(|problem: String| {
                Wrong::new(
                    format!("--ignore {text}"),
                    problem,
                    "write RULE or RULE:PATH; see `airtight lint --rules`",
                )
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let store = store()?;
    let report = airtight_build::lint(
        &store,
        &image(name, args.platform.as_deref(), &store)?,
        &ignored,
    )?;
    warn(&report.warnings);
    if args.sarif {
        report::print_json(&airtight_build::sarif(
            &report,
            name,
            env!("CARGO_PKG_VERSION"),
        ))?;
    } else if args.json {
        report::print_json(&report)?;
    } else {
        report::print(&findings(&report))?;
    }
    let counts = |level: Level| match args.fail_on {
        FailOn::Note => true,
        FailOn::Warning => level >= Level::Warning,
        FailOn::Error => level >= Level::Error,
        FailOn::Never => false,
    };
    let failed = report.worst().is_some_and(counts);
    Ok(ExitCode::from(if failed { FOUND } else { 0 }))
}

fn findings(report: &LintReport) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let place = finding
            .path
            .as_ref()
            .map(|path| format!("{}: ", format::escape(path)))
            .unwrap_or_default();
        let line = format!(
            "{}: {place}{} [{}]\n  fix: {}\n",
            level(finding.level),
            format::escape(&finding.says),
            finding.rule,
            finding.fix
        );
        text.push_str(&line);
    }
    let count = |level: Level, word: &str| {
        let count = report
            .findings
            .iter()
            .filter(|finding| finding.level == level)
            .count();
        format!("{count} {word}{}", if count == 1 { "" } else { "s" })
    };
    let mut counts = vec![
        count(Level::Error, "error"),
        count(Level::Warning, "warning"),
        count(Level::Note, "note"),
    ];
    if report.ignored > 0 {
        counts.push(format!("{} ignored", report.ignored));
    }
    text.push_str(&format!("{}\n", counts.join(", ")));
    text
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Note => "note",
        Level::Warning => "warning",
        Level::Error => "error",
    }
}
