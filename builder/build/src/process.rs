//! One program being loaded, simulated: each library is found where the image's own linker will find it, taken from this
//! host if the image lacks it, and put there. The order of search is glibc's (ld.so(8), `_dl_map_object`).

use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::closure::Resolver;
use crate::elf::{Dynamic, Kind};
use crate::entries::{Content, EntryKind, Origin};
use crate::error::Problem;
use crate::library::SearchDir;
use crate::objects::{Object, Objects};
use crate::origin::{Reason, chain};
use crate::path::ImagePath;
use crate::source::Source;
use crate::tree::{Node, Tree};

/// Who needed it, nearest first.
type By = Arc<[Arc<str>]>;

pub(crate) struct Process<'a> {
    resolver: &'a mut Resolver,
    tree: &'a mut Tree,
    /// Of the build file, for messages.
    key: &'a str,
    program: &'a ImagePath,
    objects: Objects,
    /// Names that need no search any more.
    loaded: HashSet<String>,
}

/// A library, and where it was found.
struct Found {
    place: ImagePath,
    dynamic: Rc<Dynamic>,
    origin: SearchDir,
}

impl<'a> Process<'a> {
    pub(crate) fn new(
        resolver: &'a mut Resolver,
        tree: &'a mut Tree,
        key: &'a str,
        program: &'a ImagePath,
    ) -> Self {
        let (objects, loaded) = (Objects::default(), HashSet::new());
        Self {
            resolver,
            tree,
            key,
            program,
            objects,
            loaded,
        }
    }

    /// Loads the program (or plug-in) that comes from `source`, breadth first like the linker. Answers where its libraries lie.
    pub(crate) fn load(
        mut self,
        source: &Path,
        dynamic: Rc<Dynamic>,
    ) -> Result<Vec<ImagePath>, Problem> {
        if let Some(interpreter) = &dynamic.interpreter {
            self.interpreter(interpreter)?;
        }
        // The kernel tells the linker the program's path with its links resolved.
        let real = source
            .canonicalize()
            .unwrap_or_else(|_| source.to_path_buf());
        let origin = SearchDir::of_file(self.program.as_path(), &real);
        let name = self.program.to_string();
        let mut waiting = VecDeque::from([(0, dynamic.clone())]);
        self.objects.push(Object {
            name,
            dynamic,
            origin,
            loader: None,
        });
        let mut places = Vec::new();
        while let Some((user, dynamic)) = waiting.pop_front() {
            for name in &dynamic.needed {
                if self.loaded.contains(name) {
                    continue;
                }
                if self.is_linker(name) {
                    let linker = self.resolver.libraries.machine.interpreter;
                    self.interpreter(linker)?;
                    continue;
                }
                let Found {
                    place,
                    dynamic,
                    origin,
                } = self.find(user, name)?;
                places.push(place);
                self.loaded.insert(name.clone());
                self.loaded.extend(dynamic.soname.clone());
                let object = Object {
                    name: name.clone(),
                    dynamic: dynamic.clone(),
                    origin,
                    loader: Some(user),
                };
                let Some(index) = self.objects.push(object) else {
                    let problem = format!("{} loads too many libraries", self.program);
                    return Err(self.problem(problem, "check what it is linked with"));
                };
                waiting.push_back((index, dynamic));
            }
        }
        Ok(places)
    }

    /// A plug-in has no interpreter, but libc needs the linker by name: it is the one that loaded the plug-in's program.
    fn is_linker(&self, name: &str) -> bool {
        Path::new(self.resolver.libraries.machine.interpreter).file_name() == Some(OsStr::new(name))
    }

