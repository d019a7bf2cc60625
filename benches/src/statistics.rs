//! Medians and spreads. Refuses means: one disturbed round must not move the result.

use serde::Serialize;

/// What a row of samples comes to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// The middle one.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
    /// A quarter is below.
    pub(crate) quartile_low: f64,
    /// A quarter is above.
    pub(crate) quartile_high: f64,
}

impl Summary {
    /// Nothing if there are no samples.
    pub(crate) fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            min: *sorted.first()?,
            max: *sorted.last()?,
            median: quantile(&sorted, 0.5),
            quartile_low: quantile(&sorted, 0.25),
            quartile_high: quantile(&sorted, 0.75),
        })
    }
}

/// Between two samples, a straight line.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = part * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_of_samples_in_any_order() {
        let summary = Summary::of([5.0, 1.0, 3.0, 2.0, 4.0]).expect("there are samples");
        assert_eq!((summary.min, summary.median, summary.max), (1.0, 3.0, 5.0));
        assert_eq!((summary.quartile_low, summary.quartile_high), (2.0, 4.0));
        assert_eq!(Summary::of([1.0, 2.0]).map(|s| s.median), Some(1.5));
        assert_eq!(Summary::of([7.0]).map(|s| (s.min, s.median, s.max)), Some((7.0, 7.0, 7.0)));
        assert_eq!(Summary::of([]), None);
    }
}
