//! Worker threads: each takes the next batch, runs it on a lent backend, and answers.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use gatefold_features::FeatureBatch;

use crate::{
    Backend, BackendError, BatchEvent, ScoreError,
    engine::{Instance, Shared},
    scheduler::{Entry, Next, Scored, Work},
};

/// Takes and runs batches until the engine stops.
pub(crate) fn run(shared: &Shared) {
    let mut scheduler = shared.lock();
    loop {
        let next = scheduler.next(Instant::now());
        // A lane may have drained, by the batch given back below or by entries that were dead.
        shared.progressed();
        match next {
            Next::Run(work) => {
                // This thread may have been the one that watched over another lane's delay.
                if scheduler.idle_workers > 0 && scheduler.has_waiting() {
                    shared.work.notify_one();
                }
                drop(scheduler);
                let (lane, rows, instance) = (work.lane, work.rows, work.instance.clone());
                let begun = Instant::now();
                let (backend, error) = match serve(shared, work) {
                    Ok(backend) => (Some(backend), None),
                    Err(error) => (None, Some(error)),
                };
                scheduler = shared.lock();
                let lost = scheduler.give_back(lane, backend, rows, begun.elapsed());
                if let Some(error) = error.filter(|_| lost) {
                    drop(scheduler);
                    shared.lose(lane, &instance.model, &error);
                    scheduler = shared.lock();
                }
            }
            Next::Wait(until) => {
                let timeout = until.saturating_duration_since(Instant::now());
                scheduler = shared.wait(scheduler, Some(timeout));
            }
            Next::Idle if scheduler.stopped() => return,
            Next::Idle => scheduler = shared.wait(scheduler, None),
        }
    }
}

/// Runs one batch and answers its entries. Gives the backend back, or a fresh one in its place
/// where it panicked, or why there is none.
fn serve(shared: &Shared, work: Work) -> Result<Box<dyn Backend>, BackendError> {
    let Work { instance, mut backend, mut entries, .. } = work;
    // A batch belongs to no single request: it and the requests are linked both ways.
    let span = tracing::debug_span!(parent: None, "batch", model = %instance.model, jobs = entries.len());
    for entry in &mut entries {
        span.follows_from(&entry.span);
        entry.stage = tracing::debug_span!(parent: &entry.span, "run");
        entry.stage.follows_from(&span);
    }
    let _entered = span.enter();
    let run = || run_entries(shared, &instance, backend.as_mut(), &entries);
    let answers = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(answers) => answers,
        Err(panic) => {
            let reason = panic_message(panic.as_ref());
            tracing::error!(model = %instance.model, %reason, "the backend panicked; opening a new one");
            answer(entries, |_| Err(instance.failed(BackendError::Run(reason.clone()))));
            return instance.open_backend().inspect_err(|error| {
                tracing::error!(model = %instance.model, %error, "the backend cannot be opened again");
            });
        }
    };
    let mut answers = answers.into_iter();
    answer(entries, |_| answers.next().unwrap_or_else(|| Err(instance.lost())));
    Ok(backend)
}

fn answer(entries: Vec<Entry>, mut result: impl FnMut(&Entry) -> Result<Scored, ScoreError>) {
    for entry in entries {
        let result = result(&entry);
        let Entry { reply, stage, .. } = entry;
        drop(stage);
        // A caller that is gone does not want it.
        let _ = reply.send(result);
    }
}

/// One answer for each entry. Where a batch of several fails, each is run alone, so that the one at
/// fault does not fail the others.
fn run_entries(
    shared: &Shared,
    instance: &Arc<Instance>,
    backend: &mut dyn Backend,
    entries: &[Entry],
) -> Vec<Result<Scored, ScoreError>> {
    let started = Instant::now();
    match run_batch(shared, instance, backend, entries, started) {
        Ok(scored) => scored.into_iter().map(Ok).collect(),
        Err(error) if entries.len() == 1 => {
            tracing::warn!(model = %instance.model, %error, "a batch failed");
            vec![Err(instance.failed(error))]
        }
        Err(error) => {
            tracing::warn!(model = %instance.model, %error, "a batch failed; running its requests one by one");
            entries
                .iter()
                .map(|entry| {
                    let alone = std::slice::from_ref(entry);
                    let scored = run_batch(shared, instance, backend, alone, started);
                    scored.map_err(|error| instance.failed(error)).map(|mut scored| scored.remove(0))
                })
                .collect()
        }
    }
}

