//! Scores a long table: the server's encoder and backends, driven by plain threads.
//!
//! Chunks go out to as many threads as there are backends and come back in order; only a few are
//! in memory at a time, however long the table.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
};

use gatefold_features::{Encoder, FeatureBatch};

use crate::{
    Backend, BackendError, BackendLoader, Bundle, GoldenReport, GraphForm, LoadError, golden,
    worker::panic_message,
};

/// A bundle with one backend a thread.
pub struct BatchScorer {
    bundle: Arc<Bundle>,
    backends: Vec<Box<dyn Backend>>,
    report: GoldenReport,
}

impl BatchScorer {
    /// Opens `threads` backends (at least one) on the bundle's graph of `form`, or the plain one
    /// where there is no other, and replays the golden rows.
    ///
    /// # Errors
    /// When a backend cannot be opened, or does not give the golden scores.
    pub fn open(
        bundle: Bundle,
        loader: &dyn BackendLoader,
        form: GraphForm,
        threads: usize,
    ) -> Result<BatchScorer, LoadError> {
        let form = bundle.form(form);
        let mut backends = Vec::new();
        for _ in 0..threads.max(1) {
            backends.push(loader.open(&bundle, form)?);
        }
        let report = golden::check(&bundle, backends[0].as_mut())?;
        Ok(BatchScorer { bundle: Arc::new(bundle), backends, report })
    }

    /// The bundle.
    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// What the check of the golden rows found.
    pub fn report(&self) -> GoldenReport {
        self.report
    }

    /// Scores one batch on the calling thread: one vector an output of the manifest.
    ///
    /// # Errors
    /// When the backend fails.
    pub fn score(&mut self, batch: &FeatureBatch) -> Result<Vec<Vec<f32>>, BackendError> {
        let outputs: Vec<usize> = (0..self.bundle.manifest().outputs.len()).collect();
        run_one(self.backends[0].as_mut(), batch, &outputs)
    }

    /// Scores all `chunks`. `encode` turns one into a batch, on a worker thread; `sink` gets every
    /// chunk with its scores (one vector an output of the manifest), in order, on the calling
    /// thread, which also pulls the chunks.
    ///
    /// # Errors
    /// The first error in the order of the chunks, from the source, `encode`, the backend or
    /// `sink`; `sink` has then got every chunk before it and none after.
    pub fn run<T, E>(
        &mut self,
        mut chunks: impl Iterator<Item = Result<T, E>>,
        encode: impl Fn(&Encoder, &T) -> Result<FeatureBatch, E> + Sync,
        mut sink: impl FnMut(T, Vec<Vec<f32>>) -> Result<(), E>,
    ) -> Result<(), E>
    where
        T: Send,
        E: Send + From<BackendError>,
    {
        type Answer<T, E> = (usize, Result<(T, Vec<Vec<f32>>), E>);
        let outputs: Vec<usize> = (0..self.bundle.manifest().outputs.len()).collect();
        let encoder = self.bundle.encoder().clone();
        // Enough that no thread waits for the next chunk while one is slow.
        let in_flight = 2 * self.backends.len() + 1;
        let (work, queue) = mpsc::channel::<(usize, T)>();
        let queue = Mutex::new(queue);
        let (answer, answers) = mpsc::channel::<Answer<T, E>>();
        std::thread::scope(|scope| {
            for backend in &mut self.backends {
                let (queue, encode, encoder, outputs) = (&queue, &encode, &encoder, &outputs);
                let answer = answer.clone();
                scope.spawn(move || {
                    loop {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                        let Ok((index, chunk)) = next else { return };
                        let score = || -> Result<Vec<Vec<f32>>, E> {
                            let batch = encode(encoder, &chunk)?;
                            Ok(run_one(backend.as_mut(), &batch, outputs)?)
                        };
                        let scores = catch_unwind(AssertUnwindSafe(score)).unwrap_or_else(|panic| {
                            Err(BackendError::Run(panic_message(panic.as_ref())).into())
                        });
                        if answer.send((index, scores.map(|scores| (chunk, scores)))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(answer);
            // Moved in, so that it is dropped on every way out and the threads end.
            let work = work;
            let mut early = BTreeMap::new();
            let (mut sent, mut done, mut exhausted) = (0, 0, false);
            loop {
                while !exhausted && sent - done < in_flight {
                    match chunks.next() {
                        Some(Ok(chunk)) => {
                            // Fails only when every thread has ended, which `answers` then tells.
                            let _ = work.send((sent, chunk));
                            sent += 1;
                        }
                        Some(Err(error)) => {
                            early.insert(sent, Err(error));
                            sent += 1;
                            exhausted = true;
                        }
                        None => exhausted = true,
                    }
                }
                if done == sent {
                    return Ok(());
                }
                while let Some(result) = early.remove(&done) {
                    let (chunk, scores) = result?;
                    sink(chunk, scores)?;
                    done += 1;
                }
                if done < sent && (exhausted || sent - done >= in_flight) {
                    match answers.recv() {
                        Ok((index, result)) => {
                            early.insert(index, result);
                        }
                        Err(_) => {
                            return Err(BackendError::Run("the scoring threads ended early".into()).into());
                        }
                    }
                }
            }
        })
    }
}

/// One vector of as many values as `batch` has candidates for each of the `outputs`, which are no gates.
pub(crate) fn run_one(
    backend: &mut dyn Backend,
    batch: &FeatureBatch,
    outputs: &[usize],
) -> Result<Vec<Vec<f32>>, BackendError> {
    if batch.candidates == 0 {
        return Ok(vec![Vec::new(); outputs.len()]);
    }
    let scores = backend.run(batch, outputs)?;
    if scores.len() != outputs.len() || scores.iter().any(|column| column.len() != batch.candidates) {
        return Err(BackendError::Run("the backend gave another number of scores than asked for".into()));
    }
    Ok(scores)
}

#[cfg(test)]
mod tests;
