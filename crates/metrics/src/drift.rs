//! How far one distribution has moved from another.

/// Least share of a group: the logarithm of an empty one would be infinite.
const LEAST_SHARE: f64 = 1e-4;

/// The population stability index of `found` against `expected`, counts of the same groups:
/// `Σ (fᵢ − eᵢ) · ln(fᵢ / eᵢ)` over their shares (Siddiqi, Credit Risk Scorecards, Wiley 2006, chapter 9), where
/// a share below 0.0001 counts as that. It is the symmetric form of the Kullback–Leibler divergence. By his rule of
/// thumb less than 0.1 is no change and more than 0.25 a shift.
///
/// `None` where one of the two has no counts, or they are of different groups.
pub fn psi(expected: &[u64], found: &[u64]) -> Option<f64> {
    let total = |counts: &[u64]| counts.iter().sum::<u64>() as f64;
    let (all_expected, all_found) = (total(expected), total(found));
    if expected.len() != found.len() || all_expected == 0.0 || all_found == 0.0 {
        return None;
    }
    let share = |count: u64, all: f64| (count as f64 / all).max(LEAST_SHARE);
    let pairs = expected.iter().zip(found);
    let parts = pairs.map(|(expected, found)| {
        let (expected, found) = (share(*expected, all_expected), share(*found, all_found));
        (found - expected) * (found / expected).ln()
    });
    Some(parts.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_known_numbers() {
        let check = |expected: &[u64], found: &[u64], value: f64| {
            let index = psi(expected, found).unwrap();
            assert!((index - value).abs() < 1e-6, "{expected:?} {found:?}: {index}");
        };
        // (0.4 − 0.5) ln 0.8 + (0.4 − 0.3) ln 4/3
        check(&[50, 30, 20], &[40, 40, 20], 0.051_083);
        check(&[1, 1], &[500, 500], 0.0);
        // 2 · 0.8 ln 9, whichever came first.
        check(&[90, 10], &[10, 90], 3.515_559);
        check(&[10, 90], &[90, 10], 3.515_559);
        // (0.5 − 0.0001) ln 5000 + (0.5 − 1) ln 0.5
        check(&[0, 10], &[5, 5], 4.604_318);
        assert_eq!(psi(&[0, 0], &[1, 2]), None);
        assert_eq!(psi(&[1, 2], &[1, 2, 3]), None);
    }
}
