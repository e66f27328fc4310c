//! When each phase of a start was done.

use std::time::{Duration, Instant};

/// Phases of this process, from its start.
#[derive(Debug)]
pub(crate) struct Timings {
    started: Instant,
    phases: Vec<(&'static str, Duration)>,
}

impl Timings {
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
            phases: Vec::new(),
        }
    }

    /// `phase` is done.
    pub(crate) fn mark(&mut self, phase: &'static str) {
        self.phases.push((phase, self.started.elapsed()));
    }

    /// One line for each phase: when it was done and how long it took. The launch's own follow on ours.
    pub(crate) fn table(&self, launch: &[(String, Duration)]) -> String {
        let offset = self.phases.last().map_or(Duration::ZERO, |(_, at)| *at);
        let ours = self.phases.iter().map(|(phase, at)| (*phase, *at));
        let theirs = launch
            .iter()
            .map(|(step, at)| (step.as_str(), *at + offset));
        let mut text = String::from("airtight: milliseconds since the start, and of each phase\n");
        let mut before = Duration::ZERO;
        for (phase, at) in ours.chain(theirs) {
            let millis = |time: Duration| time.as_secs_f64() * 1000.0;
            text.push_str(&format!(
                "{:>9.3} {:>8.3}  {phase}\n",
                millis(at),
                millis(at.saturating_sub(before))
            ));
            before = at;
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launch_follows_on_the_preparation() {
        let micros = Duration::from_micros;
        let timings = Timings {
            started: Instant::now(),
            phases: vec![("image", micros(100)), ("plan", micros(350))],
        };
        let want = "airtight: milliseconds since the start, and of each phase\n    0.100    0.100  image\n    0.350    0.250  plan\n    2.350    2.000  exec\n";
        assert_eq!(timings.table(&[("exec".into(), micros(2000))]), want);
    }
}
