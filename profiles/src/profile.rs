//! A profile: what one payload asks for, as written and checked.

use std::path::Path;

use serde::Serialize;
use toml::{Table, Value};

pub use crate::section::ProfileError;

use crate::calls::{SyscallGrant, syscalls};
use crate::ceiling::{Ceiling, OnExcess};
use crate::grant::{
    BareGrant, ConnectGrant, CountGrant, ListenGrant, Source, TmpfsWish, bare, connect, count,
    each, listen, tmpfs,
};
use crate::policy::{Policy, TmpfsGrant};
use crate::section::Section;
use crate::shipped::{self, SHIPPED};

/// Longest profile that is read, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// Most ports that a profile may ask for: each becomes a Landlock rule.
const MAX_PORTS: usize = 256;

/// What one payload asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    ask: Ask,
    /// Of a ceiling only.
    on_excess: OnExcess,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ask {
    /// Of a shipped profile, by its place: what it asks for is known without its text.
    Shipped(usize),
    Read {
        written: Box<Written>,
        /// Of the profile that this one extends.
        inherited: Policy,
    },
}

/// The grants of the profile itself. Keys in alphabetical order: that is the canonical JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Written {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    connect: Vec<ConnectGrant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extends: Option<String>,
    format: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listen: Vec<ListenGrant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_files: Option<CountGrant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processes: Option<CountGrant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    public: Option<BareGrant>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    syscalls: Vec<SyscallGrant>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tmpfs: Vec<TmpfsWish>,
    #[serde(skip_serializing_if = "Option::is_none")]
    write_execute: Option<BareGrant>,
}

impl Written {
    fn canonical_json(&self) -> String {
        // Strings and numbers only: nothing in it can fail to serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// With what it extends.
    fn policy(&self, inherited: &Policy) -> Policy {
        let Self {
            connect,
            extends: _,
            format: _,
            listen,
            open_files,
            processes,
            public,
            syscalls,
            tmpfs,
            write_execute,
        } = self;
        let mut policy = inherited.clone();
        policy
            .connect
            .extend(connect.iter().map(|grant| grant.endpoint.clone()));
        for grant in listen {
            policy.listen.insert(grant.port.0, grant.port.1);
        }
        policy.open_files = open_files
            .as_ref()
            .map_or(policy.open_files, |grant| grant.limit);
        policy.processes = processes
            .as_ref()
            .map_or(policy.processes, |grant| grant.limit);
        policy.public |= public.is_some();
        for grant in syscalls {
            policy.syscalls.extend(&grant.set());
        }
        for wish in tmpfs {
            if wish.path == Path::new("*") {
                policy.tmpfs = TmpfsGrant::Anywhere { each: wish.size };
            } else {
                policy.tmpfs.insert(&wish.path, wish.size);
            }
        }
        policy.write_execute |= write_execute.is_some();
        policy
    }
}

impl Profile {
    /// Reads a `*.profile.toml`.
    ///
    /// # Errors
    /// What is wrong in the file, with its key and the fix.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ProfileError> {
        Self::read(text, file, Source::Payload)
    }

    pub(crate) fn parse_trusted(text: &str, file: &Path) -> Result<Self, ProfileError> {
        Self::read(text, file, Source::Trusted)
    }

    pub(crate) fn parse_ceiling(text: &str, file: &Path) -> Result<Self, ProfileError> {
        Self::read(text, file, Source::Ceiling)
    }

    /// Reads the `[profile]` table of another file, where `format` is that file's own. `prefix` is the table's key, for messages.
    ///
    /// # Errors
    /// What is wrong in the table, with its key and the fix.
    pub fn from_table(table: Table, file: &Path, prefix: &str) -> Result<Self, ProfileError> {
        Self::check(Section::new(table, file, prefix), Source::Payload)
    }

    /// One line of JSON with sorted keys and no spaces: the same bytes for the same profile, so that a digest of it can be signed.
    #[must_use]
    pub fn canonical_json(&self) -> String {
        match &self.ask {
            Ask::Read { written, .. } => written.canonical_json(),
            // Its text does not extend what is known only without one.
            Ask::Shipped(at) => {
                shipped::read(*at).map_or_else(String::new, |profile| profile.canonical_json())
            }
        }
    }

    /// Reads what [`Self::canonical_json`] wrote, and nothing else: other spellings of the same profile would have other digests.
    ///
    /// # Errors
    /// What is wrong; the file is named `dev.airtight.profile.v1`, after the annotation it comes from.
    pub fn from_canonical_json(text: &str) -> Result<Self, ProfileError> {
        let file = Path::new("dev.airtight.profile.v1");
        let error = |problem: String| ProfileError {
            file: file.to_owned(),
            key: String::new(),
            problem,
            fix: "build the image again, or give --profile".to_owned(),
        };
        if text.len() > MAX_BYTES {
            return Err(error(format!("is longer than {MAX_BYTES} bytes")));
        }
        let table = serde_json::from_str(text)
            .map_err(|err| error(format!("is not a JSON object: {err}")))?;
        let profile = Self::formatted(table, file, Source::Payload)?;
        match &profile.ask {
            Ask::Read { written, .. } if written.canonical_json() == text => Ok(profile),
            Ask::Read { .. } | Ask::Shipped(_) => Err(error("is not in canonical form".to_owned())),
        }
    }

