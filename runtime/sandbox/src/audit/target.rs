//! What a notified call is about to do, read from the caller's memory and `/proc`. Bounded reads; what cannot be read says nothing. The
//! payload may change its memory meanwhile: that garbles a line, and no more depends on it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use airtight_sys::open::open_in_root;
use airtight_sys::seccomp::Notification;
use airtight_sys::{directory, peer};
use nix::fcntl::OFlag;
use nix::libc;
use nix::unistd::Pid;

use super::judge::Attempt;

/// `PATH_MAX`.
const PATH_MAX: usize = 4096;
/// Opens that may change something; `O_TMPFILE` comes with a write mode.
const WRITE_MODES: u64 = (libc::O_WRONLY | libc::O_RDWR | libc::O_TRUNC) as u64;

/// A call, by what its arguments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Connect {
        fd: i32,
        address: u64,
        length: u64,
    },
    /// `create`: only if the file is not there yet does it change anything.
    Open {
        dir: i32,
        path: u64,
        create_only: bool,
    },
    Exec {
        dir: i32,
        path: u64,
        empty_path: bool,
    },
}

pub(super) fn attempt(notification: &Notification) -> Option<Attempt> {
    let caller = Caller::of(notification.pid)?;
    match call(notification.nr.into(), &notification.args)? {
        Call::Connect {
            fd,
            address,
            length,
        } => {
            let to = socket_address(&caller.read(address, usize::try_from(length.min(28)).ok()?)?)?;
            Some(Attempt::Connect {
                to,
                protocol: caller
                    .descriptor(fd)
                    .and_then(|described| described.protocol),
            })
        }
        Call::Open {
            dir,
            path,
            create_only,
        } => {
            let path = caller.absolute(dir, &caller.string(path)?)?;
            if create_only && caller.resolve(&path).is_some() {
                return None;
            }
            // The last part may not exist yet.
            let (parent, name) = (path.parent()?, path.file_name()?);
            let resolved = caller
                .resolve(&path)
                .or_else(|| Some(caller.resolve(parent)?.join(name)));
            Some(Attempt::Write {
                path: resolved.unwrap_or(path),
            })
        }
        Call::Exec {
            dir,
            path,
            empty_path,
        } => {
            let path = caller.string(path)?;
            if let Some(fd) = descriptor(&path).or((path.is_empty() && empty_path).then_some(dir)) {
                let link = caller.descriptor(fd)?.link;
                let name = link.as_os_str().as_bytes();
                let memory = name
                    .strip_prefix(b"/memfd:")
                    .map(|name| [b"memfd:", name].concat());
                return Some(memory.map_or(Attempt::Exec { path: link.clone() }, |name| {
                    Attempt::ExecMemory { name }
                }));
            }
            // A search through PATH tries names that are not there: nothing is refused then.
            caller
                .resolve(&caller.absolute(dir, &path)?)
                .map(|path| Attempt::Exec { path })
        }
    }
}

fn call(nr: i64, args: &[u64; 6]) -> Option<Call> {
    // The kernel takes the lower half of a register as an int.
    let int = |value: u64| {
        i32::from_ne_bytes(
            u32::try_from(value & 0xffff_ffff)
                .unwrap_or(0)
                .to_ne_bytes(),
        )
    };
    let open = |dir, path, flags: u64| Call::Open {
        dir,
        path,
        create_only: flags & WRITE_MODES == 0,
    };
    let [a, b, c, _, e, f] = *args;
    Some(match nr {
        libc::SYS_connect => Call::Connect {
            fd: int(a),
            address: b,
            length: c,
        },
        libc::SYS_sendto => Call::Connect {
            fd: int(a),
            address: e,
            length: f,
        },
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => open(libc::AT_FDCWD, a, b),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_creat => open(libc::AT_FDCWD, a, WRITE_MODES),
        libc::SYS_openat => open(int(a), b, c),
        libc::SYS_execve => Call::Exec {
            dir: libc::AT_FDCWD,
            path: a,
            empty_path: false,
        },
        libc::SYS_execveat => Call::Exec {
            dir: int(a),
            path: b,
            empty_path: int(e) & libc::AT_EMPTY_PATH != 0,
        },
        _ => return None,
    })
}

/// `sockaddr_in` or `sockaddr_in6`; `None` for every other family.
fn socket_address(bytes: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => Some((Ipv4Addr::from(*rest.first_chunk::<4>()?), port).into()),
        // Four bytes of flow information come first.
        libc::AF_INET6 => Some((Ipv6Addr::from(*rest.get(4..)?.first_chunk::<16>()?), port).into()),
        _ => None,
    }
}

/// The number in `/proc/self/fd/N` and its like, which lead out of any path.
fn descriptor(path: &[u8]) -> Option<i32> {
    let path = std::str::from_utf8(path).ok()?;
    let number = path.strip_prefix("/dev/fd/").or_else(|| {
        let (process, number) = path.strip_prefix("/proc/")?.split_once("/fd/")?;
        let own = matches!(process, "self" | "thread-self") || process.parse::<u32>().is_ok();
        own.then_some(number)
    });
    number?.parse().ok()
}

/// The thread that waits.
struct Caller {
    pid: Pid,
    proc: PathBuf,
    root: OwnedFd,
}

