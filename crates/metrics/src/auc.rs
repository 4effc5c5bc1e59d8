//! Area under the ROC curve, over all rows and within groups.
//!
//! The AUC is the probability that a positive row scores higher than a negative one, equal
//! scores counting one half (the Mann-Whitney statistic; Hanley and McNeil 1982). One sort and
//! one pass over runs of equal scores give it exactly. The pass takes a count for each group, so
//! the bootstrap repeats the pass and not the sort.

use crate::error::MetricError;
use crate::input::{
    DenseGroups, ROW_LIMIT, check_length, check_rows, class_weights, one_class, order_key, rows_by_score,
    weight_of,
};

/// AUC of `scores` against `labels` (0 or 1), each row counted `weights` times (once without).
///
/// # Errors
/// [`MetricError::OneClass`] if no positive or no negative row has weight; NaN scores, labels
/// other than 0 and 1, bad weights and unequal lengths are refused with the row.
pub fn auc(scores: &[f32], labels: &[f32], weights: Option<&[f32]>) -> Result<f64, MetricError> {
    check_rows(scores, labels, weights)?;
    let ranked = RankedRows::new(scores, labels, weights, None);
    ranked.auc(&[1]).ok_or_else(|| one_class(class_weights(labels, weights).0))
}

/// AUC within groups, averaged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gauc {
    /// Mean of the groups' AUCs, weighted by the impressions (rows, or their weight) of the group.
    pub value: f64,
    /// Groups with rows of both classes: those that count.
    pub groups_used: usize,
    /// Groups skipped because the AUC of one class is not defined.
    pub groups_skipped: usize,
    /// Rows in the groups that count.
    pub rows_used: usize,
}

/// AUC within each group (request or user), averaged with the impressions of the group as weight
/// (GAUC of Zhou et al. 2018, "Deep Interest Network", equation 7).
///
/// A group whose rows are all positive or all negative is skipped, and counted in
/// [`Gauc::groups_skipped`]. Unlike the AUC, GAUC is blind to anything that is equal for all
/// candidates of a request, as the ranking of that request is.
///
/// # Errors
/// As [`auc()`], and [`MetricError::NoUsableGroup`] if no group has both classes.
pub fn gauc(
    scores: &[f32],
    labels: &[f32],
    weights: Option<&[f32]>,
    groups: &[u32],
) -> Result<Gauc, MetricError> {
    check_rows(scores, labels, weights)?;
    check_length("groups", groups.len(), scores.len())?;
    let groups = DenseGroups::new(groups);
    let (starts, mut rows) = groups.rows_of_groups();

    let (mut sum, mut total_weight) = (0.0, 0.0);
    let mut result = Gauc { value: 0.0, groups_used: 0, groups_skipped: 0, rows_used: 0 };
    for bounds in starts.windows(2) {
        let rows = &mut rows[bounds[0]..bounds[1]];
        rows.sort_unstable_by_key(|&row| (order_key(scores[row as usize]), row));
        let mut area = RankArea::default();
        for (place, &row) in rows.iter().enumerate() {
            area.add(labels[row as usize] > 0.0, weight_of(weights, row as usize));
            let next = rows.get(place + 1);
            if next.is_none_or(|&next| scores[next as usize] != scores[row as usize]) {
                area.end_tie();
            }
        }
        match area.value() {
            Some(value) => {
                let weight = area.positives + area.negatives;
                sum += weight * value;
                total_weight += weight;
                result.groups_used += 1;
                result.rows_used += rows.len();
            }
            None => result.groups_skipped += 1,
        }
    }
    if result.groups_used == 0 {
        return Err(MetricError::NoUsableGroup { groups: groups.count, needs: "has rows of both classes" });
    }
    result.value = sum / total_weight;
    Ok(result)
}

/// The running area, fed with rows in ascending order of score.
#[derive(Default)]
struct RankArea {
    positives: f64,
    negatives: f64,
    tied_positives: f64,
    tied_negatives: f64,
    area: f64,
}

impl RankArea {
    #[inline]
    fn add(&mut self, positive: bool, weight: f64) {
        let positive_weight = if positive { weight } else { 0.0 };
        self.tied_positives += positive_weight;
        self.tied_negatives += weight - positive_weight;
    }

    /// Ends a run of equal scores: its positives beat all negatives before it and half of its own.
    #[inline]
    fn end_tie(&mut self) {
        self.area += self.tied_positives * (self.negatives + 0.5 * self.tied_negatives);
        self.positives += self.tied_positives;
        self.negatives += self.tied_negatives;
        self.tied_positives = 0.0;
        self.tied_negatives = 0.0;
    }

    /// None if one class has no weight.
    fn value(&self) -> Option<f64> {
        let pairs = self.positives * self.negatives;
        (pairs > 0.0).then(|| self.area / pairs)
    }
}

/// Rows sorted by score once, of which the AUC can be had for any count of each cluster.
pub(crate) struct RankedRows {
    /// Ascending by score: cluster in the high 30 bits, then "last of its run of equal scores", then the label.
    entries: Vec<u32>,
    /// Weight of each entry, in the same order.
    weights: Option<Vec<f32>>,
}

impl RankedRows {
    /// The input has been checked; without clusters every row is in cluster 0.
    pub(crate) fn new(
        scores: &[f32],
        labels: &[f32],
        weights: Option<&[f32]>,
        cluster_of_row: Option<&[u32]>,
    ) -> Self {
        debug_assert!(scores.len() <= ROW_LIMIT);
        let order = rows_by_score(scores);
        let entries = order.iter().enumerate().map(|(place, &(key, row))| {
            let cluster = cluster_of_row.map_or(0, |clusters| clusters[row as usize]);
            let ends_tie = order.get(place + 1).is_none_or(|&(next, _)| next != key);
            (cluster << 2) | (u32::from(ends_tie) << 1) | u32::from(labels[row as usize] > 0.0)
        });
        let entries = entries.collect();
        let weights = weights.map(|weights| order.iter().map(|&(_, row)| weights[row as usize]).collect());
        Self { entries, weights }
    }

    /// AUC with the rows of cluster `c` counted `counts[c]` times; None if only one class is left.
    pub(crate) fn auc(&self, counts: &[u32]) -> Option<f64> {
        match &self.weights {
            None => self.area(counts, |_| 1.0),
            Some(weights) => self.area(counts, |place| f64::from(weights[place])),
        }
    }

    #[inline]
    fn area(&self, counts: &[u32], weight_at: impl Fn(usize) -> f64) -> Option<f64> {
        let mut area = RankArea::default();
        for (place, &entry) in self.entries.iter().enumerate() {
            let weight = f64::from(counts[(entry >> 2) as usize]) * weight_at(place);
            area.add(entry & 1 == 1, weight);
            if entry & 2 != 0 {
                area.end_tie();
            }
        }
        area.value()
    }
}
