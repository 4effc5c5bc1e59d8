//! The caller's side of a request: checks, encoding, the queue, and the wait for the reply.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gatefold_features::{FeatureBatch, FeatureColumn, RawBatch, Strictness};
use gatefold_schema::{FittedFeature, Kind, Level};
use tokio::sync::oneshot;

use super::{Served, Shared};
use crate::{
    Bundle, Features, GateWeights, HIGHEST_PRIORITY, ModelVersion, ScoreError, ScoreJob, ScoreReply, Timings,
    scheduler::{Demand, Entry, Refused, Scored, Ticket, Unqueued},
};

/// The reply and its candidates, or the name of the model (empty where there is none) and why not.
pub(super) async fn score(
    shared: &Arc<Shared>,
    job: ScoreJob<'_>,
) -> Result<(ScoreReply, usize), (String, ScoreError)> {
    let ScoreJob { model, version, mut features, outputs, gates, deadline, priority } = job;
    let priority = priority.min(HIGHEST_PRIORITY);
    let mut retired = None;
    loop {
        let (served, labels) = shared.find(model, version).map_err(|error| (String::new(), error))?;
        let named = |error| (served.instance.model.name.to_string(), error);
        if retired == Some(served.lane) {
            // Nothing has taken its place: it goes because it has lost its last backend.
            return Err(named(served.instance.lost()));
        }
        let raw = match &features {
            Features::Raw(raw) => Some(*raw),
            Features::Encoded(_) => None,
        };
        let mut selected = select(&served, outputs).map_err(named)?;
        if gates {
            let gates = gates_of(&served, &selected).map_err(named)?;
            selected.extend(gates);
        }
        let (batch, room, encode) = admit(shared, &served, features, deadline, priority).map_err(named)?;
        let candidates = batch.candidates;
        match queue(room, &served, batch, selected.clone()).await.map_err(named)? {
            Outcome::Scored(scored) => {
                if let Some(raw) = raw {
                    served.recorded.offer(raw, outputs, Instant::now());
                }
                let reply = reply(&served, labels, &selected, scored, encode);
                return Ok((reply, candidates));
            }
            // The version was swapped in between: the next one encodes raw values its own way.
            Outcome::Retired(batch) => {
                retired = Some(served.lane);
                features = raw.map_or_else(|| Features::Encoded(batch), Features::Raw);
            }
        }
    }
}

/// Positions of the outputs asked for; all where none is named.
fn select(served: &Served, names: &[String]) -> Result<Vec<usize>, ScoreError> {
    let bundle = &served.instance.bundle;
    if names.is_empty() {
        return Ok((0..bundle.manifest().outputs.len()).collect());
    }
    let mut selected = Vec::with_capacity(names.len());
    for name in names {
        let index = bundle.output_index(name).ok_or_else(|| ScoreError::UnknownOutput {
            model: served.instance.model.clone(),
            output: name.clone(),
            known: bundle.output_names(),
        })?;
        if selected.contains(&index) {
            return Err(ScoreError::RepeatedOutput { output: name.clone() });
        }
        selected.push(index);
    }
    Ok(selected)
}

/// Positions, after those of all outputs, of the gates through which the `selected` outputs are
/// predicted: those of their tasks, or of the tasks that a derived output multiplies.
fn gates_of(served: &Served, selected: &[usize]) -> Result<Vec<usize>, ScoreError> {
    let manifest = served.instance.bundle.manifest();
    if manifest.gate_outputs.is_empty() {
        return Err(ScoreError::NoGates { model: served.instance.model.clone() });
    }
    let names: Vec<&String> = selected.iter().map(|output| &manifest.outputs[*output].name).collect();
    let products = manifest.derived.iter().filter(|derived| names.contains(&&derived.name));
    let tasks: Vec<&String> =
        names.iter().copied().chain(products.flat_map(|derived| &derived.product)).collect();
    let first = manifest.outputs.len();
    let gates = manifest.gate_outputs.iter().enumerate();
    let wanted = gates.filter(|(_, gate)| gate.tasks.iter().any(|task| tasks.contains(&task)));
    Ok(wanted.map(|(place, _)| first + place).collect())
}

