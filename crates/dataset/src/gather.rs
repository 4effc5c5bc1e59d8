//! Gathering the rows of a batch from the shards of a window, column by column.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use gatefold_features::{FeatureBatch, FeatureColumn};
use gatefold_schema::Level;

use crate::{
    Split,
    order::{RowOf, Unit, WindowOrder},
};

/// A window in memory.
pub(crate) struct Loaded {
    pub(crate) parts: Vec<Arc<Split>>,
    pub(crate) order: WindowOrder,
    /// Place of its first row in the epoch.
    pub(crate) first: usize,
}

impl Loaded {
    /// Place in the epoch after its last row.
    pub(crate) fn end(&self) -> usize {
        self.first + self.order.rows.len()
    }
}

/// A batch in the making.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) features: FeatureBatch,
    pub(crate) labels: BTreeMap<String, Vec<f32>>,
}

impl Gathered {
    /// Appends the units of `window` that begin at these places of the epoch.
    pub(crate) fn append(&mut self, window: &Loaded, places: Range<usize>, unit: Unit, labels: &[String]) {
        let inside = |place: usize| place.saturating_sub(window.first);
        let rows = &window.order.rows[window.order.units(inside(places.start)..inside(places.end))];
        let request = |row: &RowOf| (row.shard, window.parts[row.shard as usize].request[row.row as usize]);
        let mut first_rows = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            if unit == Unit::Row || index == 0 || request(row) != request(&rows[index - 1]) {
                first_rows.push(*row);
            }
            self.features.request_of.push((self.features.requests + first_rows.len() - 1) as u32);
        }
        self.features.requests += first_rows.len();
        self.features.candidates += rows.len();

        let Some(part) = window.parts.first() else { return };
        if self.features.columns.is_empty() {
            self.features.columns = part.columns.iter().map(empty_like).collect();
        }
        for (index, (column, level)) in self.features.columns.iter_mut().zip(&part.levels).enumerate() {
            let rows = if *level == Level::Request { &first_rows } else { rows };
            let sources: Vec<&FeatureColumn> = window.parts.iter().map(|part| &part.columns[index]).collect();
            append_rows(column, &sources, rows);
        }
        for name in labels {
            let sources: Vec<&[f32]> = window.parts.iter().map(|part| part.labels[name].as_slice()).collect();
            append_numbers(self.labels.entry(name.clone()).or_default(), &sources, rows);
        }
    }
}

fn empty_like(column: &FeatureColumn) -> FeatureColumn {
    match column {
        FeatureColumn::Numbers(_) => FeatureColumn::Numbers(Vec::new()),
        FeatureColumn::Codes { width, .. } => FeatureColumn::Codes { width: *width, data: Vec::new() },
    }
}

/// Appends rows of the columns that `sources` hold of one feature.
fn append_rows(column: &mut FeatureColumn, sources: &[&FeatureColumn], rows: &[RowOf]) {
    match column {
        FeatureColumn::Numbers(values) => append_numbers(values, &slices(sources, numbers), rows),
        FeatureColumn::Codes { width: 1, data } => append_numbers(data, &slices(sources, codes), rows),
        FeatureColumn::Codes { width, data } => {
            let sources = slices(sources, codes);
            data.reserve(rows.len() * *width);
            for RowOf { shard, row } in rows {
                let first = *row as usize * *width;
                data.extend_from_slice(&sources[*shard as usize][first..first + *width]);
            }
        }
    }
}

fn append_numbers<T: Copy>(values: &mut Vec<T>, sources: &[&[T]], rows: &[RowOf]) {
    values.extend(rows.iter().map(|of| sources[of.shard as usize][of.row as usize]));
}

fn slices<'a, T>(sources: &[&'a FeatureColumn], of: fn(&FeatureColumn) -> &[T]) -> Vec<&'a [T]> {
    sources.iter().map(|source| of(source)).collect()
}

fn numbers(column: &FeatureColumn) -> &[f32] {
    match column {
        FeatureColumn::Numbers(values) => values,
        FeatureColumn::Codes { .. } => &[],
    }
}

fn codes(column: &FeatureColumn) -> &[i32] {
    match column {
        FeatureColumn::Codes { data, .. } => data,
        FeatureColumn::Numbers(_) => &[],
    }
}
