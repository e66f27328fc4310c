//! The image as it will look once its layers lie on each other: the base, the finished layers, the layer in the making.
//! Links are followed as the kernel will follow them in the image, never on the host.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use airtight_image::layer::hides_below;

use crate::entries::{Content, Entries, Entry, EntryKind, Origin};
use crate::error::Problem;
use crate::path::{ImagePath, reversed};
use crate::source::Source;

/// The kernel's own bound on links in one walk.
const MAX_LINKS: usize = 40;

/// What the image has at a path, links not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Absent,
    Directory,
    Symlink(PathBuf),
    File {
        content: Content,
        executable: bool,
    },
    /// A device or the like, in a base.
    Other,
}

/// The stack of an image in the making.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Unpacked trees of the base, lowest first.
    base: Vec<PathBuf>,
    layers: Vec<Entries>,
    current: Entries,
    /// Directories of the current layer by the name they were asked for. Once an entry is a directory it stays one, so this holds.
    resolved: HashMap<ImagePath, ImagePath>,
    /// The one that was asked for last: a tree is added directory by directory.
    last: Option<(ImagePath, ImagePath)>,
}

impl Tree {
    pub(crate) fn on(base: Vec<PathBuf>) -> Self {
        Self {
            base,
            ..Self::default()
        }
    }

    /// Ends the current layer and begins the next.
    pub(crate) fn finish_layer(&mut self) {
        self.layers.push(std::mem::take(&mut self.current));
        self.resolved.clear();
        self.last = None;
    }

    pub(crate) fn into_layers(self) -> Vec<Entries> {
        self.layers
    }

    /// Adds an entry to the current layer, at the place that `path` means in the image, with the directories that lead there.
    /// Returns the place.
    pub(crate) fn add(
        &mut self,
        path: &ImagePath,
        kind: EntryKind,
        origin: &Origin,
    ) -> Result<ImagePath, Problem> {
        let place = self.place(path, &kind, origin)?;
        let place = place.unwrap_or_else(|| path.clone());
        self.put(place.clone(), kind, origin.clone())?;
        Ok(place)
    }

    /// As [`Tree::add`], for whom the place does not matter.
    pub(crate) fn lay(
        &mut self,
        path: ImagePath,
        kind: EntryKind,
        origin: Origin,
    ) -> Result<(), Problem> {
        let place = self.place(&path, &kind, &origin)?;
        self.put(place.unwrap_or(path), kind, origin)
    }

    fn put(&mut self, place: ImagePath, kind: EntryKind, origin: Origin) -> Result<(), Problem> {
        if place == ImagePath::root() {
            return Ok(());
        }
        self.current.insert(place, Entry { kind, origin })
    }

    /// Where `path` is in the image, for whom puts it there: `None` where no link is on the way, which is nearly everywhere. What leads there is made.
    fn place(
        &mut self,
        path: &ImagePath,
        kind: &EntryKind,
        origin: &Origin,
    ) -> Result<Option<ImagePath>, Problem> {
        let Some((parent, name)) = path.split() else {
            return match kind {
                EntryKind::Directory => Ok(None),
                EntryKind::Symlink(_) | EntryKind::File { .. } => Err(Problem::new(
                    origin.key.as_ref(),
                    format!("{} cannot take the root's place", origin.source()),
                    "name a path below `/`",
                )),
            };
        };
        let known = self.last.as_ref();
        if known.is_none_or(|(asked, _)| asked.as_path().as_os_str() != parent) {
            let parent = path.parent().unwrap_or_else(ImagePath::root);
            let place = self.directory(&parent, origin, Some(path))?;
            self.last = Some((parent, place));
        }
        let elsewhere = match &self.last {
            Some((asked, place)) if asked != place => Some(place.child(name)),
            Some(_) | None => None,
        };
        if *kind != EntryKind::Directory {
            return Ok(elsewhere);
        }
        let place = elsewhere.as_ref().unwrap_or(path);
        // `/lib` may be a link that an earlier layer or the base made; a directory here would hide what it leads to.
        if !matches!(self.lookup(place), Node::Absent | Node::Directory) {
            return self.directory(&place.clone(), origin, None).map(Some);
        }
        // What leads there was resolved, so nothing is walked again. It is put there next.
        self.resolved.insert(place.clone(), place.clone());
        Ok(elsewhere)
    }

