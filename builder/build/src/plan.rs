//! A checked build file becomes layers of entries. Looks at names, types and sizes on this host, and at the headers of
//! programs; no content is read and nothing is written.

use std::path::Path;

use airtight_image::Platform;

use crate::closure::Resolver;
use crate::copy::Looked;
use crate::elf;
use crate::entries::{Content, Entries};
use crate::error::Problem;
use crate::generator::Generator;
use crate::library::{AARCH64, Libraries, Machine, X86_64};
use crate::packages::{self, PackageLayer};
use crate::path::ImagePath;
use crate::settings::User;
use crate::source::Roots;
use crate::spec::{BuildSpec, Layer};
use crate::tree::{Node, Tree};
use crate::{copy, generate};

/// The linkers' rules of this machine.
fn host_machine() -> Machine {
    if cfg!(target_arch = "aarch64") {
        AARCH64
    } else {
        X86_64
    }
}

/// The linkers' rules of an image; none are known of other CPUs, whose images then have no cache.
fn machine_of(platform: &Platform) -> Option<Machine> {
    match platform.architecture() {
        "amd64" => Some(X86_64),
        "arm64" => Some(AARCH64),
        _ => None,
    }
}

/// A build takes libraries from its host, so for another CPU it takes none.
fn check_platform(spec: &BuildSpec, platform: &Platform) -> Result<(), Problem> {
    if platform.os() != "linux" {
        let problem = format!("the image would be for {platform}, and only linux is built for");
        return Err(Problem::new("--platform", problem, "write linux/CPU"));
    }
    let host = Platform::host();
    let closes = spec
        .layers
        .iter()
        .position(|layer| !layer.closure.is_empty());
    match closes {
        Some(index) if platform.architecture() != host.architecture() => Err(Problem::new(
            format!("layer[{index}].closure"),
            format!(
                "takes libraries from this host, which is {host}, and the image is for {platform}"
            ),
            "build on a machine of that CPU, or link the program statically and take `closure` out",
        )),
        Some(_) | None => Ok(()),
    }
}

/// What the copies of each layer name. `context` is the build file's directory.
pub(crate) fn look(
    spec: &BuildSpec,
    context: &Path,
    platform: &Platform,
) -> Result<Vec<Vec<Looked>>, Problem> {
    check_platform(spec, platform)?;
    let roots = Roots::open(context).map_err(|err| {
        let problem = format!("{} cannot be looked into: {err}", context.display());
        Problem::new(
            "the file",
            problem,
            "make its directory readable for the user who builds",
        )
    })?;
    let one = |(at, layer): (usize, &Layer)| {
        let copies = layer.copy.iter().enumerate();
        copies
            .map(|(index, asked)| {
                let key = format!("layer[{at}].copy[{index}]");
                copy::look(&asked.for_platform(platform), &key, &roots)
            })
            .collect()
    };
    spec.layers.iter().enumerate().map(one).collect()
}

