//! A config.json as every OCI runtime reads it, in checked types. What is unknown is passed over, as the specification has it; what is known and
//! of the wrong type or beyond its range is told by its key. Pure, but for [`load`] and [`document`].

mod linux;
mod process;
mod resources;
pub(crate) mod seccomp;

use std::path::{Component, Path, PathBuf};

use airtight_plan::IdMap;
use airtight_plan::bundle::{Config, Hook, Hooks, MountEntry, ProcessConfig, Resources, Root};
use airtight_sys::directory::read_regular_follow;
use serde_json::{Map, Value};

use crate::document::{Object, Problems};
use crate::policy;
use crate::report::Failure;

/// What was read, and what is worth a word and no refusal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parsed<T> {
    pub(crate) value: T,
    pub(crate) warnings: Vec<String>,
    /// Keys that are not read here, and ask for something: passed over, but where every ask is told.
    pub(crate) unknown: Vec<String>,
}

/// A bundle's config.json.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) parsed: Parsed<Config>,
    /// What was parsed, to the letter: the file may be another by the time that it is copied.
    pub(crate) text: String,
}

/// Of a config.json. What is larger is not one that anybody wrote.
const MAX_CONFIG: u64 = 4 << 20;

/// The config.json of the bundle in `dir`, an absolute path without links; its root without links, and a directory.
///
/// # Errors
/// What cannot be read, by file, or all that is wrong with it, by key.
pub(crate) fn load(dir: &Path) -> Result<Loaded, Failure> {
    let (mut loaded, asked) = read(dir)?;
    loaded.parsed.value.root.path = root_at(dir, &asked)?;
    Ok(loaded)
}

/// As [`load`], but a root that is named below the bundle lies there, and is not the host's own.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_confined(dir: &Path) -> Result<Loaded, Failure> {
    let (mut loaded, asked) = read(dir)?;
    let named = dir.join(&asked);
    let root = root_at(dir, &asked)?;
    let problem = if asked.is_relative() && !root.starts_with(dir) {
        "leads out of the bundle"
    } else if root == Path::new("/") {
        "is the root of this host"
    } else {
        loaded.parsed.value.root.path = root;
        return Ok(loaded);
    };
    Err(no_root(&named, problem.into()))
}

/// With the root's path as it is written, which is given besides.
fn read(dir: &Path) -> Result<(Loaded, PathBuf), Failure> {
    let path = dir.join("config.json");
    // Whoever fills a bundle may put anything there: a FIFO, say, for whose writer a runtime would wait.
    let text = read_regular_follow(&path, MAX_CONFIG)
        .map_err(|error| no_document(&path, policy::problem(&error).unwrap_or_else(not_found)))?;
    let parsed =
        config(object(&path, &text)?).map_err(|problems| Failure::Config { path, problems })?;
    let asked = parsed.value.root.path.clone();
    Ok((Loaded { parsed, text }, asked))
}

/// `named` in the bundle, whose own path has no links.
fn root_at(bundle: &Path, named: &Path) -> Result<PathBuf, Failure> {
    let path = &bundle.join(named);
    let mut parts = named.components();
    if let (Some(Component::Normal(name)), None) = (parts.next(), parts.next()) {
        // The usual case: the one name more is no link either.
        let root = bundle.join(name);
        if root.symlink_metadata().is_ok_and(|it| it.is_dir()) {
            return Ok(root);
        }
    }
    let root = path
        .canonicalize()
        .map_err(|error| no_root(path, format!("invalid rootfs: {error}")))?;
    if root.is_dir() {
        Ok(root)
    } else {
        Err(no_root(path, "invalid rootfs: not a directory".into()))
    }
}

fn no_root(path: &Path, problem: String) -> Failure {
    Failure::File {
        path: path.to_owned(),
        problem,
        fix: "name the root file system in `root.path`",
    }
}

/// The object in a file: a config.json, a process, resources.
pub(crate) fn document(path: &Path) -> Result<Map<String, Value>, Failure> {
    object(path, &text(path)?)
}

fn text(path: &Path) -> Result<String, Failure> {
    policy::read(path, MAX_CONFIG)
        .map_err(|problem| no_document(path, problem.unwrap_or_else(not_found)))
}

fn not_found() -> String {
    "not found".into()
}

fn object(path: &Path, text: &str) -> Result<Map<String, Value>, Failure> {
    // Nesting is bounded by the parser, at 128.
    serde_json::from_str(text)
        .map_err(|error| no_document(path, format!("is not a JSON object: {error}")))
}

fn no_document(path: &Path, problem: String) -> Failure {
    Failure::File {
        path: path.to_owned(),
        problem,
        fix: "name a file of JSON as the OCI runtime specification has it",
    }
}

