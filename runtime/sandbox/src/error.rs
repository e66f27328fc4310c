//! Why a launch did not happen. Each error is one step of the plan, and what the kernel said to it.

use std::path::PathBuf;

use airtight_sys::SysError;
use nix::errno::Errno;

/// A launch that ended before the payload ran, or a supervisor that could not go on.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A step on the host's side.
    #[error("{step}: {cause}")]
    Parent { step: &'static str, cause: Cause },
    /// A step inside. Nothing of it is left.
    #[error("inside the sandbox, {step}: {message}")]
    Child { step: String, message: String },
    /// The gate, before it served: an endpoint that does not resolve, a socket that is not to be had.
    #[error("{reason}")]
    NotServed { reason: String },
    /// The payload's program. 127 for one that is not there, else 126.
    #[error("cannot execute {program}: {}", errno.desc())]
    Exec { program: String, errno: Errno },
    /// One of the bundle's hooks, which is named.
    #[error("{0}")]
    Hook(String),
    /// The gate ended while the sandbox ran: it was killed, as the plan says.
    #[error(
        "the gate died, so the sandbox was killed with it\n  fix: look for its own line above; --gate-death stay keeps a sandbox that is cut off"
    )]
    GateDied,
}

/// What stood in the way of a step.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error("{0}")]
    Sys(#[from] SysError),
    #[error("{}: {error}", path.display())]
    File {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("{problem}\n  fix: {fix}")]
    Refused { problem: String, fix: String },
    #[error("{0}")]
    Seccomp(#[from] crate::seccomp::SeccompError),
}

impl LaunchError {
    /// The exit code that `docker run` and its like give: 127 not found, 126 cannot execute, 125 anything of ours.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Exec {
                errno: Errno::ENOENT | Errno::ENOTDIR,
                ..
            } => 127,
            Self::Exec { .. } => 126,
            Self::Parent { .. }
            | Self::Child { .. }
            | Self::NotServed { .. }
            | Self::Hook(_)
            | Self::GateDied => 125,
        }
    }

    /// `step` failed with `cause`, as `map_err` takes it.
    pub(crate) fn at<E: Into<Cause>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |cause| Self::Parent {
            step,
            cause: cause.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_ones_that_container_users_know() {
        let exec = |errno| LaunchError::Exec {
            program: "/bin/x".into(),
            errno,
        };
        let child = LaunchError::Child {
            step: "rootfs".into(),
            message: String::new(),
        };
        for (name, error, want) in [
            ("missing", exec(Errno::ENOENT), 127),
            ("a directory", exec(Errno::EACCES), 126),
            ("not a program", exec(Errno::ENOEXEC), 126),
            ("a step inside", child, 125),
            ("the gate", LaunchError::GateDied, 125),
        ] {
            assert_eq!(error.exit_code(), want, "{name}");
        }
    }
}
