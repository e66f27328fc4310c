//! `process`, of a config.json or of a file given to `exec`.

use airtight_plan::bundle::{
    Capabilities, ExecAffinity, IoPriority, ProcessConfig, RlimitEntry, Scheduler, User,
    capability_bit,
};

use crate::document::{NO_ID, Object, Problems};

/// The kernel's numbers, in their order.
const RLIMITS: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];
/// The place is the kernel's number.
const POLICIES: [&str; 7] = [
    "SCHED_OTHER",
    "SCHED_FIFO",
    "SCHED_RR",
    "SCHED_BATCH",
    "SCHED_ISO",
    "SCHED_IDLE",
    "SCHED_DEADLINE",
];
/// The place is the kernel's bit.
const SCHEDULER_FLAGS: [&str; 7] = [
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
];
/// The place is the kernel's number; 0 is none.
const IO_CLASSES: [&str; 4] = [
    "IOPRIO_CLASS_NONE",
    "IOPRIO_CLASS_RT",
    "IOPRIO_CLASS_BE",
    "IOPRIO_CLASS_IDLE",
];
/// More than any kernel counts.
const MAX_CPUS: usize = 8192;

pub(super) fn process(mut object: Object, problems: &mut Problems) -> ProcessConfig {
    let texts = |object: &mut Object, key: &str, problems: &mut Problems| {
        object.text(key, problems).unwrap_or_default()
    };
    let process = ProcessConfig {
        terminal: object.flag("terminal", problems).unwrap_or(false),
        console_size: console_size(&mut object, problems),
        user: user(&mut object, problems),
        args: object.texts("args", problems),
        env: object.texts("env", problems),
        cwd: object.path("cwd", problems).unwrap_or_default(),
        capabilities: capabilities(&mut object, problems),
        rlimits: rlimits(&mut object, problems),
        no_new_privileges: object.flag("noNewPrivileges", problems),
        apparmor_profile: texts(&mut object, "apparmorProfile", problems),
        selinux_label: texts(&mut object, "selinuxLabel", problems),
        oom_score_adj: oom_score_adj(&mut object, problems),
        scheduler: scheduler(&mut object, problems),
        io_priority: io_priority(&mut object, problems),
        exec_affinity: exec_affinity(&mut object, problems),
    };
    object.rest(problems);
    process
}

fn console_size(process: &mut Object, problems: &mut Problems) -> Option<(u16, u16)> {
    let mut size = process.object("consoleSize", problems)?;
    Some((
        size.number("width", problems)?,
        size.number("height", problems)?,
    ))
}

fn user(process: &mut Object, problems: &mut Problems) -> User {
    let Some(mut user) = process.object("user", problems) else {
        return User::default();
    };
    let mut additional_gids = Vec::new();
    for (at, value) in user.array("additionalGids", problems).iter().enumerate() {
        match value.as_u64().and_then(|gid| u32::try_from(gid).ok()) {
            Some(gid) if gid != NO_ID => additional_gids.push(gid),
            _ => problems.add(&user.key(&format!("additionalGids[{at}]")), "is not an id"),
        }
    }
    let asked = User {
        uid: user.id("uid", problems).unwrap_or(0),
        gid: user.id("gid", problems).unwrap_or(0),
        umask: user.number("umask", problems),
        additional_gids,
    };
    user.rest(problems);
    asked
}

/// Names that this kernel does not have are passed over with a word, so that a config written for a newer one starts.
fn capabilities(process: &mut Object, problems: &mut Problems) -> Option<Capabilities> {
    let mut sets = process.object("capabilities", problems)?;
    let mut unknown: Vec<String> = Vec::new();
    let mut set = |key: &str, problems: &mut Problems| {
        let mut bits = 0;
        for name in sets.texts(key, problems) {
            match capability_bit(&name) {
                Some(bit) => bits |= bit,
                None if unknown.contains(&name) => {}
                None => unknown.push(name),
            }
        }
        bits
    };
    let capabilities = Capabilities {
        bounding: set("bounding", problems),
        effective: set("effective", problems),
        inheritable: set("inheritable", problems),
        permitted: set("permitted", problems),
        ambient: set("ambient", problems),
    };
    if !unknown.is_empty() {
        let names: String = unknown.join(" ").escape_debug().take(1000).collect();
        problems.warn(format!(
            "ignoring unknown or unavailable capabilities: [{names}]"
        ));
    }
    Some(capabilities)
}

