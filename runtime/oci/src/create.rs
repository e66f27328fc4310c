//! `create`, `start` and `run`.

use std::cell::RefCell;
use std::io::Write as _;
use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

use airtight_sandbox::{
    BundleContext, Console, Created, LaunchContext, LaunchError, StartError, create as launch,
    run as launch_and_wait, run_hook, start as release,
};
use airtight_sys::lock::Patience;
use airtight_sys::socket::connect_unix;

use crate::args::{CreateArgs, Global, RunArgs};
use crate::bundles::{Prepared, Stays, Then, prepare};
use crate::delete::{self, PATIENCE};
use crate::record::{Process, Record};
use crate::report::{self, Failure};
use crate::state::{Home, Root, Status};

pub(crate) fn create(global: &Global, args: &CreateArgs) -> Result<(), Failure> {
    detached(global, args, Then::Wait)
}

pub(crate) fn run(global: &Global, args: &RunArgs) -> Result<ExitCode, Failure> {
    if args.detach {
        detached(global, &args.create, Then::Run)?;
        return Ok(ExitCode::SUCCESS);
    }
    foreground(global, args)
}

fn detached(global: &Global, args: &CreateArgs, then: Then) -> Result<(), Failure> {
    let Prepared {
        plan,
        mut record,
        config,
        terminal,
    } = prepare(global, args, then, Stays::No)?;
    let (plan, config) = (ManuallyDrop::new(plan), ManuallyDrop::new(config));
    let console = console(args.console_socket.as_deref(), terminal, true)?;
    let pidfd_socket = pidfd_socket(args.pidfd_socket.as_deref())?;
    let root = Root::find(global.root.as_deref())?;
    let (home, lock) = root.make(&args.id)?;
    let made = begin(&home, &record, &config, then).and_then(|fifo| {
        let mut context = context(global, &root, &record, console, fifo);
        context.pidfd_socket = pidfd_socket;
        let created = launch(&plan, &context, &mut |created| {
            known(&home, &mut record, created)
        });
        tell(global, &context);
        write_pid(args.pid_file.as_deref(), created?.pid)?;
        Ok(())
    });
    if let Err(failure) = made {
        let failure = explained(failure, &record);
        delete::undo(global, &home, &record);
        return Err(failure);
    }
    if then == Then::Run {
        poststart(global, &record);
    }
    drop(lock);
    Ok(())
}

fn foreground(global: &Global, args: &RunArgs) -> Result<ExitCode, Failure> {
    let Prepared {
        plan,
        mut record,
        config,
        terminal,
    } = prepare(global, &args.create, Then::Run, Stays::Yes)?;
    // The end of the process frees them: piece by piece it would write to pages that are still shared with the child, and copy each.
    let (plan, config) = (ManuallyDrop::new(plan), ManuallyDrop::new(config));
    let console = console(args.create.console_socket.as_deref(), terminal, false)?;
    let pidfd_socket = pidfd_socket(args.create.pidfd_socket.as_deref())?;
    let root = Root::find(global.root.as_deref())?;
    let (home, lock) = root.make(&args.create.id)?;
    let mut lock = Some(lock);
    let ended = begin(&home, &record, &config, Then::Run).and_then(|fifo| {
        let mut context = context(global, &root, &record, console, fifo);
        context.pidfd_socket = pidfd_socket;
        // The record is written while the child works, and read when it runs.
        let written = RefCell::new(&mut record);
        let outcome = launch_and_wait(
            &plan,
            &context,
            &mut |created| known(&home, &mut written.borrow_mut(), created),
            |created| {
                tell(global, &context);
                if let Err(failure) = write_pid(args.create.pid_file.as_deref(), created.pid) {
                    report::warn(global, &failure.to_string());
                }
                poststart(global, &written.borrow());
                // From here on others may kill and delete it.
                lock = None;
            },
        )?;
        Ok(outcome)
    });
    match ended {
        Ok(outcome) => {
            if !args.keep {
                delete::ended(global, &home, &record);
            }
            Ok(report::outcome(outcome))
        }
        Err(failure) => {
            let failure = explained(failure, &record);
            delete::undo(global, &home, &record);
            Err(failure)
        }
    }
}

/// What must be on disk before anything else is there.
fn begin(
    home: &Home,
    record: &Record,
    config: &str,
    then: Then,
) -> Result<Option<OwnedFd>, Failure> {
    home.begin(record, config)
        .map_err(|error| Failure::io(&home.dir().display().to_string(), &error))?;
    match then {
        Then::Wait => home.make_fifo().map(Some),
        Then::Run => Ok(None),
    }
}

fn known(home: &Home, record: &mut Record, created: Created) -> std::io::Result<()> {
    // One that ended already is told by what it said last.
    record.process = Process::of(created.pid);
    record
        .process
        .map_or(Ok(()), |process| home.add_process(process))
}

