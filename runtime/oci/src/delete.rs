//! `delete` and `kill`: the end of a container, and taking back all of it.

use std::time::{Duration, Instant};

use airtight_plan::bundle::Hook;
use airtight_sandbox::groups::Inside;
use airtight_sys::SysError;
use airtight_sys::lock::{Lock, Patience};
use airtight_sys::poll::{Watch, poll};
use airtight_sys::signal::{self, SIGKILL};
use std::os::fd::{AsFd as _, OwnedFd};

use crate::args::Global;
use crate::create::run_late;
use crate::record::{Process, Record};
use crate::report::{self, Failure};
use crate::state::{Home, Root, Status};

/// For whoever works on the container: a `create` is done in milliseconds unless a hook takes its time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// For whoever is about to be done.
const A_SECOND: Duration = Duration::from_secs(1);

/// For a process that was killed.
const A_MOMENT: Duration = Duration::from_millis(100);

pub(crate) fn delete(global: &Global, id: &str, force: bool) -> Result<(), Failure> {
    let home = match Root::find(global.root.as_deref())?.home(id) {
        Err(Failure::NotThere) if force => return Ok(()),
        home => home?,
    };
    let lock = match locked(&home, force) {
        Err(Failure::NotThere) if force => return Ok(()),
        lock => lock?,
    };
    let Some(record) = home.read()? else {
        // Its maker died before it made anything.
        return home.remove();
    };
    match home.settled(&record, &lock) {
        Status::Stopped => {}
        _ if force => kill_all(&record)?,
        Status::Running if ends_soon(&record)? => {}
        status => {
            return Err(Failure::NotStopped {
                id: id.to_owned(),
                status: status.name(),
            });
        }
    }
    take_back(global, &home, &record)?;
    drop(lock);
    Ok(())
}

/// By force not only what the container does is ended, but also a command that waits for it: a program of its image may keep `start` waiting for ever.
fn locked(home: &Home, force: bool) -> Result<Lock, Failure> {
    if force {
        match home.lock(Patience::Upto(A_SECOND)) {
            Err(Failure::Busy) => {}
            lock => return lock,
        }
        if let Some(record) = home.read()? {
            kill_all(&record)?;
        }
    }
    home.lock(Patience::Upto(PATIENCE))
}

/// Groups, hooks, directory: each may be gone already, so that any death in between leaves something that the next `delete` takes back.
fn take_back(global: &Global, home: &Home, record: &Record) -> Result<(), Failure> {
    // Its pid namespace took all of its processes along, and a child that lost its maker ends by itself. Whoever is in the groups then is another's, who
    // was given the same cgroupsPath, and keeps them.
    let inside = if record.own_pid_namespace || record.process.is_none() {
        Inside::Kept
    } else {
        Inside::Killed
    };
    let removed = record.groups().remove(inside).map_err(Failure::Groups);
    after(global, record, &record.poststop, "stopped", None);
    home.remove()?;
    removed
}

/// A container that could not be made. The error that matters is told by the caller.
pub(crate) fn undo(global: &Global, home: &Home, record: &Record) {
    let undone = if record.process.is_some() {
        kill_all(record).and_then(|()| take_back(global, home, record))
    } else {
        // The launch took back the groups that it made; one that was there before is another's.
        home.remove()
    };
    if let Err(failure) = undone {
        report::warn(global, &failure.to_string());
    }
}

/// One that ended in the foreground, unless somebody else deleted it meanwhile, and perhaps made another of its name.
pub(crate) fn ended(global: &Global, home: &Home, record: &Record) {
    let same = |found: Option<Record>| found.is_some_and(|found| found == *record);
    let gone = home.lock(Patience::Upto(PATIENCE)).and_then(|lock| {
        if same(home.read()?) {
            take_back(global, home, record)?;
        }
        drop(lock);
        Ok(())
    });
    match gone {
        Ok(()) | Err(Failure::NotThere) => {}
        Err(failure) => report::warn(global, &failure.to_string()),
    }
}

pub(crate) fn after(
    global: &Global,
    record: &Record,
    hooks: &[Hook],
    status: &str,
    pid: Option<i32>,
) {
    if !hooks.is_empty() {
        let state = record.document.json(status, pid).to_string();
        let point = if status == "stopped" {
            "poststop"
        } else {
            "poststart"
        };
        run_late(global, point, hooks, &state, &record.document.bundle);
    }
}