/// Refuses at the door what cannot be served, before any work is done for it; then encodes.
fn admit<'a>(
    shared: &'a Shared,
    served: &Served,
    features: Features<'_>,
    deadline: Option<Instant>,
    priority: u8,
) -> Result<(FeatureBatch, Room<'a>, Duration), ScoreError> {
    let candidates = match &features {
        Features::Raw(raw) => raw.candidates,
        Features::Encoded(batch) => batch.candidates,
    };
    let limit = shared.settings.request_rows;
    if candidates == 0 {
        return Err(ScoreError::NoCandidates);
    }
    if candidates > limit {
        return Err(ScoreError::TooManyCandidates { found: candidates, limit });
    }
    let started = Instant::now();
    let demand = Demand { rows: candidates, deadline, priority };
    let admitted = shared.lock().admit(served.lane, demand, started);
    admitted.map_err(|refused| refusal(shared, &served.instance.model, refused, deadline, started))?;
    let room = Room { shared, lane: served.lane, demand, used: false };
    let batch = match features {
        Features::Raw(raw) => {
            let span = tracing::debug_span!("encode");
            let batch = span.in_scope(|| encode(&served.instance.bundle, raw))?;
            shared.observer.encoded(&served.instance.model, &served.instance.bundle, raw, &batch);
            batch
        }
        Features::Encoded(batch) => {
            check_encoded(&served.instance.bundle, &batch)
                .map_err(|reason| ScoreError::Batch { model: served.instance.model.clone(), reason })?;
            batch
        }
    };
    Ok((batch, room, started.elapsed()))
}

/// Room in the queue, given back unless it is used.
struct Room<'a> {
    shared: &'a Shared,
    lane: u64,
    demand: Demand,
    used: bool,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if !self.used {
            self.shared.lock().release(self.lane, self.demand.rows);
            self.shared.progressed();
        }
    }
}

/// What is said to a caller that is not admitted.
fn refusal(
    shared: &Shared,
    model: &ModelVersion,
    refused: Refused,
    deadline: Option<Instant>,
    now: Instant,
) -> ScoreError {
    let model = model.clone();
    match refused {
        Refused::Full(queued) => ScoreError::Overloaded { model, queued, limit: shared.settings.queue_rows },
        Refused::TooLate(needed) => {
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(now));
            ScoreError::TooLate { model, needed, left }
        }
        Refused::Expired => ScoreError::DeadlineExceeded,
        Refused::Closed => ScoreError::ShuttingDown,
    }
}

fn encode(bundle: &Bundle, raw: &RawBatch<'_>) -> Result<FeatureBatch, ScoreError> {
    let encoded = bundle.encoder().encode(raw, Strictness::Refuse);
    encoded.map_err(|error| ScoreError::Encode(Arc::new(error)))
}

enum Outcome {
    Scored(Scored),
    /// The model version went away before the batch was queued.
    Retired(FeatureBatch),
}

/// Queues the batch in the room kept for it and waits for its scores or the deadline.
async fn queue(
    mut room: Room<'_>,
    served: &Served,
    batch: FeatureBatch,
    outputs: Vec<usize>,
) -> Result<Outcome, ScoreError> {
    let (reply, answer) = oneshot::channel();
    let queued_at = Instant::now();
    let (span, stage) = (tracing::Span::current(), tracing::debug_span!("queue"));
    let (shared, Demand { deadline, priority, .. }) = (room.shared, room.demand);
    let entry = Entry { batch, outputs, deadline, priority, queued_at, reply, span, stage };
    room.used = true;
    let (pushed, wake) = {
        let mut scheduler = shared.lock();
        (scheduler.push(served.lane, entry, queued_at), scheduler.idle_workers > 0)
    };
    let ticket = match pushed {
        Ok(ticket) => ticket,
        Err(unqueued) => {
            // The room it had is free again.
            shared.progressed();
            return match unqueued {
                Unqueued::Retired(entry) => Ok(Outcome::Retired(entry.batch)),
                Unqueued::Stopped => Err(ScoreError::ShuttingDown),
            };
        }
    };
    if wake {
        shared.work.notify_one();
    }
    let mut place = Place { shared, lane: served.lane, ticket, waiting: true };
    let received = match deadline {
        Some(deadline) => match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(received) => received,
            Err(_) => return Err(ScoreError::DeadlineExceeded),
        },
        None => answer.await,
    };
    place.waiting = false;
    received.unwrap_or_else(|_| Err(served.instance.lost())).map(Outcome::Scored)
}

