//! `/dev`: six nodes at most, a devpts and shared memory of its own, read-only once made.

use std::ffi::CStr;
use std::path::Path;

use airtight_plan::DeviceNode;
use airtight_sys::directory;
use airtight_sys::mount::{self, Attributes};
use airtight_sys::open;
use nix::fcntl::OFlag;

use super::mounts::{device, new_tmpfs};
use super::{Child, Result};

/// Links that programs expect; `ptmx` leads to the own devpts.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Pseudo terminals at a time: the kernel counts them for all sandboxes of a host together (`kernel.pty.max`), and one could take what the others need.
const TERMINALS: &CStr = c"64";

/// Nodes are mounts of their own: what the directory itself holds is names.
const DIRECTORY_BYTES: u64 = 64 << 10;

impl Child<'_> {
    pub(super) fn dev(&self, nodes: &[DeviceNode], shm_bytes: u64) -> Result<()> {
        let dev = new_tmpfs(
            DIRECTORY_BYTES,
            0o755,
            Attributes {
                read_only: false,
                ..Attributes::DATA
            },
        )?;
        self.attach_fixed(&dev, "dev")?;
        for node in nodes {
            let (name, number) = identity(*node);
            directory::make_file(&dev, Path::new(name), b"", 0o444)?;
            let tree = mount::clone_tree(device(&Path::new("/dev").join(name), number)?)?;
            mount::set_attributes(&tree, Attributes::DEVICE, None)?;
            mount::attach(
                &tree,
                open::open_beneath(&dev, Path::new(name), OFlag::O_PATH)?,
            )?;
        }
        for (name, target) in LINKS {
            directory::make_link(&dev, Path::new(name), Path::new(target))?;
        }
        let pts = directory::make_directory(&dev, Path::new("pts"), 0o755)?;
        // Each mount of devpts is an instance of its own, with no terminal of the host in it.
        let options = [
            (c"ptmxmode", Some(c"0666")),
            (c"mode", Some(c"0620")),
            (c"max", Some(TERMINALS)),
        ];
        mount::attach(
            mount::new_mount(c"devpts", &options, Attributes::DEVICE)?,
            &pts,
        )?;
        let shm = directory::make_directory(&dev, Path::new("shm"), 0o755)?;
        mount::attach(new_tmpfs(shm_bytes, 0o1777, Attributes::DATA)?, &shm)?;
        // Last: nothing can be added or taken away any more.
        Ok(mount::set_attributes(&dev, Attributes::FIXED, None)?)
    }
}

/// Name and device number, as `Documentation/admin-guide/devices.txt` gives them.
fn identity(node: DeviceNode) -> (&'static str, (u64, u64)) {
    match node {
        DeviceNode::Null => ("null", (1, 3)),
        DeviceNode::Zero => ("zero", (1, 5)),
        DeviceNode::Full => ("full", (1, 7)),
        DeviceNode::Random => ("random", (1, 8)),
        DeviceNode::Urandom => ("urandom", (1, 9)),
        DeviceNode::Tty => ("tty", (5, 0)),
    }
}
