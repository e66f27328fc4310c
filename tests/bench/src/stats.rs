//! Medians, percentiles and their ratios.

use std::time::Duration;

use serde::Serialize;

/// One command's samples, told as a row.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) median_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) min_ms: f64,
    pub(crate) runs: usize,
}

impl Row {
    pub(crate) fn of(name: &str, samples: &[Duration]) -> Self {
        let mut sorted: Vec<f64> = samples
            .iter()
            .map(|sample| sample.as_secs_f64() * 1000.0)
            .collect();
        sorted.sort_by(f64::total_cmp);
        let at = |numerator: usize| {
            sorted
                .get((sorted.len().saturating_sub(1)) * numerator / 100)
                .copied()
                .unwrap_or(f64::NAN)
        };
        Self {
            name: name.to_owned(),
            median_ms: at(50),
            p95_ms: at(95),
            min_ms: at(0),
            runs: sorted.len(),
        }
    }
}

/// `rows[i].median / of.median`, or NaN where there is no such row.
pub(crate) fn ratio(rows: &[Row], name: &str, of: &str) -> f64 {
    let median = |wanted: &str| {
        rows.iter()
            .find(|row| row.name == wanted)
            .map_or(f64::NAN, |row| row.median_ms)
    };
    median(name) / median(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_ratio_come_from_the_sorted_samples() {
        let of = |millis: &[u64]| {
            millis
                .iter()
                .map(|&m| Duration::from_millis(m))
                .collect::<Vec<_>>()
        };
        let rows = [
            Row::of("ours", &of(&[3, 1, 2])),
            Row::of("theirs", &of(&[8, 8, 8])),
        ];
        assert_eq!(rows[0].median_ms, 2.0);
        assert_eq!(ratio(&rows, "ours", "theirs"), 0.25);
        assert!(ratio(&rows, "ours", "nobody").is_nan());
    }
}
