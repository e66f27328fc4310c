//! `generate` as understood: which files are made, not how. Pure.

use std::path::{Component, PathBuf};

use crate::error::Problem;
use crate::spec::each;

/// Files that programs expect of a system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Generator {
    Passwd,
    Group,
    Nsswitch,
    CaCertificates,
    /// Zones below the host's `/usr/share/zoneinfo`; `None`: all of them.
    Tzdata(Option<Vec<PathBuf>>),
}

pub(crate) fn check_generate(
    written: &[String],
    zones: Option<Vec<String>>,
    key: &str,
) -> Result<Vec<Generator>, Problem> {
    if zones.is_some() && !written.iter().any(|name| name == "tzdata") {
        let problem = "names zones, but the layer does not generate `tzdata`";
        return Err(Problem::new(
            format!("{key}.time-zones"),
            problem,
            "add \"tzdata\" to the layer's `generate`",
        ));
    }
    let zones = zones
        .map(|zones| each(zones, &format!("{key}.time-zones"), check_zone))
        .transpose()?;
    let mut generators = Vec::with_capacity(written.len());
    for (index, name) in written.iter().enumerate() {
        let generator = match name.as_str() {
            "passwd" => Generator::Passwd,
            "group" => Generator::Group,
            "nsswitch" => Generator::Nsswitch,
            "ca-certificates" => Generator::CaCertificates,
            "tzdata" => Generator::Tzdata(zones.clone()),
            other => {
                let problem = format!(
                    "`{}` is nothing that can be generated",
                    other.escape_debug()
                );
                let fix = "use `passwd`, `group`, `nsswitch`, `ca-certificates` or `tzdata`";
                return Err(Problem::new(
                    format!("{key}.generate[{index}]"),
                    problem,
                    fix,
                ));
            }
        };
        if generators.contains(&generator) {
            return Err(Problem::new(
                format!("{key}.generate[{index}]"),
                format!("`{name}` is there twice"),
                "name it once",
            ));
        }
        generators.push(generator);
    }
    Ok(generators)
}

fn check_zone(text: String, key: &str) -> Result<PathBuf, Problem> {
    let path = PathBuf::from(&text);
    let plain = path
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    if text.is_empty() || text.contains('\0') || !plain {
        return Err(Problem::new(
            key,
            format!("`{}` is no time zone", text.escape_debug()),
            "write one like `Europe/Berlin`",
        ));
    }
    Ok(path)
}
