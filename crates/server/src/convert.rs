//! Wire messages ↔ plain types: the only place that knows both.
//!
//! Values are borrowed from the message. What is checked here is what the wire can get wrong and
//! the limits; whether the values fit the model's features is for the encoder to say, online as
//! offline.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use gatefold_engine::{GateWeights, HIGHEST_PRIORITY, ModelInfo, ScoreReply, VersionChoice};
use gatefold_features::{RawBatch, RawColumn, RawValues};
use gatefold_proto::ranking::v1 as wire;
use gatefold_schema::{Kind, OutputInfo, Side, ValueType};

use crate::experiments::Arm;
use crate::fusion::Fusion;
use crate::settings::Limits;
use crate::top_k::top_k;

/// A request that cannot be scored as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// Where in the message, such as `items 'price'`.
    pub field: String,
    /// What was found there and what to do.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It cannot be meant so.
    #[error("{0}")]
    Wrong(String),
    /// It is more than one of the [`Limits`] allows.
    #[error("{0}")]
    OverLimit(String),
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Problem::Wrong(text)
    }
}

impl From<&str> for Problem {
    fn from(text: &str) -> Self {
        Problem::Wrong(text.to_owned())
    }
}

impl FieldError {
    /// `problem` at `field`.
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<Problem>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// Which outputs to compute, and what to return of them.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Names of the outputs to compute; empty means all of the model's.
    pub compute: Vec<String>,
    /// How many of them, from the first, are returned.
    pub returned: usize,
    /// With `top_k`: how many candidates, and what ranks them.
    pub top: Option<(usize, RankBy)>,
    /// With a formula: the fused score.
    pub fusion: Option<Fusion>,
}

/// What the best candidates are best in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RankBy {
    /// An output.
    Output(String),
    /// The fused score.
    Fused,
}

impl Selection {
    /// Adds a fused score, and the outputs that it is computed from.
    pub fn fuse(&mut self, fusion: Fusion) {
        if !self.compute.is_empty() {
            for output in fusion.outputs() {
                if !self.compute.iter().any(|name| name == output) {
                    self.compute.push(output.to_owned());
                }
            }
        }
        self.fusion = Some(fusion);
    }
}

/// The version that a request asks for: by number (0 is the current one) or by label.
///
/// # Errors
/// When both are given.
pub fn version(version: u64, label: &str) -> Result<VersionChoice<'_>, FieldError> {
    match (version, label) {
        (0, "") => Ok(VersionChoice::Current),
        (version, "") => Ok(VersionChoice::Version(version)),
        (0, label) => Ok(VersionChoice::Label(label)),
        (version, label) => {
            let problem = format!("is '{label}' beside version {version}: give one of them");
            Err(FieldError::new("label", problem))
        }
    }
}

/// Who is asked to score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// A version of the model of this name.
    Model(&'a str, VersionChoice<'a>),
    /// What the experiment has for the unit.
    Experiment {
        /// Name of the experiment.
        name: &'a str,
        /// The unit.
        unit: &'a str,
    },
}

/// Who is asked to score: a model, or the arm of an experiment's unit.
///
/// # Errors
/// When both are given, an experiment without a name, and a unit that is empty or beyond `limits`.
pub fn wanted<'a>(
    (model, version, label): (&'a str, u64, &'a str),
    experiment: Option<&'a wire::ExperimentUnit>,
    limits: &Limits,
) -> Result<Wanted<'a>, FieldError> {
    let Some(wire::ExperimentUnit { name, unit }) = experiment else {
        return Ok(Wanted::Model(model, self::version(version, label)?));
    };
    if name.is_empty() {
        let problem =
            "is empty: name an experiment of the server's settings, or leave `experiment` out to ask a model";
        return Err(FieldError::new("experiment.name", problem));
    }
    let number = if version == 0 { String::new() } else { version.to_string() };
    for (field, value) in [("model", model), ("version", &number), ("label", label)] {
        if !value.is_empty() {
            let problem =
                format!("is '{value}' beside experiment '{name}', which says what scores: leave it out");
            return Err(FieldError::new(field, problem));
        }
    }
    if unit.is_empty() {
        return Err(FieldError::new(
            "experiment.unit",
            "is empty: give what is assigned, such as the user's id",
        ));
    }
    if unit.len() > limits.text_bytes {
        let problem = format!(
            "has {} bytes, at most {} are accepted (limits.text_bytes)",
            unit.len(),
            limits.text_bytes
        );
        return Err(FieldError::new("experiment.unit", Problem::OverLimit(problem)));
    }
    Ok(Wanted::Experiment { name, unit })
}