/// A place in the queue, given back when the caller stops waiting.
struct Place<'a> {
    shared: &'a Shared,
    lane: u64,
    ticket: Ticket,
    waiting: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.waiting {
            self.shared.lock().cancel(self.lane, self.ticket);
            self.shared.progressed();
        }
    }
}

fn reply(
    served: &Served,
    labels: Vec<String>,
    selected: &[usize],
    scored: Scored,
    encode: Duration,
) -> ScoreReply {
    let manifest = served.instance.bundle.manifest();
    let mut scores = scored.scores;
    // The gates come after the outputs.
    let (outputs, gates) = selected.split_at(selected.partition_point(|at| *at < manifest.outputs.len()));
    let weights = scores.split_off(outputs.len().min(scores.len()));
    let gates = gates.iter().map(|at| manifest.gate_outputs[at - manifest.outputs.len()].clone());
    ScoreReply {
        model: served.instance.model.clone(),
        labels,
        outputs: outputs.iter().map(|index| manifest.outputs[*index].name.clone()).collect(),
        scores,
        gates: gates.zip(weights).map(|(gate, weights)| GateWeights { gate, weights }).collect(),
        timings: Timings {
            encode,
            queue: scored.queue,
            infer: scored.infer,
            batch_jobs: scored.batch_jobs,
            batch_rows: scored.batch_rows,
        },
    }
}

/// Checks a batch that was encoded elsewhere: a wrong shape or code would fail the batch it joins.
pub(super) fn check_encoded(bundle: &Bundle, batch: &FeatureBatch) -> Result<(), String> {
    let features = &bundle.manifest().features;
    if batch.columns.len() != features.len() {
        return Err(format!("{} columns for {} features", batch.columns.len(), features.len()));
    }
    if batch.request_of.len() != batch.candidates {
        return Err(format!(
            "request_of has {} entries for {} candidates",
            batch.request_of.len(),
            batch.candidates
        ));
    }
    let rises = batch.request_of.windows(2).all(|pair| pair[0] <= pair[1]);
    if !rises || batch.request_of.last().is_some_and(|last| *last as usize >= batch.requests) {
        return Err(format!("request_of must not fall and must stay below the {} requests", batch.requests));
    }
    for (fitted, column) in features.iter().zip(&batch.columns) {
        check_column(fitted, column, batch)
            .map_err(|reason| format!("feature '{}': {reason}", fitted.feature.name))?;
    }
    Ok(())
}

fn check_column(fitted: &FittedFeature, column: &FeatureColumn, batch: &FeatureBatch) -> Result<(), String> {
    let feature = &fitted.feature;
    let rows = match feature.side.level() {
        Level::Request => batch.requests,
        Level::Candidate => batch.candidates,
    };
    match (feature.kind, column) {
        (Kind::Numeric, FeatureColumn::Numbers(numbers)) => {
            if numbers.len() != rows {
                return Err(format!("{} numbers, expected {rows}", numbers.len()));
            }
            match numbers.iter().position(|number| !number.is_finite()) {
                Some(row) => Err(format!("row {row} is not a finite number")),
                None => Ok(()),
            }
        }
        (Kind::Categorical | Kind::Sequence, FeatureColumn::Codes { width, data }) => {
            if *width != feature.width() || data.len() != rows * feature.width() {
                return Err(format!(
                    "{} codes of width {width}, expected {rows} rows of width {}",
                    data.len(),
                    feature.width()
                ));
            }
            let count = fitted.code_count().unwrap_or(0);
            let outside = |code: &&i32| usize::try_from(**code).map_or(true, |code| code >= count);
            match data.iter().find(outside) {
                Some(code) => Err(format!("code {code} is outside 0..{count}")),
                None => Ok(()),
            }
        }
        (Kind::Numeric, FeatureColumn::Codes { .. }) => Err("codes where numbers are expected".into()),
        (_, FeatureColumn::Numbers(_)) => Err("numbers where codes are expected".into()),
    }
}
