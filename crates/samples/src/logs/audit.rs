//! The audit file: columns for evaluation alone, by impression.

use gatefold_history::NONE;
use gatefold_schema::EventLogs;
use polars::prelude::*;

use super::{
    impressions::{IMPRESSION_ID, ImpressionLog},
    keys::{Ids, KeyError},
    open::{key_error, matching_key},
    scan::for_each_batch,
    source::Source,
};
use crate::{SamplesError, columns::missing_column, prepared::Label};

const KEY: &str = "#impression";

/// An audit file, opened.
pub(crate) struct AuditFile {
    pub(super) source: Source,
    key: Expr,
    columns: Vec<String>,
}

impl AuditFile {
    pub(crate) fn new(
        mut source: Source,
        config: &EventLogs,
        impressions: &ImpressionLog,
    ) -> Result<Self, SamplesError> {
        let key = matching_key(&mut source, IMPRESSION_ID, KEY, (impressions, IMPRESSION_ID))?;
        for column in &config.audit_columns {
            match source.schema.get(column) {
                Some(found) if found.is_primitive_numeric() || *found == DataType::Boolean => {}
                Some(found) => {
                    return Err(SamplesError::source(
                        &source.name,
                        format!(
                            "audit column '{column}' has type {found}; it must hold numbers or truth values"
                        ),
                    ));
                }
                None => return Err(missing_column(&source.name, &source.schema, column, "audit_columns")),
            }
        }
        Ok(Self { key, columns: config.audit_columns.clone(), source })
    }

    /// The columns of the files that [`AuditFile::read`] reads.
    pub(crate) fn columns(&self) -> Vec<String> {
        [IMPRESSION_ID.to_owned()].into_iter().chain(self.columns.iter().cloned()).collect()
    }

    /// Reads the columns for rows whose impressions have these `codes` in `ids`. Of several rows for one
    /// impression the first counts.
    pub(crate) fn read(self, ids: &Ids, codes: &[u32]) -> Result<Vec<Label>, SamplesError> {
        let log = &self.source;
        let mut selected = vec![self.key.clone()];
        let number = |name: &String| col(name.as_str()).cast(DataType::Float32);
        selected.extend(self.columns.iter().map(number));
        let mut values = vec![vec![f32::NAN; ids.len()]; self.columns.len()];
        let mut seen = vec![false; ids.len()];
        for_each_batch(
            log.frame().select(selected),
            |error| log.unreadable(error),
            |batch| {
                let mut run = || -> Result<(), KeyError> {
                    let mut found = Vec::with_capacity(batch.height());
                    ids.find(batch.column(KEY)?, &mut found)?;
                    for (column, values) in self.columns.iter().zip(&mut values) {
                        for (code, value) in found.iter().zip(batch.column(column)?.f32()?.iter()) {
                            if *code != NONE && !seen[*code as usize] {
                                values[*code as usize] = value.unwrap_or(f32::NAN);
                            }
                        }
                    }
                    found.iter().filter(|code| **code != NONE).for_each(|code| seen[*code as usize] = true);
                    Ok(())
                };
                run().map_err(|error| key_error(&log.name, error))
            },
        )?;
        let mut labels = Vec::new();
        for (name, values) in self.columns.iter().zip(values) {
            let of_row = |code: &u32| if *code == NONE { f32::NAN } else { values[*code as usize] };
            let rows: Vec<f32> = codes.iter().map(of_row).collect();
            let missing = rows.iter().filter(|value| value.is_nan()).count();
            if missing > 0 {
                return Err(SamplesError::source(
                    &log.name,
                    format!(
                        "column '{name}' has no value for {missing} impressions; every impression_id needs one"
                    ),
                ));
            }
            labels.push(Label::new(name, rows));
        }
        Ok(labels)
    }
}
