//! Event logs as a source: reads and checks the files, runs the stages, divides by time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gatefold_schema::{EventLogs, Feature, Recipe, Side, SplitConfig};
use polars::prelude::*;

use crate::{
    Progress, SamplesError, columns,
    files::scan,
    prepared::{Prepared, REQUEST_ID, SPLITS, TIME_COLUMN},
    stages::{self, CLICK, CONVERSION, EVENT, IMPRESSION, ITEM, REQUEST, REQUEST_TIME, TIME, USER, WRITTEN},
};

/// Times below this are taken for seconds: in milliseconds it is March 1973.
const SMALLEST_TIME_MS: i64 = 100_000_000_000;

/// Logs of more bytes than this are joined by the streaming engine unless the caller decides.
const STREAMING_BYTES: u64 = 1 << 30;

/// Reads the logs in `folder` and returns the labelled rows.
pub(crate) fn prepare(
    recipe: &Recipe,
    config: &EventLogs,
    folder: &Path,
    streaming: Option<bool>,
    progress: &mut dyn Progress,
) -> Result<Prepared, SamplesError> {
    let logs = Logs { recipe, config, folder };
    let engine = if streaming.unwrap_or_else(|| logs.bytes() > STREAMING_BYTES) {
        Engine::Streaming
    } else {
        Engine::InMemory
    };
    progress.start("reading logs", None);
    let (impressions, read) = logs.impressions(engine)?;
    let distinct = impressions.height() as u64;
    if distinct == 0 {
        return Err(SamplesError::source(
            &logs.path(&config.impressions),
            "there are no impressions; give a log that has some",
        ));
    }
    let users = logs.profiles(Side::User, engine)?;
    let items = logs.profiles(Side::Item, engine)?;

    progress.start("joining and labelling", None);
    let clicks = stages::counted_clicks(
        logs.clicks(&impressions)?,
        impressions.clone().lazy(),
        window_ms(config.click_window_seconds),
    );
    let clicks = run(clicks, engine, "attributing clicks")?;
    let converted = stages::converted(
        logs.conversions(&impressions)?,
        clicks.clone().lazy(),
        window_ms(config.conversion_window_seconds),
    );
    // The frames are small by now, and as-of joins in memory are the ones that are known to be
    // right for keys of several columns.
    let converted = run(converted, Engine::InMemory, "attributing conversions")?;

    let mut frame = impressions.lazy();
    frame = stages::join_profiles(frame, users.lazy(), USER);
    frame = stages::join_profiles(frame, items.lazy(), ITEM);
    frame = stages::label(frame, clicks.lazy(), converted.lazy());
    if let Some(audit) = logs.audit()? {
        frame = stages::join_audit(frame, audit);
    }
    // The streaming engine keeps no order through joins, so the order is made last and is complete.
    let frame = run(stages::in_order(frame), engine, "joining profiles and labels")?;
    logs.check_audit(&frame)?;

    let times = frame
        .column(REQUEST_TIME)
        .and_then(|column| column.i64().cloned())
        .map_err(SamplesError::step("splitting"))?;
    let splits = split_by_time(&times, &recipe.samples.split)?;
    let dropped = BTreeMap::from([
        ("impressions without a key or time".to_owned(), read.rows - read.with_keys),
        ("impressions logged again".to_owned(), read.with_keys - distinct),
    ]);
    let frame = logs.final_columns(frame).map_err(SamplesError::step("choosing columns"))?;
    Ok(Prepared { frame, labels: logs.labels(), splits, dropped })
}

/// Runs a plan.
fn run(frame: LazyFrame, engine: Engine, step: &'static str) -> Result<DataFrame, SamplesError> {
    let result = frame.collect_with_engine(engine).map_err(SamplesError::step(step))?;
    Ok(result.unwrap_single())
}

fn window_ms(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX / 1000).min(i64::MAX / 1000) * 1000
}

/// Rows of the impressions log.
struct ReadCounts {
    rows: u64,
    with_keys: u64,
}

struct Logs<'a> {
    recipe: &'a Recipe,
    config: &'a EventLogs,
    folder: &'a Path,
}

