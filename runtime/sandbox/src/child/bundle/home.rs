//! Where the payload's user is at home.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use airtight_sys::directory::{self, Kind, open_path};
use airtight_sys::open::open_in_root;
use nix::fcntl::OFlag;

use super::super::{Child, Result};

/// Of an image's account file; a user that comes later is at home in `/`.
const MAX_PASSWD: u64 = 1 << 20;

impl Child<'_> {
    pub(in crate::child) fn look_up_home(&mut self, uid: u32) -> Result<()> {
        self.home = Some(home(&passwd(), uid));
        Ok(())
    }
}

/// The image's file, or nothing: it may be anything, or not be there.
fn passwd() -> String {
    let mut text = Vec::new();
    let opened = open_path(Path::new("/"), OFlag::O_PATH | OFlag::O_DIRECTORY).and_then(|root| {
        // A fifo is not waited for.
        open_in_root(
            root,
            Path::new("etc/passwd"),
            OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY,
        )
    });
    if let Ok(file) = opened
        && directory::kind(&file) == Ok(Kind::File)
        && File::from(file)
            .take(MAX_PASSWD)
            .read_to_end(&mut text)
            .is_ok()
    {
        return String::from_utf8_lossy(&text).into_owned();
    }
    String::new()
}

/// `name:password:uid:gid:comment:home:shell`
fn home(passwd: &str, uid: u32) -> String {
    passwd
        .lines()
        .find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let theirs = fields.get(2)?.parse() == Ok(uid);
            let home = *fields.get(5)?;
            (theirs && !home.is_empty() && !home.contains('\0')).then(|| home.to_owned())
        })
        .unwrap_or_else(|| "/".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_at_home_where_the_image_says() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbad\nweb:x:7:7::/srv:/bin/sh\nnone:x:8:8:::\n";
        for (uid, want) in [(0, "/root"), (7, "/srv"), (8, "/"), (9, "/")] {
            assert_eq!(home(passwd, uid), want, "{uid}");
        }
    }
}
