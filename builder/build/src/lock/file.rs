//! A lock as text. Written in one form only, so that a difference between two is a difference of what is pinned.

use std::collections::{BTreeMap, BTreeSet};

use airtight_image::{Digest, Platform};
use serde::Deserialize;

use super::{Lock, MAX_PINNED, MAX_PLATFORMS, PinnedBase, PinnedPackages};
use crate::packages::{Pinned, ReleasePin, is_package_name};

const HEAD: &str =
    "# Made by airtight, not edited by hand: `airtight update` makes it anew.\nformat = 1\n";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LockFile {
    format: i64,
    base: Option<BaseFile>,
    #[serde(default)]
    release: Vec<ReleaseFile>,
    #[serde(default)]
    package: Vec<PackageFile>,
    #[serde(default)]
    asked: BTreeMap<String, Digest>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct BaseFile {
    reference: String,
    digests: BTreeMap<String, Digest>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ReleaseFile {
    #[serde(rename = "for")]
    architecture: String,
    suite: String,
    codename: String,
    date: String,
    digest: Digest,
    key: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PackageFile {
    /// The architecture that is built for.
    #[serde(rename = "for")]
    target: String,
    layer: String,
    name: String,
    version: String,
    architecture: String,
    suite: String,
    path: String,
    size: u64,
    digest: Digest,
}

/// # Errors
/// What is wrong with the text.
pub(super) fn read(text: &str, layers: &[&str]) -> Result<Lock, String> {
    let written: LockFile = toml::from_str(text).map_err(|error| {
        let message = error.message().lines().next().unwrap_or_default();
        format!("is no lock: {message}")
    })?;
    let LockFile {
        format,
        base,
        release,
        package,
        asked,
    } = written;
    if format != 1 {
        return Err(format!(
            "is of format {format}, which this release does not know"
        ));
    }
    if package.len() > MAX_PINNED {
        return Err(format!("pins more than {MAX_PINNED} packages"));
    }
    let mut packages: BTreeMap<String, PinnedPackages> = asked
        .into_iter()
        .map(|(architecture, asked)| {
            let none = PinnedPackages {
                asked,
                releases: Vec::new(),
                pinned: Vec::new(),
            };
            (architecture, none)
        })
        .collect();
    let unknown =
        |architecture: &str| format!("pins for `{architecture}`, which is not under `asked`");
    for release in release {
        let of = &release.architecture;
        let to = packages.get_mut(of).ok_or_else(|| unknown(of))?;
        to.releases.push(ReleasePin {
            suite: release.suite,
            codename: release.codename,
            date: release.date,
            digest: release.digest,
            key: release.key,
        });
    }
    let mut seen = BTreeSet::new();
    for package in package {
        let to = packages
            .get_mut(&package.target)
            .ok_or_else(|| unknown(&package.target))?;
        if !is_package_name(&package.name) {
            return Err(format!(
                "pins `{}`, which is no package",
                package.name.escape_debug()
            ));
        }
        if !seen.insert((package.target, package.name.clone())) {
            return Err(format!("pins {} twice", package.name));
        }
        // A layer that is gone is another build file's, which `asked` tells.
        let layer = layers.iter().position(|layer| *layer == package.layer);
        to.pinned.push(Pinned {
            layer: layer.unwrap_or(usize::MAX),
            name: package.name,
            version: package.version,
            architecture: package.architecture,
            suite: package.suite,
            path: package.path,
            size: package.size,
            digest: package.digest,
        });
    }
    Ok(Lock {
        base: base.map(pinned_base).transpose()?,
        packages,
    })
}

fn pinned_base(base: BaseFile) -> Result<PinnedBase, String> {
    let BaseFile { reference, digests } = base;
    if digests.len() > MAX_PLATFORMS {
        return Err(format!(
            "pins the base for more than {MAX_PLATFORMS} platforms"
        ));
    }
    let no_platform = |name: &&String| name.parse::<Platform>().is_err();
    if let Some(name) = digests.keys().find(no_platform) {
        let name = name.escape_debug();
        return Err(format!("pins the base for `{name}`, which is no platform"));
    }
    Ok(PinnedBase { reference, digests })
}

pub(super) fn write(lock: &Lock, layers: &[&str]) -> String {
    let mut text = HEAD.to_owned();
    let mut table = |name: &str, lines: &[(&str, String)]| {
        text.push('\n');
        text.push_str(name);
        text.push('\n');
        for (key, value) in lines {
            text.push_str(&format!("{key} = {value}\n"));
        }
    };
    let quoted = |value: &str| toml::Value::String(value.to_owned()).to_string();
    if let Some(PinnedBase { reference, digests }) = &lock.base {
        table("[base]", &[("reference", quoted(reference))]);
        let digests: Vec<(String, String)> = digests
            .iter()
            .map(|(platform, digest)| (quoted(platform), quoted(&digest.to_string())))
            .collect();
        let lines: Vec<(&str, String)> = digests
            .iter()
            .map(|(platform, digest)| (platform.as_str(), digest.clone()))
            .collect();
        table("[base.digests]", &lines);
    }
    if !lock.packages.is_empty() {
        let lines: Vec<(&str, String)> = lock
            .packages
            .iter()
            .map(|(architecture, packages)| {
                (architecture.as_str(), quoted(&packages.asked.to_string()))
            })
            .collect();
        table("[asked]", &lines);
    }
    for (architecture, packages) in &lock.packages {
        for release in &packages.releases {
            table(
                "[[release]]",
                &[
                    ("for", quoted(architecture)),
                    ("suite", quoted(&release.suite)),
                    ("codename", quoted(&release.codename)),
                    ("date", quoted(&release.date)),
                    ("digest", quoted(&release.digest.to_string())),
                    ("key", quoted(&release.key)),
                ],
            );
        }
        for pin in &packages.pinned {
            table(
                "[[package]]",
                &[
                    ("for", quoted(architecture)),
                    ("layer", quoted(layers.get(pin.layer).unwrap_or(&""))),
                    ("name", quoted(&pin.name)),
                    ("version", quoted(&pin.version)),
                    ("architecture", quoted(&pin.architecture)),
                    ("suite", quoted(&pin.suite)),
                    ("path", quoted(&pin.path)),
                    ("size", pin.size.to_string()),
                    ("digest", quoted(&pin.digest.to_string())),
                ],
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> Lock {
        let digest = Digest::of(b"x");
        let pinned = Pinned {
            name: "libc6".to_owned(),
            version: "2.36-9".to_owned(),
            architecture: "amd64".to_owned(),
            suite: "bookworm".to_owned(),
            path: "pool/main/g/glibc/libc6.deb".to_owned(),
            size: 12,
            digest: digest.clone(),
            layer: 0,
        };
        let release = ReleasePin {
            suite: "bookworm".to_owned(),
            codename: "bookworm".to_owned(),
            date: "Sat, 11 Jul 2026 10:16:37 UTC".to_owned(),
            digest: digest.clone(),
            key: "AB".to_owned(),
        };
        let packages = PinnedPackages {
            asked: digest.clone(),
            releases: vec![release],
            pinned: vec![pinned],
        };
        Lock {
            base: Some(PinnedBase {
                reference: "oci:base \"x\"".to_owned(),
                digests: ["linux/amd64", "linux/arm64"]
                    .map(|platform| (platform.to_owned(), digest.clone()))
                    .into(),
            }),
            packages: [("amd64".to_owned(), packages)].into(),
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let text = write(&lock(), &["runtime"]);
        assert_eq!(read(&text, &["runtime"]), Ok(lock()));
        assert!(
            text.contains("[[package]]\nfor = \"amd64\"\nlayer = \"runtime\"\nname = \"libc6\"\n"),
            "{text}"
        );
    }

    #[test]
    fn a_lock_that_is_none_is_refused() {
        let text = write(&lock(), &["runtime"]);
        let twice = format!(
            "{text}{}",
            text.split_once("[[package]]")
                .map(|(_, rest)| format!("[[package]]{rest}"))
                .unwrap()
        );
        for (name, text, want) in [
            (
                "another format",
                text.replace("format = 1", "format = 2"),
                "is of format 2, which this release does not know",
            ),
            (
                "an unknown key",
                text.replace("size = 12", "sizes = 12"),
                "is no lock: unknown field `sizes`, expected one of",
            ),
            (
                "no digest",
                text.replace("digest = \"sha256:", "digest = \"md5:"),
                "is no lock: digest",
            ),
            (
                "climbs",
                text.replace("\"libc6\"", "\"../x\""),
                "pins `../x`, which is no package",
            ),
            (
                "of nobody",
                text.replace("for = \"amd64\"", "for = \"i386\""),
                "pins for `i386`, which is not under `asked`",
            ),
            (
                "no platform",
                text.replace("\"linux/arm64\"", "\"li\\u0007nux\""),
                "pins the base for `li\\u{7}nux`, which is no platform",
            ),
            ("twice", twice, "pins libc6 twice"),
            ("no TOML", "format".to_owned(), "is no lock: "),
        ] {
            let told = read(&text, &["runtime"]).unwrap_err();
            assert!(told.starts_with(want), "{name}: {told}");
        }
    }
}
