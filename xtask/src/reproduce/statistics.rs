//! Means, spreads and intervals of a few values.

/// Two-sided 95 % quantile of Student's t, for 1 to 30 degrees of freedom.
const T_95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// NaN where there is none.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Sample standard deviation; NaN for fewer than two values.
pub(super) fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    if values.len() < 2 { f64::NAN } else { (squares / (values.len() - 1) as f64).sqrt() }
}

/// The value that a share of the values lie below, between neighbours by their distance (as NumPy's
/// default).
pub(super) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = share * last as f64;
    let below = sorted[place.floor() as usize];
    below + (sorted[place.ceil() as usize] - below) * place.fract()
}

/// Mean and, for more than one value, sample standard deviation.
pub(super) fn spread(values: &[f64]) -> String {
    match values.len() {
        0 => "-".to_owned(),
        1 => format!("{:.4}", mean(values)),
        _ => format!("{:.4} ± {:.4}", mean(values), deviation(values)),
    }
}

/// A mean with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Interval {
    pub(super) mean: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Interval {
    /// The mean of `values` and Student's interval of it. More than 31 values get the quantile of
    /// 31, which is a little wide. NaN bounds for fewer than two values.
    pub(super) fn of(values: &[f64]) -> Self {
        let mean = mean(values);
        let quantile = match values.len() {
            0 | 1 => f64::NAN,
            count => T_95[(count - 2).min(T_95.len() - 1)],
        };
        let half = quantile * deviation(values) / (values.len() as f64).sqrt();
        Self { mean, low: mean - half, high: mean + half }
    }

    /// That of `a − b`, pair by pair.
    pub(super) fn of_differences(a: &[f64], b: &[f64]) -> Self {
        Self::of(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f64>>())
    }

    pub(super) fn text(self) -> String {
        format!("{:+.4} [{:+.4}, {:+.4}]", self.mean, self.low, self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_gives_mean_and_standard_deviation() {
        assert_eq!(spread(&[]), "-");
        assert_eq!(spread(&[0.91]), "0.9100");
        // Deviations -0.01, 0, 0.01: variance 2e-4 / 2.
        assert_eq!(spread(&[0.90, 0.91, 0.92]), "0.9100 ± 0.0100");
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|share| quantile(&values, share)), [1.0, 1.75, 2.5, 4.0]);
    }

    #[test]
    fn an_interval_is_that_of_student() {
        // Differences 1, 2, 3, 4, 5: mean 3, deviation √2.5, half-width 2.776·√(2.5/5).
        let found = Interval::of_differences(&[2.0, 4.0, 6.0, 8.0, 10.0], &[1.0, 2.0, 3.0, 4.0, 5.0]);
        let half = 2.776 * 0.5f64.sqrt();
        assert_eq!(found.mean, 3.0);
        assert!((found.low - (3.0 - half)).abs() < 1e-12 && (found.high - (3.0 + half)).abs() < 1e-12);
        assert!(Interval::of(&[1.0]).low.is_nan());
    }
}