    /// Puts the linker at its exact path, which the kernel takes from the program. It counts as loaded: libc needs it by name.
    fn interpreter(&mut self, written: &str) -> Result<(), Problem> {
        let (program, key) = (self.program, self.key);
        let missing = |why: &str| {
            let fix = "install the C library that the program was built for, or link the program statically";
            Problem::new(
                key,
                format!("{program} needs the interpreter `{written}`, which {why}"),
                fix,
            )
        };
        let path = ImagePath::parse(written).map_err(missing)?;
        let (_, node) = self.tree.walk(path.as_path()).map_err(missing)?;
        let source = match node {
            Node::File {
                content: Content::Host(source),
                ..
            } => source,
            Node::Absent => {
                let lacks = |err| missing(&format!("this host lacks: {err}"));
                let source = path.as_path().canonicalize().map_err(lacks)?;
                let metadata = source.metadata().map_err(lacks)?;
                let source = Source::of_host(source, &metadata);
                let reason = Reason::Interpreter {
                    source: source.path().to_string_lossy().into(),
                    program: program.to_string().into(),
                };
                self.place(&path, (&source, &metadata), reason)?;
                source
            }
            Node::Directory | Node::Symlink(_) | Node::File { .. } | Node::Other => {
                return Err(missing("is no program in the image"));
            }
        };
        self.loaded
            .extend(path.name().map(|name| name.to_string_lossy().into_owned()));
        let kind = self
            .resolver
            .inspect(&source)
            .map_err(|why| missing(&why))?;
        if let Kind::Dynamic(dynamic) = kind.as_ref() {
            self.loaded.extend(dynamic.soname.clone());
        }
        Ok(())
    }

    /// Finds what object `index` means by `name`.
    fn find(&mut self, index: usize, name: &str) -> Result<Found, Problem> {
        let user = self.objects.chain(index);
        let dirs = self
            .objects
            .search_dirs(index, name, &self.resolver.libraries);
        let file = Path::new(name).file_name().unwrap_or_default();
        for dir in &dirs {
            // In the order of the directories, so that what shadows another on the host does so in the image.
            if let Some(found) = self.in_image(dir, file, &user)? {
                return Ok(found);
            }
            if let Some(found) = self.on_host(dir, dir, file, &user)? {
                return Ok(found);
            }
        }
        let by_default = self.objects.searches_defaults(index, name);
        if by_default && let Some(found) = self.by_default(file, &user)? {
            return Ok(found);
        }
        Err(self.not_found(index, name, &dirs, by_default))
    }

    /// What the image has in a default directory wins over the host's: it is what the image's linker will load.
    fn by_default(&mut self, file: &OsStr, user: &By) -> Result<Option<Found>, Problem> {
        let libraries = &self.resolver.libraries;
        let defaults: Vec<_> = libraries
            .defaults
            .iter()
            .map(|dir| SearchDir::both(dir))
            .collect();
        let configured: Vec<_> = libraries
            .configured
            .iter()
            .map(|dir| SearchDir::both(dir))
            .collect();
        for dir in &defaults {
            if let Some(found) = self.in_image(dir, file, user)? {
                return Ok(Some(found));
            }
        }
        for dir in configured.iter().chain(&defaults) {
            // Under its real directory: where /lib is a link to usr/lib, the image gets no /lib that would clash with one.
            let Ok(real) = dir.host.canonicalize() else {
                continue;
            };
            let to = SearchDir::both(&real);
            if let Some(found) = self.on_host(dir, &to, file, user)? {
                return self.reachable(found, &to, file, user).map(Some);
            }
        }
        Ok(None)
    }

    /// A directory that only `/etc/ld.so.conf` names is not searched by the image's linker, which has no cache: a link in a
    /// default directory leads there.
    fn reachable(
        &mut self,
        found: Found,
        dir: &SearchDir,
        file: &OsStr,
        user: &By,
    ) -> Result<Found, Problem> {
        let libraries = &self.resolver.libraries;
        if libraries.is_default(&dir.host) {
            return Ok(found);
        }
        let image = libraries.home();
        let link = ImagePath::parse(image.join(file));
        let link = link.map_err(|why| {
            self.problem(
                format!("{} {why}", image.display()),
                "correct /etc/ld.so.conf",
            )
        })?;
        let to = dir.image.join(file);
        let origin = self.origin(Reason::Linked {
            to: to.to_string_lossy().into(),
            by: user.clone(),
        });
        self.tree.add(&link, EntryKind::Symlink(to), &origin)?;
        let origin = SearchDir {
            image,
            host: dir.host.clone(),
        };
        Ok(Found { origin, ..found })
    }

