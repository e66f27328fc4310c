//! `pause` and `resume`.

use airtight_sys::lock::Patience;

use crate::args::Global;
use crate::delete::PATIENCE;
use crate::report::Failure;
use crate::state::{Root, Status};

pub(crate) fn pause(global: &Global, id: &str) -> Result<(), Failure> {
    let home = Root::find(global.root.as_deref())?.home(id)?;
    // Against a `delete` beside this: its processes are to be killed, not stopped.
    let lock = home.lock(Patience::Upto(PATIENCE))?;
    let record = home.known()?;
    match home.settled(&record, &lock) {
        Status::Created | Status::Running => {}
        Status::Creating | Status::Paused | Status::Stopped => return Err(Failure::NotRunning),
    }
    record.groups().freeze().map_err(Failure::Groups)?;
    drop(lock);
    Ok(())
}

pub(crate) fn resume(global: &Global, id: &str) -> Result<(), Failure> {
    let home = Root::find(global.root.as_deref())?.home(id)?;
    let lock = home.lock(Patience::Upto(PATIENCE))?;
    let record = home.known()?;
    // One that was paused before it was started is created and frozen.
    let groups = record.groups();
    let paused = match home.settled(&record, &lock) {
        Status::Paused => true,
        Status::Created => groups.is_frozen().map_err(Failure::Groups)?,
        Status::Creating | Status::Running | Status::Stopped => false,
    };
    if !paused {
        return Err(Failure::said("container not paused"));
    }
    groups.thaw().map_err(Failure::Groups)?;
    drop(lock);
    Ok(())
}
