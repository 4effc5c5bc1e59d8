//! The thread of the log: takes requests from the queue, keeps one file a model version, and puts
//! each in place when it is large or old enough.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use gatefold_engine::ModelVersion;

use super::Counters;
use super::file::{LogFile, TIME, WriteError};
use super::record::Record;

/// How long nothing is tried after a failure: a full disk is not filled again at once, and the log
/// on stderr is not flooded.
const PAUSE: Duration = Duration::from_secs(10);

/// When a file is put in place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rotation {
    pub(super) bytes: usize,
    pub(super) age: Duration,
}

pub(super) struct Writer {
    folder: PathBuf,
    rotation: Rotation,
    counters: Counters,
    /// Bytes in the queue.
    queued: Arc<AtomicUsize>,
    files: HashMap<ModelVersion, LogFile>,
    /// Of the next file: makes names unique.
    number: u64,
    paused_until: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        folder: PathBuf,
        rotation: Rotation,
        counters: Counters,
        queued: Arc<AtomicUsize>,
    ) -> Writer {
        Writer { folder, rotation, counters, queued, files: HashMap::new(), number: 0, paused_until: None }
    }

    /// Writes until the queue is closed and empty.
    pub(super) fn run(mut self, records: &Receiver<Record>) {
        loop {
            let oldest = self.files.values().map(|file| file.opened).min();
            let received = match oldest {
                None => records.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(opened) => records.recv_timeout(self.rotation.age.saturating_sub(opened.elapsed())),
            };
            match received {
                Ok(record) => self.write(&record),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.rotate();
        }
        for (_, file) in std::mem::take(&mut self.files) {
            self.finish(file);
        }
    }

    fn write(&mut self, record: &Record) {
        self.queued.fetch_sub(record.bytes, Ordering::Relaxed);
        if self.paused_until.is_some_and(|until| Instant::now() < until) {
            self.counters.failed.inc();
            return;
        }
        let model = &record.reply.model;
        if !self.files.contains_key(model) {
            let folder = self.folder.join(&*model.name);
            let time = DateTime::<Utc>::from(record.time).format(TIME).to_string();
            match LogFile::create(&folder, &time, &mut self.number, record) {
                Ok(file) => _ = self.files.insert(model.clone(), file),
                Err(error) => return self.failed(&error, 1),
            }
        }
        let Some(file) = self.files.get_mut(model) else { return };
        if let Err(error) = file.add(record) {
            let requests = file.requests;
            self.files.remove(model);
            self.failed(&error, requests);
        }
    }

    /// Puts files in place that are large or old enough.
    fn rotate(&mut self) {
        let Rotation { bytes, age } = self.rotation;
        let due = |file: &LogFile| file.bytes() >= bytes || file.opened.elapsed() >= age;
        let models: Vec<ModelVersion> =
            self.files.iter().filter(|(_, file)| due(file)).map(|(model, _)| model.clone()).collect();
        for model in models {
            if let Some(file) = self.files.remove(&model) {
                self.finish(file);
            }
        }
    }

    fn finish(&mut self, file: LogFile) {
        let (requests, rows) = (file.requests, file.rows);
        match file.finish() {
            Ok(bytes) => {
                self.counters.files.inc();
                self.counters.rows.inc_by(rows);
                self.counters.bytes.inc_by(bytes);
            }
            Err(error) => self.failed(&error, requests),
        }
    }

    fn failed(&mut self, error: &WriteError, requests: u64) {
        let seconds = PAUSE.as_secs();
        tracing::error!(requests, "{error}; these requests are not logged, the next try is in {seconds} s");
        self.counters.failed.inc_by(requests);
        self.paused_until = Some(Instant::now() + PAUSE);
    }
}
