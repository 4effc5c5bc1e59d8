//! Which arm of an online experiment a unit (a user, a session) is in.
//!
//! Nothing is stored: the arm follows from a hash, so every server, and every analyst who joins logs,
//! finds the same one. A unit has a point in [0, 1), in Python
//!
//! ```python
//! point = int.from_bytes(hashlib.sha256(f"{salt}:{unit}".encode()).digest()[:8], "big") / 2**64
//! ```
//!
//! and arms take intervals of it one after the other, in the order in which they are written: with
//! shares of 0.5 and 0.3 the first arm has [0, 0.5), the second [0.5, 0.8), and the rest is in no arm.
//! So an arm that grows into what is free behind it keeps its units, and loses none of another. Another
//! salt shuffles all units anew, independently.

use sha2::{Digest, Sha256};

/// Bytes that the name of an arm may have: it becomes a label of metrics and a value of logs.
pub const LONGEST_NAME: usize = 64;

/// What the sum of the shares may be off by: decimal fractions are no sums of powers of two.
const TOLERANCE: f64 = 1e-9;

/// One of the variants that an experiment compares.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// Its name, of at most [`LONGEST_NAME`] bytes.
    pub name: String,
    /// The share of the units that it gets: above 0, at most 1.
    pub share: f64,
}

/// An experiment: divides units among arms.
#[derive(Clone, Debug, PartialEq)]
pub struct Experiment {
    salt: String,
    /// The point at which the interval of each arm ends.
    ends: Vec<f64>,
}

/// Arms that units cannot be divided among.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ExperimentError {
    /// There is none.
    #[error("arms: there are none; give at least one, with name and share")]
    NoArms,
    /// An empty salt would be that of other experiments, too.
    #[error("salt: is empty; leave it out for the name of the experiment")]
    NoSalt,
    /// A name is empty or too long.
    #[error(
        "arms: the name of arm {place} has {bytes} bytes: it must have between 1 and {LONGEST_NAME}",
        place = at + 1
    )]
    Name {
        /// Place of the arm, from 0.
        at: usize,
        /// Bytes of the name.
        bytes: usize,
    },
    /// Two arms have one name.
    #[error("arms: two are named '{0}'; give each a name of its own")]
    Repeated(String),
    /// A share that is none.
    #[error("arms: the share of '{name}' is {share}: it must be above 0 and at most 1")]
    Share {
        /// Name of the arm.
        name: String,
        /// The share found.
        share: f64,
    },
    /// More is given away than there is.
    #[error("arms: the shares sum to {0}: at most 1 can be given")]
    Sum(f64),
}

impl Experiment {
    /// An experiment of these arms.
    ///
    /// # Errors
    /// No arms, no salt, a name that is empty, long or given twice, a share that is not in (0, 1], and
    /// shares that sum to more than 1.
    pub fn new(salt: &str, arms: &[Arm]) -> Result<Self, ExperimentError> {
        if salt.is_empty() {
            return Err(ExperimentError::NoSalt);
        }
        let mut ends = Vec::with_capacity(arms.len());
        let mut end = 0.0;
        for (at, Arm { name, share }) in arms.iter().enumerate() {
            if name.is_empty() || name.len() > LONGEST_NAME {
                return Err(ExperimentError::Name { at, bytes: name.len() });
            }
            if arms[..at].iter().any(|other| other.name == *name) {
                return Err(ExperimentError::Repeated(name.clone()));
            }
            if !(*share > 0.0 && *share <= 1.0) {
                return Err(ExperimentError::Share { name: name.clone(), share: *share });
            }
            end += share;
            ends.push(end);
        }
        if end > 1.0 + TOLERANCE {
            return Err(ExperimentError::Sum(end));
        }
        // Where the shares are all there is, rounding leaves nobody out.
        let last = ends.last_mut().ok_or(ExperimentError::NoArms)?;
        if end > 1.0 - TOLERANCE {
            *last = f64::INFINITY;
        }
        Ok(Self { salt: salt.to_owned(), ends })
    }

