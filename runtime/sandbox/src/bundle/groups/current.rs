//! What an update leaves unsaid and v2 keeps in one file with what it says.

use airtight_plan::bundle::{Memory, Resources};
use airtight_sys::Result as SysResult;

use super::Groups;
use super::dir::{Dir, number};
use crate::error::Cause;

impl Groups {
    /// Fills in the present values that the new ones are written together with. On v1 each has a file of its own.
    ///
    /// # Errors
    /// The kernel's.
    pub fn complete(&self, resources: &mut Resources) -> Result<(), Cause> {
        if !self.only_unified() {
            return Ok(());
        }
        let Some(dir) = self.unified()? else {
            return Ok(());
        };
        let cpu = &mut resources.cpu;
        let asked = |value: Option<u64>| value.is_some_and(|value| value != 0);
        let quota = cpu.quota.is_some_and(|quota| quota != 0);
        if quota != asked(cpu.period)
            && let Some(text) = dir.read_if_there("cpu.max")?
            && let Some((now, period)) = quota_and_period(&text)
        {
            if quota {
                cpu.period = period;
            } else {
                cpu.quota = now;
            }
        }
        memory(&dir, &mut resources.memory)?;
        Ok(())
    }

    /// Refuses a limit that is below what is used now, if the caller asked for that: the kernel would kill to make room.
    ///
    /// # Errors
    /// That limit.
    pub fn check_memory(&self, memory: &Memory) -> Result<(), Cause> {
        if !memory.check_before_update || !self.only_unified() {
            return Ok(());
        }
        let used = match self.unified()? {
            Some(dir) => dir.number("memory.current")?,
            None => None,
        };
        // Not counted: nothing to check it against, and nothing that would be killed.
        let Some(used) = used else { return Ok(()) };
        for (name, limit) in [("memory+swap", memory.swap), ("memory", memory.limit)] {
            let limit = limit
                .and_then(|limit| u64::try_from(limit).ok())
                .filter(|limit| *limit > 0);
            if let Some(limit) = limit.filter(|limit| *limit <= used) {
                return Err(Cause::Refused {
                    problem: format!("rejecting {name} limit {limit} <= usage {used}"),
                    fix: "give a larger one, or leave checkBeforeUpdate out".into(),
                });
            }
        }
        Ok(())
    }
}

/// Memory and swap together stay what they were when one of them changes.
fn memory(dir: &Dir, memory: &mut Memory) -> SysResult<()> {
    let (limit, swap) = (memory.limit.unwrap_or(0), memory.swap.unwrap_or(0));
    if (limit > 0) == (swap > 0) {
        return Ok(());
    }
    let bound = |value: Option<u64>| value.and_then(|value| i64::try_from(value).ok());
    let now = bound(dir.number("memory.max")?);
    if swap > 0 && limit == 0 {
        memory.limit = now;
    } else if limit > 0 && swap == 0 {
        let swap = bound(dir.number("memory.swap.max")?);
        memory.swap = now.zip(swap).and_then(|(now, swap)| now.checked_add(swap));
    }
    Ok(())
}

/// `max 100000`
fn quota_and_period(text: &str) -> Option<(Option<i64>, Option<u64>)> {
    let (quota, period) = text.trim().split_once(' ')?;
    let quota = number(quota)
        .and_then(|quota| i64::try_from(quota).ok())
        .or(Some(-1));
    Some((quota, period.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_read_with_its_period() {
        assert_eq!(
            quota_and_period("max 100000\n"),
            Some((Some(-1), Some(100_000)))
        );
        assert_eq!(
            quota_and_period("5000 10000\n"),
            Some((Some(5000), Some(10_000)))
        );
        assert_eq!(quota_and_period("5000"), None);
    }
}
