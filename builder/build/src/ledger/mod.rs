//! The ledger of an image: for each file of each layer, why it is there. It is an artifact that refers to the image's manifest, so that an image
//! with it and one without have the same digest. Nothing of this host, user or day is in it but what the build file itself names or leads to.
//!
//! Its form is canonical JSON: what is read must be exactly what would be written, so that no two readers see two things in it.

mod name;
mod write;

use std::collections::BTreeMap;

use airtight_image::DiffId;
use serde::{Deserialize, Serialize};

use crate::path::ImagePath;

pub(crate) use name::{plain, shown};
pub(crate) use write::Drafted;

/// Of the artifact; its content is of this type and `+json`.
pub const LEDGER_TYPE: &str = "application/vnd.airtight.why.v1";
/// Bytes; what the store takes of an artifact.
pub(crate) const MAX_LEDGER: usize = 16 << 20;
/// As many as an image may have, with room.
const MAX_LAYERS: usize = 256;

/// Why each file of an image is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    format: u32,
    /// Those that something is known of, lowest first.
    layers: Vec<LayerLedger>,
    /// Sorted; entries name them by their place here.
    reasons: Vec<Because>,
}

/// Of one layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct LayerLedger {
    pub(crate) diff_id: DiffId,
    /// By directory, then by name, both as [`shown`] writes them.
    files: BTreeMap<String, BTreeMap<String, u32>>,
    /// It is the base's, and the keys are of the base's build file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) inherited: bool,
    /// As the build file calls it.
    pub(crate) name: String,
}

/// What kind of reason it is. Which other keys a reason has follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReasonKind {
    /// The build file names the file, or a tree that holds it: `from` on the build host lies at `to` in the image.
    Declared,
    /// It is of a `package` of that `version`, or of a `slice` of it.
    Package,
    /// A dynamic object needs it, and another needs that one: `by`, nearest first, the program last. `source` is where it was found.
    Needed,
    /// A link `to` a library, where the image's linker looks for it; `by` as with `needed`.
    Linked,
    /// `program` is started with it. `source` is where it was found.
    Interpreter,
    /// A `generator` made it, or took `from` to `to`.
    Generated,
    /// A directory that something else lies in.
    LeadsTo,
}

/// One reason. The keys are in the order of canonical JSON.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Because {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator: Option<String>,
    /// Of the build file: `layer[0].copy[1]`.
    pub key: String,
    pub kind: ReasonKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Why a ledger was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger of the image {problem}\n  fix: build or pull the image again")]
pub struct LedgerError {
    pub problem: String,
}

impl Ledger {
    /// Reads a ledger of hostile bytes.
    ///
    /// # Errors
    /// One that is too large, of another format, not canonical, or names what is not there.
    pub fn parse(bytes: &[u8]) -> Result<Self, LedgerError> {
        let bad = |problem: String| LedgerError { problem };
        if bytes.len() > MAX_LEDGER {
            let problem = format!("is {} bytes, and {MAX_LEDGER} are taken", bytes.len());
            return Err(bad(problem));
        }
        let ledger: Self = serde_json::from_slice(bytes)
            .map_err(|error| bad(format!("is none that this release knows: {error}")))?;
        ledger.check().map_err(bad)?;
        if ledger.json().as_bytes() != bytes {
            return Err(bad("is not in canonical form".to_owned()));
        }
        Ok(ledger)
    }

    fn check(&self) -> Result<(), String> {
        if self.format != 1 {
            return Err(format!("is of format {}, and 1 is taken", self.format));
        }
        if self.layers.len() > MAX_LAYERS {
            return Err(format!("speaks of {} layers", self.layers.len()));
        }
        self.reasons.iter().try_for_each(Because::check)?;
        if let Some(pair) = self.reasons.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(format!("has its reasons out of order at `{}`", pair[1].key));
        }
        for layer in &self.layers {
            for (directory, names) in &layer.files {
                let path = plain(directory).and_then(|path| ImagePath::parse(&path).ok());
                // No other spelling of the same place.
                if path.is_none_or(|path| shown(path.as_path()) != *directory) {
                    return Err(format!("has `{directory}`, which is no directory"));
                }
                for (name, reason) in names {
                    let legal = !name.is_empty()
                        && !name.contains('/')
                        && name != "."
                        && name != ".."
                        && plain(name).is_some_and(|plain| shown(&plain) == *name);
                    if !legal {
                        return Err(format!("has `{name}`, which is no name of a file"));
                    }
                    if usize::try_from(*reason).map_or(true, |at| at >= self.reasons.len()) {
                        return Err(format!("has reason {reason}, which is not there"));
                    }
                }
            }
        }
        Ok(())
    }

    /// The form that it is stored in.
    #[must_use]
    pub fn json(&self) -> String {
        // Of strings, numbers and maps with strings for keys: nothing of it can fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What is known of a layer.
    pub(crate) fn layer(&self, diff: &DiffId) -> Option<&LayerLedger> {
        self.layers.iter().find(|layer| layer.diff_id == *diff)
    }

    /// Why `path` is in a layer.
    pub(crate) fn reason(&self, layer: &LayerLedger, path: &std::path::Path) -> Option<&Because> {
        let directory = shown(path.parent()?);
        let name = shown(path.file_name()?.as_ref());
        let at = layer.files.get(&directory)?.get(&name)?;
        self.reasons.get(usize::try_from(*at).ok()?)
    }
}