/// Its first process, and with it those of its pid namespace.
fn kill_all(record: &Record) -> Result<(), Failure> {
    thaw(record)?;
    let Some(process) = record.process else {
        return Ok(());
    };
    let Some(pidfd) = open(process)? else {
        return Ok(());
    };
    send(&pidfd, SIGKILL)?;
    if poll(&mut [Watch::readable(pidfd.as_fd())], Some(A_MOMENT))? {
        return Ok(());
    }
    // Where it may change groups below its own it may have frozen itself in one, and another process of it may do so again and again.
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        // Not at once: a large process takes its time, and its groups may be those of another container too.
        if start.elapsed() > A_SECOND {
            signal_all(record, SIGKILL)?;
        }
        record.groups().thaw_all().map_err(Failure::Groups)?;
        if poll(&mut [Watch::readable(pidfd.as_fd())], Some(A_MOMENT))? {
            return Ok(());
        }
    }
    Err(Failure::said("container init still running"))
}

/// Whoever killed it a moment ago need not ask again: a process takes some time to end.
fn ends_soon(record: &Record) -> Result<bool, Failure> {
    let pidfd = record.process.map(open).transpose()?.flatten();
    match pidfd {
        Some(pidfd) => Ok(poll(&mut [Watch::readable(pidfd.as_fd())], Some(A_MOMENT))?),
        None => Ok(true),
    }
}

/// `None`: it has ended.
fn open(process: Process) -> Result<Option<OwnedFd>, Failure> {
    let pidfd = match signal::pidfd_open(process.pid) {
        Err(error) if is_gone(&error) => return Ok(None),
        opened => opened?,
    };
    // Asked after it was opened: the descriptor names that process or none.
    Ok(process.is_alive().then_some(pidfd))
}

fn send(pidfd: &OwnedFd, number: i32) -> Result<(), Failure> {
    match signal::pidfd_send_signal(pidfd, number) {
        Err(error) if !is_gone(&error) => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn is_gone(error: &SysError) -> bool {
    error.is_no_process()
}

pub(crate) fn kill(global: &Global, id: &str, signal: &str, all: bool) -> Result<(), Failure> {
    let home = Root::find(global.root.as_deref())?.home(id)?;
    let record = home.known()?;
    let number = signal_number(signal)
        .ok_or_else(|| Failure::Said(format!("invalid signal: unknown signal {signal:?}")))?;
    if all {
        return signal_all(&record, number);
    }
    if number == SIGKILL && !record.own_pid_namespace {
        // No kernel ends the others with the first one, which may have ended before them.
        let ended = !record.process.is_some_and(Process::is_alive);
        if ended && record.groups().pids().map_err(Failure::Groups)?.is_empty() {
            return Err(Failure::NotRunning);
        }
        signal_all(&record, number)?;
        return record.groups().thaw_all().map_err(Failure::Groups);
    }
    let process = record.process.ok_or(Failure::NotRunning)?;
    let pidfd = open(process)?.ok_or(Failure::NotRunning)?;
    if number == SIGKILL {
        send(&pidfd, number)?;
        // A frozen v1 group would keep it until it thaws, and so would one of its own making.
        return record.groups().thaw_all().map_err(Failure::Groups);
    }
    send(&pidfd, number)
}

/// A container without a freezer is not frozen.
fn thaw(record: &Record) -> Result<(), Failure> {
    let groups = record.groups();
    if groups.is_frozen().map_err(Failure::Groups)? {
        groups.thaw().map_err(Failure::Groups)?;
    }
    Ok(())
}

fn signal_all(record: &Record, number: i32) -> Result<(), Failure> {
    record
        .groups()
        .signal_all(number)
        .map(drop)
        .map_err(Failure::Groups)
}

/// A name with or without SIG, as kill(1) has them, or a number up to 64.
pub(crate) fn signal_number(text: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    const MIN: i32 = 34;
    const MAX: i32 = 64;
    if let Ok(number) = text.parse::<i32>() {
        return (0..=MAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let name = match name {
        "IOT" => "ABRT",
        "CLD" => "CHLD",
        "POLL" => "IO",
        name => name,
    };
    if let Some(at) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(at + 1).ok();
    }
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        match rest.strip_prefix('+') {
            None if rest.is_empty() => MIN,
            None => return None,
            Some(more) => MIN.checked_add(i32::from(more.parse::<u8>().ok()?))?,
        }
    } else {
        let rest = name.strip_prefix("RTMAX")?;
        match rest.strip_prefix('-') {
            None if rest.is_empty() => MAX,
            None => return None,
            Some(less) => MAX.checked_sub(i32::from(less.parse::<u8>().ok()?))?,
        }
    };
    (MIN..=MAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_named_as_kill_names_them() {
        for (text, want) in [
            ("TERM", Some(15)),
            ("SIGTERM", Some(15)),
            ("sigkill", Some(9)),
            ("0", Some(0)),
            ("64", Some(64)),
            ("65", None),
            ("-9", None),
            ("IOT", Some(6)),
            ("SYS", Some(31)),
            ("WINCH", Some(28)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("RTMAX", Some(64)),
            ("RTMIN+31", None),
            ("RTMIN3", None),
            ("NO", None),
            ("", None),
        ] {
            assert_eq!(signal_number(text), want, "{text}");
        }
    }
}
