//! A sample of the scored requests, kept as Parquet: what was asked as it was received, and what was
//! answered. It is what shows how a feature drifts, and what training can join with later outcomes.
//!
//! `<folder>/<model>/<time>-<number>.parquet` has a row for each candidate of each sampled request:
//!
//! | column | type | what |
//! |---|---|---|
//! | `request_id` | text | the caller's, cut after 256 bytes, or one made up where the caller gave none |
//! | `time` | timestamp in ms, UTC | when the request was answered |
//! | `model`, `version` | text, int64 | what scored it |
//! | `labels` | list of text | labels of that version, `stable` or `canary` |
//! | `experiment`, `arm` | text | what the request was in; null where it named no experiment, and `arm` where its unit is in none |
//! | `candidate` | int64 | place of the candidate in the request, from 0 |
//! | each feature | int64, double, text, or a list of int64 or text | the raw value; null where it was missing |
//! | `score_<output>` | float | null where the output was not asked for |
//! | `fused` | double | the fused score; null where the request had no formula |
//!
//! A feature whose name is taken above is written as `feature_<name>`.
//!
//! Which requests are taken is decided by a hash of the request id, so every server takes the same
//! ones. A scoring call only copies the request into a bounded queue; one thread writes. A file is
//! written under a hidden name and put in place by a rename when it is whole: a reader sees whole
//! files only; what a killed server leaves behind is removed at the next start. What does not fit into the queue or cannot be written is counted and given up,
//! scoring never waits for it.

mod columns;
mod file;
mod layout;
mod record;
mod writer;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gatefold_features::murmur::hash_text;
use prometheus_client::metrics::counter::Counter;

pub(crate) use record::Record;

use crate::settings::RequestLogSettings;

/// Another seed than that of any feature's hash, so that the sample is independent of codes.
const SEED: u32 = 0x6761_7465;

/// What becomes of the sampled requests.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Rows in whole files.
    pub rows: Counter,
    /// Whole files.
    pub files: Counter,
    /// Bytes of whole files.
    pub bytes: Counter,
    /// Requests given up because the queue was full.
    pub queue_full: Counter,
    /// Requests given up because they could not be written.
    pub failed: Counter,
}

