//! The error of a system call is the call.

use nix::errno::Errno;

/// A system call that failed, with the arguments that tell which one it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call}({args}): {}", describe(*errno))]
pub struct SysError {
    pub call: &'static str,
    pub args: String,
    pub errno: Errno,
}

/// The result of a system call.
pub type Result<T> = std::result::Result<T, SysError>;

impl SysError {
    /// `call(args)` failed with `errno`.
    pub fn new(call: &'static str, args: impl Into<String>, errno: Errno) -> Self {
        Self {
            call,
            args: args.into(),
            errno,
        }
    }

    /// There is no such process, any more.
    #[must_use]
    pub fn is_no_process(&self) -> bool {
        self.errno == Errno::ESRCH
    }

    /// There is no such file or directory, any more.
    #[must_use]
    pub fn is_not_there(&self) -> bool {
        self.errno == Errno::ENOENT
    }

    /// `call(args)` failed just now, with the thread's `errno`.
    pub fn last(call: &'static str, args: impl Into<String>) -> Self {
        Self::new(call, args, Errno::last())
    }
}

fn describe(errno: Errno) -> String {
    format!("{errno:?} ({})", errno.desc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_like_the_call() {
        let error = SysError::new("openat2", "\"etc\", O_PATH", Errno::ENOENT);
        assert_eq!(
            error.to_string(),
            "openat2(\"etc\", O_PATH): ENOENT (No such file or directory)"
        );
    }
}
