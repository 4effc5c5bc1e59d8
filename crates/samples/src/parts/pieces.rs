//! The samples of a part in files, raw: one piece a split and stretch of time, so that a stretch of all parts can be
//! read, put in order and encoded by itself.

use std::ops::Range;
use std::path::Path;

use gatefold_schema::Recipe;
use polars::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    SamplesError,
    build::Outcomes,
    columns,
    files::{Form, ParquetFile, read_parquet},
    folder::StagedFolder,
    prepared::{Facts, Label, Prepared, REQUEST_ID, SPLITS, TIME_COLUMN, Written, set_late},
    values::{Place, Values},
};

/// Rows of each request.
const ROWS: &str = "#rows";
/// How a row is written: the code of a [`Written`].
const WRITTEN: &str = "#written";
/// Of rows that are written the label that comes late, as [`Written::copies`] has it.
const LATE: &str = "#late";

/// `part.json`: what is known of a part's samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PartFacts {
    /// Names of the label columns.
    pub(super) labels: Vec<String>,
    pub(super) facts: Facts,
    pub(super) outcomes: Outcomes,
    /// Requests of each split, and those of them of which rows are written.
    pub(super) requests: [usize; 3],
    pub(super) written: [usize; 3],
    /// Rows that are written.
    pub(super) rows: u64,
    /// What there are files of.
    pieces: Vec<Piece>,
}

/// The samples of a part in a stretch of a split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Piece {
    split: usize,
    stretch: usize,
    requests: usize,
    rows: usize,
}

/// Writes the samples of a part, in stretches that begin at `bounds`.
pub(super) fn write(
    recipe: &Recipe,
    prepared: &Prepared,
    bounds: &[i64],
    folder: &StagedFolder,
) -> Result<PartFacts, SamplesError> {
    let mut outcomes = Outcomes::default();
    outcomes.add(recipe, prepared);
    let (mut written, mut rows, mut pieces) = ([0; 3], 0, Vec::new());
    let times = prepared.times.as_deref().unwrap_or_default();
    for (split, (_, requests)) in prepared.splits.iter().enumerate() {
        // The requests of a split are in the order of time.
        let own = &times[requests.clone()];
        let ends = bounds.iter().map(|bound| own.partition_point(|time| time < bound));
        let ends: Vec<usize> = ends.chain([own.len()]).map(|end| requests.start + end).collect();
        let mut first = requests.start;
        for (stretch, end) in ends.into_iter().enumerate() {
            if end > first {
                write_piece(recipe, prepared, first..end, |what| folder.path(&file(what, split, stretch)))?;
                let rows = prepared.rows(&(first..end)).len();
                pieces.push(Piece { split, stretch, requests: end - first, rows });
            }
            first = end;
        }
        for request in requests.clone() {
            let own = prepared.rows(&(request..request + 1));
            let copies = match &prepared.written {
                Some(written) => written[own].iter().map(|row| row.copies().len()).sum(),
                None => own.len(),
            };
            written[split] += usize::from(copies > 0);
            rows += copies as u64;
        }
    }
    Ok(PartFacts {
        labels: prepared.label_names(),
        facts: prepared.facts.clone(),
        outcomes,
        requests: prepared.requests_of_splits(),
        written,
        rows,
        pieces,
    })
}

fn file(what: &str, split: usize, stretch: usize) -> String {
    format!("{}-{stretch:05}-{what}.parquet", SPLITS[split])
}