impl Logs<'_> {
    fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Size of the two files whose rows are impressions.
    fn bytes(&self) -> u64 {
        let files = [Some(&self.config.impressions), self.config.audit.as_ref()];
        let size = |file: &String| std::fs::metadata(self.path(file)).map_or(0, |metadata| metadata.len());
        files.into_iter().flatten().map(size).sum()
    }

    fn features(&self, side: Side) -> impl Iterator<Item = &Feature> {
        self.recipe.sent_features().filter(move |feature| feature.side == side)
    }

    /// Column of the impressions that a feature is read from: context features, and the
    /// identifiers themselves, which every impression has, also where there is no profile.
    fn is_in_impressions(feature: &Feature) -> bool {
        match feature.side {
            Side::Context => true,
            Side::User => feature.source_column() == "user_id",
            Side::Item => feature.source_column() == "item_id",
        }
    }

    fn labels(&self) -> Vec<String> {
        let own = [CLICK, CONVERSION].map(str::to_owned);
        own.into_iter().chain(self.config.audit_columns.iter().cloned()).collect()
    }

    /// Distinct impressions with their context features.
    fn impressions(&self, engine: Engine) -> Result<(DataFrame, ReadCounts), SamplesError> {
        let path = self.path(&self.config.impressions);
        let (frame, schema) = scan(&path)?;
        let mut wanted = vec![
            key_column(&path, &schema, "impression_id", IMPRESSION)?,
            key_column(&path, &schema, "request_id", REQUEST)?,
            key_column(&path, &schema, "user_id", USER)?,
            key_column(&path, &schema, "item_id", ITEM)?,
            time_column(&path, &schema, "time", TIME)?,
        ];
        for feature in self.recipe.sent_features().filter(|feature| Self::is_in_impressions(feature)) {
            columns::check_column(&path, &schema, feature.source_column(), feature)?;
            wanted.push(feature_column(feature));
        }
        let frame = frame.select(wanted);
        let keyed = stages::with_keys(frame.clone(), &[REQUEST, USER, ITEM, TIME]);
        let count = |frame: LazyFrame| -> Result<u64, SamplesError> {
            let counted = run(frame.select([len().alias("rows")]), engine, "counting impressions")?;
            let rows = counted
                .column("rows")
                .and_then(|column| column.get(0))
                .map_err(SamplesError::step("counting"))?;
            Ok(rows.try_extract().unwrap_or(0))
        };
        let read = ReadCounts { rows: count(frame)?, with_keys: count(keyed.clone())? };
        let distinct =
            stages::deduplicate_impressions(keyed).map_err(SamplesError::step("reading impressions"))?;
        let frame = run(distinct, engine, "reading impressions")?;
        check_times(&path, "time", &frame, TIME)?;
        Ok((frame, read))
    }

    fn clicks(&self, impressions: &DataFrame) -> Result<LazyFrame, SamplesError> {
        let path = self.path(&self.config.clicks);
        let (frame, schema) = scan(&path)?;
        let keys = [("request_id", REQUEST), ("item_id", ITEM)];
        self.events(&path, frame, &schema, keys, impressions)
    }

    fn conversions(&self, impressions: &DataFrame) -> Result<LazyFrame, SamplesError> {
        let path = self.path(&self.config.conversions);
        let (frame, schema) = scan(&path)?;
        let keys = [("user_id", USER), ("item_id", ITEM)];
        self.events(&path, frame, &schema, keys, impressions)
    }

    fn events(
        &self,
        path: &Path,
        frame: LazyFrame,
        schema: &Schema,
        keys: [(&str, &'static str); 2],
        impressions: &DataFrame,
    ) -> Result<LazyFrame, SamplesError> {
        let mut wanted = Vec::new();
        for (column, name) in keys {
            wanted.push(key_column(path, schema, column, name)?);
            same_type(path, schema, column, impressions, name)?;
        }
        wanted.push(time_column(path, schema, "time", EVENT)?);
        let frame = stages::with_keys(frame.select(wanted), &[keys[0].1, keys[1].1, EVENT]);
        let frame = run(frame, Engine::InMemory, "reading events")?;
        check_times(path, "time", &frame, EVENT)?;
        Ok(frame.lazy())
    }

    /// Profiles of one side: key, time of writing, features.
    fn profiles(&self, side: Side, engine: Engine) -> Result<DataFrame, SamplesError> {
        let (file, id, key) = match side {
            Side::Item => (&self.config.items, "item_id", ITEM),
            _ => (&self.config.users, "user_id", USER),
        };
        let path = self.path(file);
        let (frame, schema) = scan(&path)?;
        let mut wanted =
            vec![key_column(&path, &schema, id, key)?, time_column(&path, &schema, "time", WRITTEN)?];
        for feature in self.features(side).filter(|feature| !Self::is_in_impressions(feature)) {
            columns::check_column(&path, &schema, feature.source_column(), feature)?;
            wanted.push(feature_column(feature));
        }
        let frame =
            run(stages::with_keys(frame.select(wanted), &[key, WRITTEN]), engine, "reading profiles")?;
        check_times(&path, "time", &frame, WRITTEN)?;
        self.check_versions(&path, &frame, id, key)?;
        Ok(frame)
    }

    /// Two versions of a profile at one time leave open which one counts.
    fn check_versions(
        &self,
        path: &Path,
        frame: &DataFrame,
        id: &str,
        key: &str,
    ) -> Result<(), SamplesError> {
        let twice = frame
            .clone()
            .lazy()
            .group_by([col(key), col(WRITTEN)])
            .agg([len().alias("#count")])
            .filter(col("#count").gt(lit(1)))
            .sort([key], SortMultipleOptions::default())
            .limit(3);
        let twice = run(twice, Engine::InMemory, "checking profiles")?;
        if twice.height() == 0 {
            return Ok(());
        }
        let examples = twice.column(key).map_err(SamplesError::step("checking profiles"))?;
        let examples: Vec<String> = (0..twice.height())
            .filter_map(|row| examples.get(row).ok())
            .map(|value| value.to_string())
            .collect();
        Err(SamplesError::source(
            path,
            format!(
                "several rows have the same '{id}' and 'time' (such as {id} {}), so it is open which one counts; \
                 keep one of them",
                examples.join(", ")
            ),
        ))
    }

    fn audit(&self) -> Result<Option<LazyFrame>, SamplesError> {
        let Some(file) = &self.config.audit else {
            return match self.config.audit_columns.first() {
                None => Ok(None),
                Some(column) => Err(SamplesError::config(format!(
                    "[samples.source]: audit_columns names '{column}', but there is no audit file; add audit = \"…\""
                ))),
            };
        };
        let path = self.path(file);
        let (frame, schema) = scan(&path)?;
        let mut wanted = vec![key_column(&path, &schema, "impression_id", IMPRESSION)?];
        for column in &self.config.audit_columns {
            match schema.get(column) {
                Some(found) if found.is_primitive_numeric() || *found == DataType::Boolean => {
                    wanted.push(col(column.as_str()).cast(DataType::Float32));
                }
                Some(found) => {
                    return Err(SamplesError::source(
                        &path,
                        format!(
                            "audit column '{column}' has type {found}; it must hold numbers or truth values"
                        ),
                    ));
                }
                None => {
                    return Err(SamplesError::source(
                        &path,
                        format!("there is no column '{column}', which audit_columns names"),
                    ));
                }
            }
        }
        let frame = frame.select(wanted).unique(Some(cols([IMPRESSION])), UniqueKeepStrategy::First);
        Ok(Some(frame))
    }

    fn check_audit(&self, frame: &DataFrame) -> Result<(), SamplesError> {
        let Some(file) = &self.config.audit else { return Ok(()) };
        for column in &self.config.audit_columns {
            let nulls =
                frame.column(column).map_err(SamplesError::step("joining the audit file"))?.null_count();
            if nulls > 0 {
                return Err(SamplesError::source(
                    &self.path(file),
                    format!(
                        "column '{column}' has no value for {nulls} impressions; every impression_id needs one"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// The columns of [`Prepared`].
    fn final_columns(&self, frame: DataFrame) -> PolarsResult<DataFrame> {
        let mut chosen = vec![
            frame.column(REQUEST)?.clone().with_name(REQUEST_ID.into()),
            frame.column(REQUEST_TIME)?.clone().with_name(TIME_COLUMN.into()),
        ];
        let names = self.recipe.sent_features().map(|feature| &feature.name);
        for name in names.chain(&self.labels()) {
            chosen.push(frame.column(name)?.clone());
        }
        DataFrame::new(frame.height(), chosen)
    }
}

fn feature_column(feature: &Feature) -> Expr {
    col(feature.source_column()).strict_cast(columns::raw_type(feature)).alias(feature.name.as_str())
}

fn missing_column(path: &Path, schema: &Schema, column: &str) -> SamplesError {
    let known: Vec<&str> = schema.iter_names().map(PlSmallStr::as_str).collect();
    SamplesError::source(
        path,
        format!("there is no column '{column}'; its columns are: {}", known.join(", ")),
    )
}

/// A key as text or 64-bit integer.
fn key_column(path: &Path, schema: &Schema, column: &str, name: &str) -> Result<Expr, SamplesError> {
    match schema.get(column) {
        None => Err(missing_column(path, schema, column)),
        Some(DataType::String) => Ok(col(column).alias(name)),
        Some(found) if found.is_integer() => Ok(col(column).strict_cast(DataType::Int64).alias(name)),
        Some(found) => Err(SamplesError::source(
            path,
            format!("column '{column}' has type {found}; a key must hold integers or strings"),
        )),
    }
}

/// A time in milliseconds.
fn time_column(path: &Path, schema: &Schema, column: &str, name: &str) -> Result<Expr, SamplesError> {
    match schema.get(column) {
        None => Err(missing_column(path, schema, column)),
        Some(DataType::Datetime(_, _)) => {
            let milliseconds = col(column).cast(DataType::Datetime(TimeUnit::Milliseconds, None));
            Ok(milliseconds.cast(DataType::Int64).alias(name))
        }
        Some(found) if found.is_integer() => Ok(col(column).strict_cast(DataType::Int64).alias(name)),
        Some(found) => Err(SamplesError::source(
            path,
            format!(
                "column '{column}' has type {found}; a time must be integer milliseconds since 1970 UTC or a timestamp"
            ),
        )),
    }
}

/// Keys of two logs must be of one type to be matched.
fn same_type(
    path: &Path,
    schema: &Schema,
    column: &str,
    impressions: &DataFrame,
    name: &str,
) -> Result<(), SamplesError> {
    let is_text = |found: &DataType| *found == DataType::String;
    let own = schema.get(column).is_some_and(is_text);
    let other = impressions.schema().get(name).is_some_and(is_text);
    if own == other {
        return Ok(());
    }
    let word = |text: bool| if text { "strings" } else { "integers" };
    Err(SamplesError::source(
        path,
        format!(
            "column '{column}' holds {}, but {} in the impressions; use one type",
            word(own),
            word(other)
        ),
    ))
}

fn check_times(path: &Path, column: &str, frame: &DataFrame, name: &str) -> Result<(), SamplesError> {
    let times = frame
        .column(name)
        .and_then(|column| column.i64().cloned())
        .map_err(SamplesError::step("checking times"))?;
    match times.min() {
        Some(smallest) if smallest < SMALLEST_TIME_MS => Err(SamplesError::source(
            path,
            format!(
                "column '{column}' holds {smallest}, which in milliseconds is before 1973; \
                 times must be milliseconds since 1970 UTC, not seconds"
            ),
        )),
        _ => Ok(()),
    }
}

/// Divides rows that are sorted by time: the latest are for the test, those before them for
/// validation. Rows of one time, and so of one request, stay together.
fn split_by_time(
    times: &Int64Chunked,
    config: &SplitConfig,
) -> Result<Vec<(&'static str, std::ops::Range<usize>)>, SamplesError> {
    let times: Vec<i64> = times.iter().flatten().collect();
    let rows = times.len();
    let cut = |share: f64| {
        let row = rows - ((rows as f64 * share).round() as usize).min(rows);
        times.get(row).map_or(rows, |time| times.partition_point(|other| other < time))
    };
    let bounds = [0, cut(config.valid + config.test), cut(config.test), rows];
    let shares = [1.0 - config.valid - config.test, config.valid, config.test];
    for (index, share) in shares.iter().enumerate() {
        if *share > 0.0 && bounds[index] >= bounds[index + 1] {
            return Err(SamplesError::config(format!(
                "[samples.split]: no row is left for {} ({} rows at {} times); use more data or another share",
                SPLITS[index],
                rows,
                times.chunk_by(|a, b| a == b).count()
            )));
        }
    }
    Ok(SPLITS.iter().enumerate().map(|(index, name)| (*name, bounds[index]..bounds[index + 1])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(times: &[i64], valid: f64, test: f64, expected: [usize; 2]) {
        let times = Int64Chunked::from_slice("time".into(), times);
        let splits = split_by_time(&times, &SplitConfig { valid, test }).unwrap();
        assert_eq!([splits[1].1.start, splits[2].1.start], expected);
    }

    #[test]
    fn the_latest_rows_are_for_the_test_and_one_time_is_never_torn() {
        check(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 0.1, 0.2, [7, 8]);
        check(&[1, 1, 1, 1, 2, 2, 2, 2, 3, 3], 0.4, 0.2, [4, 8]);
        check(&[1, 1, 1, 1, 2, 2, 2, 2, 3, 3], 0.3, 0.2, [4, 8]);
        check(&[1, 2, 3, 4], 0.25, 0.0, [3, 4]);
    }

    #[test]
    fn an_empty_split_is_refused() {
        let times = Int64Chunked::from_slice("time".into(), &[5, 5, 5, 5]);
        let error = split_by_time(&times, &SplitConfig { valid: 0.25, test: 0.25 }).unwrap_err().to_string();
        assert!(error.contains("no row is left for train (4 rows at 1 times)"), "{error}");
    }
}
