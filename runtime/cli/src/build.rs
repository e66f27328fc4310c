//! `airtight build`.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use airtight_build::{
    BuildRequest, Built, LayerState, LockChange, LockMode, PackageOptions, Progress, RemoteCache,
    build,
};
use airtight_image::Store;
use airtight_image::layer::Compression;
use airtight_image::registry::RegistryRef;
use serde_json::{Value, json};

use crate::args::{BuildArgs, PackageArgs, UpdateArgs};
use crate::ask::Wrong;
use crate::format;
use crate::registry::registries;
use crate::report::{self, Failure};

/// Shorter work ends before anyone wonders.
const QUIET_FOR: Duration = Duration::from_secs(1);

/// As a push has it; `--jobs` is about compression.
const BLOBS_AT_ONCE: u8 = 4;

static STARTED: OnceLock<Instant> = OnceLock::new();

pub(crate) fn run(args: &BuildArgs, store: &Store) -> Result<(), Failure> {
    STARTED.get_or_init(Instant::now);
    let request = BuildRequest {
        file: file(&args.dir, args.file.as_deref()),
        platform: args.platform.as_deref().map(str::parse).transpose()?,
        tag: args.tag.as_deref().map(str::parse).transpose()?,
        outputs: args
            .output
            .iter()
            .map(|output| output.parse())
            .collect::<Result<_, _>>()?,
        source_date_epoch: epoch(
            std::env::var_os("SOURCE_DATE_EPOCH").map(|value| value.to_string_lossy().into_owned()),
        )?,
        cache: !args.no_cache,
        remote: remote(args)?,
        packages: packages(&args.packages),
        lock: match (args.locked, args.no_lock) {
            (true, _) => LockMode::Locked,
            (false, true) => LockMode::Off,
            (false, false) => LockMode::Keep,
        },
        compression: args
            .compression_format
            .as_deref()
            .map(compression)
            .transpose()?,
        workers: args.jobs,
        progress: match (args.quiet, args.progress) {
            (true, _) => |_| {},
            (false, true) => tell,
            (false, false) if std::io::stderr().is_terminal() => tell_late,
            (false, false) => warn,
        },
    };
    let built = build(&request, store)?;
    if args.json {
        report::print_json(&document(&built))
    } else {
        report::print(&format!("{}\n", built.digest))
    }
}

fn remote(args: &BuildArgs) -> Result<RemoteCache, Failure> {
    let from: Vec<RegistryRef> = args
        .cache_from
        .iter()
        .map(|from| from.parse())
        .collect::<Result<_, _>>()?;
    let to: Option<RegistryRef> = args.cache_to.as_deref().map(str::parse).transpose()?;
    // Most builds speak to none.
    let registries = if from.is_empty() && to.is_none() {
        None
    } else {
        Some(Arc::new(registries(&args.connect, BLOBS_AT_ONCE)?))
    };
    Ok(RemoteCache {
        from,
        to,
        registries,
    })
}

/// `airtight update`.
pub(crate) fn update(args: &UpdateArgs, store: &Store) -> Result<(), Failure> {
    let request = BuildRequest {
        file: file(&args.dir, args.file.as_deref()),
        packages: packages(&args.packages),
        ..BuildRequest::default()
    };
    let changes = airtight_build::update(&request, store)?;
    if args.json {
        let list: Vec<Value> = changes.iter().map(change).collect();
        return report::print_json(&list);
    }
    let lines: Vec<String> = changes.iter().map(|change| format!("{change}\n")).collect();
    report::print(&lines.concat())
}

fn change(change: &LockChange) -> Value {
    json!({
        "kind": change.kind, "name": change.name, "architecture": change.architecture,
        "from": change.from, "to": change.to,
    })
}

fn packages(args: &PackageArgs) -> PackageOptions {
    PackageOptions {
        mirror: args.mirror.clone(),
        allow_expired: args.allow_expired_release,
        ..PackageOptions::default()
    }
}

/// Looked for in DIR, then here. What it names lies where it lies.
fn file(dir: &Path, named: Option<&Path>) -> PathBuf {
    let Some(named) = named else {
        return dir.join("airtight.toml");
    };
    let inside = dir.join(named);
    if inside.exists() {
        inside
    } else {
        named.to_owned()
    }
}

fn compression(text: &str) -> Result<Compression, Wrong> {
    text.parse().map_err(|problem: String| {
        Wrong::new(
            format!("--compression-format {}", text.escape_debug()),
            problem,
            "write gzip or zstd",
        )
    })
}

fn epoch(value: Option<String>) -> Result<Option<u64>, Wrong> {
    let Some(text) = value.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let fix = "set it to seconds since 1970, or unset it";
    text.parse().map(Some).map_err(|_| {
        Wrong::new(
            format!("SOURCE_DATE_EPOCH={}", text.escape_debug()),
            "is not a whole number",
            fix,
        )
    })
}

fn tell(step: &Progress<'_>) {
    let line = match step {
        Progress::Planned { layers, entries } => format!("{layers} layers, {entries} entries"),
        Progress::Layer(layer) => {
            format!(
                "layer {}: {}, {} entries, {} of {}",
                layer.name,
                state(layer.state),
                layer.entries,
                format::bytes(layer.size),
                format::bytes(layer.uncompressed)
            )
        }
        Progress::Exported(output) => format!("written {}", output_name(output)),
        Progress::Warning(_) => return warn(step),
    };
    let spent = STARTED.get().map_or(Duration::ZERO, Instant::elapsed);
    report::say(&format!("{:>6.1}s  {line}", spent.as_secs_f64()));
}

/// Whatever is told else.
fn warn(step: &Progress<'_>) {
    if let Progress::Warning(text) = step {
        report::say(&format!("airtight: warning: {text}"));
    }
}

fn tell_late(step: &Progress<'_>) {
    if matches!(step, Progress::Warning(_)) {
        return warn(step);
    }
    if STARTED
        .get()
        .is_some_and(|started| started.elapsed() >= QUIET_FOR)
    {
        tell(step);
    }
}

fn state(state: LayerState) -> &'static str {
    match state {
        LayerState::Built => "built",
        LayerState::Cached => "cached",
        LayerState::Pulled => "pulled",
    }
}

fn output_name(output: &airtight_image::Output) -> String {
    match output {
        airtight_image::Output::OciLayout { path, .. } => format!("OCI layout {}", path.display()),
        airtight_image::Output::OciArchive { path, .. } => format!("archive {}", path.display()),
    }
}

fn document(built: &Built) -> Value {
    let layers: Vec<Value> = built
        .layers
        .iter()
        .map(|layer| {
            json!({
                "name": layer.name, "state": state(layer.state), "digest": layer.digest.to_string(), "diff_id": layer.diff_id.to_string(),
                "media_type": layer.compression.media_type(), "size": layer.size, "uncompressed": layer.uncompressed, "entries": layer.entries,
            })
        })
        .collect();
    let mut document = json!({
        "digest": built.digest.to_string(), "name": built.name.to_string(), "size": built.size, "layers": layers,
    });
    if let Some(sent) = &built.cached {
        document["cache"] = json!(sent);
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_is_seconds_or_nothing() {
        let told = |value: &str| epoch(Some(value.to_owned())).map_err(|wrong| wrong.to_string());
        assert_eq!(epoch(None), Ok(None));
        assert_eq!(told(""), Ok(None));
        assert_eq!(told("1700000000"), Ok(Some(1_700_000_000)));
        let want = "`SOURCE_DATE_EPOCH=now`: is not a whole number\n  fix: set it to seconds since 1970, or unset it";
        assert_eq!(told("now"), Err(want.to_owned()));
    }
}
