//! Names of capabilities and their numbers in the kernel.

use super::Capabilities;

/// `capabilities(7)`, in the kernel's order: the place in the list is the number.
pub const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The bit of `CAP_SYS_ADMIN`, which loading a filter without `no_new_privs` takes.
pub(crate) const SYS_ADMIN: u64 = 1 << 21;

/// The bit of `CAP_SYS_PTRACE`, which looks into processes that are not dumpable.
pub(crate) const SYS_PTRACE: u64 = 1 << 19;

/// The bit of a capability by its name; none for a name that the kernel does not have.
#[must_use]
pub fn capability_bit(name: &str) -> Option<u64> {
    CAPABILITIES
        .iter()
        .position(|known| *known == name)
        .map(|number| 1 << number)
}

impl Capabilities {
    /// Without the ambient ones that the kernel would not raise: each must be permitted and inheritable. Every runtime leaves them out, and their own
    /// default config asks for some.
    #[must_use]
    pub fn settled(self) -> Self {
        Self {
            ambient: self.ambient & self.permitted & self.inheritable,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_the_kernels_numbers() {
        for (name, want) in [
            ("CAP_CHOWN", Some(1)),
            ("CAP_SYS_ADMIN", Some(SYS_ADMIN)),
            ("CAP_CHECKPOINT_RESTORE", Some(1 << 40)),
            ("CAP_NEW", None),
            ("cap_chown", None),
        ] {
            assert_eq!(capability_bit(name), want, "{name}");
        }
    }
}