    /// Everything that the profile asks for, with what it extends.
    #[must_use]
    pub fn policy(&self) -> Policy {
        match &self.ask {
            Ask::Shipped(at) => shipped::policy(*at),
            Ask::Read { written, inherited } => written.policy(inherited),
        }
    }

    /// A shipped one, by its place.
    pub(crate) fn of_shipped(at: usize) -> Self {
        Self {
            ask: Ask::Shipped(at),
            on_excess: OnExcess::default(),
        }
    }

    pub(crate) fn on_excess(&self) -> OnExcess {
        self.on_excess
    }

    /// The profile that this one extends; an empty profile extends `base`.
    #[must_use]
    pub fn extends(&self) -> Option<String> {
        match &self.ask {
            Ask::Read { written, .. } => written.extends.clone(),
            Ask::Shipped(at) => shipped::read(*at)?.extends(),
        }
    }

    fn read(text: &str, file: &Path, source: Source) -> Result<Self, ProfileError> {
        let error = |problem: String, fix: &str| ProfileError {
            file: file.to_owned(),
            key: "profile".into(),
            problem,
            fix: fix.into(),
        };
        if text.len() > MAX_BYTES {
            return Err(error(
                format!("is longer than {MAX_BYTES} bytes"),
                "extend a shipped profile instead of listing its grants",
            ));
        }
        let table = text
            .parse::<Table>()
            .map_err(|err| error(toml_problem(&err, text), "correct the TOML"))?;
        Self::formatted(table, file, source)
    }

    fn formatted(mut table: Table, file: &Path, source: Source) -> Result<Self, ProfileError> {
        let format = table.remove("format");
        let section = Section::new(table, file, "");
        match format {
            Some(Value::Integer(1)) => Self::check(section, source),
            Some(other) => Err(section.error(
                "format",
                format!("{other} is not a format that this release reads"),
                "write `format = 1`",
            )),
            None => Err(section.error("format", "is missing", "write `format = 1`")),
        }
    }

    fn check(mut section: Section<'_>, source: Source) -> Result<Self, ProfileError> {
        let extends = section.text("extends")?;
        let inherited = inherited(extends.as_deref(), &section, source)?;
        let written = Written {
            connect: each(section.sections("connect")?, connect)?,
            extends,
            format: 1,
            listen: each(section.sections("listen")?, listen)?,
            open_files: section
                .section("open-files")?
                .map(|grant| count(grant, 1 << 20))
                .transpose()?,
            processes: section
                .section("processes")?
                .map(|grant| count(grant, 1 << 22))
                .transpose()?,
            public: section.section("public")?.map(bare).transpose()?,
            syscalls: each(section.sections("syscalls")?, |grant| {
                syscalls(grant, source)
            })?,
            tmpfs: each(section.sections("tmpfs")?, |wish| tmpfs(wish, source))?,
            write_execute: section.section("write-execute")?.map(bare).transpose()?,
        };
        let on_excess = match source {
            Source::Ceiling => on_excess(&mut section)?,
            Source::Payload | Source::Trusted => OnExcess::default(),
        };
        if source == Source::Payload {
            let ports = written.policy(&inherited).listen.count();
            if ports > MAX_PORTS {
                return Err(section.error(
                    "listen",
                    format!("asks for {ports} ports, more than {MAX_PORTS}"),
                    "name the ports that are bound",
                ));
            }
        }
        section.finish()?;
        let written = Box::new(written);
        Ok(Self {
            ask: Ask::Read { written, inherited },
            on_excess,
        })
    }
}

fn on_excess(section: &mut Section<'_>) -> Result<OnExcess, ProfileError> {
    match section.text("on-excess")?.as_deref() {
        None | Some("refuse") => Ok(OnExcess::Refuse),
        Some("narrow") => Ok(OnExcess::Narrow),
        Some(other) => Err(section.error(
            "on-excess",
            format!("`{other}` is not one of refuse, narrow"),
            "write one of them",
        )),
    }
}

fn inherited(
    extends: Option<&str>,
    section: &Section<'_>,
    source: Source,
) -> Result<Policy, ProfileError> {
    match (extends, source) {
        (None, Source::Trusted) => return Ok(Policy::nothing()),
        // The table that a launch takes is made of the texts alone.
        (Some(name), Source::Trusted) => {
            if let Some(profile) = shipped::text(name) {
                return Ok(profile.policy());
            }
        }
        (Some("built-in"), Source::Ceiling) => return Ok(Ceiling::built_in().policy().clone()),
        _ => {}
    }
    let name = extends.unwrap_or("base");
    shipped::shipped(name)
        .map(|profile| profile.policy())
        .ok_or_else(|| {
            let also = if source == Source::Ceiling {
                ", built-in"
            } else {
                ""
            };
            section.error(
                "extends",
                format!("`{name}` is not a shipped profile"),
                format!("name one of {}{also}", SHIPPED.join(", ")),
            )
        })
}

fn toml_problem(err: &toml::de::Error, text: &str) -> String {
    let line = err.span().map_or(1, |span| {
        text.as_bytes()
            .iter()
            .take(span.start)
            .filter(|byte| **byte == b'\n')
            .count()
            + 1
    });
    format!(
        "line {line}: {}",
        err.message().lines().next().unwrap_or("is not TOML")
    )
}
