//! A ledger of what was just built, on what the base's ledger says.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;

use airtight_image::DiffId;

use super::{Because, LayerLedger, Ledger, MAX_LEDGER, ReasonKind, shown};
use crate::entries::Entries;
use crate::origin::{Origin, Reason};

/// Reasons by what they say, numbered as they come.
#[derive(Debug, Default)]
struct Numbered {
    by_reason: HashMap<Because, u32>,
}

impl Numbered {
    fn of(&mut self, reason: Because) -> u32 {
        let next = u32::try_from(self.by_reason.len()).unwrap_or(u32::MAX);
        *self.by_reason.entry(reason).or_insert(next)
    }

    /// The reasons in order, and for each number of before its place there.
    fn sorted(self) -> (Vec<Because>, Vec<u32>) {
        let mut all: Vec<(Because, u32)> = self.by_reason.into_iter().collect();
        all.sort();
        let mut places = vec![0; all.len()];
        let mut reasons = Vec::with_capacity(all.len());
        for (place, (reason, number)) in all.into_iter().enumerate() {
            let number = usize::try_from(number).unwrap_or(usize::MAX);
            if let Some(slot) = places.get_mut(number) {
                *slot = u32::try_from(place).unwrap_or(u32::MAX);
            }
            reasons.push(reason);
        }
        (reasons, places)
    }
}

/// The files of a layer: by directory, then by name, each with its reason's number.
type Files = BTreeMap<String, BTreeMap<String, u32>>;

/// A ledger of layers that are not written yet: why a file is there is known as soon as it is planned, and to write it all down takes as long as to plan it.
#[derive(Debug)]
pub(crate) struct Drafted {
    /// The base's.
    below: Vec<LayerLedger>,
    /// With their names.
    own: Vec<(String, Files)>,
    reasons: Vec<Because>,
}

impl Drafted {
    /// Of layers in their order. `base` is what the base's own ledger says of those below.
    pub(crate) fn of<'a>(
        base: Option<&Ledger>,
        layers: impl IntoIterator<Item = (&'a str, &'a Entries)>,
    ) -> Self {
        let mut numbered = Numbered::default();
        let mut below = Vec::new();
        for layer in base.iter().flat_map(|base| &base.layers) {
            let mut layer = layer.clone();
            layer.inherited = true;
            for number in layer.files.values_mut().flat_map(BTreeMap::values_mut) {
                let at = usize::try_from(*number).unwrap_or(usize::MAX);
                // Checked when it was read.
                if let Some(reason) = base.and_then(|base| base.reasons.get(at)) {
                    *number = numbered.of(reason.clone());
                }
            }
            below.push(layer);
        }
        let own = layers.into_iter();
        let mut own: Vec<_> = own
            .map(|(name, entries)| (name.to_owned(), files_of(entries, &mut numbered)))
            .collect();
        let (reasons, places) = numbered.sorted();
        let all = below.iter_mut().map(|layer| &mut layer.files);
        for files in all.chain(own.iter_mut().map(|(_, files)| files)) {
            for number in files.values_mut().flat_map(BTreeMap::values_mut) {
                let at = usize::try_from(*number).unwrap_or(usize::MAX);
                *number = places.get(at).copied().unwrap_or_default();
            }
        }
        Self {
            below,
            own,
            reasons,
        }
    }

    /// Now that each layer is written, in the same order.
    pub(crate) fn with<'a>(self, diff_ids: impl IntoIterator<Item = &'a DiffId>) -> Ledger {
        let Self {
            below: mut layers,
            own,
            reasons,
        } = self;
        let own = own.into_iter().zip(diff_ids);
        layers.extend(own.map(|((name, files), diff_id)| LayerLedger {
            diff_id: diff_id.clone(),
            files,
            inherited: false,
            name,
        }));
        Ledger {
            format: 1,
            layers,
            reasons,
        }
    }
}

impl Ledger {
    /// The form that it is stored in; `None` if it is more than a store takes.
    pub(crate) fn bounded_json(&self) -> Option<String> {
        Some(self.json()).filter(|text| text.len() <= MAX_LEDGER)
    }
}