fn run_batch(
    shared: &Shared,
    instance: &Arc<Instance>,
    backend: &mut dyn Backend,
    entries: &[Entry],
    started: Instant,
) -> Result<Vec<Scored>, BackendError> {
    let joined;
    let (batch, outputs) = match entries {
        [only] => (&only.batch, only.outputs.clone()),
        several => {
            joined = join(several);
            (&joined, union(several))
        }
    };
    let manifest = instance.bundle.manifest();
    let widths: Vec<usize> =
        outputs.iter().map(|output| manifest.output_width(*output).unwrap_or(1)).collect();
    let begun = Instant::now();
    let result = backend.run(batch, &outputs).and_then(|scores| checked(scores, batch, &widths));
    let infer = begun.elapsed();
    shared.observer.batch(&BatchEvent {
        model: &instance.model,
        jobs: entries.len(),
        rows: batch.candidates,
        infer,
        ok: result.is_ok(),
    });
    Ok(split(entries, result?, &outputs, &widths, batch.candidates, started, infer))
}

/// The entries' candidates, one after the other.
fn join(entries: &[Entry]) -> FeatureBatch {
    let mut joined = FeatureBatch::default();
    for entry in entries {
        joined.append(&entry.batch);
    }
    joined
}

/// Every output that some entry wants.
fn union(entries: &[Entry]) -> Vec<usize> {
    let mut outputs: Vec<usize> = entries.iter().flat_map(|entry| &entry.outputs).copied().collect();
    outputs.sort_unstable();
    outputs.dedup();
    outputs
}

/// What the backend gave, if it is finite and of each output `widths` values a candidate.
fn checked(
    scores: Vec<Vec<f32>>,
    batch: &FeatureBatch,
    widths: &[usize],
) -> Result<Vec<Vec<f32>>, BackendError> {
    let mut sized = scores.iter().zip(widths);
    let whole =
        scores.len() == widths.len() && sized.all(|(values, width)| values.len() == batch.candidates * width);
    if !whole {
        return Err(BackendError::Run("the backend gave another number of scores than asked for".into()));
    }
    // A probability that is not a number would pass every later comparison in silence.
    if scores.iter().flatten().any(|score| !score.is_finite()) {
        return Err(BackendError::Run("the model gave a score that is not finite".into()));
    }
    Ok(scores)
}

/// Each entry's rows of the outputs it wants, in the order it wants them.
fn split(
    entries: &[Entry],
    mut scores: Vec<Vec<f32>>,
    outputs: &[usize],
    widths: &[usize],
    batch_rows: usize,
    started: Instant,
    infer: Duration,
) -> Vec<Scored> {
    let scored = |entry: &Entry, scores| Scored {
        scores,
        queue: started.saturating_duration_since(entry.queued_at),
        infer,
        batch_jobs: entries.len(),
        batch_rows,
    };
    if let [only] = entries {
        // The outputs were run in this entry's own order.
        return vec![scored(only, std::mem::take(&mut scores))];
    }
    let mut first = 0;
    entries
        .iter()
        .map(|entry| {
            let rows = first..first + entry.batch.candidates;
            first = rows.end;
            let columns = entry.outputs.iter().filter_map(|output| outputs.binary_search(output).ok());
            let part = |column: usize| {
                let width = widths[column];
                scores[column][rows.start * width..rows.end * width].to_vec()
            };
            scored(entry, columns.map(part).collect())
        })
        .collect()
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".to_owned())
}
