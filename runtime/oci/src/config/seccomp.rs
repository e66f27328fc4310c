//! `linux.seccomp` of a config.json. What it means to the kernel is the compiler's affair.

use airtight_plan::bundle::{
    SECCOMP_FLAGS, SeccompAction, SeccompListener, SeccompProfile, SeccompRule,
};
use airtight_plan::{ArgCondition, ArgOp};
use serde_json::{Value, json};

use crate::document::{Object, Problems};

/// As every runtime has it where no `errnoRet` is given.
const EPERM: u16 = 1;
/// A system call has no more.
const ARGUMENTS: i64 = 6;
const ARCHITECTURES: [&str; 22] = [
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH",
];
const ACTIONS: [(&str, SeccompAction); 9] = [
    ("SCMP_ACT_ALLOW", SeccompAction::Allow),
    ("SCMP_ACT_ERRNO", SeccompAction::Errno(EPERM)),
    ("SCMP_ACT_KILL", SeccompAction::KillThread),
    ("SCMP_ACT_KILL_PROCESS", SeccompAction::KillProcess),
    ("SCMP_ACT_KILL_THREAD", SeccompAction::KillThread),
    ("SCMP_ACT_LOG", SeccompAction::Log),
    ("SCMP_ACT_NOTIFY", SeccompAction::Notify),
    ("SCMP_ACT_TRACE", SeccompAction::Trace(EPERM)),
    ("SCMP_ACT_TRAP", SeccompAction::Trap),
];
const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

/// `linux.seccomp` of `features`: what is read here, and the flags that this kernel takes.
pub(crate) fn features(supported_flags: &[&str]) -> Value {
    let mut architectures = ARCHITECTURES;
    architectures.sort_unstable();
    json!({
        "enabled": true,
        "actions": ACTIONS.map(|(name, _)| name),
        "operators": OPERATORS,
        "archs": architectures,
        "knownFlags": SECCOMP_FLAGS.map(|(name, _)| name),
        "supportedFlags": supported_flags,
    })
}

/// Reads the object at `linux.seccomp`. `None`: it names neither an action nor a call, which is how some tools write "no filter"; or it has problems.
pub(crate) fn seccomp(from: &mut Object, problems: &mut Problems) -> Option<SeccompProfile> {
    let default = from.text("defaultAction", problems);
    let rules = from.objects("syscalls", problems);
    let default_errno = errno(from, "defaultErrnoRet", problems);
    let architectures = names(from, "architectures", &ARCHITECTURES, problems);
    let flags = names(
        from,
        "flags",
        &SECCOMP_FLAGS.map(|(name, _)| name),
        problems,
    );
    let path = from.path("listenerPath", problems);
    let metadata = from.text("listenerMetadata", problems);
    let Some(default) = default.filter(|action| !action.is_empty()) else {
        if !rules.is_empty() {
            problems.add(&from.key("defaultAction"), "is missing");
        }
        return None;
    };
    let default_action = action(
        &from.key("defaultAction"),
        &default,
        default_errno,
        problems,
    )?;
    let syscalls: Vec<SeccompRule> = rules
        .into_iter()
        .filter_map(|mut from| rule(&mut from, problems))
        .collect();
    if default_action == SeccompAction::Notify {
        // The program itself could not be started: its first call would wait for an answer that must first be asked for.
        problems.add(
            &from.key("defaultAction"),
            "SCMP_ACT_NOTIFY cannot be used as default action",
        );
    }
    let listener = path
        .filter(|path| !path.as_os_str().is_empty())
        .map(|path| SeccompListener {
            path,
            metadata: metadata.unwrap_or_default(),
        });
    let notifies = syscalls
        .iter()
        .any(|rule| rule.action == SeccompAction::Notify);
    if notifies && listener.is_none() {
        problems.add(
            &from.key("listenerPath"),
            "is missing, and SCMP_ACT_NOTIFY has nobody to tell",
        );
    }
    Some(SeccompProfile {
        default_action,
        architectures,
        flags,
        syscalls,
        listener: listener.filter(|_| notifies),
    })
}