    /// Makes `path` and what leads to it directories of the current layer, on the way to `to` or for itself; links are followed, so
    /// the answer may lie elsewhere.
    fn directory(
        &mut self,
        path: &ImagePath,
        origin: &Origin,
        to: Option<&ImagePath>,
    ) -> Result<ImagePath, Problem> {
        if let Some(place) = self.resolved.get(path) {
            return Ok(place.clone());
        }
        let bad = |problem: String| {
            Problem::new(
                origin.key.as_ref(),
                problem,
                "choose another place, or take out what is in the way",
            )
        };
        let (place, node) = self
            .walk(path.as_path())
            .map_err(|why| bad(format!("{path} {why}")))?;
        match node {
            Node::Directory | Node::Absent => {}
            Node::Symlink(_) | Node::File { .. } | Node::Other => {
                let there = self
                    .origin_of(&place)
                    .map_or_else(|| "the base".to_owned(), ToString::to_string);
                return Err(bad(format!(
                    "{} needs the directory {place}, which is a file from {there}",
                    origin.source()
                )));
            }
        }
        let mut at = ImagePath::root();
        for name in place.relative() {
            at = at.child(name);
            if self.current.get(&at).is_none() {
                self.current.insert(
                    at.clone(),
                    Entry {
                        kind: EntryKind::Directory,
                        origin: match to {
                            None if at == place => origin.clone(),
                            None => origin.leads_to(place.as_path()),
                            Some(to) => origin.leads_to(to.as_path()),
                        },
                    },
                )?;
            }
        }
        self.resolved.insert(path.clone(), place.clone());
        Ok(place)
    }

    fn origin_of(&self, path: &ImagePath) -> Option<&Origin> {
        let layers = std::iter::once(&self.current).chain(self.layers.iter().rev());
        layers
            .into_iter()
            .find_map(|layer| layer.get(path))
            .map(|entry| &entry.origin)
    }

    /// Follows `path` to its end. The place and what is there; an error says why the kernel would not get there.
    pub(crate) fn walk(&self, path: &Path) -> Result<(ImagePath, Node), &'static str> {
        let mut at = ImagePath::root();
        let mut node = Node::Directory;
        let mut links = 0;
        let mut rest = reversed(path);
        while let Some(name) = rest.pop() {
            if name == ".." {
                at = at.parent().unwrap_or(at);
                node = Node::Directory;
                continue;
            }
            if matches!(node, Node::File { .. } | Node::Other) {
                return Err("leads through a file");
            }
            let next = at.child(&name);
            node = if node == Node::Absent {
                Node::Absent
            } else {
                self.lookup(&next)
            };
            let Node::Symlink(target) = &node else {
                at = next;
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return Err("leads through too many links");
            }
            if target.is_absolute() {
                at = ImagePath::root();
            }
            rest.extend(reversed(target));
            node = Node::Directory;
        }
        Ok((at, node))
    }

    /// What lies at a place whose directories are directories.
    fn lookup(&self, path: &ImagePath) -> Node {
        for layer in std::iter::once(&self.current).chain(self.layers.iter().rev()) {
            match layer.get(path).map(|entry| &entry.kind) {
                None => {}
                Some(EntryKind::Directory) => return Node::Directory,
                Some(EntryKind::Symlink(target)) => return Node::Symlink(target.clone()),
                Some(EntryKind::File {
                    content,
                    executable,
                    ..
                }) => {
                    return Node::File {
                        content: content.clone(),
                        executable: *executable,
                    };
                }
            }
        }
        self.base
            .iter()
            .rev()
            .find_map(|tree| in_base(tree, path.relative()))
            .unwrap_or(Node::Absent)
    }

    /// The names that the base has in a directory; what each of them is, or whether a higher tree took it away, [`Tree::walk`] tells.
    pub(crate) fn names_in_base(&self, directory: &Path) -> BTreeSet<OsString> {
        let Ok((place, Node::Directory)) = self.walk(directory) else {
            return BTreeSet::new();
        };
        let has = |tree: &&PathBuf| in_base(tree, place.relative()) == Some(Node::Directory);
        let listed = self.base.iter().filter(has).filter_map(|tree| {
            let names = tree.join(place.relative()).read_dir().ok()?;
            Some(names.filter_map(|entry| Some(entry.ok()?.file_name())))
        });
        listed.flatten().collect()
    }

    /// The files of a host in a directory itself, of the base and of all layers so far.
    pub(crate) fn files_in(&self, directory: &ImagePath) -> Vec<(ImagePath, Source)> {
        let ours = self.files_below(directory);
        let direct = ours
            .iter()
            .filter(|(path, _)| path.parent().as_ref() == Some(directory));
        let mut names = self.names_in_base(directory.as_path());
        names.extend(direct.filter_map(|(path, _)| Some(path.name()?.to_owned())));
        let file = |name: OsString| {
            let path = directory.child(&name);
            match self.lookup(&path) {
                Node::File {
                    content: Content::Host(source),
                    ..
                } => Some((path, source)),
                Node::File { .. }
                | Node::Absent
                | Node::Directory
                | Node::Symlink(_)
                | Node::Other => None,
            }
        };
        names.into_iter().filter_map(file).collect()
    }

    /// Every file of the current and the earlier layers below a directory, the topmost of each path.
    pub(crate) fn files_below(&self, directory: &ImagePath) -> Vec<(ImagePath, Source)> {
        let mut found = HashMap::new();
        for layer in self.layers.iter().chain(std::iter::once(&self.current)) {
            for (path, entry) in layer.iter().filter(|(path, _)| path.is_in(directory)) {
                match &entry.kind {
                    EntryKind::File {
                        content: Content::Host(source),
                        ..
                    } => found.insert(path.clone(), source.clone()),
                    EntryKind::File { .. } | EntryKind::Directory | EntryKind::Symlink(_) => {
                        found.remove(path)
                    }
                };
            }
        }
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        found
    }
}