fn rlimits(process: &mut Object, problems: &mut Problems) -> Vec<RlimitEntry> {
    let mut rlimits = Vec::new();
    for mut limit in process.objects("rlimits", problems) {
        let key = limit.key("type");
        let name = limit.text("type", problems).unwrap_or_default();
        match place(&RLIMITS, &name) {
            Some(resource) => rlimits.push(RlimitEntry {
                resource,
                soft: limit.number("soft", problems).unwrap_or(0),
                hard: limit.number("hard", problems).unwrap_or(0),
            }),
            None => problems.add(&key, "is not a limit of the kernel"),
        }
    }
    rlimits
}

fn oom_score_adj(process: &mut Object, problems: &mut Problems) -> Option<i32> {
    let key = process.key("oomScoreAdj");
    let value = process.number("oomScoreAdj", problems)?;
    if !(-1000..=1000).contains(&value) {
        problems.add(&key, "is not between -1000 and 1000");
    }
    Some(value)
}

fn scheduler(process: &mut Object, problems: &mut Problems) -> Option<Scheduler> {
    let mut object = process.object("scheduler", problems)?;
    let key = object.key("policy");
    let policy = object.text("policy", problems).unwrap_or_default();
    let Some(policy) = place(&POLICIES, &policy) else {
        problems.add(&key, "is not a policy of the kernel");
        return None;
    };
    let mut flags = 0;
    for flag in object.texts("flags", problems) {
        match place(&SCHEDULER_FLAGS, &flag) {
            Some(at) => flags |= 1 << at,
            None => problems.add(&object.key("flags"), "holds a flag that the kernel has not"),
        }
    }
    let scheduler = Scheduler {
        policy,
        nice: object.number("nice", problems).unwrap_or(0),
        priority: object.number("priority", problems).unwrap_or(0),
        flags,
        runtime: object.number("runtime", problems).unwrap_or(0),
        deadline: object.number("deadline", problems).unwrap_or(0),
        period: object.number("period", problems).unwrap_or(0),
    };
    let real_time = matches!(policy, 1 | 2);
    if !(-20..=19).contains(&scheduler.nice) {
        problems.add(&object.key("nice"), "is not between -20 and 19");
    }
    if scheduler.priority != 0 && !real_time {
        problems.add(
            &object.key("priority"),
            "is for SCHED_FIFO and SCHED_RR only",
        );
    }
    if policy != 6 && (scheduler.runtime, scheduler.deadline, scheduler.period) != (0, 0, 0) {
        problems.add(
            &object.key("runtime"),
            "and deadline and period are for SCHED_DEADLINE only",
        );
    }
    Some(scheduler)
}

fn io_priority(process: &mut Object, problems: &mut Problems) -> Option<IoPriority> {
    let mut object = process.object("ioPriority", problems)?;
    let (key, priority_key) = (object.key("class"), object.key("priority"));
    let class = object.text("class", problems).unwrap_or_default();
    let class = place(&IO_CLASSES, &class).and_then(|class| u16::try_from(class).ok());
    let priority: u16 = object.number("priority", problems).unwrap_or(0);
    if priority > 7 {
        problems.add(&priority_key, "is not between 0 and 7");
    }
    match class {
        Some(class) if class > 0 => Some(IoPriority { class, priority }),
        _ => {
            problems.add(
                &key,
                "is not IOPRIO_CLASS_RT, IOPRIO_CLASS_BE or IOPRIO_CLASS_IDLE",
            );
            None
        }
    }
}

fn exec_affinity(process: &mut Object, problems: &mut Problems) -> ExecAffinity {
    let Some(mut object) = process.object("execCPUAffinity", problems) else {
        return ExecAffinity::default();
    };
    let mut list = |key: &str| {
        let text = object.text(key, problems).unwrap_or_default();
        cpus(&text).unwrap_or_else(|| {
            problems.add(&object.key(key), "is not a list of CPUs (0-3,7)");
            Vec::new()
        })
    };
    ExecAffinity {
        initial: list("initial"),
        last: list("final"),
    }
}

/// `0-3,7`; an empty text is no list.
pub(super) fn cpus(text: &str) -> Option<Vec<u32>> {
    // The same range may be written as often as a text is long.
    let mut named = vec![false; MAX_CPUS];
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last {
            return None;
        }
        named.get_mut(first..=last)?.fill(true);
    }
    let numbers = (0..).zip(named);
    Some(
        numbers
            .filter_map(|(cpu, named)| named.then_some(cpu))
            .collect(),
    )
}

fn place(names: &[&str], name: &str) -> Option<u32> {
    let at = names.iter().position(|known| *known == name)?;
    u32::try_from(at).ok()
}