/// What each layer will hold, in order. `base` are the base's unpacked trees, lowest first, `packages` each layer's, `looked` what the copies of each name.
pub(crate) fn plan(
    spec: &BuildSpec,
    base: Vec<std::path::PathBuf>,
    packages: &[PackageLayer],
    platform: &Platform,
    looked: Vec<Vec<Looked>>,
) -> Result<Vec<Entries>, Problem> {
    let mut tree = Tree::on(base);
    // Read only where it is asked for: most hosts have dozens of files under /etc/ld.so.conf.d.
    let closes = spec.layers.iter().any(|layer| !layer.closure.is_empty());
    let mut resolver = closes.then(|| Resolver::new(Libraries::of_host(host_machine())));
    for ((index, layer), looked) in spec.layers.iter().enumerate().zip(looked) {
        let key = format!("layer[{index}]");
        // First: what the layer copies lies where the packages' links lead.
        if let Some(own) = packages.get(index) {
            packages::place(own, &spec.debian.slices, &mut tree)?;
        }
        for ((index, asked), looked) in layer.copy.iter().enumerate().zip(looked) {
            let asked = asked.for_platform(platform);
            copy::copy(&asked, &format!("{key}.copy[{index}]"), looked, &mut tree)?;
        }
        for (index, asked) in layer.generate.iter().enumerate() {
            generate::generate(
                asked,
                &spec.config.user,
                &format!("{key}.generate[{index}]"),
                &mut tree,
            )?;
        }
        // Last: a library that the layer itself brings is not taken from the host.
        for (index, asked) in layer.closure.iter().enumerate() {
            if let Some(resolver) = &mut resolver {
                resolver.close(asked, &format!("{key}.closure[{index}]"), &mut tree)?;
            }
        }
        // Of all that is there by now, as `ldconfig` in a package's trigger would see it.
        if !layer.packages.is_empty()
            && let Some(machine) = machine_of(platform)
        {
            packages::linker_cache::add(&format!("{key}.packages"), machine, &mut tree)?;
        }
        tree.finish_layer();
    }
    check_entrypoint(spec, &tree, platform)?;
    check_user(spec, &tree)?;
    Ok(tree.into_layers())
}

/// A name without a slash is looked up in `PATH` at launch; a path can be held against the image now.
fn check_entrypoint(spec: &BuildSpec, tree: &Tree, platform: &Platform) -> Result<(), Problem> {
    let Some(program) = spec
        .config
        .entrypoint
        .as_ref()
        .and_then(|words| words.first())
    else {
        return Ok(());
    };
    let Ok(path) = ImagePath::parse(program) else {
        return Ok(());
    };
    let bad = |why: &str, fix: &str| {
        Err(Problem::new(
            "config.entrypoint[0]",
            format!("{path} {why}"),
            fix,
        ))
    };
    match tree.walk(path.as_path()) {
        Ok((
            _,
            Node::File {
                executable: true,
                content,
            },
        )) => match foreign(&content, platform) {
            Some(machine) => bad(
                &format!("is a program for another CPU (ELF machine {machine}) than {platform}"),
                "copy the one that was built for it; `{arch}` in a `from` stands for the CPU",
            ),
            None => Ok(()),
        },
        Ok((
            _,
            Node::File {
                executable: false, ..
            },
        )) => bad("may not be executed", "chmod +x its source"),
        Ok((_, Node::Directory | Node::Symlink(_) | Node::Other)) => {
            bad("is no file", "name the program itself")
        }
        Ok((_, Node::Absent)) => bad("is in no layer", "add it with `copy`, or correct the path"),
        Err(why) => bad(why, "correct the path"),
    }
}

/// The machine of an ELF file, if it is not the platform's. Of CPUs that are not known here nothing is said.
fn foreign(content: &Content, platform: &Platform) -> Option<u16> {
    let wanted = match platform.architecture() {
        "amd64" => X86_64.abi.machine,
        "arm64" => AARCH64.abi.machine,
        _ => return None,
    };
    let Content::Host(source) = content else {
        return None;
    };
    elf::machine(source.open().ok()?.0).filter(|machine| *machine != wanted)
}

