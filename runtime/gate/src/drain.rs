//! The end of the sandbox. What its processes wrote before they ended lies in the kernel, which would deliver it to a peer that is connected directly: so it is
//! passed on here. Their sockets are closed, so each connection ends by itself when that is done. What the other side still sends has no reader left.

use std::time::{Duration, Instant};

use crate::dial::{Connection, Route, Stage};
use crate::error::GateError;
use crate::relay::Side;
use crate::server::{Room, Server};

/// Closed sockets say so at once, and a dial that takes this long leads nowhere.
const SETTLE: Duration = Duration::from_secs(1);
/// For peers that are slow to take what was written. The launcher waits longer (`airtight-sandbox`).
const DRAIN: Duration = Duration::from_secs(10);

impl Connection {
    /// The sandbox's side, where both are connected.
    fn sandboxed(&self) -> Option<&Side> {
        match (&self.stage, self.route) {
            (Stage::Carrying(_), Route::Endpoint(_)) => Some(&self.near),
            (Stage::Carrying(far), Route::Published(_)) => Some(far),
            (Stage::Resolving | Stage::Unborn | Stage::Dialling { .. }, _) => None,
        }
    }
}

impl Server {
    /// Passes on what the sandbox left. Whatever is not done in time is cut by RST, so that no peer takes a part for the whole.
    pub(crate) fn drain(&mut self, room: &mut Room) -> Result<(), GateError> {
        let now = Instant::now();
        // It stays readable.
        self.epoll.remove(&self.sandbox)?;
        self.ending = Some(now + SETTLE);
        self.leave_outside()?;
        // A connection that was made, written to and closed may not have been seen yet.
        for number in 0..self.doors.len() {
            while self.accept(number)? {}
        }
        // None comes after. At the limit of connections those that still wait are cut.
        self.doors.close_where(|_| true, &self.epoll)?;
        for key in self.connections.keys() {
            match self.connections.at(key) {
                Some(one) if one.sandboxed().is_none() => {
                    if one.near.has_nothing_more() {
                        self.cut(key);
                    }
                }
                _ => self.carry(key),
            }
        }
        self.turn_until(now + SETTLE, room)?;
        for key in self.connections.keys() {
            let one = self.connections.at(key);
            if !one.is_some_and(|one| one.sandboxed().is_some_and(Side::has_more)) {
                self.cut(key);
            }
        }
        self.turn_until(now + DRAIN, room)?;
        for key in self.connections.keys() {
            self.cut(key);
        }
        Ok(())
    }

    /// Whoever comes from outside finds nobody.
    fn leave_outside(&mut self) -> Result<(), GateError> {
        self.nursery = None;
        self.doors
            .close_where(|route| matches!(route, Route::Published(_)), &self.epoll)?;
        for key in self.connections.keys() {
            let one = self.connections.at(key);
            if one.is_some_and(|one| {
                matches!(one.route, Route::Published(_)) && one.sandboxed().is_none()
            }) {
                self.cut(key);
            }
        }
        Ok(())
    }

    fn turn_until(&mut self, end: Instant, room: &mut Room) -> Result<(), GateError> {
        self.ending = Some(end);
        while self.connections.len() > 0 && Instant::now() < end {
            self.turn(room)?;
        }
        Ok(())
    }
}
