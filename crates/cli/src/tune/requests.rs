//! What is scored over and over while settings are tried.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use gatefold_engine::Bundle;
use gatefold_features::RawBatch;
use gatefold_samples::RawTable;
use gatefold_schema::JsonRequest;

/// Requests taken from a log: enough for the mix of their sizes.
const MOST_OF_A_LOG: usize = 2000;
/// Rows of a log read at a time.
const ROWS: usize = 65_536;

/// Requests as a server has them once a message is decoded, ready to be encoded.
#[derive(Clone, Copy)]
pub(super) struct Requests {
    batches: &'static [RawBatch<'static>],
    description: &'static str,
}

impl Requests {
    /// The golden requests of the bundle with `candidates` each.
    ///
    /// # Errors
    /// When there are none.
    pub(super) fn golden(bundle: &Bundle, candidates: usize) -> Result<Self> {
        let golden = bundle.golden().requests.iter().map(|entry| &entry.request);
        let requests: Vec<JsonRequest> = golden
            .filter(|request| request.candidates() > 0)
            .map(|request| with_candidates(request, candidates))
            .collect();
        let path = bundle.path().display();
        ensure!(!requests.is_empty(), "{path} has no golden requests: give --from-log");
        Self::new(requests, bundle, format!("requests of {candidates} candidates"))
            .with_context(|| format!("the golden requests of {path}"))
    }

    /// The newest requests in a server's request log: in `folder` itself or in its folder of the model.
    ///
    /// # Errors
    /// A folder or file that cannot be read, or without a request of this bundle's features.
    pub(super) fn of_log(folder: &Path, bundle: &Bundle) -> Result<Self> {
        let of_model = folder.join(&bundle.manifest().name);
        let folder = if of_model.is_dir() { of_model } else { folder.to_owned() };
        let set = bundle.encoder().set();
        let mut requests: Vec<JsonRequest> = Vec::new();
        // The names of the files begin with the time.
        for file in files(&folder)?.iter().rev() {
            let read = || -> Result<Vec<JsonRequest>> {
                let (mut table, mut found) = (RawTable::open(file, set)?, Vec::new());
                while let Some(rows) = table.next_rows(ROWS)? {
                    found.extend(rows.batch()?.to_json(set, &rows.request_ids()));
                }
                Ok(found)
            };
            requests.extend(read().with_context(|| format!("cannot read {}", file.display()))?);
            if requests.len() >= MOST_OF_A_LOG {
                requests.truncate(MOST_OF_A_LOG);
                break;
            }
        }
        let path = folder.display();
        ensure!(!requests.is_empty(), "{path} holds no request: it is the folder of a server's request_log");
        let candidates: usize = requests.iter().map(JsonRequest::candidates).sum();
        let (count, mean) = (requests.len(), candidates / requests.len());
        let description = format!("{count} logged requests of {mean} candidates on average");
        Self::new(requests, bundle, description).with_context(|| format!("the requests of {path}"))
    }

    /// They are borrowed by tasks that may outlive any frame of this program, and there is one set of
    /// them a process: they are never given back.
    fn new(requests: Vec<JsonRequest>, bundle: &Bundle, description: String) -> Result<Self> {
        let set = Box::leak(Box::new(bundle.encoder().set().clone()));
        let requests: &'static [JsonRequest] = requests.leak();
        let batches = requests.chunks(1).map(|one| RawBatch::from_json(one, set));
        let batches: Vec<RawBatch<'static>> = batches.collect::<Result<_, _>>()?;
        Ok(Self { batches: batches.leak(), description: description.leak() })
    }

    /// One a request.
    pub(super) fn batches(&self) -> &'static [RawBatch<'static>] {
        self.batches
    }

    /// What they are, in words.
    pub(super) fn description(&self) -> &'static str {
        self.description
    }

    /// Candidates of each; there is at least one request.
    fn candidates(&self) -> impl Iterator<Item = usize> + Clone {
        self.batches.iter().map(|batch| batch.candidates)
    }

    /// Candidates of the smallest.
    pub(super) fn smallest(&self) -> usize {
        self.candidates().min().unwrap_or(0)
    }

    /// Candidates of the largest.
    pub(super) fn largest(&self) -> usize {
        self.candidates().max().unwrap_or(0)
    }

    /// Candidates on average.
    pub(super) fn mean(&self) -> usize {
        self.candidates().sum::<usize>() / self.batches.len().max(1)
    }
}

/// The Parquet files of a folder by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = || format!("cannot read the folder {}", folder.display());
    let entries = fs::read_dir(folder).with_context(failed)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    let mut paths = paths.with_context(failed)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "parquet"));
    paths.sort();
    Ok(paths)
}

/// The request with its first candidates, or its candidates over and over.
fn with_candidates(request: &JsonRequest, candidates: usize) -> JsonRequest {
    let mut request = request.clone();
    for values in request.items.values_mut() {
        *values = values.iter().cycle().take(candidates).cloned().collect();
    }
    request
}
