//! Batches in the order of an epoch, prepared ahead on threads of their own.
//!
//! One thread decodes the shards of the next window and shuffles it while another gathers batches
//! from the present one; both wait when they are ahead. In memory at one time: two windows
//! ([`ReadOptions::window_bytes`] each, or one shard where that is more) while a shard is decoded
//! into the second, and [`BATCHES_AHEAD`] batches with the one being made and the one in use.
//! Shards that are kept in memory anyway are shared, not copied.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use gatefold_features::FeatureBatch;

use crate::{
    DatasetError, Split,
    filter::{Condition, kept_rows},
    gather::{Gathered, Loaded},
    order::{Cuts, RowOf, Unit, Window, WindowOrder, windows},
    shards::{Columns, Shards},
};

/// Batches that wait ready for use.
pub const BATCHES_AHEAD: usize = 2;

/// What to read, and in which order.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadOptions {
    /// Rows a batch; where the unit is a request, about so many.
    pub batch_size: usize,
    /// Rows are seen in an order of this seed, another each epoch; absent: in the order of the
    /// shards.
    pub shuffle: Option<u64>,
    /// What stays together.
    pub unit: Unit,
    /// The rows that are read: those which satisfy every condition.
    pub conditions: Vec<Condition>,
    /// Label and audit columns of the batches.
    pub labels: Vec<String>,
    /// Decoded bytes that are shuffled together. The order of an epoch depends on it, but not on
    /// whether shards are kept in memory.
    pub window_bytes: usize,
}

impl ReadOptions {
    /// Batches of this many rows in the order of the shards, without labels.
    pub fn new(batch_size: usize) -> Self {
        Self {
            batch_size,
            shuffle: None,
            unit: Unit::Row,
            conditions: Vec::new(),
            labels: Vec::new(),
            window_bytes: 64 << 20,
        }
    }
}

/// One batch.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleBatch {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Step in the epoch, from 0.
    pub step: usize,
    /// Each row is a request of its own where the unit is a row; otherwise request-level columns
    /// have one row a request.
    pub features: FeatureBatch,
    /// The label columns that were asked for, one value a row.
    pub labels: BTreeMap<String, Vec<f32>>,
}

/// The rows of a split in the order in which a training sees them.
#[derive(Clone, Debug)]
pub struct Reader {
    shards: Shards,
    options: ReadOptions,
    /// What is decoded: the labels, and what the conditions look at.
    columns: Vec<String>,
    /// Rows of each shard before and after filtering.
    stored: Vec<usize>,
    kept: Vec<usize>,
    cuts: Cuts,
}

impl Reader {
    /// Prepares to read `shards`. Conditions and requests are counted first, for which their
    /// columns (no feature) are read once.
    ///
    /// # Errors
    /// A label that there is not, no row that satisfies the conditions, a request longer than a
    /// batch where the unit is a request, and those of [`Shards::scan`].
    pub fn new(shards: &Shards, options: ReadOptions) -> Result<Self, DatasetError> {
        let mut columns = options.labels.clone();
        columns.extend(options.conditions.iter().flat_map(Condition::columns).cloned());
        columns.sort_unstable();
        columns.dedup();
        shards.check_labels(&columns)?;
        let stored: Vec<usize> = (0..shards.count()).map(|shard| shards.rows_of(shard)).collect();
        let kept = match (options.unit, options.conditions.as_slice()) {
            (Unit::Row, []) => stored.clone(),
            _ => count(shards, &options, &columns)?,
        };
        let rows: usize = kept.iter().sum();
        if rows == 0 {
            let conditions: Vec<String> = options.conditions.iter().map(Condition::to_string).collect();
            return Err(DatasetError::NoRow { conditions: conditions.join(", ") });
        }
        let cuts = Cuts::new(rows, options.batch_size.max(1), options.unit);
        Ok(Self { shards: shards.clone(), options, columns, stored, kept, cuts })
    }

    /// Rows of an epoch.
    pub fn rows(&self) -> usize {
        self.kept.iter().sum()
    }

    /// Steps of an epoch.
    pub fn steps(&self) -> usize {
        self.cuts.steps()
    }