    fn in_image(
        &mut self,
        dir: &SearchDir,
        file: &OsStr,
        user: &By,
    ) -> Result<Option<Found>, Problem> {
        let Ok((place, node)) = self.tree.walk(&dir.image.join(file)) else {
            return Ok(None);
        };
        let Node::File {
            content: Content::Host(source),
            ..
        } = node
        else {
            return Ok(None);
        };
        let origin = SearchDir {
            image: dir.image.clone(),
            host: SearchDir::of_file(&source.path(), &source.path()).host,
        };
        let library = self.library(&source, user)?;
        Ok(library.map(|dynamic| Found {
            place,
            dynamic,
            origin,
        }))
    }

    /// Looks in `dir` on this host; what is there goes to `to` in the image.
    fn on_host(
        &mut self,
        dir: &SearchDir,
        to: &SearchDir,
        file: &OsStr,
        user: &By,
    ) -> Result<Option<Found>, Problem> {
        let Ok(source) = dir.host.join(file).canonicalize() else {
            return Ok(None);
        };
        let Ok(metadata) = source.metadata() else {
            return Ok(None);
        };
        if !metadata.is_file() {
            return Ok(None);
        }
        let source = Source::of_host(source, &metadata);
        let Some(dynamic) = self.library(&source, user)? else {
            return Ok(None);
        };
        // It may climb (`$ORIGIN/../lib`): where that leads is asked of the image.
        let place = self.tree.walk(&to.image);
        let (place, _) = place.map_err(|why| {
            self.problem(format!("{} {why}", to.image.display()), "take the link out")
        })?;
        let reason = Reason::Needed {
            source: source.path().to_string_lossy().into(),
            by: user.clone(),
        };
        let place = self.place(&place.child(file), (&source, &metadata), reason)?;
        let origin = SearchDir {
            image: to.image.clone(),
            host: dir.host.clone(),
        };
        Ok(Some(Found {
            place,
            dynamic,
            origin,
        }))
    }

    /// `None`: a library for another CPU, which the linker passes over.
    fn library(&mut self, source: &Source, user: &By) -> Result<Option<Rc<Dynamic>>, Problem> {
        let abi = self.resolver.libraries.machine.abi;
        let kind = self.resolver.inspect(source);
        let why = match kind.as_deref() {
            Ok(Kind::Dynamic(dynamic)) if dynamic.abi == abi => {
                return Ok(Some(Rc::new(dynamic.clone())));
            }
            Ok(Kind::Dynamic(_)) => return Ok(None),
            Ok(Kind::Static | Kind::Script(_) | Kind::Other) => "is no shared library",
            Err(why) => why,
        };
        let problem = format!(
            "{} needs {}, which {why}",
            chain(user),
            source.path().display()
        );
        Err(self.problem(problem, "reinstall the package that it belongs to"))
    }

    fn place(
        &mut self,
        path: &ImagePath,
        (source, metadata): (&Source, &Metadata),
        reason: Reason,
    ) -> Result<ImagePath, Problem> {
        let kind = EntryKind::File {
            content: Content::Host(source.clone()),
            length: metadata.len(),
            executable: metadata.permissions().mode() & 0o111 != 0,
        };
        let origin = self.origin(reason);
        self.tree.add(path, kind, &origin)
    }

    fn origin(&self, reason: Reason) -> Origin {
        Origin {
            key: self.key.into(),
            reason,
        }
    }

    fn problem(&self, problem: String, fix: &str) -> Problem {
        Problem::new(self.key, problem, fix)
    }

