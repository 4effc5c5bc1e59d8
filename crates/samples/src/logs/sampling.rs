//! Which training rows are written, and how much each row counts.
//!
//! Everything is decided by hashes of identifiers, so that any number of threads, and any division of the users
//! over processes, keeps the same rows.

use std::collections::BTreeMap;
use std::ops::Range;

use gatefold_schema::{Correction, Loss, Maturity, SamplingConfig, Task, WEIGHT_COLUMN};

use super::impressions::{Impressions, Keys};
use crate::prepared::{Label, Written};

/// What the sampling of training rows goes by.
pub(crate) struct Sampling<'a> {
    pub(crate) config: &'a SamplingConfig,
    pub(crate) keys: &'a Keys,
    pub(crate) impressions: &'a Impressions,
}

/// Whether each row is kept, and why others are not.
#[derive(Debug, PartialEq)]
pub(crate) struct Chosen {
    pub(crate) kept: Vec<bool>,
    pub(crate) dropped: BTreeMap<String, u64>,
}

/// Whether each row has no positive label of any task.
pub(crate) fn negatives(tasks: &[Task], labels: &[Label], rows: usize) -> Vec<bool> {
    let outcomes = tasks.iter().filter(|task| task.loss == Loss::CrossEntropy);
    let columns: Vec<&Label> =
        outcomes.filter_map(|task| labels.iter().find(|label| label.name == task.label)).collect();
    (0..rows).map(|row| columns.iter().all(|column| column.values[row] != 1.0)).collect()
}

impl Sampling<'_> {
    /// Chooses among the rows of the `train` requests; all others are kept.
    pub(crate) fn choose(&self, train: &[u32], is_negative: &[bool]) -> Chosen {
        let mut kept = vec![true; is_negative.len()];
        let limit = (self.config.negatives * 2f64.powi(32)) as u64;
        let mut sampled_away = 0;
        for &request in train {
            let rows = self.impressions.rows_of(request as usize);
            let of_request = self.request_hash(request, self.config.seed);
            for row in rows.filter(|row| is_negative[*row]) {
                let hash =
                    if self.config.whole_requests { of_request } else { self.item_hash(row, of_request) };
                kept[row] = u64::from(hash) < limit;
                sampled_away += u64::from(!kept[row]);
            }
        }
        let mut dropped = BTreeMap::new();
        if self.config.negatives < 1.0 {
            dropped.insert("negatives sampled away from training".to_owned(), sampled_away);
        }
        if let Some(most) = self.config.per_user {
            let over = self.cap(train, most, &mut kept);
            dropped.insert("training rows beyond per_user".to_owned(), over);
        }
        Chosen { kept, dropped }
    }

    /// Leaves each user `most` rows at most, those of the lowest hash; the number of those that go.
    fn cap(&self, train: &[u32], most: u32, kept: &mut [bool]) -> u64 {
        // What stays or goes together: user, hash, rows.
        let mut units: Vec<(u32, u32, Range<u32>)> = Vec::new();
        let seed = self.config.seed.wrapping_add(1);
        for &request in train {
            let (user, rows) =
                (self.impressions.user[request as usize], self.impressions.rows_of(request as usize));
            let of_request = self.request_hash(request, seed);
            if self.config.whole_requests {
                units.push((user, of_request, rows.start as u32..rows.end as u32));
            } else {
                let rows = rows.filter(|row| kept[*row]);
                units.extend(
                    rows.map(|row| (user, self.item_hash(row, of_request), row as u32..row as u32 + 1)),
                );
            }
        }
        units.sort_unstable_by_key(|(user, hash, rows)| (*user, *hash, rows.start));
        let mut over = 0;
        for of_user in units.chunk_by(|a, b| a.0 == b.0) {
            let mut left = most;
            for (_, _, rows) in of_user {
                let rows = &mut kept[rows.start as usize..rows.end as usize];
                let size = rows.iter().filter(|kept| **kept).count() as u32;
                if size <= left {
                    left -= size;
                } else {
                    over += u64::from(size);
                    rows.fill(false);
                }
            }
        }
        over
    }

    fn request_hash(&self, request: u32, seed: u32) -> u32 {
        self.keys.requests.hash(self.impressions.request[request as usize], seed)
    }

    fn item_hash(&self, row: usize, of_request: u32) -> u32 {
        self.keys.items.hash(self.impressions.item[row], of_request)
    }
}

/// What is decided of rows beside their values.
#[derive(Debug)]
pub(crate) struct Thinned {
    /// How each row is written; as it is unless given.
    pub(crate) written: Option<Vec<Written>>,
    /// The column of weights, where rows do not all count alike.
    pub(crate) weights: Option<Label>,
    /// Rows that are not written, by reason.
    pub(crate) dropped: BTreeMap<String, u64>,
}

/// Samples the rows of the `train` requests. Requests from `young` on count less where `maturity` says so.
pub(crate) fn thin(
    sampling: Option<&Sampling<'_>>,
    train: &[u32],
    is_negative: impl FnOnce() -> Vec<bool>,
    impressions: &Impressions,
    (maturity, young): (Maturity, usize),
) -> Thinned {
    let rows = impressions.rows();
    let mut thinned = Thinned { written: None, weights: None, dropped: BTreeMap::new() };
    let mut weights: Option<Vec<f32>> = None;
    if let Some(sampling) = sampling {
        let is_negative = is_negative();
        let chosen = sampling.choose(train, &is_negative);
        let way = |kept: bool| if kept { Written::AsItIs } else { Written::SampledAway };
        thinned.written = Some(chosen.kept.into_iter().map(way).collect());
        thinned.dropped = chosen.dropped;
        if sampling.config.correct == Correction::Weight {
            let weights = weights.insert(vec![1.0; rows]);
            for &request in train {
                for row in impressions.rows_of(request as usize).filter(|row| is_negative[*row]) {
                    weights[row] = (1.0 / sampling.config.negatives) as f32;
                }
            }
        }
    }
    if let Maturity::Weight(weight) = maturity {
        let weights = weights.get_or_insert_with(|| vec![1.0; rows]);
        let first = impressions.starts[young] as usize;
        weights[first..].iter_mut().for_each(|own| *own *= weight as f32);
    }
    thinned.weights = weights.map(|weights| Label::new(WEIGHT_COLUMN, weights));
    thinned
}