/// `None`: this tree says nothing about the path. A link, a file, a whiteout or an opaque directory on the way hides what lower trees have there.
/// The trees are the store's own, so what is looked at stays; still no link of theirs is ever followed on the host.
fn in_base(tree: &Path, path: &Path) -> Option<Node> {
    let mut at = tree.to_path_buf();
    let mut names = path.iter().peekable();
    let mut hidden = false;
    while let Some(name) = names.next() {
        hidden = hidden || hides_below(&at);
        at.push(name);
        let metadata = match at.symlink_metadata() {
            Ok(metadata) => metadata,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                return hidden.then_some(Node::Absent);
            }
            Err(_) => return Some(Node::Other),
        };
        let kind = metadata.file_type();
        if names.peek().is_some() {
            if !kind.is_dir() {
                return Some(Node::Absent);
            }
            continue;
        }
        let executable =
            std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o111 != 0;
        return Some(match () {
            () if kind.is_dir() => Node::Directory,
            () if kind.is_file() => Node::File {
                content: Content::Host(Source::of_host(at, &metadata)),
                executable,
            },
            () if kind.is_symlink() => at.read_link().map_or(Node::Other, Node::Symlink),
            // overlay's whiteout
            () if kind.is_char_device() && std::os::unix::fs::MetadataExt::rdev(&metadata) == 0 => {
                Node::Absent
            }
            () => Node::Other,
        });
    }
    Some(Node::Directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin::declared(&"layer[0].copy[0]".into(), "the test".as_ref())
    }

    fn path(text: &str) -> ImagePath {
        ImagePath::parse(text).unwrap()
    }

    fn file() -> EntryKind {
        EntryKind::File {
            content: Content::Generated(b"x".as_slice().into()),
            length: 1,
            executable: false,
        }
    }

    #[test]
    fn the_files_of_a_directory_are_those_of_the_base_and_the_layers() {
        let dir = tempfile::tempdir().unwrap();
        let [low, high] = ["low", "high"].map(|name| dir.path().join(name));
        for path in [
            low.join("lib/deep/liba.so"),
            low.join("lib/libb.so"),
            low.join("lib/libc.so"),
            high.join("lib/libd.so"),
        ] {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::os::unix::fs::symlink("libb.so", high.join("lib/libc.so")).unwrap();
        let mut tree = Tree::on(vec![low.clone(), high]);
        let own = dir.path().join("own");
        std::fs::write(&own, "").unwrap();
        let source = Source::of_host(own.clone(), &own.metadata().unwrap());
        let kind = EntryKind::File {
            content: Content::Host(source),
            length: 0,
            executable: false,
        };
        for name in ["/lib/libb.so", "/lib/libe.so"] {
            tree.add(&path(name), kind.clone(), &origin()).unwrap();
        }
        tree.add(&path("/lib/libf.so"), file(), &origin()).unwrap();
        let found = tree.files_in(&path("/lib"));
        let found: Vec<_> = found
            .iter()
            .map(|(path, source)| (path.to_string(), source.path().starts_with(&low)))
            .collect();
        let want = [
            ("/lib/libb.so", false),
            ("/lib/libd.so", false),
            ("/lib/libe.so", false),
        ];
        assert_eq!(found, want.map(|(path, low)| (path.to_owned(), low)));
        assert_eq!(tree.files_in(&path("/lib/deep")).len(), 1);
    }

    #[test]
    fn an_entry_below_a_link_goes_where_the_link_leads() {
        let mut tree = Tree::default();
        tree.add(
            &path("/lib"),
            EntryKind::Symlink("usr/lib".into()),
            &origin(),
        )
        .unwrap();
        tree.add(
            &path("/opt/up"),
            EntryKind::Symlink("../../../usr/./share".into()),
            &origin(),
        )
        .unwrap();
        tree.finish_layer();
        for (asked, want) in [
            ("/lib/a.so", "/usr/lib/a.so"),
            ("/lib/deep/er", "/usr/lib/deep/er"),
            ("/opt/up/x", "/usr/share/x"),
            ("/plain/x", "/plain/x"),
        ] {
            assert_eq!(
                tree.add(&path(asked), file(), &origin()).unwrap(),
                path(want),
                "{asked}"
            );
        }
        let places: Vec<_> = tree
            .current
            .iter()
            .map(|(path, _)| path.to_string())
            .collect();
        let want = [
            "/plain",
            "/plain/x",
            "/usr",
            "/usr/lib",
            "/usr/lib/a.so",
            "/usr/lib/deep",
            "/usr/lib/deep/er",
            "/usr/share",
            "/usr/share/x",
        ];
        assert_eq!(places, want);
    }

    #[test]
    fn a_loop_of_links_or_a_file_on_the_way_is_refused() {
        let mut tree = Tree::default();
        tree.add(&path("/a"), EntryKind::Symlink("b".into()), &origin())
            .unwrap();
        tree.add(&path("/b"), EntryKind::Symlink("/a".into()), &origin())
            .unwrap();
        tree.add(&path("/f"), file(), &origin()).unwrap();
        for (asked, want) in [
            ("/a/x", "/a leads through too many links"),
            (
                "/f/x",
                "the test needs the directory /f, which is a file from the test (`layer[0].copy[0]`)",
            ),
            ("/f/x/y", "/f/x leads through a file"),
        ] {
            assert_eq!(
                tree.add(&path(asked), file(), &origin())
                    .unwrap_err()
                    .problem,
                want,
                "{asked}"
            );
        }
    }

    #[test]
    fn a_base_is_seen_through_its_whole_stack_and_never_through_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let (low, high) = (dir.path().join("low"), dir.path().join("high"));
        std::fs::create_dir_all(low.join("usr/lib")).unwrap();
        std::fs::write(low.join("usr/lib/a"), "a").unwrap();
        std::os::unix::fs::symlink("/etc", low.join("conf")).unwrap();
        std::fs::create_dir_all(high.join("conf")).unwrap();
        std::os::unix::fs::symlink("usr/lib", high.join("lib")).unwrap();
        let tree = Tree::on(vec![low.clone(), high]);
        for (asked, want) in [
            ("/lib/a", Some("/usr/lib/a")),
            ("/conf/passwd", None),
            ("/usr/lib/b", None),
        ] {
            let (place, node) = tree.walk(Path::new(asked)).unwrap();
            match want {
                Some(want) => {
                    let file = low.join("usr/lib/a");
                    let metadata = file.metadata().unwrap();
                    let content = Content::Host(Source::of_host(file, &metadata));
                    assert_eq!(
                        (place, node),
                        (
                            path(want),
                            Node::File {
                                content,
                                executable: false
                            }
                        ),
                        "{asked}"
                    );
                }
                None => assert_eq!(node, Node::Absent, "{asked}"),
            }
        }
    }

    #[test]
    fn an_opaque_directory_of_a_base_hides_what_lies_below_it() {
        let dir = tempfile::tempdir().unwrap();
        let (low, high) = (dir.path().join("low"), dir.path().join("high"));
        std::fs::create_dir_all(low.join("etc/deep")).unwrap();
        std::fs::write(low.join("etc/deep/old"), "old").unwrap();
        std::fs::create_dir(&high).unwrap();
        let mut layer = tar::Builder::new(Vec::new());
        for name in ["etc/.wh..wh..opq", "etc/new"] {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(0);
            layer.append_data(&mut header, name, io::empty()).unwrap();
        }
        let layer = layer.into_inner().unwrap();
        let root = std::fs::File::open(&high).unwrap();
        airtight_image::layer::unpack(layer.as_slice(), &root, &Default::default()).unwrap();
        let tree = Tree::on(vec![low, high]);
        for (asked, there) in [
            ("/etc", true),
            ("/etc/new", true),
            ("/etc/deep", false),
            ("/etc/deep/old", false),
        ] {
            let (_, node) = tree.walk(Path::new(asked)).unwrap();
            assert_eq!(node != Node::Absent, there, "{asked}: {node:?}");
        }
    }
}