/// The reasons of a layer's files. Entries are sorted, so that most have the directory and the reason of the one before.
fn files_of(entries: &Entries, numbered: &mut Numbered) -> Files {
    let mut files = Files::new();
    let mut directory: Option<(&OsStr, Vec<(String, u32)>)> = None;
    let mut flush = |directory: Option<(&OsStr, Vec<(String, u32)>)>| {
        if let Some((path, names)) = directory {
            files.entry(shown(path.as_ref())).or_default().extend(names);
        }
    };
    let mut last: Option<(Because, u32)> = None;
    for (path, entry) in entries.iter() {
        let Some((parent, name)) = path.split() else {
            continue;
        };
        let text = shown(path.as_path());
        let number = match &last {
            Some((because, number)) if because.is_of(&entry.origin, &text) => *number,
            Some(_) | None => {
                let because = Because::of(&entry.origin, &text);
                let number = numbered.of(because.clone());
                last = Some((because, number));
                number
            }
        };
        let name = (shown(name.as_ref()), number);
        match &mut directory {
            Some((of, names)) if *of == parent => names.push(name),
            Some(_) | None => flush(directory.replace((parent, vec![name]))),
        }
    }
    flush(directory);
    files
}

impl Because {
    /// Whether it is what [`Because::of`] would say, where that is cheap to tell: of a copied tree.
    fn is_of(&self, origin: &Origin, path: &str) -> bool {
        let Reason::Declared { source } = &origin.reason else {
            return false;
        };
        let (Some(from), Some(to)) = (&self.from, &self.to) else {
            return false;
        };
        self.kind == ReasonKind::Declared
            && self.key == *origin.key
            && share_their_end((source, path), (from, to))
    }

    /// Why what lies at `path` is there.
    pub(crate) fn of(origin: &Origin, path: &str) -> Self {
        let mut because = Self {
            by: None,
            from: None,
            generator: None,
            key: origin.key.to_string(),
            kind: ReasonKind::LeadsTo,
            package: None,
            program: None,
            slice: None,
            source: None,
            to: None,
            version: None,
        };
        let text = |text: &std::sync::Arc<str>| Some(text.to_string());
        let list = |by: &[std::sync::Arc<str>]| Some(by.iter().map(ToString::to_string).collect());
        match &origin.reason {
            Reason::Declared { source } => {
                let (from, to) = without_common_end(source, path);
                because.kind = ReasonKind::Declared;
                (because.from, because.to) = (Some(from.to_owned()), Some(to.to_owned()));
            }
            Reason::Package {
                package,
                version,
                slice,
            } => {
                because.kind = ReasonKind::Package;
                (because.package, because.version) = (text(package), text(version));
                because.slice = slice.as_ref().and_then(text);
            }
            Reason::Needed { source, by } => {
                because.kind = ReasonKind::Needed;
                (because.source, because.by) = (text(source), list(by));
            }
            Reason::Linked { to, by } => {
                because.kind = ReasonKind::Linked;
                (because.to, because.by) = (text(to), list(by));
            }
            Reason::Interpreter { source, program } => {
                because.kind = ReasonKind::Interpreter;
                (because.source, because.program) = (text(source), text(program));
            }
            Reason::Generated { generator, source } => {
                because.kind = ReasonKind::Generated;
                because.generator = text(generator);
                if let Some(source) = source {
                    let (from, to) = without_common_end(source, path);
                    (because.from, because.to) = (Some(from.to_owned()), Some(to.to_owned()));
                }
            }
            // Whatever it leads to is beside it in the ledger.
            Reason::LeadsTo { .. } => {}
        }
        because
    }
}

/// Both without the names at their ends that they share: all files of one copied tree have the same two beginnings, and so one reason.
fn without_common_end<'a>(source: &'a str, path: &'a str) -> (&'a str, &'a str) {
    let (mut from, mut to) = (source, path);
    loop {
        let last = |text: &'_ str| text.rfind('/').map_or(0, |slash| slash + 1);
        let (source_name, path_name) = (&from[last(from)..], &to[last(to)..]);
        if source_name.is_empty() || source_name != path_name {
            break;
        }
        from = above(from);
        to = above(to);
    }
    (from, to)
}

/// Whether [`without_common_end`] of the first two is the second, which came from it: so their own last names differ, and what follows them is what is shared.
fn share_their_end((source, path): (&str, &str), (from, to): (&str, &str)) -> bool {
    match (from, to) {
        // All of it is shared, as where a directory keeps its name.
        ("", "/") => return path.strip_prefix('/') == Some(source),
        ("/", "/") => return path == source,
        ("" | "/", _) | (_, "/") => return without_common_end(source, path) == (from, to),
        (_, _) => {}
    }
    match (source.strip_prefix(from), path.strip_prefix(to)) {
        (Some(one), Some(other)) => one == other && (one.is_empty() || one.starts_with('/')),
        (Some(_) | None, _) => false,
    }
}