/// A priority as the engine has it.
///
/// # Errors
/// When it is above the highest.
pub fn priority(priority: u32) -> Result<u8, FieldError> {
    let checked = u8::try_from(priority).ok().filter(|priority| *priority <= HIGHEST_PRIORITY);
    checked.ok_or_else(|| {
        FieldError::new("priority", format!("is {priority}: it must be between 0 and {HIGHEST_PRIORITY}"))
    })
}

/// Raw values of the request's columns, borrowed from the message.
///
/// `side_of` says on which side a feature stands, `None` when the model has no such feature: its
/// column is passed on, so that the encoder's message can name the nearest one.
///
/// # Errors
/// A count or size beyond `limits`, zero candidates, columns on the wrong side or of unequal
/// length, a column without values, and offsets or missing rows that are not as the API has them.
pub fn raw_batch<'a>(
    request: &'a wire::ScoreRequest,
    side_of: impl Fn(&str) -> Option<Side>,
    limits: &Limits,
) -> Result<RawBatch<'a>, FieldError> {
    let columns = request.user.len() + request.context.len() + request.items.len();
    if columns > limits.columns {
        return Err(FieldError::new(
            "columns",
            Problem::OverLimit(format!(
                "{columns} columns, at most {} are accepted (limits.columns)",
                limits.columns
            )),
        ));
    }
    let mut batch = RawBatch { requests: 1, columns: Vec::with_capacity(columns), ..RawBatch::default() };
    let lists = [("user", &request.user), ("context", &request.context), ("items", &request.items)];
    for (list, columns) in lists {
        for column in columns {
            let place = || format!("{list} '{}'", column.name);
            if let Some(side) = side_of(&column.name)
                && list_name(side) != list
            {
                return Err(FieldError::new(
                    place(),
                    format!("is {} feature: move it to `{}`", with_article(side), list_name(side)),
                ));
            }
            let raw = raw_column(column, limits).map_err(|problem| FieldError::new(place(), problem))?;
            batch.columns.push((Cow::Borrowed(column.name.as_str()), raw));
        }
    }
    batch.candidates = candidates(request, &batch, limits)?;
    batch.request_of = vec![0; batch.candidates];
    Ok(batch)
}

/// Rows of a column.
pub(crate) fn rows(values: &wire::column::Values) -> usize {
    use wire::column::Values;
    match values {
        Values::Ints(ints) => ints.values.len(),
        Values::Floats(floats) => floats.values.len(),
        Values::Texts(texts) => texts.values.len(),
        Values::IntLists(lists) => lists.offsets.len().saturating_sub(1),
        Values::TextLists(lists) => lists.offsets.len().saturating_sub(1),
    }
}

/// The field of `ScoreRequest` that holds the features of a side.
fn list_name(side: Side) -> &'static str {
    match side {
        Side::User => "user",
        Side::Context => "context",
        Side::Item => "items",
    }
}

fn with_article(side: Side) -> &'static str {
    match side {
        Side::User => "a user",
        Side::Context => "a context",
        Side::Item => "an item",
    }
}

/// Number of candidates: as said, or as the item columns have it; both must agree.
fn candidates(
    request: &wire::ScoreRequest,
    batch: &RawBatch<'_>,
    limits: &Limits,
) -> Result<usize, FieldError> {
    let first = request.user.len() + request.context.len();
    let mut count = request.candidates as usize;
    let mut from = "candidates".to_owned();
    for (name, column) in &batch.columns[first..] {
        let rows = column.values.rows();
        if count == 0 {
            (count, from) = (rows, format!("items '{name}'"));
        }
        if rows != count {
            return Err(FieldError::new(
                format!("items '{name}'"),
                format!("{rows} rows, but {from} has {count}: give one row for each candidate"),
            ));
        }
    }
    match count {
        0 => Err(FieldError::new(
            "candidates",
            "the request has none: give item columns with at least one row, or `candidates` for a model \
             without item features",
        )),
        _ if count > limits.candidates => Err(FieldError::new(
            "candidates",
            Problem::OverLimit(format!(
                "{count} candidates, at most {} are accepted (limits.candidates): split the request",
                limits.candidates
            )),
        )),
        _ => Ok(count),
    }
}

