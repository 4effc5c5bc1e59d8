//! Formulas for labels that come late, and for negatives that were thinned out.
//!
//! With delayed feedback an impression is ingested as a negative when it is seen, and again as a positive when its
//! conversion arrives. Where `p` is the true probability of a conversion, a share `b = p / (1 + p)` of what is
//! ingested is positive. S. I. Ktena et al., "Addressing delayed feedback for continuous training with neural
//! networks in CTR prediction", RecSys 2019 (arXiv:1907.06558), give two ways back from `b` to `p`.

/// The importance weights of the fake-negative weighted loss for the model's own probability `p` in [0, 1]: `1 + p` of
/// a positive, `(1 - p)(1 + p)` of a negative (Ktena et al. 2019), the ratios of true to ingested shares. They are
/// constants of the step: no gradient goes through them.
pub fn fake_negative_weights(p: f64) -> FakeNegativeWeights {
    FakeNegativeWeights { positive: 1.0 + p, negative: (1.0 - p) * (1.0 + p) }
}

/// Weights of the two terms of the cross-entropy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FakeNegativeWeights {
    /// Of `-ln p`, for what was ingested as a positive.
    pub positive: f64,
    /// Of `-ln(1 - p)`, for what was ingested as a negative, truly or not yet.
    pub negative: f64,
}

/// The probability that is meant, from the probability `b` in [0, 1/2) of a model that was trained on every sample as
/// a negative and on the positives again: `p = b / (1 - b)` (fake-negative calibration; Ktena et al.
/// 2019). A `b` of 1/2 or above, which no such distribution has, gives 1.
pub fn fake_negative_calibration(b: f64) -> f64 {
    if b >= 0.5 { 1.0 } else { b / (1.0 - b) }
}

/// The probability among all samples, from that of a model which was trained where only the share `kept` in (0, 1] of
/// the negatives was kept: `q = p / (p + (1 - p) / kept)` (X. He et al., "Practical lessons from predicting clicks
/// on ads at Facebook", ADKDD 2014).
pub fn undo_down_sampling(p: f64, kept: f64) -> f64 {
    p / (p + (1.0 - p) / kept)
}