/// The directory of a path; of one name, nothing.
fn above(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) => "/",
        Some(slash) => &path[..slash],
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries::{Content, Entry, EntryKind};
    use crate::path::ImagePath;

    #[test]
    fn files_of_one_tree_have_one_reason_and_their_sources_can_be_told() {
        for (source, path, want) in [
            ("dist/api", "/bin/api", ("dist", "/bin")),
            ("tree", "/srv", ("tree", "/srv")),
            ("tree/a/b", "/srv/a/b", ("tree", "/srv")),
            ("srv/a", "/srv/a", ("", "/")),
            (".", "/srv", (".", "/srv")),
            ("a", "/x/a", ("", "/x")),
            ("/x/a", "/a", ("/x", "/")),
            ("/usr/share/x", "/usr/share/x", ("/", "/")),
            ("/etc/a", "/b", ("/etc/a", "/b")),
        ] {
            let origin = Origin::declared(&"k".into(), source.as_ref());
            let because = Because::of(&origin, path);
            let got = (
                because.from.as_deref().unwrap(),
                because.to.as_deref().unwrap(),
            );
            assert_eq!(got, want, "{source}");
            assert_eq!(because.source_of(path).unwrap(), source);
            for (other, at) in [
                (source, path),
                (&format!("{source}/x"), &format!("{path}/x")),
                (&format!("{source}/x"), &format!("{path}/y")),
                (&format!("{source}x"), &format!("{path}x")),
                ("x", "/x"),
                ("tree/a", "/srv/a"),
                ("treex/a", "/srvx/a"),
                ("a/tree/b", "/srv/b"),
                ("/usr/share/y", "/usr/share/y"),
                ("srv/b/c", "/srv/b/c"),
                ("", "/srv"),
                ("", "/"),
                ("/", "/"),
                ("srv/", "/srv"),
                ("./a", "/srv/a"),
                ("srv", "/srv/"),
            ] {
                let origin = Origin::declared(&"k".into(), other.as_ref());
                let same = because == Because::of(&origin, at);
                assert_eq!(
                    because.is_of(&origin, at),
                    same,
                    "{source}: {other} at {at}"
                );
            }
        }
    }

    #[test]
    fn a_ledger_comes_back_as_it_was_written_and_a_base_s_is_taken_over() {
        let (mut base, mut own) = (Entries::default(), Entries::default());
        let entry = |origin: &Origin| Entry {
            kind: EntryKind::File {
                content: Content::Generated(b"x".as_slice().into()),
                length: 1,
                executable: false,
            },
            origin: origin.clone(),
        };
        let path = |text: &str| ImagePath::parse(text).unwrap();
        let needed = Origin {
            key: "layer[0].closure[0]".into(),
            reason: Reason::Needed {
                source: "/usr/lib/liba.so".into(),
                by: ["libb.so".into(), "/bin/api".into()].into(),
            },
        };
        let declared = Origin::declared(&"layer[0].copy[0]".into(), "z/x".as_ref());
        base.insert(path("/lib/liba.so"), entry(&needed)).unwrap();
        own.insert(path("/x"), entry(&declared)).unwrap();
        own.insert(path("/y"), entry(&Origin::generated("g", "passwd", None)))
            .unwrap();
        let diff = |text: &str| DiffId(airtight_image::Digest::of(text.as_bytes()));
        let below = Drafted::of(None, [("base", &base)]).with([&diff("base")]);
        let ledger = Drafted::of(Some(&below), [("app", &own)]).with([&diff("app")]);
        assert_eq!(Ledger::parse(ledger.json().as_bytes()).unwrap(), ledger);
        let lower = ledger.layer(&diff("base")).unwrap();
        assert!(lower.inherited);
        let because = ledger.reason(lower, "/lib/liba.so".as_ref()).unwrap();
        assert_eq!(because.by.as_ref().unwrap(), &["libb.so", "/bin/api"]);
        let upper = ledger.layer(&diff("app")).unwrap();
        assert_eq!(
            ledger
                .reason(upper, "/x".as_ref())
                .unwrap()
                .source_of("/x")
                .unwrap(),
            "z/x"
        );
        assert_eq!(
            ledger.reason(upper, "/y".as_ref()).unwrap().kind,
            ReasonKind::Generated
        );
    }
}
