//! `run`: bundle, policy, plan, launch, wait. The payload is pid 1, as the specification has it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use airtight_plan::HostFacts;
use airtight_sandbox::{LaunchContext, ProbeInput, launch, probe};

use crate::args::Global;
use crate::bundle::{Bundle, bundle};
use crate::document::Problems;
use crate::policy;
use crate::report::{self, Failure};

/// Of a config.json. What is larger is not one that anybody wrote.
const MAX_CONFIG: u64 = 4 << 20;

pub(crate) fn run(args: &Global, dir: &Path, id: &str) -> Result<ExitCode, Failure> {
    let Bundle {
        mut spec,
        profile,
        masked,
    } = read(dir, id)?;
    let facts = probe(&ProbeInput::default());
    unmasked(&dir.join("config.json"), &masked, &facts)?;
    spec.layers = spec
        .layers
        .iter()
        .map(|root| rootfs(dir, root))
        .collect::<Result<_, _>>()?;
    let policy = policy::policy(&spec, args.profile.as_deref(), profile.as_deref(), &facts)?;
    let plan = airtight_plan::plan(&spec, &policy, &facts)?;
    if args.debug {
        report::debug(args, &airtight_plan::table(&plan));
    }
    let context = LaunchContext {
        cache_dir: state(args, &facts)?.join("cache"),
        timings: args.debug,
    };
    let launched = launch(&plan, &context)?;
    for (step, at) in &launched.timings {
        report::debug(args, &format!("{step} done after {} us", at.as_micros()));
    }
    Ok(report::outcome(launched.outcome))
}

fn read(dir: &Path, id: &str) -> Result<Bundle, Failure> {
    let path = dir.join("config.json");
    let fail = |problem: String, fix| Failure::File {
        path: path.clone(),
        problem,
        fix,
    };
    let text = policy::read(&path, MAX_CONFIG).map_err(|problem| {
        fail(
            problem.unwrap_or_else(|| "is not there".into()),
            "name the bundle's directory with --bundle",
        )
    })?;
    // Nesting is bounded by the parser, at 128.
    let config = serde_json::from_str(&text).map_err(|error| {
        fail(
            format!("is not a JSON object: {error}"),
            "write one, as `airtight-runtime spec` does",
        )
    })?;
    bundle(config, id).map_err(|problems| Failure::Config { path, problems })
}

/// The rootfs without links. A relative one lies in the bundle, whatever its path says.
fn rootfs(dir: &Path, root: &Path) -> Result<PathBuf, Failure> {
    let path = dir.join(root);
    let fail = |problem: &str| Failure::File {
        path: path.clone(),
        problem: problem.to_owned(),
        fix: "name the root file system of the payload in `root.path`",
    };
    let canonical = |path: &Path| {
        path.canonicalize()
            .map_err(|error| fail(&error.to_string()))
    };
    let (real, bundle) = (canonical(&path)?, canonical(dir)?);
    if root.is_relative() && !real.starts_with(&bundle) {
        return Err(fail("leads out of the bundle"));
    }
    if real == Path::new("/") {
        return Err(fail("is the root of this host"));
    }
    if !real.is_dir() {
        return Err(fail("is not a directory"));
    }
    Ok(real)
}

/// A path under `/proc` that the bundle wants covered is covered here, or does not exist.
fn unmasked(config: &Path, masked: &[PathBuf], facts: &HostFacts) -> Result<(), Failure> {
    let mut problems = Problems::default();
    for path in masked {
        let inner = path.strip_prefix("/proc").unwrap_or(path);
        let covered = facts
            .proc_to_mask
            .iter()
            .any(|mask| inner.starts_with(&mask.path));
        if !covered && path.exists() {
            problems.add(
                "linux.maskedPaths",
                &format!(
                    "{} is not covered here",
                    path.display().to_string().escape_debug()
                ),
            );
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Failure::Config {
            path: config.to_owned(),
            problems,
        })
    }
}

fn state(args: &Global, facts: &HostFacts) -> Result<PathBuf, Failure> {
    if let Some(root) = &args.root {
        return Ok(root.clone());
    }
    if facts.euid == 0 {
        return Ok("/run/airtight".into());
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    runtime
        .map(|dir| dir.join("airtight"))
        .ok_or_else(|| Failure::File {
            path: "$XDG_RUNTIME_DIR".into(),
            problem: "is not set".into(),
            fix: "name a directory for state with --root",
        })
}
