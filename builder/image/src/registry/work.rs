//! Several transfers at once, bounded; the first that fails stops the others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::pace::Meter;
use crate::error::Result;

/// Does `work` for each item, `jobs` at once; the results in the items' order.
pub(crate) fn each<T: Sync, R: Send>(
    jobs: usize,
    meter: &Meter,
    items: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let one = || {
        while !meter.stopped() {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { break };
            let result = work(item);
            if result.is_err() {
                meter.stop();
            }
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            // The first failure is the cause of those that come after it.
            done.push((at, result));
        }
    };
    let threads = jobs.clamp(1, 64).min(items.len());
    if threads <= 1 {
        one();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(one);
            }
        });
    }
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut results = Vec::with_capacity(done.len());
    for (at, result) in done {
        results.push((at, result?));
    }
    results.sort_by_key(|(at, _)| *at);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn results_are_in_order_and_the_first_failure_stops_the_rest() {
        let items: Vec<u32> = (0..100).collect();
        let doubled = each(4, &Meter::default(), &items, |item| Ok(item * 2)).unwrap();
        assert_eq!(
            doubled,
            items.iter().map(|item| item * 2).collect::<Vec<_>>()
        );
        let seen = AtomicUsize::new(0);
        let meter = Meter::default();
        let told = each(1, &meter, &items, |item| {
            seen.fetch_add(1, Ordering::Relaxed);
            if *item == 3 {
                return Err(Error::refused("three", "is one too many", "none"));
            }
            Ok(())
        });
        assert_eq!(
            told.unwrap_err().to_string(),
            "three: is one too many\n  fix: none"
        );
        assert_eq!(seen.into_inner(), 4);
    }
}