fn write_piece(
    recipe: &Recipe,
    prepared: &Prepared,
    requests: Range<usize>,
    path: impl Fn(&str) -> std::path::PathBuf,
) -> Result<(), SamplesError> {
    let rows = prepared.rows(&requests);
    let of_requests: Vec<u32> = requests.clone().map(|request| request as u32).collect();
    let frames = || -> PolarsResult<[DataFrame; 2]> {
        let mut of_request = Vec::new();
        if let Some(ids) = &prepared.request_ids {
            let ids = ids.slice(requests.start as i64, requests.len());
            of_request.push(ids.with_name(REQUEST_ID.into()).into_column());
        }
        if let Some(times) = &prepared.times {
            of_request.push(Column::new(TIME_COLUMN.into(), &times[requests.clone()]));
        }
        let sizes: Vec<u32> =
            requests.clone().map(|request| prepared.starts[request + 1] - prepared.starts[request]).collect();
        of_request.push(Column::new(ROWS.into(), sizes));
        let mut of_row: Vec<Column> = prepared
            .labels
            .iter()
            .enumerate()
            .map(|(place, label)| Column::new(label_column(place), &label.values[rows.clone()]))
            .collect();
        if let Some(written) = &prepared.written {
            let codes: Vec<u32> = written[rows.clone()].iter().map(|row| row.code()).collect();
            of_row.push(Column::new(WRITTEN.into(), codes));
        }
        for (place, (feature, values)) in recipe.features.iter().zip(&prepared.values).enumerate() {
            let Some(values) = values else { continue };
            let (found, frame) = if values.is_of_requests() {
                (values.rows(0..0, &of_requests)?, &mut of_request)
            } else {
                (values.rows(rows.clone(), &[])?, &mut of_row)
            };
            let found = columns::normalise(&found.into_column(), feature)?;
            frame.push(found.with_name(feature_column(place)).into_column());
        }
        Ok([DataFrame::new(requests.len(), of_request)?, DataFrame::new(rows.len(), of_row)?])
    };
    let frames = frames().map_err(SamplesError::step("writing a part"))?;
    for (what, frame) in ["requests", "rows"].into_iter().zip(frames) {
        let mut file = ParquetFile::create(&path(what), frame.schema(), Form::spill(1))?;
        file.add(frame)?;
        file.finish()?;
    }
    Ok(())
}

fn feature_column(place: usize) -> PlSmallStr {
    format!("#feature{place}").into()
}

fn label_column(place: usize) -> PlSmallStr {
    format!("#label{place}").into()
}

/// Raw samples: one row a request, and one an impression, in the same order.
pub(super) struct Stretch {
    requests: DataFrame,
    rows: DataFrame,
    /// Rows of each request.
    sizes: Vec<u32>,
}

impl Stretch {
    /// All samples of a part in one stretch of a split, whether they are written or not; `None` where it has none.
    pub(super) fn of_part(
        (folder, facts): (&Path, &PartFacts),
        split: usize,
        stretch: usize,
    ) -> Result<Option<Self>, SamplesError> {
        let wanted = |piece: &&Piece| piece.split == split && piece.stretch == stretch;
        let Some(piece) = facts.pieces.iter().find(wanted) else { return Ok(None) };
        let path = |what| folder.join(file(what, split, stretch));
        let (requests, rows) = (read_parquet(&path("requests"))?, read_parquet(&path("rows"))?);
        let sizes = requests.column(ROWS).and_then(|sizes| Ok(sizes.u32()?.iter().flatten().collect()));
        let sizes: Vec<u32> = sizes.map_err(SamplesError::step("reading a part"))?;
        let found = (sizes.len(), sizes.iter().map(|size| *size as usize).sum(), rows.height());
        if found != (piece.requests, piece.rows, piece.rows) {
            let text = "does not hold what part.json says; run this shard again";
            return Err(SamplesError::source(&path("rows"), text));
        }
        Ok(Some(Self { requests, rows, sizes }))
    }

    /// The samples of all parts that are written, in their order.
    pub(super) fn of_all(
        parts: &[(&Path, &PartFacts)],
        split: usize,
        stretch: usize,
    ) -> Result<Option<Self>, SamplesError> {
        let mut all: Option<Stretch> = None;
        for part in parts {
            let Some(own) = Self::of_part(*part, split, stretch)? else { continue };
            all = Some(match all {
                Some(before) => before.followed_by(own)?,
                None => own,
            });
        }
        all.map(|all| all.in_order().map_err(SamplesError::step("merging parts"))).transpose()
    }

    /// These samples, and then others.
    pub(super) fn followed_by(mut self, next: Self) -> Result<Self, SamplesError> {
        let step = || SamplesError::step("merging parts");
        self.requests.vstack_mut_owned(next.requests).map_err(step())?;
        self.rows.vstack_mut_owned(next.rows).map_err(step())?;
        self.sizes.extend(next.sizes);
        Ok(self)
    }

