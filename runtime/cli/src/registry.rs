//! The commands that speak to a registry. How, and what is believed of it, is `airtight-image`'s.

use std::time::Duration;

use airtight_image::registry::{
    Platform, Platforms, Refer, Registries, RegistryRef, Report, Settings,
};
use airtight_image::{ImageRef, Store};

use crate::args::{ConnectArgs, CopyArgs, PullArgs, PushArgs, RegistryArgs};
use crate::ask::Wrong;
use crate::format;
use crate::images;
use crate::progress;
use crate::report::{self, Failure};

pub(crate) fn push(args: &PushArgs, store: &Store) -> Result<(), Failure> {
    let image: ImageRef = args.image.parse()?;
    let to: RegistryRef = match (&args.to, &image) {
        (Some(to), _) => to.parse()?,
        (None, ImageRef::Name(name)) => name.to_string().parse()?,
        (None, ImageRef::Digest(_) | ImageRef::Layout { .. }) => {
            return Err(Wrong::new(
                &args.image,
                "has no name that says where to",
                "say it: airtight push IMAGE HOST/NAME:TAG",
            )
            .into());
        }
    };
    let digest = images::chosen(&image, args.platform.as_deref(), store)?;
    transfer(&args.registry, |registries| {
        registries.push(store, &digest, &to, refer(args.no_referrers))
    })
}

pub(crate) fn pull(args: &PullArgs, store: &Store) -> Result<(), Failure> {
    let from: RegistryRef = args.from.parse()?;
    let name = args.name.as_deref().map(str::parse).transpose()?;
    let platforms = platforms(args.all, args.platform.as_deref())?;
    transfer(&args.registry, |registries| {
        let refer = refer(args.no_referrers);
        registries.pull(store, &from, &platforms, name.as_ref(), refer)
    })
}

pub(crate) fn copy(args: &CopyArgs, store: &Store) -> Result<(), Failure> {
    let (from, to): (RegistryRef, RegistryRef) = (args.from.parse()?, args.to.parse()?);
    let platforms = platforms(args.all, args.platform.as_deref())?;
    transfer(&args.registry, |registries| {
        registries.copy(store, &from, &to, &platforms)
    })
}

fn refer(without: bool) -> Refer {
    if without { Refer::Without } else { Refer::With }
}

fn platforms(all: bool, one: Option<&str>) -> Result<Platforms, Failure> {
    if all {
        return Ok(Platforms::All);
    }
    let one = one.map(str::parse).transpose()?;
    Ok(Platforms::One(one.unwrap_or_else(Platform::host)))
}

fn transfer(
    args: &RegistryArgs,
    work: impl FnOnce(&Registries) -> airtight_image::Result<Report>,
) -> Result<(), Failure> {
    let registries = registries(&args.connect, args.jobs)?;
    let shown = !args.quiet && !args.json;
    let done = progress::during(shown, registries.meter(), || work(&registries))?;
    if args.json {
        return report::print_json(&done);
    }
    if shown {
        report::say(&summary(&done));
    }
    report::print(&format!("{} {}\n", done.digest, done.reference))
}

/// As the command line says it.
pub(crate) fn registries(args: &ConnectArgs, jobs: u8) -> airtight_image::Result<Registries> {
    Registries::new(Settings {
        cert_dir: args.cert_dir.clone(),
        authfile: args.authfile.clone(),
        insecure: args.insecure_registry.clone(),
        patience: Duration::from_secs(args.timeout),
        retries: args.retry,
        jobs: usize::from(jobs),
        env: |name| std::env::var_os(name),
    })
}

/// What went over the wire, and what need not.
fn summary(report: &Report) -> String {
    let parts: Vec<String> = [
        ("received", report.received),
        ("sent", report.sent),
        ("mounted", report.mounted),
        ("skipped", report.skipped),
    ]
    .iter()
    .filter(|(_, bytes)| *bytes > 0)
    .map(|(word, bytes)| format!("{word} {}", format::bytes(*bytes)))
    .collect();
    parts.join(", ")
}
