//! From an `airtight.toml` to an image in the store.
//!
//! The way is [`parse`] (text to a checked [`BuildSpec`], pure), then a plan of entries for each layer (what will lie
//! where, and why; looks at this host, reads no content), then layers, configuration and manifest in the store, then the
//! name. The same input gives the same digest, whatever the directory, user, umask, day or order of `readdir`.
//!
//! What it builds is immutable by construction: files of root, no write bit, no setuid, no devices, no extended
//! attributes. It takes programs and libraries from the host that it runs on, so it builds for that host's CPU only, and it
//! runs nothing.
//!
//! ```
//! let text = r#"
//!     format = 1
//!     name = "shop/api"
//!     [[layer]]
//!     name = "app"
//!     copy = [{ from = "dist/api", to = "/bin/api" }]
//!     closure = ["/bin/api"]
//! "#;
//! let spec = airtight_build::parse(text, "airtight.toml".as_ref())?;
//! assert_eq!(spec.config.user.to_string(), "65532:65532");
//!
//! let wrong = text.replace("dist/api", "../api");
//! let told = airtight_build::parse(&wrong, "airtight.toml".as_ref()).unwrap_err();
//! assert_eq!(told.key, "layer[0].copy[0].from");
//! # Ok::<(), airtight_build::SpecError>(())
//! ```
//!
//! Tests: `cargo test -p airtight-build`; those of the ELF closure compile their programs with `gcc`.

#![forbid(unsafe_code)]

mod build;
mod cache;
mod closure;
mod copy;
mod document;
mod elf;
mod entries;
mod error;
mod explain;
mod file;
mod generate;
mod generator;
mod glob;
mod ledger;
mod library;
mod lock;
mod objects;
mod origin;
mod packages;
mod path;
mod plan;
mod process;
mod scan;
mod settings;
mod source;
mod spec;
mod split;
mod tree;
mod write;

pub use build::{BuildRequest, Built, BuiltLayer, LayerState, Progress, build, update};
pub use cache::RemoteCache;
pub use error::{BuildError, SpecError};
pub use explain::{
    Change, ConfigChange, Diff, ExplainError, FileChange, FileState, Finding, Group, IgnoreRule,
    LayerName, Level, LintReport, PackageChange, Part, RULES, Rule, Sizes, Step, Why, diff, lint,
    sarif, why,
};
pub use generator::Generator;
pub use ledger::{Because, LEDGER_TYPE, Ledger, LedgerError, ReasonKind};
pub use lock::{LockChange, LockChanges, LockMode};
pub use packages::{PackageOptions, hostile};
pub use path::ImagePath;
pub use settings::{Config, User};
pub use spec::{Base, BuildSpec, Closure, Copy, CopyFrom, Layer, parse};
pub use split::Split;