fn raw_column<'a>(column: &'a wire::Column, limits: &Limits) -> Result<RawColumn<'a>, Problem> {
    use wire::column::Values;
    let values = match column.values.as_ref() {
        None => return Err("has no values: set one of ints, floats, texts, int_lists, text_lists".into()),
        Some(Values::Ints(ints)) => RawValues::Ints(Cow::Borrowed(&ints.values)),
        Some(Values::Floats(floats)) => RawValues::Floats(Cow::Borrowed(&floats.values)),
        Some(Values::Texts(texts)) => RawValues::Texts(borrow_texts(&texts.values, limits)?),
        Some(Values::IntLists(lists)) => {
            check_offsets(&lists.offsets, lists.values.len(), limits)?;
            RawValues::IntLists {
                values: Cow::Borrowed(&lists.values),
                offsets: Cow::Borrowed(&lists.offsets),
            }
        }
        Some(Values::TextLists(lists)) => {
            check_offsets(&lists.offsets, lists.values.len(), limits)?;
            RawValues::TextLists {
                values: borrow_texts(&lists.values, limits)?,
                offsets: Cow::Borrowed(&lists.offsets),
            }
        }
    };
    let missing = missing_rows(&column.missing, values.rows())?;
    Ok(RawColumn { values, missing })
}

fn borrow_texts<'a>(texts: &'a [String], limits: &Limits) -> Result<Vec<&'a str>, Problem> {
    let mut borrowed = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        check_text(index, text.len(), limits)?;
        borrowed.push(text.as_str());
    }
    Ok(borrowed)
}

/// Checks the length of the text at `index`.
pub(crate) fn check_text(index: usize, bytes: usize, limits: &Limits) -> Result<(), Problem> {
    if bytes > limits.text_bytes {
        return Err(Problem::OverLimit(format!(
            "value {index} has {bytes} bytes, at most {} are accepted (limits.text_bytes)",
            limits.text_bytes
        )));
    }
    Ok(())
}

fn check_offsets(offsets: &[u32], values: usize, limits: &Limits) -> Result<(), Problem> {
    let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else {
        return Err("offsets are empty: give rows + 1 of them, starting with 0".into());
    };
    if first != 0 {
        return Err(format!("offsets start with {first}: they must start with 0").into());
    }
    for (row, pair) in offsets.windows(2).enumerate() {
        let Some(length) = pair[1].checked_sub(pair[0]) else {
            return Err(format!(
                "offsets fall from {} to {} at row {row}: they must never fall",
                pair[0], pair[1]
            )
            .into());
        };
        if length as usize > limits.sequence_length {
            return Err(Problem::OverLimit(format!(
                "row {row} has {length} elements, at most {} are accepted (limits.sequence_length)",
                limits.sequence_length
            )));
        }
    }
    if last as usize != values {
        return Err(
            format!("offsets end with {last}, but there are {values} values: they must be equal").into()
        );
    }
    Ok(())
}

fn missing_rows(missing: &[u32], rows: usize) -> Result<Option<Cow<'static, [bool]>>, String> {
    if missing.is_empty() {
        return Ok(None);
    }
    let mut mask = vec![false; rows];
    let mut previous = None;
    for &row in missing {
        if previous.is_some_and(|previous| row <= previous) {
            return Err(format!(
                "missing rows must be strictly ascending, found {row} after a row not below it"
            ));
        }
        let Some(flag) = mask.get_mut(row as usize) else {
            return Err(format!("row {row} is marked missing, but the column has {rows} rows"));
        };
        *flag = true;
        previous = Some(row);
    }
    Ok(Some(Cow::Owned(mask)))
}

/// The outputs and the ranking that the request asks for; `fused` where it has a formula. Whether the model has them is for the
/// engine to say.
///
/// # Errors
/// `top_k` without an output to rank by, or the reverse.
pub fn selection(request: &wire::ScoreRequest, fused: bool) -> Result<Selection, FieldError> {
    let mut compute = request.outputs.clone();
    let returned = if compute.is_empty() { usize::MAX } else { compute.len() };
    let top = match (request.top_k as usize, request.top_k_by.as_str()) {
        (0, "") => None,
        (0, by) => {
            return Err(FieldError::new("top_k_by", format!("is '{by}' without top_k: set top_k as well")));
        }
        (count, "") if fused => Some((count, RankBy::Fused)),
        (count, "") => match compute.as_slice() {
            [only] => Some((count, RankBy::Output(only.clone()))),
            _ => {
                return Err(FieldError::new(
                    "top_k_by",
                    "is empty: name the output to rank by, unless `outputs` names exactly one",
                ));
            }
        },
        (count, by) => {
            // Ranking by an output that is not returned computes it all the same.
            if !compute.is_empty() && !compute.iter().any(|name| name == by) {
                compute.push(by.to_owned());
            }
            Some((count, RankBy::Output(by.to_owned())))
        }
    };
    Ok(Selection { compute, returned, top, fusion: None })
}