    /// Requests by time and then by identifier, and of their rows those that are written.
    fn in_order(self) -> PolarsResult<Self> {
        let starts = self.starts();
        let written = match self.rows.column(WRITTEN) {
            Ok(codes) => {
                let way = |code: Option<u32>| code.and_then(Written::from_code);
                let ways = codes.u32()?.iter().map(way).collect::<Option<Vec<_>>>();
                ways.ok_or_else(|| {
                    PolarsError::ComputeError("rows of a part are written in no known way".into())
                })?
            }
            Err(_) => vec![Written::AsItIs; self.rows.height()],
        };
        let keys = self.requests.select([TIME_COLUMN, REQUEST_ID])?.with_row_index("#place".into(), None)?;
        let order = keys.sort([TIME_COLUMN, REQUEST_ID], SortMultipleOptions::default())?;
        let (mut requests, mut sizes) = (Vec::new(), Vec::new());
        let (mut rows, mut late) = (Vec::new(), Vec::new());
        for place in order.column("#place")?.idx()?.iter().flatten() {
            let before = rows.len();
            let own = starts[place as usize]..starts[place as usize + 1];
            for row in own {
                let copies = written[row as usize].copies();
                rows.extend(std::iter::repeat_n(row, copies.len()));
                late.extend_from_slice(copies);
            }
            if rows.len() > before {
                requests.push(place);
                sizes.push((rows.len() - before) as u32);
            }
        }
        let requests = self.requests.take(&IdxCa::from_vec(PlSmallStr::EMPTY, requests))?;
        let mut rows = self.rows.take(&IdxCa::from_vec(PlSmallStr::EMPTY, rows))?;
        rows.with_column(Column::new(LATE.into(), late))?;
        Ok(Self { requests, rows, sizes })
    }

    /// Number of requests.
    pub(super) fn requests(&self) -> usize {
        self.sizes.len()
    }

    /// First row of each request, and the number of rows.
    pub(super) fn starts(&self) -> Vec<u32> {
        let mut end = 0;
        let ends = self.sizes.iter().map(|size| {
            end += size;
            end
        });
        std::iter::once(0).chain(ends).collect()
    }

    /// Some of the requests.
    pub(super) fn slice(&self, requests: Range<usize>) -> Self {
        let starts = self.starts();
        let rows = starts[requests.start] as usize..starts[requests.end] as usize;
        Self {
            requests: self.requests.slice(requests.start as i64, requests.len()),
            rows: self.rows.slice(rows.start as i64, rows.len()),
            sizes: self.sizes[requests].to_vec(),
        }
    }

    /// The samples as those of the split at place `split`.
    pub(super) fn prepared(
        &self,
        recipe: &Recipe,
        labels: &[String],
        split: usize,
    ) -> Result<Prepared, SamplesError> {
        self.as_prepared(recipe, labels, split).map_err(SamplesError::step("reading a part"))
    }

    fn as_prepared(&self, recipe: &Recipe, labels: &[String], split: usize) -> PolarsResult<Prepared> {
        let series = |frame: &DataFrame, name: &str| {
            Ok::<_, PolarsError>(frame.column(name)?.as_materialized_series().rechunk())
        };
        let mut values = Vec::with_capacity(recipe.features.len());
        for (place, feature) in recipe.features.iter().enumerate() {
            if feature.is_crossed() {
                values.push(None);
                continue;
            }
            let name = feature_column(place);
            let (frame, place) = match self.rows.column(&name) {
                Ok(_) => (&self.rows, Place::Row),
                Err(_) => (&self.requests, Place::Request),
            };
            values.push(Some(Values::Scalars { dictionary: series(frame, &name)?, place }));
        }
        let mut of_rows = Vec::with_capacity(labels.len());
        for (place, label) in labels.iter().enumerate() {
            let values = series(&self.rows, &label_column(place))?;
            of_rows.push(Label::new(
                label,
                values.f32()?.iter().map(|value| value.unwrap_or(f32::NAN)).collect(),
            ));
        }
        if let (Some(label), Ok(copies)) = (recipe.samples.late_label(), self.rows.column(LATE)) {
            set_late(&mut of_rows, label, &copies.f32()?.iter().collect::<Vec<_>>());
        }
        let requests = self.requests();
        let range = |place: usize| match place.cmp(&split) {
            std::cmp::Ordering::Less => 0..0,
            std::cmp::Ordering::Equal => 0..requests,
            std::cmp::Ordering::Greater => requests..requests,
        };
        Ok(Prepared {
            starts: self.starts(),
            request_ids: Some(series(&self.requests, REQUEST_ID)?),
            times: Some(series(&self.requests, TIME_COLUMN)?.i64()?.iter().flatten().collect()),
            values,
            labels: of_rows,
            splits: SPLITS.into_iter().enumerate().map(|(place, name)| (name, range(place))).collect(),
            written: None,
            skew: None,
            facts: Facts::default(),
        })
    }
}
