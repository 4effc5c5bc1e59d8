//! Samples in another order, fewer or more of them: splits that are not stretches of time, sampled rows, rows that
//! are there again because their outcome came late.
//!
//! No value is copied: each row only takes its place in the dictionaries along.

use std::sync::Arc;

use polars::prelude::*;

use crate::{
    SamplesError,
    prepared::{Label, Prepared, set_late},
    values::{Events, Listed, Place, Values},
};

impl Prepared {
    /// The samples of these requests, by split and in this order; of all others nothing is left.
    pub(crate) fn of_requests(self, splits: &[(&'static str, Vec<u32>)]) -> Result<Self, SamplesError> {
        self.arranged(splits, |_| 1)
    }

    /// The rows that are written, a negative before the positive of its row, and the requests that have some. `late`
    /// is the label that comes late.
    pub(crate) fn written(mut self, late: Option<&str>) -> Result<Self, SamplesError> {
        let Some(written) = self.written.take() else { return Ok(self) };
        let requests = |range: &std::ops::Range<usize>| (range.start as u32..range.end as u32).collect();
        let splits: Vec<(&'static str, Vec<u32>)> =
            self.splits.iter().map(|(name, range)| (*name, requests(range))).collect();
        let rows = self.splits.iter().flat_map(|(_, requests)| self.rows(requests));
        let copies: Vec<Option<f32>> = rows.flat_map(|row| written[row].copies()).copied().collect();
        let mut arranged = self.arranged(&splits, |row| written[row].copies().len())?;
        if let Some(late) = late {
            set_late(&mut arranged.labels, late, &copies);
        }
        Ok(arranged)
    }

    fn arranged(
        self,
        splits: &[(&'static str, Vec<u32>)],
        copies: impl Fn(usize) -> usize,
    ) -> Result<Self, SamplesError> {
        let (mut rows, mut requests) = (Vec::new(), Vec::new());
        let (mut starts, mut ranges) = (vec![0], Vec::new());
        for (name, of_split) in splits {
            let first = requests.len();
            for &request in of_split {
                let before = rows.len();
                let own = self.starts[request as usize]..self.starts[request as usize + 1];
                rows.extend(own.flat_map(|row| std::iter::repeat_n(row, copies(row as usize))));
                if rows.len() > before {
                    requests.push(request);
                    starts.push(rows.len() as u32);
                }
            }
            ranges.push((*name, first..requests.len()));
        }
        let request_ids =
            self.request_ids.map(|ids| ids.take(&IdxCa::from_slice(PlSmallStr::EMPTY, &requests)));
        let mut order = Order { rows: Arc::new(rows), requests: Arc::new(requests), gathered: Vec::new() };
        Ok(Self {
            starts,
            request_ids: request_ids.transpose().map_err(SamplesError::step("choosing requests"))?,
            times: self.times.map(|times| gather(&times, &order.requests)),
            values: self.values.into_iter().map(|values| values.map(|values| order.values(values))).collect(),
            labels: self
                .labels
                .into_iter()
                .map(|label| Label { values: gather(&label.values, &order.rows), name: label.name })
                .collect(),
            splits: ranges,
            written: self.written.map(|written| gather(&written, &order.rows)),
            skew: self.skew,
            facts: self.facts,
        })
    }
}

/// Places of rows, requests or values.
type Places = Arc<Vec<u32>>;

/// The old places of rows and requests in their new order.
struct Order {
    rows: Places,
    requests: Places,
    /// What was gathered, by what it was gathered from: features that share places go on sharing them.
    gathered: Vec<(Places, Places)>,
}

impl Order {
    fn values(&mut self, values: Values) -> Values {
        match values {
            Values::Scalars { dictionary, place } => Values::Scalars {
                dictionary,
                place: match place {
                    Place::Row => Place::OfRow(self.rows.clone()),
                    Place::Request => Place::OfRequest(self.requests.clone()),
                    Place::OfRow(place) => Place::OfRow(self.shared(place, &self.rows.clone())),
                    Place::OfRequest(place) => Place::OfRequest(self.shared(place, &self.requests.clone())),
                },
            },
            Values::Events(Events { order, tails, listed }) => Values::Events(Events {
                order,
                tails: Arc::new(gather(&tails, &self.requests)),
                listed: match listed {
                    Listed::Gap(times) => Listed::Gap(Arc::new(gather(&times, &self.requests))),
                    of_event @ Listed::Value { .. } => of_event,
                },
            }),
        }
    }

    fn shared(&mut self, places: Places, order: &[u32]) -> Places {
        if let Some((_, known)) = self.gathered.iter().find(|(from, _)| Arc::ptr_eq(from, &places)) {
            return known.clone();
        }
        let new = Arc::new(gather(&places, order));
        self.gathered.push((places, new.clone()));
        new
    }
}

fn gather<T: Copy>(values: &[T], places: &[u32]) -> Vec<T> {
    places.iter().map(|place| values[*place as usize]).collect()
}