fn context(
    global: &Global,
    root: &Root,
    record: &Record,
    console: Console,
    fifo: Option<OwnedFd>,
) -> BundleContext {
    BundleContext {
        launch: LaunchContext {
            cache_dir: root.cache(),
            timings: global.debug,
        },
        document: record.document.clone(),
        first: None,
        host_root: false,
        fifo,
        console,
        pidfd_socket: None,
        warnings: RefCell::default(),
        stamps: RefCell::default(),
    }
}

pub(crate) fn tell(global: &Global, context: &BundleContext) {
    for warning in context.warnings.take() {
        report::warn(global, &warning);
    }
    let stamps = context.stamps.take();
    for ((_, before), (step, at)) in stamps.iter().zip(stamps.iter().skip(1)) {
        let took = at.saturating_sub(*before).as_micros();
        report::debug(global, &format!("{step}: {took} us"));
    }
}

/// The kernel's reason for a child that was gone before it could say anything.
fn explained(failure: Failure, record: &Record) -> Failure {
    let silent =
        matches!(&failure, Failure::Launch(LaunchError::Child { step, .. }) if step == "init");
    if silent && record.groups().oom_kills().is_ok_and(|kills| kills > 0) {
        return Failure::said(
            "unable to start container process: container init was OOM-killed (memory limit too low?)",
        );
    }
    failure
}

/// Who gets the terminal: nobody is left to relay it where the command returns.
pub(crate) fn console(
    socket: Option<&Path>,
    terminal: bool,
    detached: bool,
) -> Result<Console, Failure> {
    match (socket, terminal && detached) {
        (Some(path), true) => Ok(Console::Socket(connect_unix(path)?)),
        (None, true) => Err(Failure::said(
            "cannot allocate tty if runc will detach without setting console socket",
        )),
        (Some(_), false) => Err(Failure::said(
            "cannot use console socket if runc will not detach or allocate tty",
        )),
        (None, false) => Ok(Console::Relay),
    }
}

pub(crate) fn pidfd_socket(path: Option<&Path>) -> Result<Option<OwnedFd>, Failure> {
    Ok(path.map(connect_unix).transpose()?)
}

/// Whole or not at all: whoever waits for the file reads it at once.
pub(crate) fn write_pid(file: Option<&Path>, pid: i32) -> Result<(), Failure> {
    let Some(file) = file else { return Ok(()) };
    let mut name = std::ffi::OsString::from(".");
    name.push(file.file_name().unwrap_or_default());
    let temporary = file.with_file_name(name);
    // Made anew: what somebody put there before may be a link to another file, or a FIFO.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Failure::io(&temporary.display().to_string(), &error));
        }
        Ok(()) | Err(_) => {}
    }
    std::fs::File::create_new(&temporary)
        .and_then(|mut new| new.write_all(pid.to_string().as_bytes()))
        .and_then(|()| std::fs::rename(&temporary, file))
        .map_err(|error| Failure::io(&file.display().to_string(), &error))
}

pub(crate) fn start(global: &Global, id: &str) -> Result<(), Failure> {
    let home = Root::find(global.root.as_deref())?.home(id)?;
    let lock = home.lock(Patience::Upto(PATIENCE))?;
    let record = home.known()?;
    match home.settled(&record, &lock) {
        // It would not hear of its start, and whoever waits for that holds the lock which `resume` needs.
        Status::Created if record.groups().is_frozen().map_err(Failure::Groups)? => {
            return Err(Failure::said("cannot start a paused container"));
        }
        Status::Created if record.startable => {}
        Status::Created | Status::Creating => {
            return Err(Failure::said(
                "cannot start a container without a process: its config has none",
            ));
        }
        Status::Running => return Err(Failure::said("cannot start an already running container")),
        Status::Paused => return Err(Failure::said("cannot start a paused container")),
        Status::Stopped => return Err(Failure::said("cannot start a container that has stopped")),
    }
    let waits = record.start_hooks || !record.poststart.is_empty();
    let started = release(&home.fifo(), waits);
    home.remove_fifo()?;
    match started {
        Ok(()) => {}
        Err(StartError::NobodyWaits) => {
            return Err(Failure::said("cannot start an already running container"));
        }
        Err(StartError::Failed(why)) => return Err(Failure::Launch(LaunchError::Hook(why))),
        Err(StartError::Sys(error)) => return Err(Failure::Sys(error)),
    }
    poststart(global, &record);
    drop(lock);
    Ok(())
}

/// They change nothing any more: what goes wrong is told.
fn poststart(global: &Global, record: &Record) {
    let pid = record.process.map(|process| process.pid);
    delete::after(global, record, &record.poststart, "running", pid);
}

/// Runs hooks that come after what they are told of.
pub(crate) fn run_late(
    global: &Global,
    point: &str,
    hooks: &[airtight_plan::bundle::Hook],
    state: &str,
    bundle: &Path,
) {
    for (at, hook) in hooks.iter().enumerate() {
        let directory = bundle.is_dir().then_some(bundle);
        if let Err(why) = run_hook(hook, state, directory) {
            report::warn(global, &format!("error running {point} hook #{at}: {why}"));
        }
    }
}