fn rule(from: &mut Object, problems: &mut Problems) -> Option<SeccompRule> {
    let names = from.texts("names", problems);
    if names.is_empty() || names.iter().any(String::is_empty) {
        problems.add(&from.key("names"), "has an empty name, or none");
    }
    let errno = errno(from, "errnoRet", problems);
    let conditions = from.objects("args", problems);
    let Some(text) = from.text("action", problems) else {
        problems.add(&from.key("action"), "is missing");
        return None;
    };
    let action = action(&from.key("action"), &text, errno, problems)?;
    let args = conditions
        .into_iter()
        .filter_map(|mut from| condition(&mut from, problems))
        .collect();
    Some(SeccompRule {
        names,
        action,
        args,
    })
}

fn action(
    key: &str,
    text: &str,
    errno: Option<u16>,
    problems: &mut Problems,
) -> Option<SeccompAction> {
    let Some((_, action)) = ACTIONS.iter().find(|(name, _)| *name == text) else {
        problems.add(key, "is not a valid action for seccomp");
        return None;
    };
    match (action, errno) {
        (SeccompAction::Errno(_), Some(errno)) => return Some(SeccompAction::Errno(errno)),
        (SeccompAction::Trace(_), Some(message)) => return Some(SeccompAction::Trace(message)),
        _ => {}
    }
    let takes = matches!(action, SeccompAction::Errno(_) | SeccompAction::Trace(_));
    if errno.is_some() && !takes {
        // config-linux.md: an error number for an action that returns none must fail.
        problems.add(key, "returns no error number, and one is given");
    }
    Some(*action)
}

fn errno(from: &mut Object, key: &str, problems: &mut Problems) -> Option<u16> {
    let value = from.integer(key, problems)?;
    let errno = u16::try_from(value).ok();
    if errno.is_none() {
        problems.add(&from.key(key), "is not an error number");
    }
    errno
}

fn names(from: &mut Object, key: &str, known: &[&str], problems: &mut Problems) -> Vec<String> {
    let names = from.texts(key, problems);
    for (at, name) in names.iter().enumerate() {
        if !known.contains(&name.as_str()) {
            let problem = format!("`{}` is not known for seccomp", name.escape_debug());
            problems.add(&from.key(&format!("{key}[{at}]")), &problem);
        }
    }
    names
}

fn condition(from: &mut Object, problems: &mut Problems) -> Option<ArgCondition> {
    let index = from.integer("index", problems).unwrap_or(0);
    let value = word(from, "value", problems);
    let second = word(from, "valueTwo", problems);
    let text = from.text("op", problems).unwrap_or_default();
    let arg = u8::try_from(index)
        .ok()
        .filter(|_| index < ARGUMENTS)
        .or_else(|| {
            problems.add(&from.key("index"), "is not 0 to 5");
            None
        })?;
    let (op, value) = match text.as_str() {
        "SCMP_CMP_NE" => (ArgOp::Ne, value),
        "SCMP_CMP_LT" => (ArgOp::Lt, value),
        "SCMP_CMP_LE" => (ArgOp::Le, value),
        "SCMP_CMP_EQ" => (ArgOp::Eq, value),
        "SCMP_CMP_GE" => (ArgOp::Ge, value),
        "SCMP_CMP_GT" => (ArgOp::Gt, value),
        // Bits outside the mask are not looked at on either side, as libseccomp has it.
        "SCMP_CMP_MASKED_EQ" => (ArgOp::Masked(value), second & value),
        _ => {
            problems.add(&from.key("op"), "is not a valid operator for seccomp");
            return None;
        }
    };
    Some(ArgCondition { arg, op, value })
}

/// All 64 bits; nothing is 0.
fn word(from: &mut Object, key: &str, problems: &mut Problems) -> u64 {
    match from.take(key) {
        None => 0,
        Some(Value::Number(number)) if number.is_u64() => number.as_u64().unwrap_or_default(),
        Some(_) => {
            problems.add(&from.key(key), "is not a whole number from 0 on");
            0
        }
    }
}

#[cfg(test)]
#[path = "seccomp_tests.rs"]
mod tests;