    fn not_found(&self, index: usize, name: &str, dirs: &[SearchDir], by_default: bool) -> Problem {
        let libraries = &self.resolver.libraries;
        let through = match index {
            0 => String::new(),
            _ => format!(" (needed by {})", chain(&self.objects.chain(index))),
        };
        let mut looked: Vec<&Path> = Vec::new();
        let defaults = libraries
            .configured
            .iter()
            .chain(&libraries.defaults)
            .filter(|_| by_default);
        for dir in dirs.iter().map(|dir| &dir.host).chain(defaults) {
            if !looked.contains(&dir.as_path()) {
                looked.push(dir);
            }
        }
        let looked: Vec<_> = looked.iter().map(|dir| dir.display().to_string()).collect();
        let looked = if looked.is_empty() {
            "any directory".to_owned()
        } else {
            looked.join(", ")
        };
        let problem = format!(
            "{} needs {name}{through}: not found in {looked}",
            self.program
        );
        let fix = format!(
            "install the package that has {name}, or copy the library to one of these directories of the image"
        );
        self.problem(problem, &fix)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;
    use crate::library::{Libraries, X86_64};
    use crate::spec::Closure;

    /// A directory of this test's own with files that a C compiler made there.
    struct Bench(tempfile::TempDir);

    impl Bench {
        fn new() -> Self {
            let bench = Self(tempfile::tempdir().unwrap());
            for dir in ["bin", "lib", "other"] {
                std::fs::create_dir(bench.0.path().join(dir)).unwrap();
            }
            bench
        }

        /// The real path: what the resolver reports.
        fn path(&self, below: &str) -> PathBuf {
            self.0.path().canonicalize().unwrap().join(below)
        }

        fn compile(&self, output: &str, source: &str, arguments: &[&str]) {
            std::fs::write(self.path("source.c"), source).unwrap();
            let mut command = Command::new("gcc");
            command
                .current_dir(self.path(""))
                .args(["-o", output, "source.c", "-Llib"])
                .args(arguments);
            let done = command.output().unwrap();
            assert!(
                done.status.success(),
                "{}",
                String::from_utf8_lossy(&done.stderr)
            );
        }

        /// `libNAME.so` with its name as the soname.
        fn library(&self, name: &str, source: &str, arguments: &[&str]) {
            let soname = format!("-Wl,-soname,lib{name}.so");
            let own: Vec<&str> = ["-shared", "-fPIC", &soname]
                .into_iter()
                .chain(arguments.iter().copied())
                .collect();
            self.compile(&format!("lib/lib{name}.so"), source, &own);
        }

        fn tree(&self, files: &[(&str, &str)]) -> Tree {
            let mut tree = Tree::default();
            for (from, to) in files {
                let metadata = self.path(from).metadata().unwrap();
                let length = metadata.len();
                let content = Content::Host(Source::of_host(self.path(from), &metadata));
                let kind = EntryKind::File {
                    content,
                    length,
                    executable: true,
                };
                let origin = Origin::declared(&"layer[0].copy[0]".into(), from.as_ref());
                tree.add(&path(to), kind, &origin).unwrap();
            }
            tree
        }
    }

    fn path(text: &str) -> ImagePath {
        ImagePath::parse(text).unwrap()
    }

    fn close(tree: &mut Tree, libraries: Libraries, program: &str) -> Result<(), String> {
        let closed = Resolver::new(libraries).close(
            &Closure::File(path(program)),
            "layer[0].closure[0]",
            tree,
        );
        closed.map_err(|problem| problem.problem)
    }

    /// Files of the tree but the C library's, with where they come from.
    fn files(bench: &Bench, tree: Tree) -> Vec<String> {
        let mut tree = tree;
        tree.finish_layer();
        let root = bench.path("");
        let mut found = Vec::new();
        for (path, entry) in tree.into_layers().iter().flat_map(|layer| layer.iter()) {
            match &entry.kind {
                EntryKind::File {
                    content: Content::Host(source),
                    ..
                } => {
                    if let Ok(below) = source.path().strip_prefix(&root) {
                        found.push(format!("{path} = {}", below.display()));
                    }
                }
                EntryKind::Symlink(target) => found.push(format!("{path} -> {}", target.display())),
                EntryKind::Directory | EntryKind::File { .. } => {}
            }
        }
        found
    }

    const MAIN: &str = "int a(void); int main(void) { return a(); }";
    const A: &str = "int b(void); int a(void) { return b(); }";
    const B: &str = "int b(void) { return 0; }";

    /// `bin/app` needs `liba.so`, which needs `libb.so`.
    fn app(app_flags: &[&str], a_flags: &[&str]) -> Bench {
        let bench = Bench::new();
        bench.library("b", B, &[]);
        bench.library("a", A, &[["-lb"].as_slice(), a_flags].concat());
        bench.compile(
            "bin/app",
            MAIN,
            &[["-la", "-Wl,-rpath-link,lib"].as_slice(), app_flags].concat(),
        );
        bench
    }

    const RUNPATH: &[&str] = &["-Wl,--enable-new-dtags,-rpath,$ORIGIN/../lib"];
    const RPATH: &[&str] = &["-Wl,--disable-new-dtags,-rpath,$ORIGIN/../lib"];
    const OWN_RUNPATH: &[&str] = &["-Wl,--enable-new-dtags,-rpath,${ORIGIN}"];
    const EMPTY_RUNPATH: &[&str] = &["-Wl,--enable-new-dtags,-rpath,/nowhere"];

    #[test]
    fn a_run_path_is_the_object_s_own_and_an_rpath_is_inherited() {
        let both = Ok(vec![
            "/opt/bin/app = bin/app",
            "/opt/lib/liba.so = lib/liba.so",
            "/opt/lib/libb.so = lib/libb.so",
        ]);
        let host = Libraries::of_host(X86_64);
        let mut everywhere: Vec<String> = Vec::new();
        for dir in host
            .configured
            .iter()
            .chain(&host.defaults)
            .map(|dir| dir.display().to_string())
        {
            if !everywhere.contains(&dir) {
                everywhere.push(dir);
            }
        }
        let lost = |own: &[&str]| {
            let looked = own
                .iter()
                .copied()
                .chain(everywhere.iter().map(String::as_str))
                .collect::<Vec<_>>()
                .join(", ");
            Err(format!(
                "/opt/bin/app needs libb.so (needed by liba.so <- /opt/bin/app): not found in {looked}"
            ))
        };
        for (name, app_flags, a_flags, want) in [
            (
                "run path, and the library's own",
                RUNPATH,
                OWN_RUNPATH,
                both.clone(),
            ),
            ("rpath is inherited", RPATH, &[][..], both),
            ("a run path is not", RUNPATH, &[][..], lost(&[])),
            (
                "an rpath stops where there is a run path",
                RPATH,
                EMPTY_RUNPATH,
                lost(&["/nowhere"]),
            ),
        ] {
            let bench = app(app_flags, a_flags);
            let mut tree = bench.tree(&[("bin/app", "/opt/bin/app")]);
            let got = close(&mut tree, host.clone(), "/opt/bin/app").map(|()| files(&bench, tree));
            assert_eq!(
                got,
                want.map(|want| want.into_iter().map(str::to_owned).collect()),
                "{name}"
            );
        }
    }

    #[test]
    fn what_the_image_has_already_is_not_taken_from_the_host() {
        let bench = app(RPATH, &[]);
        std::fs::copy(bench.path("lib/libb.so"), bench.path("other/mine.so")).unwrap();
        let mut tree = bench.tree(&[
            ("bin/app", "/opt/bin/app"),
            ("other/mine.so", "/opt/lib/libb.so"),
        ]);
        tree.finish_layer();
        close(&mut tree, Libraries::of_host(X86_64), "/opt/bin/app").unwrap();
        let want = [
            "/opt/bin/app = bin/app",
            "/opt/lib/libb.so = other/mine.so",
            "/opt/lib/liba.so = lib/liba.so",
        ];
        assert_eq!(files(&bench, tree), want);
    }

    #[test]
    fn a_library_of_another_cpu_is_passed_over() {
        let bench = app(
            &["-Wl,--disable-new-dtags,-rpath,$ORIGIN/../other:$ORIGIN/../lib"],
            &[],
        );
        let mut foreign = std::fs::read(bench.path("lib/liba.so")).unwrap();
        foreign[18] = 0xb7; // e_machine: AArch64
        std::fs::write(bench.path("other/liba.so"), foreign).unwrap();
        let mut tree = bench.tree(&[("bin/app", "/bin/app")]);
        close(&mut tree, Libraries::of_host(X86_64), "/bin/app").unwrap();
        assert_eq!(
            files(&bench, tree),
            [
                "/bin/app = bin/app",
                "/lib/liba.so = lib/liba.so",
                "/lib/libb.so = lib/libb.so"
            ]
        );
    }

    #[test]
    fn a_directory_that_only_ld_so_conf_names_gets_a_link_where_the_image_looks() {
        let bench = app(&[], &[]);
        let mut tree = bench.tree(&[("bin/app", "/bin/app")]);
        let host = Libraries::of_host(X86_64);
        let (lib, home) = (bench.path("lib"), host.home());
        let libraries = Libraries {
            configured: vec![lib.clone()],
            ..host
        };
        close(&mut tree, libraries, "/bin/app").unwrap();
        let (lib, home) = (lib.display(), home.display());
        let mut want = vec![
            "/bin/app = bin/app".to_owned(),
            format!("{lib}/liba.so = lib/liba.so"),
            format!("{lib}/libb.so = lib/libb.so"),
            format!("{home}/liba.so -> {lib}/liba.so"),
            format!("{home}/libb.so -> {lib}/libb.so"),
        ];
        want.sort();
        let mut got = files(&bench, tree);
        got.sort();
        assert_eq!(got, want);
    }

    #[test]
    fn libraries_that_need_each_other_end() {
        let bench = Bench::new();
        bench.library("b", B, &[]);
        bench.library("a", A, &["-lb"]);
        bench.library(
            "b",
            "int a(void); int b(void) { return a ? 0 : a(); }",
            &["-la"],
        );
        bench.compile(
            "bin/app",
            MAIN,
            &[
                "-la",
                "-lb",
                "-Wl,--disable-new-dtags,-rpath,$ORIGIN/../lib",
            ],
        );
        let mut tree = bench.tree(&[("bin/app", "/opt/bin/app")]);
        close(&mut tree, Libraries::of_host(X86_64), "/opt/bin/app").unwrap();
        assert_eq!(files(&bench, tree).len(), 3);
    }

    #[test]
    fn a_static_program_needs_nothing_and_what_is_no_program_is_told() {
        let bench = Bench::new();
        bench.compile(
            "bin/static",
            B.replace("int b", "int main").as_str(),
            &["-static"],
        );
        bench.compile(
            "bin/static-pie",
            B.replace("int b", "int main").as_str(),
            &["-static-pie"],
        );
        std::fs::write(bench.path("bin/script"), "#! /usr/bin/python3 -u\nprint()").unwrap();
        std::fs::write(bench.path("bin/text"), "hello").unwrap();
        let mut elf = std::fs::read(bench.path("bin/static")).unwrap();
        elf.truncate(40);
        std::fs::write(bench.path("bin/short"), elf).unwrap();
        for (name, want) in [
            ("static", Ok(())),
            ("static-pie", Ok(())),
            (
                "script",
                Err("/bin/script is a script for `/usr/bin/python3`, and needs no library itself"),
            ),
            ("text", Err("/bin/text is not an ELF file")),
            (
                "short",
                Err("/bin/short is a malformed ELF file: Invalid ELF header size or alignment"),
            ),
            ("absent", Err("/bin/absent is not in the image yet")),
        ] {
            let present = bench.path("bin").join(name).exists();
            let (from, to) = (format!("bin/{name}"), format!("/bin/{name}"));
            let copied = [(from.as_str(), to.as_str())];
            let mut tree = bench.tree(if present { &copied } else { &[] });
            let got = close(&mut tree, Libraries::of_host(X86_64), &to);
            assert_eq!(got, want.map_err(str::to_owned), "{name}");
            assert!(files(&bench, tree).len() <= 1, "{name}");
        }
    }

    #[test]
    fn a_program_gets_its_interpreter_at_the_exact_path_and_a_tree_all_its_plug_ins() {
        let bench = app(RPATH, &[]);
        let mut tree = bench.tree(&[
            ("bin/app", "/app/bin/app"),
            ("lib/liba.so", "/app/lib/liba.so"),
            ("lib/libb.so", "/app/lib/libb.so"),
        ]);
        Resolver::new(Libraries::of_host(X86_64))
            .close(
                &Closure::Tree(path("/app")),
                "layer[0].closure[0]",
                &mut tree,
            )
            .unwrap();
        for wanted in [
            "/lib64/ld-linux-x86-64.so.2",
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
        ] {
            assert!(
                matches!(
                    tree.walk(Path::new(wanted)),
                    Ok((
                        _,
                        Node::File {
                            executable: true,
                            ..
                        }
                    ))
                ),
                "{wanted}"
            );
        }
    }
}
