//! The build file as understood: checked types, defaults filled in. Pure; nothing of the host is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use airtight_image::layer::Compression;
use airtight_image::{ImageRef, Platform, Reference};
use airtight_profiles::{Profile, ProfileError};

use crate::error::{Problem, SpecError};
use crate::file::{self, BuildFile, CopyFile, LayerFile};
use crate::generator::{Generator, check_generate};
use crate::glob::Pattern;
use crate::packages::{self, Debian, Relation};
use crate::path::ImagePath;
use crate::settings::{Config, check_config, no_nul};
use crate::split::Split;

/// Runtimes are tested with about this many; ours takes 125, and a base of ours may have been built upon before.
pub(crate) const MAX_LAYERS: usize = 100;

/// A checked build file.
#[derive(Clone, Debug)]
pub struct BuildSpec {
    /// What the image is called in the store unless the caller says otherwise.
    pub name: Reference,
    pub base: Base,
    /// Where packages come from.
    pub(crate) debian: Debian,
    /// Of the layers that are built; a base's stay as they are.
    pub compression: Compression,
    /// In the order of the file, each an OCI layer.
    pub layers: Vec<Layer>,
    pub config: Config,
    /// What the image asks for; goes into the manifest's annotation.
    pub profile: Option<Profile>,
    /// Of the manifest, besides the profile's.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    Scratch,
    /// An OCI layout; `path` is as written, so relative to the build file.
    Layout {
        path: PathBuf,
        tag: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    pub name: String,
    /// Of a Debian release, with what they need.
    pub(crate) packages: Vec<Relation>,
    pub copy: Vec<Copy>,
    pub closure: Vec<Closure>,
    pub generate: Vec<Generator>,
    /// Into how large parts it is cut; `None` for one layer whatever its size.
    pub split: Option<Split>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    pub from: CopyFrom,
    pub to: ImagePath,
    /// `to` ended in a slash: a file keeps its name below it.
    pub into: bool,
    pub exclude: Vec<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyFrom {
    /// Absolute on the host.
    Host(PathBuf),
    /// Below the build file's directory, without `..`.
    Context(PathBuf),
}

/// In a `from`: the CPU that the image is for, as OCI calls it.
const ARCH: &str = "{arch}";

impl Copy {
    /// With `{arch}` in its source replaced by what the image is for.
    pub(crate) fn for_platform(&self, platform: &Platform) -> Self {
        let replaced = |path: &Path| match path.to_str() {
            Some(text) => PathBuf::from(text.replace(ARCH, platform.architecture())),
            None => path.to_path_buf(),
        };
        let from = match &self.from {
            CopyFrom::Host(path) => CopyFrom::Host(replaced(path)),
            CopyFrom::Context(path) => CopyFrom::Context(replaced(path)),
        };
        Self {
            from,
            ..self.clone()
        }
    }
}

/// Whose shared libraries a layer gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closure {
    File(ImagePath),
    /// Every dynamic ELF file below it (`/usr/lib/app/` or `/usr/lib/app/**`).
    Tree(ImagePath),
}

/// Reads and checks a build file. `file` is only for messages; nothing is opened.
///
/// # Errors
/// The first thing that is wrong, with its key and what to write instead.
pub fn parse(text: &str, file: &Path) -> Result<BuildSpec, SpecError> {
    let written = file::read(text).map_err(|problem| problem.in_file(file))?;
    check(written, file)
}

fn check(written: BuildFile, file: &Path) -> Result<BuildSpec, SpecError> {
    let BuildFile {
        format,
        name,
        base,
        debian,
        compression,
        layer,
        config,
        profile,
        annotations,
    } = written;
    let in_file = |problem: Problem| problem.in_file(file);
    if format != 1 {
        let fix = "write `format = 1`, or use a release of airtight that knows it";
        return Err(in_file(Problem::new(
            "format",
            format!("{format} is not a format of this release"),
            fix,
        )));
    }
    let name = name.parse::<Reference>().map_err(|err| {
        in_file(Problem::new(
            "name",
            format!("`{name}` is no image name: {err}"),
            "write NAME or NAME:TAG, like `shop/api`",
        ))
    })?;
    let base = check_base(base.as_deref()).map_err(in_file)?;
    let debian = packages::check(debian).map_err(in_file)?;
    let compression = check_compression(compression.as_deref()).map_err(in_file)?;
    let layers = check_layers(layer, &base).map_err(in_file)?;
    let config = check_config(config).map_err(in_file)?;
    check_annotations(&annotations).map_err(in_file)?;
    let profile = profile
        .map(|table| check_profile(table, file))
        .transpose()?;
    Ok(BuildSpec {
        name,
        base,
        debian,
        compression,
        layers,
        config,
        profile,
        annotations,
    })
}

fn check_base(written: Option<&str>) -> Result<Base, Problem> {
    let fix = "write `scratch`, or `oci:PATH[:TAG]` for an OCI layout on this host";
    match written {
        None | Some("scratch") => Ok(Base::Scratch),
        Some(text) => match text.parse::<ImageRef>() {
            Ok(ImageRef::Layout { path, tag }) => Ok(Base::Layout { path, tag }),
            Ok(ImageRef::Name(_) | ImageRef::Digest(_)) => Err(Problem::new(
                "base",
                format!("`{text}` is neither `scratch` nor an OCI layout"),
                fix,
            )),
            Err(err) => Err(Problem::new("base", format!("`{text}`: {err}"), fix)),
        },
    }
}

fn check_compression(written: Option<&str>) -> Result<Compression, Problem> {
    let parse = |text: &str| {
        text.parse().map_err(|problem: String| {
            let fix =
                "write `gzip`, which every tool reads, or `zstd`, which is smaller and faster";
            Problem::new("compression", format!("`{text}` {problem}"), fix)
        })
    };
    written.map_or(Ok(Compression::default()), parse)
}

fn check_layers(written: Vec<LayerFile>, base: &Base) -> Result<Vec<Layer>, Problem> {
    if written.is_empty() && *base == Base::Scratch {
        return Err(Problem::new(
            "layer",
            "there is none, and `scratch` is empty",
            "add a `[[layer]]` with a `copy`",
        ));
    }
    if written.len() > MAX_LAYERS {
        let problem = format!(
            "there are {}; an image may have {MAX_LAYERS}",
            written.len()
        );
        return Err(Problem::new(
            "layer",
            problem,
            "put what changes together into one layer",
        ));
    }
    let mut names = BTreeSet::new();
    let mut layers = Vec::with_capacity(written.len());
    for (index, layer) in written.into_iter().enumerate() {
        let layer = check_layer(layer, &format!("layer[{index}]"))?;
        if !names.insert(layer.name.clone()) {
            let problem = format!("`{}` is the name of an earlier layer", layer.name);
            return Err(Problem::new(
                format!("layer[{index}].name"),
                problem,
                "give each layer a name of its own",
            ));
        }
        layers.push(layer);
    }
    Ok(layers)
}

fn check_layer(written: LayerFile, key: &str) -> Result<Layer, Problem> {
    let LayerFile {
        name,
        packages,
        copy,
        closure,
        generate,
        time_zones,
        split,
    } = written;
    let legal =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(legal) {
        let problem = format!("`{}` is no layer name", name.escape_debug());
        return Err(Problem::new(
            format!("{key}.name"),
            problem,
            "use 1 to 64 of a-z, 0-9, `.`, `_` and `-`",
        ));
    }
    let packages = packages::check_packages(packages, key)?;
    let copy = each(copy, &format!("{key}.copy"), check_copy)?;
    let closure = each(closure, &format!("{key}.closure"), check_closure)?;
    let generate = check_generate(&generate, time_zones, key)?;
    let split = split
        .map(|text| Split::parse(&text, &format!("{key}.split")))
        .transpose()?;
    if packages.is_empty() && copy.is_empty() && closure.is_empty() && generate.is_empty() {
        return Err(Problem::new(
            key,
            "is empty",
            "give it `packages`, a `copy`, a `closure` or a `generate`, or take it out",
        ));
    }
    Ok(Layer {
        name,
        packages,
        copy,
        closure,
        generate,
        split,
    })
}

pub(crate) fn each<W, C>(
    written: Vec<W>,
    key: &str,
    check: impl Fn(W, &str) -> Result<C, Problem>,
) -> Result<Vec<C>, Problem> {
    written
        .into_iter()
        .enumerate()
        .map(|(index, item)| check(item, &format!("{key}[{index}]")))
        .collect()
}

fn check_copy(written: CopyFile, key: &str) -> Result<Copy, Problem> {
    let CopyFile { from, to, exclude } = written;
    let exclude = each(exclude, &format!("{key}.exclude"), |text: String, key| {
        Pattern::parse(&text).ok_or_else(|| {
            Problem::new(
                key,
                format!("`{text}` can match nothing"),
                "write a name like `*.pyc`, or a path from the tree's root like `/test`",
            )
        })
    })?;
    let into = to.ends_with('/') && to != "/";
    let to = image_path(&to, &format!("{key}.to"))?;
    // The runtime mounts its own file systems there, whatever the image holds.
    for covered in ["/proc", "/sys", "/dev"] {
        if to.as_path().starts_with(covered) {
            let problem = format!("`{to}` lies under {covered}, which the runtime covers");
            return Err(Problem::new(
                format!("{key}.to"),
                problem,
                "copy it elsewhere",
            ));
        }
    }
    Ok(Copy {
        from: check_from(&from, &format!("{key}.from"))?,
        to,
        into,
        exclude,
    })
}

fn check_from(text: &str, key: &str) -> Result<CopyFrom, Problem> {
    if text.is_empty() || text.contains('\0') {
        return Err(Problem::new(key, "is no path", "name a file or directory"));
    }
    let path = Path::new(text);
    if path.is_absolute() {
        return Ok(CopyFrom::Host(path.to_path_buf()));
    }
    if path
        .components()
        .any(|component| component == Component::ParentDir)
    {
        let problem = format!("`{text}` climbs with `..`");
        return Err(Problem::new(
            key,
            problem,
            "keep sources in the build file's directory, or name a host path in full",
        ));
    }
    Ok(CopyFrom::Context(path.to_path_buf()))
}

fn check_closure(text: String, key: &str) -> Result<Closure, Problem> {
    match text.strip_suffix("/**").or_else(|| text.strip_suffix('/')) {
        Some(tree) => image_path(if tree.is_empty() { "/" } else { tree }, key).map(Closure::Tree),
        None if text.contains(['*', '?']) => Err(Problem::new(
            key,
            format!("`{text}` holds a wildcard"),
            "name one file, or a tree as `/usr/lib/app/**`",
        )),
        None => image_path(&text, key).map(Closure::File),
    }
}

fn image_path(text: &str, key: &str) -> Result<ImagePath, Problem> {
    ImagePath::parse(text).map_err(|problem| {
        Problem::new(
            key,
            format!("`{}` {problem}", text.escape_debug()),
            "write a path in the image from its root, like `/bin/api`",
        )
    })
}

fn check_annotations(annotations: &BTreeMap<String, String>) -> Result<(), Problem> {
    for (name, value) in annotations {
        let key = format!("annotations.{name}");
        if name.is_empty() {
            return Err(Problem::new(
                "annotations",
                "has an empty key",
                "name the annotation, like `org.opencontainers.image.source`",
            ));
        }
        if name.starts_with("dev.airtight.") {
            return Err(Problem::new(
                key,
                "lies under `dev.airtight.`, which airtight writes itself",
                "use a prefix of your own",
            ));
        }
        no_nul(value, &key)?;
    }
    Ok(())
}

/// The profile's own room checks it.
fn check_profile(table: toml::Table, file: &Path) -> Result<Profile, SpecError> {
    Profile::from_table(table, file, "profile").map_err(|err| {
        let ProfileError {
            file,
            key,
            problem,
            fix,
        } = err;
        Problem::new(key, problem, fix).in_file(&file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "format = 1\nname = \"shop/api\"\n";
    const LAYER: &str =
        "[[layer]]\nname = \"app\"\ncopy = [{ from = \"api\", to = \"/bin/api\" }]\n";

    fn problem(text: &str) -> String {
        parse(text, Path::new("airtight.toml"))
            .map(|_| ())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_wrong_key_value_or_form_is_told_with_its_place_and_the_fix() {
        let layer = |more: &str| format!("{HEAD}{LAYER}{more}");
        for (text, want) in [
            (
                "name = \"a\"".to_owned(),
                "airtight.toml: `format`: is missing\n  fix: add `format = …`",
            ),
            (
                format!("format = 2\nname = \"a\"\n{LAYER}"),
                "airtight.toml: `format`: 2 is not a format of this release\n  fix: write `format = 1`, or use a release of airtight that knows it",
            ),
            (
                "format = 1\nname = \"a\nb = 1".to_owned(),
                "airtight.toml: `line 2, column 10`: is not TOML: invalid basic string, expected `\"`\n  \
                 fix: correct the syntax there; strings need quotes, tables need `[name]`",
            ),
            (
                layer("entrypoint = [\"/bin/api\"]"),
                "airtight.toml: `layer[0].entrypoint`: is not a key of a build file here\n  \
                 fix: use one of `name`, `packages`, `copy`, `closure`, `generate`, `time-zones`, `split`",
            ),
            (
                layer(
                    "[[layer]]\nname = \"b\"\ncopy = [{ from = \"x\", to = \"/x\" }, { from = \"y\", too = \"/y\" }]",
                ),
                "airtight.toml: `layer[1].copy[1].too`: is not a key of a build file here\n  fix: use one of `from`, `to`, `exclude`",
            ),
            (
                layer("[[layer]]\nname = \"b\"\ncopy = [{ to = \"/x\" }]"),
                "airtight.toml: `layer[1].copy[0].from`: is missing\n  fix: add `from = …`",
            ),
            (
                layer("[[layer]]\nname = \"b\"\nclosure = [\"/x\", 3]"),
                "airtight.toml: `layer[1].closure[1]`: invalid type: integer `3`, expected a string\n  \
                 fix: write what is expected; `airtight.toml` under examples/ shows each key",
            ),
            (
                layer("[[layer]]\nname = \"app\"\nclosure = [\"/bin/api\"]"),
                "airtight.toml: `layer[1].name`: `app` is the name of an earlier layer\n  fix: give each layer a name of its own",
            ),
            (
                layer(
                    "[[layer]]\nname = \"b\"\ncopy = [{ from = \"x\", to = \"/x\" }, { from = \"../y\", to = \"/y\" }]",
                ),
                "airtight.toml: `layer[1].copy[1].from`: `../y` climbs with `..`\n  \
                 fix: keep sources in the build file's directory, or name a host path in full",
            ),
            (
                layer("[[layer]]\nname = \"b\"\ncopy = [{ from = \"x\", to = \"bin/x\" }]"),
                "airtight.toml: `layer[1].copy[0].to`: `bin/x` is not absolute\n  fix: write a path in the image from its root, like `/bin/api`",
            ),
            (
                layer("[[layer]]\nname = \"b\"\ncopy = [{ from = \"x\", to = \"/proc/x\" }]"),
                "airtight.toml: `layer[1].copy[0].to`: `/proc/x` lies under /proc, which the runtime covers\n  fix: copy it elsewhere",
            ),
            (
                layer("[[layer]]\nname = \"b\"\ngenerate = [\"passwd\", \"shadow\"]"),
                "airtight.toml: `layer[1].generate[1]`: `shadow` is nothing that can be generated\n  \
                 fix: use `passwd`, `group`, `nsswitch`, `ca-certificates` or `tzdata`",
            ),
            (
                layer("[[layer]]\nname = \"b\"\ngenerate = [\"passwd\"]\ntime-zones = [\"UTC\"]"),
                "airtight.toml: `layer[1].time-zones`: names zones, but the layer does not generate `tzdata`\n  \
                 fix: add \"tzdata\" to the layer's `generate`",
            ),
            (
                layer("[[layer]]\nname = \"b\""),
                "airtight.toml: `layer[1]`: is empty\n  fix: give it `packages`, a `copy`, a `closure` or a `generate`, or take it out",
            ),
            (
                HEAD.to_owned(),
                "airtight.toml: `layer`: there is none, and `scratch` is empty\n  fix: add a `[[layer]]` with a `copy`",
            ),
            (
                format!("{HEAD}base = \"debian:12\"\n{LAYER}"),
                "airtight.toml: `base`: `debian:12` is neither `scratch` nor an OCI layout\n  \
                 fix: write `scratch`, or `oci:PATH[:TAG]` for an OCI layout on this host",
            ),
            (
                layer("[config]\nuser = \"0:0\""),
                "airtight.toml: `config.user`: `0:0` is root, and a sandbox runs nothing as root\n  \
                 fix: leave `user` out for 65532, or name another",
            ),
            (
                layer("[config]\nenv = { LANG = 1 }"),
                "airtight.toml: `config.env.LANG`: invalid type: integer `1`, expected a string\n  \
                 fix: write what is expected; `airtight.toml` under examples/ shows each key",
            ),
            (
                layer("[config]\nexpose = [\"8080\", \"http\"]"),
                "airtight.toml: `config.expose[1]`: `http` is no port\n  fix: write PORT or PORT/PROTOCOL, like `8080/tcp`",
            ),
            (
                layer("[annotations]\n\"dev.airtight.profile.v1\" = \"{}\""),
                "airtight.toml: `annotations.dev.airtight.profile.v1`: lies under `dev.airtight.`, which airtight writes itself\n  \
                 fix: use a prefix of your own",
            ),
        ] {
            assert_eq!(problem(&text), want, "{text}");
        }
    }

    #[test]
    fn defaults_are_filled_in_once() {
        let spec = parse(&format!("{HEAD}{LAYER}"), Path::new("airtight.toml")).unwrap();
        assert_eq!(spec.base, Base::Scratch);
        assert_eq!(spec.config.user.to_string(), "65532:65532");
        let users = [
            ("1000", "1000:1000"),
            ("1000:0", "1000:0"),
            ("web", "web"),
            ("web:www", "web:www"),
        ];
        for (written, want) in users {
            let text = format!("{HEAD}{LAYER}[config]\nuser = \"{written}\"\nexpose = [\"80\"]");
            let spec = parse(&text, Path::new("airtight.toml")).unwrap();
            assert_eq!(spec.config.user.to_string(), want, "{written}");
            assert_eq!(spec.config.expose.first().unwrap(), "80/tcp");
        }
    }

    #[test]
    fn a_file_that_is_too_large_or_too_deep_is_refused_before_it_costs_anything() {
        let large = format!("# {}", "x".repeat(file::MAX_FILE));
        assert!(
            problem(&large).contains("a build file may have 1048576"),
            "{}",
            problem(&large)
        );
        let deep = format!("x = {}1{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(problem(&deep).contains("is not TOML"), "{}", problem(&deep));
    }
}