impl Caller {
    fn of(pid: u32) -> Option<Self> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let root =
            directory::open_path_follow(&proc.join("root"), OFlag::O_PATH | OFlag::O_DIRECTORY)
                .ok()?;
        let pid = Pid::from_raw(i32::try_from(pid).ok()?);
        (pid.as_raw() != 0).then_some(Self { pid, proc, root })
    }

    fn read(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        peer::read_memory(self.pid, address, length).ok()
    }

    /// A string that ends within [`PATH_MAX`]. A read stops before a page that is not there.
    fn string(&self, address: u64) -> Option<Vec<u8>> {
        let mut bytes = self.read(address, PATH_MAX)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        bytes.truncate(end);
        Some(bytes)
    }

    fn link(&self, name: &str) -> Option<PathBuf> {
        std::fs::read_link(self.proc.join(name)).ok()
    }

    fn descriptor(&self, fd: i32) -> Option<peer::Described> {
        peer::describe(&self.proc, fd).ok()
    }

    /// Textually; links are followed later.
    fn absolute(&self, dir: i32, path: &[u8]) -> Option<PathBuf> {
        let path = PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()));
        if path.as_os_str().is_empty() {
            return None;
        }
        let base = match dir {
            _ if path.is_absolute() => PathBuf::from("/"),
            libc::AT_FDCWD => self.link("cwd")?,
            fd => self.descriptor(fd)?.link,
        };
        Some(plain(&base.join(path)))
    }

    /// Where links lead inside the caller's root; `None` for what is not there. The descriptor's own link tells the place.
    fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let found = open_in_root(&self.root, path, OFlag::O_PATH).ok()?;
        std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()
    }
}

/// Without `.`, `..` and doubled slashes.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_by_their_arguments() {
        let args = [u64::from(u32::MAX - 99), 0x1000, 0o101, 7, 0x2000, 16];
        let connect = Call::Connect {
            fd: -100,
            address: 0x1000,
            length: 0o101,
        };
        for (name, nr, args, want) in [
            ("connect", libc::SYS_connect, args, Some(connect)),
            (
                "sendto",
                libc::SYS_sendto,
                args,
                Some(Call::Connect {
                    fd: -100,
                    address: 0x2000,
                    length: 16,
                }),
            ),
            (
                "openat",
                libc::SYS_openat,
                args,
                Some(Call::Open {
                    dir: -100,
                    path: 0x1000,
                    create_only: false,
                }),
            ),
            (
                "create",
                libc::SYS_openat,
                [3, 0x1000, 0o100, 0, 0, 0],
                Some(Call::Open {
                    dir: 3,
                    path: 0x1000,
                    create_only: true,
                }),
            ),
            (
                "execve",
                libc::SYS_execve,
                args,
                Some(Call::Exec {
                    dir: -100,
                    path: args[0],
                    empty_path: false,
                }),
            ),
            (
                "execveat",
                libc::SYS_execveat,
                [5, 0x1000, 0, 0, 0x1000, 0],
                Some(Call::Exec {
                    dir: 5,
                    path: 0x1000,
                    empty_path: true,
                }),
            ),
            ("another", libc::SYS_getpid, args, None),
        ] {
            assert_eq!(call(nr, &args), want, "{name}");
        }
    }

    #[test]
    fn addresses_of_two_families_are_read_and_cut_ones_are_not() {
        let v4 = [2, 0, 0x15, 0x38, 10, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut v6 = vec![10, 0, 0, 80, 1, 2, 3, 4];
        v6.extend(Ipv6Addr::LOCALHOST.octets());
        for (name, bytes, want) in [
            ("v4", &v4[..], Some("10.0.0.5:5432")),
            ("v4 cut", &v4[..7], None),
            ("v6", &v6[..], Some("[::1]:80")),
            ("v6 cut", &v6[..20], None),
            ("unix", &[1, 0, b'/', b'x', 0, 0, 0, 0], None),
            ("empty", &[], None),
        ] {
            assert_eq!(
                socket_address(bytes),
                want.map(|text| text.parse().unwrap()),
                "{name}"
            );
        }
    }

    #[test]
    fn links_to_descriptors_are_known_by_their_form() {
        for (path, want) in [
            ("/proc/self/fd/5", Some(5)),
            ("/proc/thread-self/fd/5", Some(5)),
            ("/proc/77/fd/12", Some(12)),
            ("/dev/fd/3", Some(3)),
            ("/proc/self/fd/x", None),
            ("/proc/self/exe", None),
            ("/tmp/fd/3", None),
        ] {
            assert_eq!(descriptor(path.as_bytes()), want, "{path}");
        }
    }

    #[test]
    fn a_path_is_made_plain_before_it_is_judged() {
        for (path, want) in [
            ("/tmp/../app/x", "/app/x"),
            ("/../../x", "/x"),
            ("/a//b/./c/..", "/a/b"),
            ("/", "/"),
        ] {
            assert_eq!(plain(Path::new(path)), Path::new(want), "{path}");
        }
    }

    #[test]
    fn a_callers_memory_and_links_are_read_within_bounds() {
        let own = Caller::of(std::process::id()).unwrap();
        let text = c"/etc/../etc/hosts";
        let address = u64::try_from(text.as_ptr().addr()).unwrap();
        assert_eq!(own.string(address).unwrap(), text.to_bytes());
        assert_eq!(
            own.absolute(libc::AT_FDCWD, b"/etc/../etc/hosts").unwrap(),
            Path::new("/etc/hosts")
        );
        assert_eq!(
            own.absolute(libc::AT_FDCWD, b"x").unwrap(),
            std::env::current_dir().unwrap().join("x")
        );
        assert_eq!(
            own.resolve(Path::new("/proc/self/exe")).as_deref(),
            None,
            "a link out of any path is not followed"
        );
        assert_eq!(
            own.resolve(Path::new("/dev/null")).as_deref(),
            Some(Path::new("/dev/null"))
        );
        assert_eq!(own.resolve(Path::new("/no/such")), None);
        assert_eq!(own.read(8, 8), None, "nothing is mapped there");
        assert!(Caller::of(0).is_none());
    }
}
