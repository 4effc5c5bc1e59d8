//! How gates use their experts, and whether hidden units ever change.

use crate::error::MetricError;
use crate::input::check_length;

/// How a gate spreads its weight over its experts.
#[derive(Debug, Clone, PartialEq)]
pub struct GateUse {
    /// Mean weight of each expert; they add up to 1.
    pub mean: Vec<f64>,
    /// Mean over rows of the entropy of a row's weights, in nats: 0 where a row uses one expert,
    /// `ln experts` where it uses all alike.
    pub entropy: f64,
    /// Entropy of [`GateUse::mean`], in nats: 0 where all rows use the same one expert. High beside
    /// a low [`GateUse::entropy`] means that rows choose, and choose differently.
    pub entropy_of_mean: f64,
}

/// The weights of a gate, row by row, on the way to a [`GateUse`].
#[derive(Debug, Clone)]
pub struct GateTally {
    sums: Vec<f64>,
    entropy: f64,
    rows: usize,
}

impl GateTally {
    /// Nothing seen yet of a gate over so many experts.
    pub fn new(experts: usize) -> Self {
        Self { sums: vec![0.0; experts], entropy: 0.0, rows: 0 }
    }

    /// Takes in rows of weights, `[rows, experts]` row-major.
    ///
    /// # Errors
    /// A length that is no multiple of the number of experts, a weight that is NaN.
    pub fn add(&mut self, weights: &[f32]) -> Result<(), MetricError> {
        let experts = self.sums.len().max(1);
        check_length("weights of a gate", weights.len(), weights.len() / experts * experts)?;
        if let Some(index) = weights.iter().position(|weight| weight.is_nan()) {
            return Err(MetricError::BadWeight { index: self.rows + index / experts, value: weights[index] });
        }
        for row in weights.chunks(experts) {
            self.entropy += entropy(row.iter().map(|&weight| f64::from(weight)));
            self.sums.iter_mut().zip(row).for_each(|(sum, &weight)| *sum += f64::from(weight));
            self.rows += 1;
        }
        Ok(())
    }

    /// The use over all rows.
    ///
    /// # Errors
    /// [`MetricError::Empty`] without a row.
    pub fn finish(self) -> Result<GateUse, MetricError> {
        if self.rows == 0 {
            return Err(MetricError::Empty);
        }
        let rows = self.rows as f64;
        let mean: Vec<f64> = self.sums.iter().map(|sum| sum / rows).collect();
        let entropy_of_mean = entropy(mean.iter().copied());
        Ok(GateUse { mean, entropy: self.entropy / rows, entropy_of_mean })
    }
}

fn entropy(shares: impl Iterator<Item = f64>) -> f64 {
    shares.filter(|&share| share > 0.0).map(|share| -share * share.ln()).sum()
}

/// The values of a layer's units, row by row: a unit that never changes is dead. Of a ReLU that is
/// one that is never active.
#[derive(Debug, Clone)]
pub struct UnitTally {
    first: Vec<f32>,
    changed: Vec<bool>,
}

impl UnitTally {
    /// Nothing seen yet of a layer of so many units.
    pub fn new(units: usize) -> Self {
        Self { first: Vec::new(), changed: vec![false; units] }
    }

    /// Takes in rows of values, `[rows, units]` row-major.
    ///
    /// # Errors
    /// A length that is no multiple of the number of units.
    pub fn add(&mut self, values: &[f32]) -> Result<(), MetricError> {
        let units = self.changed.len().max(1);
        check_length("values of a layer", values.len(), values.len() / units * units)?;
        if self.first.is_empty() {
            self.first.extend_from_slice(&values[..units.min(values.len())]);
        }
        for row in values.chunks(units) {
            for ((changed, first), value) in self.changed.iter_mut().zip(&self.first).zip(row) {
                *changed |= value != first;
            }
        }
        Ok(())
    }

    /// Number of units.
    pub fn units(&self) -> usize {
        self.changed.len()
    }

    /// Units that had the same value in every row.
    pub fn dead(&self) -> usize {
        self.changed.iter().filter(|changed| !**changed).count()
    }
}