fn check_user(spec: &BuildSpec, tree: &Tree) -> Result<(), Problem> {
    let User::Named { user, .. } = &spec.config.user else {
        return Ok(());
    };
    let generated = spec
        .layers
        .iter()
        .any(|layer| layer.generate.contains(&Generator::Passwd));
    let there = matches!(
        tree.walk(Path::new("/etc/passwd")),
        Ok((_, Node::File { .. }))
    );
    if generated || there {
        return Ok(());
    }
    let problem = format!("`{user}` is a name, and the image has no /etc/passwd to look it up in");
    Err(Problem::new(
        "config.user",
        problem,
        "add `generate = [\"passwd\", \"group\"]` to a layer, or write UID:GID",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries::EntryKind;

    fn planned(layer: &str) -> Result<Vec<String>, String> {
        let text = format!("format = 1\nname = \"a\"\n[[layer]]\nname = \"app\"\n{layer}");
        let spec = crate::parse(&text, "airtight.toml".as_ref()).unwrap();
        let platform = Platform::host();
        let layers = look(&spec, Path::new("/"), &platform)
            .and_then(|looked| plan(&spec, Vec::new(), &[], &platform, looked))
            .map_err(|problem| format!("{}: {}", problem.key, problem.problem))?;
        let line = |(path, entry): (&ImagePath, &crate::entries::Entry)| match &entry.kind {
            EntryKind::Directory => format!("{path}/"),
            EntryKind::Symlink(target) => format!("{path} -> {}", target.display()),
            EntryKind::File { .. } => path.to_string(),
        };
        Ok(layers
            .iter()
            .flat_map(|layer| layer.iter().map(line))
            .collect())
    }

    #[test]
    fn certificates_are_where_each_tls_library_looks() {
        let want = [
            "/etc/",
            "/etc/ssl/",
            "/etc/ssl/certs/",
            "/etc/ssl/certs/ca-certificates.crt",
            "/usr/",
            "/usr/lib/",
            "/usr/lib/ssl/",
            "/usr/lib/ssl/cert.pem -> /etc/ssl/certs/ca-certificates.crt",
        ];
        match planned("generate = [\"ca-certificates\"]") {
            Ok(got) => assert_eq!(got, want),
            Err(told) if !Path::new("/etc/ssl/certs/ca-certificates.crt").exists() => {
                assert!(
                    told.starts_with("layer[0].generate[0]: `ca-certificates` is made from"),
                    "{told}"
                );
            }
            Err(told) => panic!("{told}"),
        }
    }

    #[test]
    fn time_zones_are_those_named_or_all_without_the_host_s_own() {
        if !Path::new("/usr/share/zoneinfo/Europe/Berlin").exists() {
            let told =
                planned("generate = [\"tzdata\"]\ntime-zones = [\"Europe/Berlin\"]").unwrap_err();
            assert!(told.contains("cannot be read"), "{told}");
            return;
        }
        let named =
            planned("generate = [\"tzdata\"]\ntime-zones = [\"Europe/Berlin\", \"UTC\"]").unwrap();
        let want = [
            "/usr/",
            "/usr/share/",
            "/usr/share/zoneinfo/",
            "/usr/share/zoneinfo/Europe/",
        ];
        assert_eq!(named[..4], want);
        assert_eq!(
            named[4..],
            [
                "/usr/share/zoneinfo/Europe/Berlin",
                "/usr/share/zoneinfo/UTC"
            ]
        );
        let all = planned("generate = [\"tzdata\"]").unwrap();
        assert!(all.contains(&"/usr/share/zoneinfo/Europe/Berlin".to_owned()));
        let foreign = |path: &&String| {
            path.contains("/localtime") || path.contains("/right/") || path.contains("->")
        };
        assert_eq!(all.iter().find(foreign), None);
        let told =
            planned("generate = [\"tzdata\"]\ntime-zones = [\"Europe/Atlantis\"]").unwrap_err();
        let want = "layer[0].generate[0]: `tzdata` is made from /usr/share/zoneinfo/Europe/Atlantis, which cannot be read: ";
        assert!(told.starts_with(want), "{told}");
    }

    #[test]
    fn a_later_layer_overrides_and_a_library_of_an_earlier_one_is_not_added_again() {
        let more = "copy = [{ from = \"/bin/true\", to = \"/bin/a\" }]\nclosure = [\"/bin/a\"]\n\
                    [[layer]]\nname = \"over\"\ncopy = [{ from = \"/bin/false\", to = \"/bin/a\" }]\nclosure = [\"/bin/a\"]";
        let got = planned(more).unwrap();
        let libc = got
            .iter()
            .filter(|path| path.ends_with("/libc.so.6"))
            .count();
        let program = got.iter().filter(|path| *path == "/bin/a").count();
        assert_eq!((libc, program), (1, 2));
    }
}
