//! Normalised discounted cumulative gain of the first `k` candidates of each request.

use crate::error::MetricError;
use crate::input::{DenseGroups, check_length, check_scores};

/// Mean NDCG over groups.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ndcg {
    /// Mean over the groups that count, each with the same weight.
    pub value: f64,
    /// Groups with a positive gain.
    pub groups_used: usize,
    /// Groups without any gain, for which the measure is not defined.
    pub groups_skipped: usize,
}

/// NDCG@k of each group, averaged over groups (Järvelin and Kekäläinen 2002).
///
/// The gain of a row is its label (0 or 1, or any finite value that is not negative), the
/// discount at rank r (from 1) is `1 / log2(r + 1)`. Equal scores share the mean of their gains
/// over the ranks they occupy (McSherry and Najork 2008), so the order of rows does not matter.
/// Groups without gain are skipped.
///
/// # Errors
/// NaN scores, negative or infinite gains, unequal lengths; [`MetricError::BadSetting`] for
/// `k = 0`; [`MetricError::NoUsableGroup`] if no group has a gain.
pub fn ndcg_at(scores: &[f32], gains: &[f32], groups: &[u32], k: usize) -> Result<Ndcg, MetricError> {
    check_scores(scores)?;
    check_length("gains", gains.len(), scores.len())?;
    check_length("groups", groups.len(), scores.len())?;
    if let Some(index) = gains.iter().position(|gain| !gain.is_finite() || *gain < 0.0) {
        return Err(MetricError::BadLabel {
            index,
            value: gains[index],
            remedy: "gains are finite and not negative",
        });
    }
    if k == 0 {
        return Err(MetricError::BadSetting { setting: "k", found: 0.0, remedy: "use at least 1" });
    }

    let groups = DenseGroups::new(groups);
    let (starts, mut rows) = groups.rows_of_groups();
    let (mut sum, mut groups_used, mut groups_skipped) = (0.0, 0, 0);
    let mut ideal: Vec<f32> = Vec::new();
    for bounds in starts.windows(2) {
        let rows = &mut rows[bounds[0]..bounds[1]];
        ideal.clear();
        ideal.extend(rows.iter().map(|&row| gains[row as usize]));
        ideal.sort_unstable_by(|a, b| b.total_cmp(a));
        if ideal[0] == 0.0 {
            groups_skipped += 1;
            continue;
        }
        let best: f64 =
            ideal.iter().take(k).enumerate().map(|(rank, &gain)| f64::from(gain) * discount(rank)).sum();
        rows.sort_unstable_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]));
        sum += gain_of_ranking(rows, scores, gains, k) / best;
        groups_used += 1;
    }
    if groups_used == 0 {
        return Err(MetricError::NoUsableGroup { groups: groups.count, needs: "has a positive row" });
    }
    Ok(Ndcg { value: sum / groups_used as f64, groups_used, groups_skipped })
}

/// Discounted gain of rows in descending order of score, ties averaged.
fn gain_of_ranking(rows: &[u32], scores: &[f32], gains: &[f32], k: usize) -> f64 {
    let mut total = 0.0;
    let mut rank = 0;
    for tie in rows.chunk_by(|&a, &b| scores[a as usize] == scores[b as usize]) {
        if rank >= k {
            break;
        }
        let mean_gain = tie.iter().map(|&row| f64::from(gains[row as usize])).sum::<f64>() / tie.len() as f64;
        let discounts: f64 = (rank..(rank + tie.len()).min(k)).map(discount).sum();
        total += mean_gain * discounts;
        rank += tie.len();
    }
    total
}

/// Discount of the rank counted from 0.
fn discount(rank: usize) -> f64 {
    1.0 / (rank as f64 + 2.0).log2()
}
