//! `closure`: the shared libraries that a program, or a tree of programs and plug-ins, needs. Which files are meant is decided
//! here; how each one's libraries are found, in [`crate::process`].

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::rc::Rc;

use crate::elf::{self, Kind};
use crate::entries::Content;
use crate::error::Problem;
use crate::library::Libraries;
use crate::path::ImagePath;
use crate::process::Process;
use crate::source::Source;
use crate::spec::Closure;
use crate::tree::{Node, Tree};

/// Keeps what was read of each file, so that a library shared by a hundred plug-ins is parsed once.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub(crate) libraries: Libraries,
    seen: HashMap<PathBuf, Rc<Kind>>,
}

impl Resolver {
    pub(crate) fn new(libraries: Libraries) -> Self {
        Self {
            libraries,
            seen: HashMap::new(),
        }
    }

    /// Adds to the current layer what `asked` needs and the image lacks.
    pub(crate) fn close(
        &mut self,
        asked: &Closure,
        key: &str,
        tree: &mut Tree,
    ) -> Result<(), Problem> {
        match asked {
            Closure::File(path) => self.close_file(path, key, tree),
            Closure::Tree(path) => self.close_tree(path, key, tree),
        }
    }

    fn close_file(&mut self, path: &ImagePath, key: &str, tree: &mut Tree) -> Result<(), Problem> {
        let problem = |problem: String, fix: &str| Problem::new(key, problem, fix);
        let copy_it = "name it in `copy` of this or an earlier layer, at this path";
        let (place, node) = tree
            .walk(path.as_path())
            .map_err(|why| problem(format!("{path} {why}"), copy_it))?;
        let source = match node {
            Node::File {
                content: Content::Host(source),
                ..
            } => source,
            Node::Directory => {
                return Err(problem(
                    format!("{path} is a directory"),
                    "end it with a slash to mean all that lies below it",
                ));
            }
            Node::Absent | Node::Symlink(_) | Node::File { .. } | Node::Other => {
                return Err(problem(format!("{path} is not in the image yet"), copy_it));
            }
        };
        let kind = self
            .inspect(&source)
            .map_err(|why| problem(format!("{path} {why}"), "copy a sound file"))?;
        match kind.as_ref() {
            Kind::Static => Ok(()),
            Kind::Dynamic(dynamic) if dynamic.abi == self.libraries.machine.abi => {
                Process::new(self, tree, key, &place)
                    .load(&source.path(), Rc::new(dynamic.clone()))
                    .map(|_| ())
            }
            Kind::Dynamic(dynamic) => Err(problem(
                format!(
                    "{path} is for another CPU (ELF machine {}) than this host's",
                    dynamic.abi.machine
                ),
                "build it for this CPU, or build the image on a host with the other",
            )),
            Kind::Script(interpreter) => Err(problem(
                format!("{path} is a script for `{interpreter}`, and needs no library itself"),
                &format!("copy {interpreter} into the image and name that here instead"),
            )),
            Kind::Other => Err(problem(
                format!("{path} is not an ELF file"),
                "take it out of `closure`",
            )),
        }
    }

    /// Every dynamic ELF file of this CPU below `path`; what else lies there needs nothing.
    fn close_tree(&mut self, path: &ImagePath, key: &str, tree: &mut Tree) -> Result<(), Problem> {
        let bad = |why: &str| {
            Problem::new(
                key,
                format!("{path} {why}"),
                "name a tree that `copy` of this or an earlier layer brings",
            )
        };
        let (place, _) = tree.walk(path.as_path()).map_err(bad)?;
        let files = tree.files_below(&place);
        if files.is_empty() {
            return Err(bad("holds no file that was copied"));
        }
        let mut plug_ins = Vec::new();
        let mut loaded = HashSet::new();
        for (file, source) in files {
            let sound = |why| {
                Problem::new(
                    key,
                    format!("{file} {why}"),
                    "copy a sound file, or `exclude` it",
                )
            };
            match self.inspect(&source).map_err(sound)?.as_ref() {
                Kind::Dynamic(dynamic) if dynamic.abi == self.libraries.machine.abi => {
                    let dynamic = Rc::new(dynamic.clone());
                    if dynamic.interpreter.is_none() {
                        plug_ins.push((file, source, dynamic));
                    } else {
                        loaded.extend(
                            Process::new(self, tree, key, &file).load(&source.path(), dynamic)?,
                        );
                    }
                }
                Kind::Dynamic(_) | Kind::Static | Kind::Script(_) | Kind::Other => {}
            }
        }
        // A library that a program of the tree loads may find its own only through that program's DT_RPATH.
        plug_ins.retain(|(file, _, _)| !loaded.contains(file));
        for (file, source, dynamic) in plug_ins {
            Process::new(self, tree, key, &file).load(&source.path(), dynamic)?;
        }
        Ok(())
    }

    /// The error says what is wrong with the file, without its name.
    pub(crate) fn inspect(&mut self, source: &Source) -> Result<Rc<Kind>, String> {
        if let Some(kind) = self.seen.get(source.path().as_ref()) {
            return Ok(kind.clone());
        }
        let (file, _) = source
            .open()
            .map_err(|err| format!("cannot be read: {err}"))?;
        let kind = Rc::new(elf::inspect(file)?);
        self.seen.insert(source.path().into_owned(), kind.clone());
        Ok(kind)
    }
}
