//! What a spec must be before anything is decided about it, and what of it is the operator's ask.

use airtight_profiles::{Additions, Policy};

use crate::Spec;
use crate::control::{Refusal, Result};
use crate::mounts::plain;
use crate::network::endpoint;

/// The kernel's MAX_ARG_STRLEN: the longest single argument or variable of exec.
const MAX_ARG_BYTES: usize = 128 * 1024;

impl Spec {
    /// What the operator's flags add to the ask, for [`airtight_profiles::effective`].
    ///
    /// # Errors
    /// An endpoint that is not one host and one port.
    pub fn additions(&self) -> Result<Additions> {
        let mut additions = Additions {
            public: self.public,
            ..Additions::default()
        };
        for connect in &self.connect {
            additions.connect.insert(endpoint(connect)?);
        }
        for port in self.listen.iter().filter(|port| **port != 0) {
            additions.listen.insert(*port, *port);
        }
        for tmpfs in &self.tmpfs {
            additions.tmpfs.insert(tmpfs.path.clone(), tmpfs.size);
        }
        Ok(additions)
    }
}

/// The kernel maps a program as its headers say, before the filter can look: so what those ask for is held against the policy here.
pub(crate) fn code(spec: &Spec, policy: &Policy) -> Result<()> {
    match spec.write_execute.first() {
        Some(program) if !policy.write_execute => Err(Refusal::new(
            "image",
            format!(
                "{program} asks for memory that is both written and executed (an executable stack or segment)"
            ),
            "link it without (-z noexecstack), or use a profile that allows it (--profile jit)",
        )),
        _ => Ok(()),
    }
}

pub(crate) fn check(spec: &Spec) -> Result<()> {
    let word = |text: &str, most: usize, extra: &[u8]| {
        (1..=most).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte))
    };
    if !word(&spec.id, 64, b"-") || spec.id.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(Refusal::new(
            "id",
            format!(
                "`{}` is not 1 to 64 of a-z, 0-9 and `-`",
                spec.id.escape_default()
            ),
            "choose another",
        ));
    }
    // It is a line of /etc/hosts and of /etc/hostname; the kernel takes 64 bytes.
    if !word(&spec.hostname, 64, b"-.") || spec.hostname.starts_with(['-', '.']) {
        let problem = format!(
            "`{}` is not 1 to 64 of letters, digits, `-` and `.`",
            spec.hostname.escape_default()
        );
        return Err(Refusal::new("hostname", problem, "choose another"));
    }
    process(spec)
}

fn process(spec: &Spec) -> Result<()> {
    let process = &spec.process;
    if process.args.first().is_none_or(String::is_empty) {
        let fix =
            "name one after the image: IMAGE -- /bin/app, or build the image with an entrypoint";
        return Err(Refusal::new(
            "arguments",
            "there is no program to execute",
            fix,
        ));
    }
    for (ask, text) in process
        .args
        .iter()
        .map(|arg| ("arguments", arg))
        .chain(process.env.iter().map(|pair| ("--env", pair)))
    {
        if text.contains('\0') || text.len() >= MAX_ARG_BYTES {
            // Not shown: it may be a secret.
            return Err(Refusal::new(
                ask,
                "one has a NUL or is longer than 128 KiB",
                "pass it in a file",
            ));
        }
    }
    if process
        .env
        .iter()
        .any(|pair| pair.split_once('=').is_none_or(|(key, _)| key.is_empty()))
    {
        return Err(Refusal::new(
            "--env",
            "one is not KEY=VALUE",
            "write --env KEY=VALUE",
        ));
    }
    if !plain(&process.cwd) {
        let problem = format!("{} is not absolute and free of `..`", process.cwd.display());
        return Err(Refusal::new(
            "working directory",
            problem,
            "write it from the image's root, like `/srv`",
        ));
    }
    Ok(())
}
