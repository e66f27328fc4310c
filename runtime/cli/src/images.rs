//! The commands about images at rest. What a store is, and that what it gives is verified, is `airtight-image`'s.

use std::collections::BTreeMap;
use std::process::ExitCode;

use airtight_image::{Digest, Image, ImageRef, Listed, Output, Platform, Reference, Root, Store};
use serde_json::{Value, json};

use crate::args::{
    ExportArgs, GcArgs, ImagesArgs, ImportArgs, IndexCreateArgs, InspectArgs, RmArgs, VerifyArgs,
};
use crate::ask::Wrong;
use crate::format;
use crate::report::{self, Failure};

/// Where an image carries the profile that it asks for.
pub(crate) const PROFILE: &str = "dev.airtight.profile.v1";
/// Of a digest in a table: as many as docker shows.
const SHORT: usize = 12;

pub(crate) fn list(args: &ImagesArgs, store: &Store) -> Result<(), Failure> {
    let images = store.images()?;
    for problem in store.damaged()? {
        report::say(&format!("airtight: {problem}"));
    }
    if args.json {
        return report::print_json(&images);
    }
    let mut rows = vec![
        ["NAME", "DIGEST", "PLATFORM", "SIZE", "CREATED"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(images.iter().map(|image| {
        let digest = image.digest.hex().chars().take(SHORT).collect();
        vec![
            image.name.clone(),
            digest,
            format::escape(&image.platforms.join(",")),
            format::bytes(image.size),
            format::escape(image.created.as_deref().unwrap_or_default()),
        ]
    }));
    report::print(&format::table(&rows))
}

pub(crate) fn inspect(args: &InspectArgs, store: &Store) -> Result<(), Failure> {
    let root = store.resolve_root(&args.image.parse()?)?;
    if root.is_index() && args.platform.is_none() {
        return index(&root, args.json);
    }
    let image = image(&args.image, args.platform.as_deref(), store)?;
    let profile = profile(&image);
    if args.json {
        let profile: Option<Value> = profile.and_then(|text| serde_json::from_str(text).ok());
        return report::print_json(&json!({
            "digest": image.digest.to_string(), "manifest": image.manifest, "config": image.config, "profile": profile,
        }));
    }
    let mut rows = vec![
        ("digest", image.digest.to_string()),
        ("platform", Platform::of(&image.config).to_string()),
        (
            "created",
            image.config.created().clone().unwrap_or_default(),
        ),
    ];
    if let Some(config) = image.config.config() {
        let words = |words: &Option<Vec<String>>| {
            words
                .as_ref()
                .map(|words| quoted(words))
                .unwrap_or_default()
        };
        rows.push(("user", config.user().clone().unwrap_or_default()));
        rows.push(("workdir", config.working_dir().clone().unwrap_or_default()));
        rows.push(("entrypoint", words(config.entrypoint())));
        rows.push(("cmd", words(config.cmd())));
        rows.extend(
            config
                .env()
                .iter()
                .flatten()
                .map(|pair| ("env", pair.clone())),
        );
        rows.push((
            "expose",
            config.exposed_ports().clone().unwrap_or_default().join(" "),
        ));
        let mut labels: Vec<_> = config.labels().iter().flatten().collect();
        labels.sort();
        rows.extend(
            labels
                .iter()
                .map(|(key, value)| ("label", format!("{key}={value}"))),
        );
    }
    rows.extend(
        image
            .layers()
            .iter()
            .map(|(blob, diff)| ("layer", format!("{diff} {}", format::bytes(blob.size())))),
    );
    rows.push(("profile", profile.unwrap_or_default().to_owned()));
    let row = |(name, value): &(&str, String)| vec![(*name).to_owned(), format::escape(value)];
    report::print(&format::table(
        &rows
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(row)
            .collect::<Vec<_>>(),
    ))
}

/// An image for several platforms, and what its index says of each.
fn index(root: &Root, json: bool) -> Result<(), Failure> {
    let document: Value = serde_json::from_slice(root.bytes()).unwrap_or_default();
    let digest = root.descriptor.digest().to_string();
    if json {
        return report::print_json(&json!({ "digest": digest, "index": document }));
    }
    let mut rows = vec![vec!["digest".to_owned(), digest]];
    let annotations = document.get("annotations").and_then(Value::as_object);
    rows.extend(annotations.into_iter().flatten().map(|(key, value)| {
        let value = value.as_str().unwrap_or_default();
        vec![
            "annotation".to_owned(),
            format::escape(&format!("{key}={value}")),
        ]
    }));
    rows.extend(root.images.iter().map(|image| {
        let platform = image
            .platform
            .as_ref()
            .map_or_else(|| "unknown".to_owned(), ToString::to_string);
        vec![
            format::escape(&platform),
            image.descriptor.digest().to_string(),
        ]
    }));
    report::print(&format::table(&rows))
}

pub(crate) fn remove(args: &RmArgs, store: &Store) -> Result<(), Failure> {
    for text in &args.images {
        match text.parse()? {
            ImageRef::Name(name) => store.untag(&name)?,
            ImageRef::Digest(digest) => {
                let names: Vec<Listed> = store
                    .images()?
                    .into_iter()
                    .filter(|image| image.digest == digest)
                    .collect();
                if names.is_empty() {
                    return Err(crate::ask::Wrong::new(
                        text,
                        "has no name in the store",
                        "see `airtight images`",
                    )
                    .into());
                }
                names
                    .iter()
                    .try_for_each(|image| store.untag(&image.name.parse()?))?;
            }
            ImageRef::Layout { .. } => {
                return Err(crate::ask::Wrong::new(
                    text,
                    "is not in the store",
                    "name an image of `airtight images`",
                )
                .into());
            }
        }
    }
    Ok(())
}

pub(crate) fn gc(args: &GcArgs, store: &Store) -> Result<(), Failure> {
    let report = if args.cache {
        store.gc_cache()?
    } else {
        store.gc()?
    };
    if args.json {
        return report::print_json(&report);
    }
    let text = format!(
        "removed {} blobs ({}), {} unpacked layers, {} records, {} leftovers",
        report.blobs,
        format::bytes(report.bytes),
        report.layers,
        report.records,
        report.temporaries
    );
    let mut kept = String::new();
    if report.layers_in_use > 0 {
        kept += &format!("; {} layers are in use", report.layers_in_use);
    }
    if report.cached_blobs > 0 {
        let (blobs, bytes) = (report.cached_blobs, format::bytes(report.cached_bytes));
        kept += &format!("; kept {blobs} blobs ({bytes}) for the next build");
    }
    report::print(&format!("{text}{kept}\n"))
}

pub(crate) fn import(args: &ImportArgs, store: &Store) -> Result<(), Failure> {
    let name = args.name.as_deref().map(str::parse).transpose()?;
    let images = match platform(args.platform.as_deref())? {
        _ if args.all => store.import_all(&args.path, name.as_ref())?,
        Some(platform) => store.import_for(&args.path, name.as_ref(), &platform)?,
        None => store.import(&args.path, name.as_ref())?,
    };
    if args.json {
        return report::print_json(&images);
    }
    let line = |image: &Listed| format!("{} {}\n", image.digest, image.name);
    report::print(&images.iter().map(line).collect::<String>())
}

pub(crate) fn export(args: &ExportArgs, store: &Store) -> Result<(), Failure> {
    let image = args.image.parse()?;
    let tag = match &image {
        ImageRef::Name(name) => Some(name.tag()),
        ImageRef::Layout { tag, .. } => tag.as_deref(),
        ImageRef::Digest(_) => None,
    };
    let digest = chosen(&image, args.platform.as_deref(), store)?;
    Ok(store.export(&digest, tag, &args.output.parse()?)?)
}

pub(crate) fn verify(args: &VerifyArgs, store: &Store) -> Result<ExitCode, Failure> {
    let report = store.verify()?;
    if args.json {
        report::print_json(&report)?;
    } else {
        report::print(&format!(
            "{} images, {} blobs, {} problems\n",
            report.images,
            report.blobs,
            report.problems.len()
        ))?;
    }
    if report.problems.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Ok(report::finding(&format!(
        "the store is damaged\n  {}\n  fix: remove what is damaged by name, run `airtight gc`, build or import it again",
        report.problems.join("\n  ")
    )))
}

/// An image by what a user calls it, verified; of several, the one for `platform` or for this machine.
pub(crate) fn image(text: &str, platform: Option<&str>, store: &Store) -> Result<Image, Failure> {
    let platform = self::platform(platform)?;
    Ok(store.image(&store.resolve_for(&text.parse()?, platform.as_ref())?)?)
}

/// What leaves the store: all platforms, or the one that is named.
pub(crate) fn chosen(
    image: &ImageRef,
    platform: Option<&str>,
    store: &Store,
) -> Result<Digest, Failure> {
    Ok(match self::platform(platform)? {
        Some(platform) => store.resolve_for(image, Some(&platform))?,
        None => store.resolve_root(image)?.descriptor.digest().clone(),
    })
}

fn platform(text: Option<&str>) -> Result<Option<Platform>, Failure> {
    Ok(text.map(str::parse).transpose()?)
}

pub(crate) fn create_index(args: &IndexCreateArgs, store: &Store) -> Result<(), Failure> {
    let name: Reference = args.name.parse()?;
    let outputs: Vec<Output> = args
        .output
        .iter()
        .map(|output| output.parse())
        .collect::<Result<_, _>>()?;
    let wrong = |flag: &str, text: &str| {
        let fix = format!("write {flag}");
        Wrong::new(format!("{flag} {text}"), "is not of this form", fix)
    };
    let mut annotations = BTreeMap::new();
    for text in &args.annotation {
        let flag = "--annotation KEY=VALUE";
        let (key, value) = annotation(text).ok_or_else(|| wrong(flag, text))?;
        annotations.insert(key, value);
    }
    let mut of_platforms: BTreeMap<Platform, BTreeMap<String, String>> = BTreeMap::new();
    for text in &args.platform_annotation {
        let flag = "--platform-annotation PLATFORM:KEY=VALUE";
        let (platform, rest) = text.split_once(':').ok_or_else(|| wrong(flag, text))?;
        let (key, value) = annotation(rest).ok_or_else(|| wrong(flag, text))?;
        let own = of_platforms.entry(platform.parse()?).or_default();
        own.insert(key, value);
    }
    let mut images = Vec::with_capacity(args.images.len());
    for text in &args.images {
        let root = store.resolve_root(&text.parse()?)?;
        images.push((text.clone(), root.descriptor.digest().clone()));
    }
    let root = store.create_index(&images, &annotations, &of_platforms)?;
    store.tag(&name, &root.descriptor)?;
    for output in &outputs {
        store.export(root.descriptor.digest(), Some(name.tag()), output)?;
    }
    if args.json {
        return index(&root, true);
    }
    report::print(&format!("{}\n", root.descriptor.digest()))
}

fn annotation(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=')?;
    (!key.is_empty()).then(|| (key.to_owned(), value.to_owned()))
}

/// The canonical JSON of the profile that it carries.
pub(crate) fn profile(image: &Image) -> Option<&str> {
    image
        .manifest
        .annotations()
        .as_ref()?
        .get(PROFILE)
        .map(String::as_str)
}

/// As a shell would take them.
fn quoted(words: &[String]) -> String {
    let plain = |word: &String| {
        !word.is_empty()
            && word
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"/-_.,:=@%+".contains(&byte))
    };
    let quote = |word: &String| {
        if plain(word) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_a_shell_takes_them() {
        let words = ["/bin/sh", "-c", "echo 'a b'", ""].map(str::to_owned);
        assert_eq!(quoted(&words), r"/bin/sh -c 'echo '\''a b'\''' ''");
    }
}
