//! What a payload may do, as data. Pure: no file, environment or host is read here.
//!
//! A [`Profile`] is what a payload asks for, a [`Ceiling`] what this host allows; [`effective`] gives the [`Policy`] within both, and
//! [`Policy::filter`] the system-call filter that `airtight-plan` puts into the plan.
//!
//! ```
//! use airtight_profiles::{Additions, Ceiling, Profile, effective};
//! let text = r#"
//!     format = 1
//!     extends = "service"
//!     connect = [{ endpoint = "redis:6379", why = "visits are counted there" }]
//! "#;
//! let profile = Profile::parse(text, "app.profile.toml".as_ref())?;
//! let mut operator = Additions::default();
//! // The image's word alone opens no endpoint.
//! assert_eq!(effective(&profile, &Ceiling::built_in(), &operator).unwrap_err()[0].item, "redis:6379");
//! operator.connect.insert("redis:6379".parse()?);
//! assert!(effective(&profile, &Ceiling::built_in(), &operator).is_ok());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It needs nothing of the host, and does not know which controls a host has: that is `airtight-plan`'s.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod calls;
mod ceiling;
mod endpoint;
mod filter;
mod grant;
mod names;
mod policy;
mod profile;
mod rule;
mod section;
mod shipped;
mod table;

pub use ceiling::{Additions, Ceiling, OnExcess, effective, narrow};
pub use endpoint::{Endpoint, PortSet};
pub use filter::{ArgCondition, ArgOp, SeccompFilter, SyscallRule};
pub use names::{KNOWN_MAX, unified_number};
pub use policy::{Excess, Policy, TmpfsGrant};
pub use profile::{Profile, ProfileError};
pub use rule::{Conditions, Masked, SyscallSet};
pub use shipped::{SHIPPED, shipped};