/// Takes requests for the log; cheap to call from any thread.
#[derive(Debug)]
pub struct RequestLog {
    /// Requests are taken whose hash is below this.
    below: u64,
    queue_bytes: usize,
    queued: Arc<AtomicUsize>,
    counters: Counters,
    /// Numbers requests without an id; begins at the time of the start, so that it never repeats.
    next_id: AtomicU64,
    queue: Mutex<Option<Sender<Record>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl RequestLog {
    /// Starts the thread that writes; `None` where the settings name no folder.
    ///
    /// # Errors
    /// When no file can be written in the folder, or the thread cannot be started.
    pub fn start(settings: &RequestLogSettings, counters: Counters) -> std::io::Result<Option<RequestLog>> {
        let Some(folder) = settings.folder.clone() else { return Ok(None) };
        file::check_folder(&folder)?;
        let (files, bytes) = file::remove_unfinished(&folder);
        if files > 0 {
            tracing::warn!(
                files,
                bytes,
                folder = %folder.display(),
                "a server that logged requests here was killed; what it had not finished is removed"
            );
        }
        let (queue, records) = channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let rotation = writer::Rotation {
            bytes: settings.file_bytes,
            age: Duration::from_secs_f64(settings.file_seconds),
        };
        let writer = writer::Writer::new(folder, rotation, counters.clone(), queued.clone());
        let thread =
            std::thread::Builder::new().name("request-log".into()).spawn(move || writer.run(&records))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Some(RequestLog {
            below: (settings.share * (1_u64 << 32) as f64) as u64,
            queue_bytes: settings.queue_bytes,
            queued,
            counters,
            next_id: AtomicU64::new(now.as_nanos() as u64),
            queue: Mutex::new(Some(queue)),
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// The id under which a request is logged; `None` where it is not sampled.
    pub(crate) fn sample(&self, request_id: &str) -> Option<String> {
        let id = match request_id {
            "" => format!("gatefold-{:x}", self.next_id.fetch_add(1, Ordering::Relaxed)),
            id => id.to_owned(),
        };
        (u64::from(hash_text(&id, SEED)) < self.below).then_some(id)
    }

    /// Queues a request, or counts it as given up.
    pub(crate) fn push(&self, record: Record) {
        let bytes = record.bytes;
        let before = self.queued.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= self.queue_bytes;
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        // The sender is gone once the log is closed, the receiver never before.
        if !fits || queue.as_ref().is_none_or(|queue| queue.send(record).is_err()) {
            self.queued.fetch_sub(bytes, Ordering::Relaxed);
            self.counters.queue_full.inc();
        }
    }

    /// Writes what is queued and puts all files in place. Blocks until that is done.
    pub fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the request log has panicked; its last files are lost");
        }
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(share: f64) -> RequestLog {
        let folder = tempfile::TempDir::new().unwrap();
        let settings = RequestLogSettings { folder: Some(folder.keep()), share, ..Default::default() };
        let log = RequestLog::start(&settings, Counters::default()).unwrap().unwrap();
        std::fs::remove_dir_all(settings.folder.unwrap()).unwrap();
        log
    }

    #[test]
    fn the_share_of_the_ids_is_taken_and_always_the_same_ones() {
        let ids: Vec<String> = (0..20_000).map(|id| format!("request-{id}")).collect();
        let taken = |share| -> Vec<String> {
            let log = log(share);
            ids.iter().filter_map(|id| log.sample(id)).collect()
        };
        let tenth = taken(0.1);
        // Four standard deviations of a fair draw.
        assert!(tenth.len().abs_diff(2000) < 4 * 42, "{}", tenth.len());
        assert_eq!(tenth, taken(0.1));
        // A larger share takes those, and more.
        assert!(taken(0.2).iter().filter(|id| tenth.contains(id)).count() == tenth.len());
        assert_eq!((taken(0.0).len(), taken(1.0).len()), (0, ids.len()));
    }

    #[test]
    fn requests_without_an_id_get_one_each() {
        let log = log(1.0);
        let ids: std::collections::BTreeSet<String> = (0..100).filter_map(|_| log.sample("")).collect();
        assert_eq!(ids.len(), 100);
        assert!(ids.iter().all(|id| id.starts_with("gatefold-")));
    }

    #[test]
    fn what_a_killed_server_left_is_removed_and_nothing_else() {
        use std::fs::{self, File};
        let folder = tempfile::TempDir::new().unwrap();
        let model = folder.path().join("demo");
        fs::create_dir(&model).unwrap();
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        let left = |name: &str, time| {
            let file = File::create(model.join(name)).unwrap();
            file.set_len(10).unwrap();
            file.set_modified(time).unwrap();
            file
        };
        drop(left(".2026-01-02T03-04-05-0.parquet.part", hour_ago));
        drop(left(".2026-01-02T03-04-05-17.parquet.part", hour_ago));
        // Of a server that runs, of one that has just begun, and of others.
        let written = left(".2026-01-02T03-04-05-1.parquet.part", hour_ago);
        written.try_lock().unwrap();
        let kept = [
            ".2026-01-02T03-04-05-2.parquet.part",
            "2026-01-02T03-04-05-3.parquet",
            ".2026-01-02T03-04-05-3.parquet",
            ".2026-13-02T03-04-05-4.parquet.part",
            ".2026-01-02T03-04-05.parquet.part",
            ".copy.parquet.part",
        ];
        drop(left(kept[0], SystemTime::now()));
        kept[1..].iter().for_each(|name| drop(left(name, hour_ago)));
        assert_eq!(file::remove_unfinished(folder.path()), (2, 20));
        let mut found: Vec<String> = fs::read_dir(&model)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut expected: Vec<String> = kept.map(str::to_owned).into();
        expected.push(".2026-01-02T03-04-05-1.parquet.part".into());
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        // Unlocked, it was left, too.
        drop(written);
        assert_eq!(file::remove_unfinished(folder.path()), (1, 10));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error_at_the_start() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let folder = file.path().join("log");
        let settings = RequestLogSettings { folder: Some(folder.clone()), ..Default::default() };
        let message = RequestLog::start(&settings, Counters::default()).unwrap_err().to_string();
        assert!(message.contains("cannot write in the folder of the request log"), "{message}");
        assert!(message.contains(&folder.display().to_string()), "{message}");
    }
}