    /// Whether there are units in no arm.
    pub fn leaves_some(&self) -> bool {
        self.ends.last().is_some_and(|end| end.is_finite())
    }

    /// The arm that `unit` is in, by its place in the order of the arms; `None` where it is in no arm.
    pub fn assign(&self, unit: &str) -> Option<usize> {
        let point = point(&self.salt, unit);
        let arm = self.ends.partition_point(|end| *end <= point);
        (arm < self.ends.len()).then_some(arm)
    }
}

/// The point of a unit, as the head of this module has it.
fn point(salt: &str, unit: &str) -> f64 {
    let digest = Sha256::new().chain_update(salt).chain_update(":").chain_update(unit).finalize();
    let first = digest.iter().take(8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    first as f64 / 2_f64.powi(64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn arms(shares: &[f64]) -> Vec<Arm> {
        let arm = |(at, share): (usize, &f64)| Arm { name: format!("arm-{at}"), share: *share };
        shares.iter().enumerate().map(arm).collect()
    }

    fn experiment(salt: &str, shares: &[f64]) -> Experiment {
        Experiment::new(salt, &arms(shares)).unwrap()
    }

    fn units() -> impl Iterator<Item = String> {
        (0..100_000).map(|user| format!("user-{user}"))
    }

    /// What `print(point)` of Python 3.11 says of each, `point` as the head of this module has it.
    #[test]
    fn points_are_those_of_the_line_of_python() {
        for (salt, unit, expected) in [
            ("gates-2026-11", "user-1", 0.6257662582575131),
            ("gates-2026-11", "user-2", 0.283750064605873),
            ("gates-2026-11", "42", 0.10324523757597578),
            ("gates-2026-11", "", 0.9736961944021455),
            ("käse:", "größe-𝄞", 0.2489331514295662),
            ("gates", "user-1", 0.7516228997720188),
        ] {
            assert_eq!(point(salt, unit), expected, "{salt} {unit}");
        }
    }

    #[test]
    fn arms_have_intervals_in_their_order_and_the_rest_is_in_none() {
        let placed = |shares: &[f64]| {
            // Of points 0.63, 0.28, 0.10 and 0.97.
            ["user-1", "user-2", "42", ""].map(|unit| experiment("gates-2026-11", shares).assign(unit))
        };
        assert_eq!(placed(&[0.5, 0.5]), [Some(1), Some(0), Some(0), Some(1)]);
        assert_eq!(placed(&[0.2, 0.3, 0.2]), [Some(2), Some(1), Some(0), None]);
        assert_eq!(placed(&[0.05]), [None; 4]);
        // The sum of these is 0.9999999999999999, and that of the next a little above 1.
        assert_eq!(placed(&[0.1; 10]), [Some(6), Some(2), Some(1), Some(9)]);
        assert_eq!(experiment("a", &[0.1; 10]).ends[9], f64::INFINITY);
        assert_eq!(placed(&[0.5, 0.5 + 1e-10]), placed(&[0.5, 0.5]));
        assert!(!experiment("a", &[0.1; 10]).leaves_some() && experiment("a", &[0.9]).leaves_some());
    }

    /// Pearson's statistic of 100,000 units in 20 intervals of equal length, against the value that a
    /// chi-square variable of 19 degrees of freedom exceeds once in 1000 times.
    #[test]
    fn units_are_spread_evenly() {
        for salt in ["gates-2026-11", "a", "b"] {
            let mut counts = [0_u32; 20];
            units().for_each(|unit| counts[(point(salt, &unit) * 20.0) as usize] += 1);
            let expected = 100_000.0 / 20.0;
            let statistic: f64 =
                counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
            assert!(statistic < 43.82, "{salt}: {statistic} of {counts:?}");
        }
    }

    /// The same for the table of 4 × 4 intervals of two salts: 9 degrees of freedom.
    #[test]
    fn two_salts_divide_independently() {
        let mut counts = [[0_u32; 4]; 4];
        let arm = |salt: &str, unit: &str| (point(salt, unit) * 4.0) as usize;
        units().for_each(|unit| counts[arm("first", &unit)][arm("second", &unit)] += 1);
        let rows = counts.map(|row| f64::from(row.iter().sum::<u32>()));
        let columns = [0, 1, 2, 3].map(|at| f64::from(counts.iter().map(|row| row[at]).sum::<u32>()));
        let cell = |row: usize, column: usize| {
            let expected = rows[row] * columns[column] / 100_000.0;
            (f64::from(counts[row][column]) - expected).powi(2) / expected
        };
        let statistic: f64 = (0..16).map(|at| cell(at / 4, at % 4)).sum();
        assert!(statistic < 27.88, "{statistic} of {counts:?}");
    }

    #[test]
    fn the_last_arm_grows_by_units_of_no_arm_alone() {
        let (before, after) = (experiment("a", &[0.2, 0.1]), experiment("a", &[0.2, 0.3]));
        let mut joined = 0;
        for unit in units() {
            match (before.assign(&unit), after.assign(&unit)) {
                (None, Some(arm)) => {
                    assert_eq!(arm, 1);
                    joined += 1;
                }
                (before, after) => assert_eq!(before, after, "{unit}"),
            }
        }
        // A fifth of the units, four standard deviations about.
        assert!((19_500..20_500).contains(&joined), "{joined}");
    }

    #[test]
    fn arms_that_cannot_be_are_refused() {
        #[track_caller]
        fn refuse(arms: &[(&str, f64)], expected: &str) {
            let arm = |(name, share): &(&str, f64)| Arm { name: (*name).to_owned(), share: *share };
            let arms: Vec<Arm> = arms.iter().map(arm).collect();
            assert_eq!(Experiment::new("salt", &arms).unwrap_err().to_string(), expected);
        }
        refuse(&[], "arms: there are none; give at least one, with name and share");
        refuse(
            &[("a", 0.5), ("", 0.5)],
            "arms: the name of arm 2 has 0 bytes: it must have between 1 and 64",
        );
        let long = "x".repeat(65);
        refuse(&[(&long, 0.5)], "arms: the name of arm 1 has 65 bytes: it must have between 1 and 64");
        refuse(&[("a", 0.5), ("a", 0.5)], "arms: two are named 'a'; give each a name of its own");
        for share in [0.0, -0.1, 1.1, f64::INFINITY] {
            let expected = format!("arms: the share of 'a' is {share}: it must be above 0 and at most 1");
            refuse(&[("a", share)], &expected);
        }
        refuse(&[("a", f64::NAN)], "arms: the share of 'a' is NaN: it must be above 0 and at most 1");
        refuse(&[("a", 0.75), ("b", 0.5)], "arms: the shares sum to 1.25: at most 1 can be given");
        let error = Experiment::new("", &arms(&[0.5])).unwrap_err().to_string();
        assert_eq!(error, "salt: is empty; leave it out for the name of the experiment");
    }

    proptest! {
        /// Whatever the shares, salt and units are: an error, or each arm gets its share of the units
        /// within six standard deviations, and the rest is in none.
        #[test]
        fn shares_are_kept(shares in prop::collection::vec(-0.1_f64..0.6, 0..5), salt in ".{0,8}", unit in ".*") {
            let Ok(experiment) = Experiment::new(&salt, &arms(&shares)) else { return Ok(()) };
            prop_assert!(experiment.assign(&unit).is_none_or(|arm| arm < shares.len()));
            let n = 4000;
            let mut counts = vec![0_u32; shares.len()];
            (0..n).filter_map(|at| experiment.assign(&format!("{unit}{at}"))).for_each(|arm| counts[arm] += 1);
            for (count, share) in counts.iter().zip(&shares) {
                let n = f64::from(n);
                let deviation = (n * share * (1.0 - share)).sqrt();
                prop_assert!((f64::from(*count) - n * share).abs() <= 6.0 * deviation + 2.0, "{counts:?} {shares:?}");
            }
        }
    }
}
