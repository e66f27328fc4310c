//! `[debian]` and `packages` of a build file as understood. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use crate::error::Problem;
use crate::file::DebianFile;
use crate::spec::each;

use super::relation::{Relation, is_name};
use super::slices::Slices;

/// Where packages come from and what is taken of them. What is not said, the host's apt says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Debian {
    pub(crate) suite: Option<String>,
    pub(crate) mirror: Option<String>,
    pub(crate) components: Vec<String>,
    /// As written, so relative to the build file.
    pub(crate) keyring: Option<PathBuf>,
    pub(crate) slices: Slices,
    /// Packages that count as there and are not.
    pub(crate) without: BTreeSet<String>,
    /// Packages whose scripts may be left.
    pub(crate) ignored_scripts: BTreeSet<String>,
}

pub(crate) fn check(written: DebianFile) -> Result<Debian, Problem> {
    let DebianFile {
        suite,
        mirror,
        components,
        keyring,
        include,
        exclude,
        without,
        scripts,
    } = written;
    if let Some(suite) = &suite {
        check_word(suite, "debian.suite")?;
    }
    for (at, component) in components.iter().enumerate() {
        check_word(component, &format!("debian.components[{at}]"))?;
    }
    let without = each(without, "debian.without", check_name)?;
    let keyring = keyring
        .map(|path| check_keyring(path, "debian.keyring"))
        .transpose()?;
    Ok(Debian {
        suite,
        mirror,
        components,
        keyring,
        slices: Slices::check(include, exclude, "debian")?,
        without: without.into_iter().collect(),
        ignored_scripts: check_scripts(scripts)?,
    })
}

/// `packages` of a layer: `NAME` or `NAME (OPERATOR VERSION)`.
pub(crate) fn check_packages(written: Vec<String>, key: &str) -> Result<Vec<Relation>, Problem> {
    each(written, &format!("{key}.packages"), |text, key| {
        let relation = Relation::parse(&text).map_err(|why| {
            let fix = "write a package's name, like `python3-minimal`, or `python3 (>= 3.11)`";
            Problem::new(key, why, fix)
        })?;
        if relation.qualifier.is_some() {
            let problem =
                format!("`{text}` names an architecture; an image is for one, this host's");
            return Err(Problem::new(key, problem, "take the colon out"));
        }
        Ok(relation)
    })
}

fn check_word(text: &str, key: &str) -> Result<(), Problem> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/+~".contains(&byte);
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    if text.len() <= 128 && text.bytes().all(legal) && text.split('/').all(plain) {
        return Ok(());
    }
    let problem = format!("`{}` is no name of one", text.escape_debug());
    Err(Problem::new(
        key,
        problem,
        "write it as the mirror has it, like `bookworm` or `main`",
    ))
}

fn check_name(text: String, key: &str) -> Result<String, Problem> {
    if is_name(&text) {
        return Ok(text);
    }
    let problem = format!("`{}` is no name of a package", text.escape_debug());
    Err(Problem::new(key, problem, "write one like `perl-base`"))
}

fn check_keyring(text: String, key: &str) -> Result<PathBuf, Problem> {
    let path = PathBuf::from(&text);
    let climbs = Path::new(&text)
        .components()
        .any(|part| part == Component::ParentDir);
    if text.is_empty() || text.contains('\0') || climbs {
        return Err(Problem::new(
            key,
            format!("`{}` is no path of a keyring", text.escape_debug()),
            "keep it in the build file's directory, or name it in full",
        ));
    }
    Ok(path)
}

fn check_scripts(written: BTreeMap<String, String>) -> Result<BTreeSet<String>, Problem> {
    let mut ignored = BTreeSet::new();
    for (name, what) in written {
        let key = format!("debian.scripts.{name}");
        if what != "ignore" {
            let problem = format!(
                "`{}` is nothing that is done with scripts",
                what.escape_debug()
            );
            return Err(Problem::new(
                key,
                problem,
                "write \"ignore\": no script is ever run",
            ));
        }
        ignored.insert(check_name(name, &key)?);
    }
    Ok(ignored)
}