impl Because {
    fn check(&self) -> Result<(), String> {
        let Self {
            by,
            from,
            generator,
            key,
            kind,
            package,
            program,
            slice,
            source,
            to,
            version,
        } = self;
        let [
            by,
            from,
            generator,
            package,
            program,
            slice,
            source,
            to,
            version,
        ] = [
            by.is_some(),
            from.is_some(),
            generator.is_some(),
            package.is_some(),
            program.is_some(),
            slice.is_some(),
            source.is_some(),
            to.is_some(),
            version.is_some(),
        ];
        let has = [by, from, generator, package, program, source, to, version];
        let should = match kind {
            ReasonKind::Declared => [false, true, false, false, false, false, true, false],
            ReasonKind::Package => [false, false, false, true, false, false, false, true],
            ReasonKind::Needed => [true, false, false, false, false, true, false, false],
            ReasonKind::Linked => [true, false, false, false, false, false, true, false],
            ReasonKind::Interpreter => [false, false, false, false, true, true, false, false],
            ReasonKind::Generated => [false, from, true, false, false, false, from, false],
            ReasonKind::LeadsTo => [false; 8],
        };
        let known = has == should && (!slice || *kind == ReasonKind::Package);
        let known = known && self.by.as_ref().is_none_or(|by| !by.is_empty());
        if known {
            return Ok(());
        }
        Err(format!(
            "has a reason at `{key}` with other keys than its kind has"
        ))
    }

    /// Where on the build host what lies at `path` came from; relative to the build file, or absolute.
    #[must_use]
    pub fn source_of(&self, path: &str) -> Option<String> {
        if let Some(source) = &self.source {
            return Some(source.clone());
        }
        let (from, to) = (self.from.as_ref()?, self.to.as_ref()?);
        let rest = path.strip_prefix(to.as_str())?.trim_start_matches('/');
        Some(match (from.as_str(), rest) {
            (from, "") => from.to_owned(),
            ("", rest) => rest.to_owned(),
            (from, rest) => format!("{}/{rest}", from.trim_end_matches('/')),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = concat!(
        r#"{"format":1,"layers":[{"diffId":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","#,
        r#""files":{"/":{"bin":1},"/bin":{"api":0}},"name":"app"}],"#,
        r#""reasons":[{"from":"dist","key":"layer[0].copy[0]","kind":"declared","to":"/bin"},{"key":"layer[0].copy[0]","kind":"leads-to"}]}"#
    );

    #[test]
    fn a_ledger_is_taken_in_its_canonical_form_only() {
        // `None` sorts before any value.
        let ordered =
            SMALL
                .replacen("\"bin\":1", "\"bin\":0", 1)
                .replacen("\"api\":0", "\"api\":1", 1);
        let (first, second) = (
            r#"{"from":"dist","key":"layer[0].copy[0]","kind":"declared","to":"/bin"}"#,
            r#"{"key":"layer[0].copy[0]","kind":"leads-to"}"#,
        );
        let good = ordered.replace(&format!("{first},{second}"), &format!("{second},{first}"));
        let ledger = Ledger::parse(good.as_bytes()).unwrap();
        let layer = &ledger.layers[0];
        let reason = ledger.reason(layer, "/bin/api".as_ref()).unwrap();
        assert_eq!(reason.source_of("/bin/api").unwrap(), "dist/api");
        assert_eq!(
            ledger.reason(layer, "/bin".as_ref()).unwrap().kind,
            ReasonKind::LeadsTo
        );
        assert_eq!(ledger.reason(layer, "/bin/other".as_ref()), None);
        for (name, text, want) in [
            (
                "another order",
                ordered.clone(),
                "has its reasons out of order",
            ),
            (
                "white space",
                good.replace(",\"name\"", ", \"name\""),
                "is not in canonical form",
            ),
            (
                "a name twice",
                good.replace("\"api\":1", "\"api\":0,\"api\":1"),
                "is not in canonical form",
            ),
            (
                "another format",
                good.replace("\"format\":1", "\"format\":2"),
                "is of format 2",
            ),
            (
                "a reason that is not there",
                good.replace("\"api\":1", "\"api\":2"),
                "has reason 2",
            ),
            (
                "a path that climbs",
                good.replace("\"/bin\":{", "\"/../bin\":{"),
                "which is no directory",
            ),
            (
                "another spelling",
                good.replace("\"/bin\":{", "\"/bin/\":{"),
                "which is no directory",
            ),
            (
                "a name that climbs",
                good.replace("\"api\":1", "\"..\":1"),
                "which is no name",
            ),
            (
                "a name with a slash",
                good.replace("\"api\":1", "\"a/b\":1"),
                "which is no name",
            ),
            (
                "a key too few",
                good.replace("\"from\":\"dist\",", ""),
                "with other keys",
            ),
            (
                "an unknown key",
                good.replace("\"name\"", "\"x\":1,\"name\""),
                "is none that this release knows",
            ),
            ("no JSON", "x".to_owned(), "is none that this release knows"),
        ] {
            let told = Ledger::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(told.contains(want), "{name}: {told}");
        }
    }
}
