//! What has to be done in the order of pieces that are made in any: a digest of all bytes, and their way out.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Work on pieces in their order, by whoever comes. Nobody waits: what comes before its turn is left to the one who brings the piece before.
pub(super) struct Turns<T, S>(Mutex<State<T, S>>);

struct State<T, S> {
    next: u64,
    early: BTreeMap<u64, T>,
    /// What the work goes into; away while somebody is at it, and for good once it has failed.
    into: Option<S>,
}

impl<T, S> Turns<T, S> {
    pub(super) fn of(into: S) -> Self {
        Self(Mutex::new(State {
            next: 0,
            early: BTreeMap::new(),
            into: Some(into),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State<T, S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` on piece `number` and those after it that are there, if it is its turn and nobody is at it; else whoever is, or brings the piece before, does.
    pub(super) fn take<E>(
        &self,
        number: u64,
        piece: T,
        mut work: impl FnMut(&mut S, T) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut state = self.lock();
        state.early.insert(number, piece);
        let Some(mut into) = state.into.take() else {
            return Ok(());
        };
        loop {
            let next = state.next;
            let Some(piece) = state.early.remove(&next) else {
                state.into = Some(into);
                return Ok(());
            };
            state.next += 1;
            drop(state);
            work(&mut into, piece)?;
            state = self.lock();
        }
    }

    /// What all the work went into, when all is done; `None` if some of it failed.
    pub(super) fn end(self) -> Option<S> {
        let state = self.0.into_inner();
        state.unwrap_or_else(PoisonError::into_inner).into
    }
}
