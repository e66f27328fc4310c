//! A checked build file becomes layers of entries. Looks at names, types and sizes on this host, and at the headers of
//! programs; no content is read and nothing is written.

use std::path::Path;

use crate::closure::Resolver;
use crate::entries::Entries;
use crate::error::Problem;
use crate::library::{AARCH64, Libraries, Machine, X86_64};
use crate::path::ImagePath;
use crate::settings::User;
use crate::spec::{BuildSpec, Generator};
use crate::tree::{Node, Tree};
use crate::{copy, generate};

/// This machine's architecture in the words of OCI, and its linkers' rules. A build takes libraries from its host,
/// so it builds for no other.
pub(crate) fn host_machine() -> (&'static str, Machine) {
    if cfg!(target_arch = "aarch64") { ("arm64", AARCH64) } else { ("amd64", X86_64) }
}

/// What each layer will hold, in order. `context` is the build file's directory, `base` the base's unpacked trees, lowest first.
pub(crate) fn plan(spec: &BuildSpec, context: &Path, base: Vec<std::path::PathBuf>) -> Result<Vec<Entries>, Problem> {
    let mut tree = Tree::on(base);
    let (_, machine) = host_machine();
    // Read only where it is asked for: most hosts have dozens of files under /etc/ld.so.conf.d.
    let closes = spec.layers.iter().any(|layer| !layer.closure.is_empty());
    let mut resolver = closes.then(|| Resolver::new(Libraries::of_host(machine)));
    for (index, layer) in spec.layers.iter().enumerate() {
        let key = format!("layer[{index}]");
        for (index, asked) in layer.copy.iter().enumerate() {
            copy::copy(asked, &format!("{key}.copy[{index}]"), context, &mut tree)?;
        }
        for (index, asked) in layer.generate.iter().enumerate() {
            generate::generate(asked, &spec.config.user, &format!("{key}.generate[{index}]"), &mut tree)?;
        }
        // Last: a library that the layer itself brings is not taken from the host.
        for (index, asked) in layer.closure.iter().enumerate() {
            if let Some(resolver) = &mut resolver {
                resolver.close(asked, &format!("{key}.closure[{index}]"), &mut tree)?;
            }
        }
        tree.finish_layer();
    }
    check_entrypoint(spec, &tree)?;
    check_user(spec, &tree)?;
    Ok(tree.into_layers())
}

/// A name without a slash is looked up in `PATH` at launch; a path can be held against the image now.
fn check_entrypoint(spec: &BuildSpec, tree: &Tree) -> Result<(), Problem> {
    let Some(program) = spec.config.entrypoint.as_ref().and_then(|words| words.first()) else { return Ok(()) };
    let Ok(path) = ImagePath::parse(program) else { return Ok(()) };
    let bad = |why: &str, fix: &str| Err(Problem::new("config.entrypoint[0]", format!("{path} {why}"), fix));
    match tree.walk(path.as_path()) {
        Ok((_, Node::File { executable: true, .. })) => Ok(()),
        Ok((_, Node::File { executable: false, .. })) => bad("may not be executed", "chmod +x its source"),
        Ok((_, Node::Directory | Node::Symlink(_) | Node::Other)) => bad("is no file", "name the program itself"),
        Ok((_, Node::Absent)) => bad("is in no layer", "add it with `copy`, or correct the path"),
        Err(why) => bad(why, "correct the path"),
    }
}

fn check_user(spec: &BuildSpec, tree: &Tree) -> Result<(), Problem> {
    let User::Named { user, .. } = &spec.config.user else { return Ok(()) };
    let generated = spec.layers.iter().any(|layer| layer.generate.contains(&Generator::Passwd));
    let there = matches!(tree.walk(Path::new("/etc/passwd")), Ok((_, Node::File { .. })));
    if generated || there {
        return Ok(());
    }
    let problem = format!("`{user}` is a name, and the image has no /etc/passwd to look it up in");
    Err(Problem::new("config.user", problem, "add `generate = [\"passwd\", \"group\"]` to a layer, or write UID:GID"))
}
