//! From an image and flags to a plan, and the run of it. The same way for `run` and `plan`: facts and policy go in, a plan comes out.
//!
//! It runs before every start, so it reads no file that is not needed and starts no thread: the sandbox is a fork of this process.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::Path;
use std::process::ExitCode;

use airtight_image::{Image, Lease, Store, bundle};
use airtight_plan::{HostFacts, Plan, Spec, Volume};
use airtight_sandbox::{LaunchContext, launch, plain_layers};

use crate::args::{LaunchArgs, PlanArgs, RunArgs};
use crate::ask::{Account, Ask, Layers, Wishes, Wrong, variables};
use crate::policy;
use crate::report::{self, Failure};
use crate::timings::Timings;
use crate::{images, profiles};

/// A decided launch, with the layers held against `airtight gc` for as long as it lives.
struct Decided {
    plan: Plan,
    _lease: Lease,
}

/// Launches and waits; the exit code is the payload's.
pub(crate) fn run(
    args: &RunArgs,
    store: &Store,
    facts: &HostFacts,
    mut timings: Timings,
) -> Result<ExitCode, Failure> {
    let decided = decide(&args.launch, store, facts, &mut timings)?;
    let context = LaunchContext {
        cache_dir: store.cache_dir(),
        timings: args.timings,
    };
    let launched = launch(&decided.plan, &context)?;
    if args.timings {
        report::say(&timings.table(&launched.timings));
    }
    Ok(report::outcome(launched.outcome))
}

/// Prints what [`run`] would do.
pub(crate) fn plan(args: &PlanArgs, store: &Store, facts: &HostFacts) -> Result<(), Failure> {
    let decided = decide(&args.launch, store, facts, &mut Timings::start())?;
    if args.json {
        report::print_json(&decided.plan)
    } else {
        report::print(&airtight_plan::table(&decided.plan))
    }
}

fn decide(
    args: &LaunchArgs,
    store: &Store,
    facts: &HostFacts,
    timings: &mut Timings,
) -> Result<Decided, Failure> {
    let mut ask = Ask::check(args, environment(args)?, random())?;
    ask.volumes = ask
        .volumes
        .into_iter()
        .map(found)
        .collect::<Result<_, _>>()?;
    timings.mark("arguments");
    let image = images::image(&args.image, args.platform.as_deref(), store)?;
    image.check_platform()?;
    timings.mark("image");
    let layers = store.unpacked(&image)?;
    let lease = store.lease(&image)?;
    timings.mark("layers");
    let wishes = wishes(&image);
    let (uid, gid, additional_gids) = bundle::resolve_user(&layers, ask.user(&wishes))?;
    let spec = ask.spec(
        wishes,
        Layers {
            trees: layers,
            write_execute: store.write_execute(&image)?,
        },
        Account {
            uid,
            gid,
            additional_gids,
        },
    );
    timings.mark("user");
    let plan = planned(args, &spec, &image, facts)?;
    timings.mark("plan");
    Ok(Decided {
        plan,
        _lease: lease,
    })
}

fn planned(
    args: &LaunchArgs,
    spec: &Spec,
    image: &Image,
    facts: &HostFacts,
) -> Result<Plan, Failure> {
    let profile = profiles::chosen(args.profile.as_deref(), images::profile(image))?;
    let policy = policy::policy(spec, &profile, args.narrow, facts)?;
    let facts = HostFacts {
        plain_layers: plain_layers(&spec.layers),
        ..facts.clone()
    };
    Ok(airtight_plan::plan(spec, &policy, &facts)?)
}

fn environment(args: &LaunchArgs) -> Result<Vec<String>, Failure> {
    let mut files = Vec::with_capacity(args.env_file.len());
    for file in &args.env_file {
        let text = policy::text(file, "name a file of KEY=VALUE lines that can be read")?;
        files.push((Path::new(file), text));
    }
    Ok(variables(&files, &args.env, |name| {
        std::env::var(name).ok()
    })?)
}

/// The source as the host knows it: absolute, without links, so that the plan judges where it really leads.
fn found(volume: Volume) -> Result<Volume, Wrong> {
    let source = std::fs::canonicalize(&volume.source).map_err(|error| {
        let flag = format!(
            "--volume {}:{}",
            volume.source.display(),
            volume.destination.display()
        );
        Wrong::new(
            flag,
            format!("the source {}", policy::plain(&error)),
            "name a directory or file of this host",
        )
    })?;
    Ok(Volume { source, ..volume })
}

fn wishes(image: &Image) -> Wishes {
    let Some(config) = image.config.config() else {
        return Wishes::default();
    };
    Wishes {
        entrypoint: config.entrypoint().clone().unwrap_or_default(),
        cmd: config.cmd().clone().unwrap_or_default(),
        env: config.env().clone().unwrap_or_default(),
        workdir: config.working_dir().clone().unwrap_or_default(),
        user: config.user().clone().unwrap_or_default(),
    }
}

/// Names a sandbox: the standard library's hash keys are the kernel's randomness, without a file to open.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
