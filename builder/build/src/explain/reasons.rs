//! Reasons in words.

use std::path::Path;

use airtight_image::Image;

use super::contents::File;
use crate::ledger::{Because, LayerLedger, Ledger, ReasonKind, shown};

/// An image's ledger beside its layers.
#[derive(Debug)]
pub(crate) struct Reasons<'a> {
    ledger: Option<&'a Ledger>,
    layers: Vec<Option<&'a LayerLedger>>,
}

impl<'a> Reasons<'a> {
    pub(crate) fn of(ledger: Option<&'a Ledger>, image: &Image) -> Self {
        let of_layer = |(_, diff)| ledger.and_then(|ledger| ledger.layer(diff));
        Self {
            ledger,
            layers: image
                .layers()
                .iter()
                .map(|(descriptor, diff)| (descriptor, diff))
                .map(of_layer)
                .collect(),
        }
    }

    /// As the build file calls it.
    pub(crate) fn layer_name(&self, layer: usize) -> Option<&'a str> {
        Some(self.layer(layer)?.name.as_str())
    }

    /// Whether the keys are of the base's build file.
    pub(crate) fn inherited(&self, layer: usize) -> bool {
        self.layer(layer).is_some_and(|layer| layer.inherited)
    }

    /// Whether anything is known of a layer.
    pub(crate) fn knows(&self, layer: usize) -> bool {
        self.layer(layer).is_some()
    }

    fn layer(&self, layer: usize) -> Option<&'a LayerLedger> {
        self.layers.get(layer).copied().flatten()
    }

    pub(crate) fn reason(&self, layer: usize, path: &Path) -> Option<&'a Because> {
        self.ledger?.reason(self.layer(layer)?, path)
    }

    /// What files that are there for the same reason are put together under.
    pub(crate) fn group(&self, path: &Path, file: &File) -> String {
        match self.reason(file.layer, path) {
            Some(because) => group(because),
            None => "no reason is known".to_owned(),
        }
    }
}

/// The reason without what differs from file to file.
pub(crate) fn group(because: &Because) -> String {
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    let said = match because.kind {
        ReasonKind::Declared => match of(&because.from).as_str() {
            "" => "copied from beside the build file".to_owned(),
            "/" => "copied from the same place on the host".to_owned(),
            from => format!("copied from {from}"),
        },
        ReasonKind::Package => package(because),
        ReasonKind::Needed | ReasonKind::Linked => {
            let by = because.by.iter().flatten().next_back();
            format!("libraries of {}", by.map_or("a program", String::as_str))
        }
        ReasonKind::Interpreter => format!("libraries of {}", of(&because.program)),
        ReasonKind::Generated => format!("generated {}", of(&because.generator)),
        ReasonKind::LeadsTo => "directories that lead to others".to_owned(),
    };
    match because.kind {
        ReasonKind::LeadsTo => said,
        ReasonKind::Declared
        | ReasonKind::Package
        | ReasonKind::Needed
        | ReasonKind::Linked
        | ReasonKind::Interpreter
        | ReasonKind::Generated => format!("{said} (`{}`)", because.key),
    }
}

fn package(because: &Because) -> String {
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    let slice = because
        .slice
        .as_ref()
        .map(|slice| format!(", its slice {slice}"));
    format!(
        "package {} {}{}",
        of(&because.package),
        of(&because.version),
        slice.unwrap_or_default()
    )
}

/// What one reason says of the file at `path`.
pub(crate) fn sentence(because: &Because, path: &Path) -> String {
    let path = shown(path);
    let source = because.source_of(&path).unwrap_or_default();
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    let chain = || {
        let by = because
            .by
            .iter()
            .flatten()
            .map(|by| format!("needed by {by}"));
        by.collect::<Vec<_>>().join(", ")
    };
    match because.kind {
        ReasonKind::Declared => format!("copied from {source}, which the build file names"),
        ReasonKind::Package => format!("of {}", package(because)),
        ReasonKind::Needed => format!("{}; found at {source}", chain()),
        ReasonKind::Linked => format!("leads the linker to {}, {}", of(&because.to), chain()),
        ReasonKind::Interpreter => format!(
            "the interpreter that {} is started with; found at {source}",
            of(&because.program)
        ),
        ReasonKind::Generated if source.is_empty() => {
            format!("generated as `{}`", of(&because.generator))
        }
        ReasonKind::Generated => {
            format!("generated as `{}`, from {source}", of(&because.generator))
        }
        ReasonKind::LeadsTo => "a directory that something lies in".to_owned(),
    }
}
