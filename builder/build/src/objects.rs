//! What is in the memory of a process being loaded: who needed whom, and where each one's own needs are searched.

use std::rc::Rc;
use std::sync::Arc;

use crate::elf::Dynamic;
use crate::library::{Libraries, SearchDir};

/// The largest real processes have some hundreds.
const MAX_OBJECTS: usize = 4096;

/// A program or a library in memory.
pub(crate) struct Object {
    pub(crate) name: String,
    pub(crate) dynamic: Rc<Dynamic>,
    /// `$ORIGIN`.
    pub(crate) origin: SearchDir,
    /// Who needed it first: `DT_RPATH` is inherited from there. Always an earlier one, so that a chain ends.
    pub(crate) loader: Option<usize>,
}

/// In the order of loading; the program is first.
#[derive(Default)]
pub(crate) struct Objects(Vec<Object>);

impl Objects {
    /// The new one's index; `None` if there are too many.
    pub(crate) fn push(&mut self, object: Object) -> Option<usize> {
        let index = self.0.len();
        (index < MAX_OBJECTS).then(|| {
            self.0.push(object);
            index
        })
    }

    fn upwards(&self, index: usize) -> impl Iterator<Item = &Object> {
        std::iter::successors(self.0.get(index), |object| self.0.get(object.loader?))
    }

    /// `libb.so`, `liba.so`, `/bin/api`: who needed whom, the program last.
    pub(crate) fn chain(&self, index: usize) -> Arc<[Arc<str>]> {
        self.upwards(index)
            .map(|object| object.name.as_str().into())
            .collect()
    }

    /// Whether the linker goes on to its cache and its default directories.
    pub(crate) fn searches_defaults(&self, index: usize, name: &str) -> bool {
        !name.contains('/')
            && self
                .0
                .get(index)
                .is_some_and(|object| !object.dynamic.no_default)
    }

    /// `DT_RPATH` along the chain of loaders, unless there is a run path, which is the object's own alone.
    pub(crate) fn search_dirs(
        &self,
        index: usize,
        name: &str,
        libraries: &Libraries,
    ) -> Vec<SearchDir> {
        let Some(user) = self.0.get(index) else {
            return Vec::new();
        };
        if name.contains('/') {
            // A path and no name: there is no search, only its directory.
            let path = libraries.expand(name, &user.origin);
            return path
                .map(|path| SearchDir::of_file(&path.image, &path.host))
                .into_iter()
                .collect();
        }
        let expand = |elements: &[String], origin: &SearchDir| -> Vec<SearchDir> {
            elements
                .iter()
                .filter_map(|element| libraries.expand(element, origin))
                .collect()
        };
        if let Some(runpath) = &user.dynamic.runpath {
            return expand(runpath, &user.origin);
        }
        let inherit = self
            .upwards(index)
            .filter(|object| object.dynamic.runpath.is_none());
        inherit
            .flat_map(|object| expand(&object.dynamic.rpath, &object.origin))
            .collect()
    }
}