    /// The batches of `epochs` (from 0), beginning with step `first_step` (from 0) of the first of
    /// them. What was seen before that step is not read.
    ///
    /// # Errors
    /// When the system refuses the threads.
    pub fn batches(&self, epochs: Range<usize>, first_step: usize) -> Result<Batches, DatasetError> {
        // Nothing waits between the threads: while one window is in use, the next one is made.
        let (windows_in, windows_out) = sync_channel(0);
        let (batches_in, batches_out) = sync_channel(BATCHES_AHEAD);
        let (decoder, gatherer) = (self.clone(), self.clone());
        let decoder_epochs = epochs.clone();
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.to_owned()).spawn(work)
        };
        let threads = [
            spawn("decode", Box::new(move || decoder.decode(decoder_epochs, first_step, &windows_in))),
            spawn("gather", Box::new(move || gatherer.gather(epochs, first_step, &windows_out, &batches_in))),
        ];
        let threads: Result<Vec<_>, _> = threads.into_iter().collect();
        Ok(Batches { batches: Some(batches_out), threads: threads.map_err(DatasetError::Threads)? })
    }

    /// The windows of an epoch from the one on in which `first_step` begins.
    fn windows_from(&self, epoch: usize, first_step: usize) -> impl Iterator<Item = (usize, Window)> {
        let row_bytes = self.shards.row_bytes(self.columns.len()) + size_of::<RowOf>();
        let most = self.options.window_bytes / row_bytes;
        let shuffled = self.options.shuffle.map(|seed| (seed, epoch));
        let first = self.cuts.places(first_step).start;
        let windows = windows(&self.stored, &self.kept, most, shuffled);
        windows.into_iter().enumerate().skip_while(move |(_, window)| window.rows.end <= first)
    }

    /// Loads window after window until nobody takes them any more.
    fn decode(
        &self,
        epochs: Range<usize>,
        first_step: usize,
        out: &SyncSender<Result<Loaded, DatasetError>>,
    ) {
        let first_epoch = epochs.start;
        for epoch in epochs {
            let first_step = if epoch == first_epoch { first_step } else { 0 };
            for (number, window) in self.windows_from(epoch, first_step) {
                let loaded = self.load(epoch, number, window);
                let failed = loaded.is_err();
                if out.send(loaded).is_err() || failed {
                    return;
                }
            }
        }
    }

    fn load(&self, epoch: usize, number: usize, window: Window) -> Result<Loaded, DatasetError> {
        let columns = Columns { features: true, labels: &self.columns, time: false };
        let read = |shard: &usize| self.shards.read(*shard, columns);
        let parts: Vec<Arc<Split>> = window.shards.iter().map(read).collect::<Result<_, _>>()?;
        let kept: Vec<Vec<u32>> =
            parts.iter().map(|part| kept_rows(part, &self.options.conditions)).collect();
        let shuffled = self.options.shuffle.map(|seed| (seed, epoch, number));
        let order = WindowOrder::new(&parts, &kept, self.options.unit, shuffled);
        Ok(Loaded { parts, order, first: window.rows.start })
    }

    /// Makes batch after batch until nobody takes them any more.
    fn gather(
        &self,
        epochs: Range<usize>,
        first_step: usize,
        windows: &Receiver<Result<Loaded, DatasetError>>,
        out: &SyncSender<Result<SampleBatch, DatasetError>>,
    ) {
        let first_epoch = epochs.start;
        for epoch in epochs {
            let mut window: Option<Loaded> = None;
            let first_step = if epoch == first_epoch { first_step } else { 0 };
            for step in first_step..self.cuts.steps() {
                let places = self.cuts.places(step);
                let mut batch = Gathered::default();
                // A batch may go on in the next window, which is then the only one held.
                loop {
                    if let Some(window) = &window {
                        batch.append(window, places.clone(), self.options.unit, &self.options.labels);
                        if places.end <= window.end() {
                            break;
                        }
                    }
                    drop(window.take());
                    window = match windows.recv() {
                        Ok(Ok(next)) => Some(next),
                        Ok(Err(error)) => {
                            // Whether anybody hears of it is no longer of interest.
                            let _ = out.send(Err(error));
                            return;
                        }
                        Err(_) => return,
                    };
                }
                let Gathered { features, labels } = batch;
                if out.send(Ok(SampleBatch { epoch, step, features, labels })).is_err() {
                    return;
                }
            }
        }
    }
}

/// Counts the rows of each shard that satisfy the conditions.
fn count(shards: &Shards, options: &ReadOptions, columns: &[String]) -> Result<Vec<usize>, DatasetError> {
    let mut kept = Vec::with_capacity(shards.count());
    shards.scan(Columns { features: false, labels: columns, time: false }, |part| {
        let rows = kept_rows(part, &options.conditions);
        let request = |row: &u32| part.request[*row as usize];
        let requests = rows.chunk_by(|a, b| request(a) == request(b));
        let longest = requests.map(<[u32]>::len).max().unwrap_or(0);
        if options.unit == Unit::Request && longest > options.batch_size {
            return Err(DatasetError::LongRequest {
                shard: shards.name(kept.len()),
                rows: longest,
                batch_size: options.batch_size,
            });
        }
        kept.push(rows.len());
        Ok(())
    })?;
    Ok(kept)
}

/// Batches as they get ready; ends after the last epoch, or after an error. Dropping it stops the
/// threads.
#[derive(Debug)]
pub struct Batches {
    batches: Option<Receiver<Result<SampleBatch, DatasetError>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Iterator for Batches {
    type Item = Result<SampleBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Ok(batch) = self.batches.as_ref()?.recv() {
            return Some(batch);
        }
        self.batches = None;
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        None
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.batches = None;
        for thread in self.threads.drain(..) {
            // A panic of a thread that nobody reads from any more changes nothing.
            let _ = thread.join();
        }
    }
}