/// The reply to `request_id`, whose unit is in `arm`, fused, ranked and cut as `selection` says; the
/// message had been decoded at `started`.
///
/// # Errors
/// When the output to rank by is none of the model's, and a candidate without a fused score.
pub fn response(
    request_id: String,
    arm: Option<&Arm>,
    selection: &Selection,
    reply: ScoreReply,
    started: Instant,
) -> Result<wire::ScoreResponse, FieldError> {
    let scored = Instant::now();
    let fused = selection.fusion.as_ref().map(|fusion| fusion.scores(&reply)).transpose()?;
    let rows = match &selection.top {
        None => None,
        Some((count, RankBy::Fused)) => fused.as_deref().map(|fused| top_k(fused, *count)),
        Some((count, RankBy::Output(by))) => match reply.outputs.iter().position(|name| name == by) {
            Some(place) => Some(top_k(&reply.scores[place], *count)),
            None => {
                let problem = format!("no output '{by}'; the model has: {}", reply.outputs.join(", "));
                return Err(FieldError::new("top_k_by", problem));
            }
        },
    };
    let outputs = reply
        .outputs
        .into_iter()
        .zip(reply.scores)
        .take(selection.returned)
        .map(|(name, scores)| wire::OutputScores {
            name,
            scores: match &rows {
                None => scores,
                Some(rows) => rows.iter().map(|&row| scores[row as usize]).collect(),
            },
        })
        .collect();
    let gates = reply.gates.into_iter().map(|weights| gate_weights(weights, rows.as_deref())).collect();
    let fused = match (fused, &rows) {
        (Some(fused), Some(rows)) => rows.iter().map(|&row| fused[row as usize]).collect(),
        (fused, _) => fused.unwrap_or_default(),
    };
    Ok(wire::ScoreResponse {
        fused,
        gates,
        model: reply.model.name.to_string(),
        version: reply.model.version,
        labels: reply.labels,
        experiment: arm.map_or_else(String::new, |arm| arm.experiment.clone()),
        arm: arm.map_or_else(String::new, |arm| arm.name.clone()),
        request_id,
        outputs,
        candidates: rows.unwrap_or_default(),
        timings: Some(wire::Timings {
            encode_us: micros(reply.timings.encode),
            queue_us: micros(reply.timings.queue),
            infer_us: micros(reply.timings.infer),
            rank_us: micros(scored.elapsed()),
            total_us: micros(started.elapsed()),
            batch_candidates: reply.timings.batch_rows as u64,
        }),
    })
}

/// A gate's weights of all candidates, or of those in `rows`.
fn gate_weights(GateWeights { gate, weights }: GateWeights, rows: Option<&[u32]>) -> wire::GateWeights {
    let width = gate.experts.len();
    let weights = match rows {
        None => weights,
        Some(rows) => {
            rows.iter().flat_map(|&row| &weights[row as usize * width..][..width]).copied().collect()
        }
    };
    wire::GateWeights { gate: gate.name, tasks: gate.tasks, experts: gate.experts, weights }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What a model wants and returns.
pub fn model(info: &ModelInfo, versions: Vec<u64>) -> wire::Model {
    let manifest = info.bundle.manifest();
    wire::Model {
        labels: info.labels.clone(),
        name: manifest.name.clone(),
        version: manifest.version,
        versions,
        features: info.bundle.encoder().set().sent().map(feature).collect(),
        outputs: manifest.outputs.iter().map(output).collect(),
        user_once: manifest.user_once.is_some(),
    }
}

fn output(output: &OutputInfo) -> wire::Output {
    wire::Output { name: output.name.clone(), label: output.label.clone(), space: output.space.clone() }
}

fn feature(feature: &gatefold_schema::Feature) -> wire::Feature {
    let side = match feature.side {
        Side::User => wire::Side::User,
        Side::Context => wire::Side::Context,
        Side::Item => wire::Side::Item,
    };
    let value_type = match feature.value_type {
        ValueType::Int => wire::ValueType::Int,
        ValueType::Float => wire::ValueType::Float,
        ValueType::Text => wire::ValueType::Text,
    };
    wire::Feature {
        name: feature.name.clone(),
        side: side.into(),
        r#type: value_type.into(),
        sequence: feature.kind == Kind::Sequence,
        max_len: u32::try_from(feature.max_len.unwrap_or(0)).unwrap_or(u32::MAX),
    }
}