/// Of one document.
fn settled<T>(value: T, problems: Problems) -> Result<Parsed<T>, Problems> {
    if problems.is_empty() {
        let (warnings, unknown) = problems.into_rest();
        Ok(Parsed {
            value,
            warnings,
            unknown,
        })
    } else {
        Err(problems)
    }
}

/// The whole document, so that one message tells all that is wrong with it.
pub(crate) fn config(document: Map<String, Value>) -> Result<Parsed<Config>, Problems> {
    let mut problems = Problems::default();
    let mut object = Object::root(document);
    let config = Config {
        oci_version: object.text("ociVersion", &mut problems).unwrap_or_default(),
        root: root(&mut object, &mut problems),
        process: object
            .object("process", &mut problems)
            .map(|object| process::process(object, &mut problems)),
        hostname: object.text("hostname", &mut problems).unwrap_or_default(),
        domainname: object.text("domainname", &mut problems).unwrap_or_default(),
        mounts: object
            .objects("mounts", &mut problems)
            .into_iter()
            .map(|object| mount(object, &mut problems))
            .collect(),
        hooks: hooks(&mut object, &mut problems),
        annotations: object.text_map("annotations", &mut problems),
        linux: object
            .object("linux", &mut problems)
            .map(|object| linux::linux(object, &mut problems))
            .unwrap_or_default(),
    };
    object.rest(&mut problems);
    settled(config, problems)
}

/// The document of `exec --process`.
pub(crate) fn process(document: Map<String, Value>) -> Result<Parsed<ProcessConfig>, Problems> {
    let mut problems = Problems::default();
    let process = process::process(Object::root(document), &mut problems);
    settled(process, problems)
}

/// The document of `update --resources`.
pub(crate) fn resources(document: Map<String, Value>) -> Result<Parsed<Resources>, Problems> {
    let mut problems = Problems::default();
    let resources = resources::resources(Object::root(document), &mut problems);
    settled(resources, problems)
}

fn root(config: &mut Object, problems: &mut Problems) -> Root {
    let Some(mut root) = config.object("root", problems) else {
        problems.add("root", "is missing");
        return Root::default();
    };
    let path = root.path("path", problems).unwrap_or_default();
    if path == Path::new("") {
        problems.add("root.path", "is missing");
    }
    let read_only = root.flag("readonly", problems).unwrap_or(false);
    root.rest(problems);
    Root { path, read_only }
}

fn mount(mut mount: Object, problems: &mut Problems) -> MountEntry {
    let entry = MountEntry {
        destination: mount.path("destination", problems).unwrap_or_default(),
        kind: mount.text("type", problems).unwrap_or_default(),
        source: mount.text("source", problems).unwrap_or_default(),
        options: mount.texts("options", problems),
        uid_mappings: mappings(&mut mount, "uidMappings", problems),
        gid_mappings: mappings(&mut mount, "gidMappings", problems),
    };
    mount.rest(problems);
    entry
}

fn mappings(object: &mut Object, key: &str, problems: &mut Problems) -> Vec<IdMap> {
    let mut maps = Vec::new();
    for mut map in object.objects(key, problems) {
        maps.push(IdMap {
            inside: map.number("containerID", problems).unwrap_or(0),
            outside: map.number("hostID", problems).unwrap_or(0),
            count: map.number("size", problems).unwrap_or(0),
        });
    }
    maps
}

fn hooks(config: &mut Object, problems: &mut Problems) -> Hooks {
    let Some(mut hooks) = config.object("hooks", problems) else {
        return Hooks::default();
    };
    let mut at = |point: &str| {
        let mut list = Vec::new();
        for object in hooks.objects(point, problems) {
            list.push(hook(object, problems));
        }
        list
    };
    let all = Hooks {
        prestart: at("prestart"),
        create_runtime: at("createRuntime"),
        create_container: at("createContainer"),
        start_container: at("startContainer"),
        poststart: at("poststart"),
        poststop: at("poststop"),
    };
    hooks.rest(problems);
    all
}

fn hook(mut hook: Object, problems: &mut Problems) -> Hook {
    let key = hook.key("path");
    let path = hook.path("path", problems).unwrap_or_default();
    if !path.is_absolute() {
        problems.add(&key, "is not an absolute path");
    }
    let timeout = hook.key("timeout");
    let timeout_seconds = hook.number("timeout", problems);
    if timeout_seconds == Some(0) {
        problems.add(&timeout, "is not greater than zero");
    }
    Hook {
        path,
        args: hook.texts("args", problems),
        env: hook.texts("env", problems),
        timeout_seconds,
    }
}

/// Of a path that asks for something.
fn asked(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| path != Path::new(""))
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod plan_tests;

#[cfg(test)]
mod confined_tests;
