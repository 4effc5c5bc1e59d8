//! One session of ONNX Runtime as a backend.

use std::path::{Path, PathBuf};

use gatefold_engine::{Backend, BackendError, BackendLoader, Bundle, GraphForm};
use gatefold_features::FeatureBatch;
use ort::{
    environment::Environment,
    logging::LogLevel,
    session::{
        HasSelectedOutputs, OutputSelector, RunOptions, Session,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
};

use crate::{
    Device, OrtError,
    bind::{self, Outlet, Source},
    buckets::Buckets,
    library, prune,
    rows::{Rows, Scratch},
};

/// How models are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrtSettings {
    /// The library; looked for where [`crate::find_library`] says when not given.
    pub library: Option<PathBuf>,
    /// Threads that compute one batch, the caller's included. One is best where several workers
    /// share the cores; more shorten a lone large batch.
    pub intra_threads: usize,
    /// What runs models. A CUDA device needs the library of a GPU build.
    pub device: Device,
}

impl Default for OrtSettings {
    fn default() -> Self {
        Self { library: None, intra_threads: 1, device: Device::Cpu }
    }
}

/// Opens sessions. The library is loaded once a process, by the first loader.
#[derive(Clone, Debug)]
pub struct OrtLoader {
    environment: Environment,
    library: PathBuf,
    intra_threads: usize,
    device: Device,
    /// Whether batches are padded to buckets, in buffers that stay: where the device is a GPU.
    buckets: bool,
}

impl OrtLoader {
    /// Finds and loads ONNX Runtime. Call it early in a program, before other threads run: it sets
    /// an environment variable that keeps the library from sending telemetry.
    ///
    /// # Errors
    /// When the library is not found, does not load or is too old, or another one is in use; when the
    /// device cannot be had: nothing is run on another one instead.
    pub fn new(settings: OrtSettings) -> Result<OrtLoader, OrtError> {
        if settings.intra_threads == 0 {
            return Err(OrtError::Setup("intra_threads must be at least 1, found 0".into()));
        }
        let library = library::find_library(settings.library.as_deref())?;
        let environment = library::environment(&library)?;
        let OrtSettings { intra_threads, device, .. } = settings;
        device.check(&environment, &library)?;
        Ok(OrtLoader { environment, library, intra_threads, device, buckets: device != Device::Cpu })
    }

    /// The library in use.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// Opens a bundle's graph and checks it against the manifest.
    ///
    /// # Errors
    /// When the file is no ONNX graph, or its inputs and outputs are not those of the manifest.
    pub fn open_backend(&self, bundle: &Bundle, form: GraphForm) -> Result<OrtBackend, OrtError> {
        let Some(graph) = bundle.graph(form) else {
            return Err(OrtError::NoUserOnce { bundle: bundle.path().to_path_buf() });
        };
        let file = bundle.path().join(&graph.file);
        let not_onnx = |reason: String| OrtError::NotOnnx { file: file.clone(), reason };
        let setup = |error: ort::Error<_>| OrtError::Setup(error.to_string());
        let session = self.builder().map_err(setup)?.commit_from_file(&file);
        let session = session.map_err(|error| not_onnx(error.to_string()))?;
        let outlets = bind::outputs(&file, &session, bundle)?;
        let sources = bind::inputs(&file, &session, bundle, graph, false)?;
        let whole = Bound::new(session, sources, None, self.buckets().map_err(setup)?);
        let mut bounds = Vec::new();
        let bytes = std::fs::read(&file).map_err(|error| not_onnx(error.to_string()))?;
        // A gate alone is never asked for.
        for (output, outlet) in outlets.iter().enumerate().take(bundle.manifest().outputs.len()) {
            let pruned = prune::prune(&bytes, &[&outlet.name]).filter(|pruned| pruned.share <= WORTHWHILE);
            // A session on a GPU has its own copy of the tables there, which a spared tower is not worth.
            let Some(pruned) = pruned.filter(|_| self.device == Device::Cpu) else {
                continue;
            };
            let mut builder = self.builder_with_folder(bundle.path()).map_err(setup)?;
            let session =
                builder.commit_from_memory(&pruned.model).map_err(|error| not_onnx(error.to_string()))?;
            let sources = bind::inputs(&file, &session, bundle, graph, true)?;
            bounds.push(Bound::new(session, sources, Some(output), self.buckets().map_err(setup)?));
        }
        bounds.push(whole);
        Ok(OrtBackend { bounds, outlets })
    }

    /// For a graph that is not read from a file: its external data lies in `folder`.
    pub(crate) fn builder_with_folder(&self, folder: &Path) -> Result<SessionBuilder, ort::Error> {
        Ok(self.builder()?.with_config_entry(EXTERNAL_DATA_FOLDER, folder.to_string_lossy())?)
    }

    fn buckets(&self) -> Result<Option<Buckets>, ort::Error> {
        self.buckets.then(|| Buckets::new(self.device)).transpose()
    }

    fn builder(&self) -> Result<SessionBuilder, ort::Error> {
        let builder = Session::builder(&self.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(self.intra_threads)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            .with_memory_pattern(false)?
            .with_log_level(LogLevel::Warning)?;
        self.device.add_to(builder)
    }
}

impl BackendLoader for OrtLoader {
    fn open(&self, bundle: &Bundle, form: GraphForm) -> Result<Box<dyn Backend>, BackendError> {
        Ok(Box::new(self.open_backend(bundle, form)?))
    }
}

/// An output gets a cut of the graph to itself where that leaves out at least a tenth of the work:
/// a session costs memory, and what a small tower saves would not be seen.
const WORTHWHILE: f64 = 0.9;

/// Session option that says where external data lies, for a graph that is not read from a file.
const EXTERNAL_DATA_FOLDER: &str = "session.model_external_initializers_file_folder_path";

/// Choices of outputs that are kept; a model has few outputs, and a client asks for the same ones.
const KEPT_SELECTIONS: usize = 32;

/// One bundle's graph, ready to run, with cuts of it for single outputs.
pub struct OrtBackend {
    /// Cuts first, the whole graph last.
    bounds: Vec<Bound>,
    /// The outputs in the manifest's order, then the gates.
    outlets: Vec<Outlet>,
}

/// A session and the buffers it is fed from.
struct Bound {
    session: Session,
    /// Of its inputs, in its order.
    sources: Vec<Source>,
    /// The only output it has; all of them where `None`.
    only: Option<usize>,
    /// Run options for each choice of outputs seen so far.
    selections: Vec<(Vec<usize>, RunOptions<HasSelectedOutputs>)>,
    /// One an input, for values that cannot be taken as they are.
    scratch: Vec<Scratch>,
    /// Where batches are padded.
    buckets: Option<Buckets>,
}

impl Backend for OrtBackend {
    fn run(&mut self, batch: &FeatureBatch, outputs: &[usize]) -> Result<Vec<Vec<f32>>, BackendError> {
        let outlets = &self.outlets;
        if let Some(output) = outputs.iter().find(|output| **output >= outlets.len()) {
            return Err(BackendError::Batch(format!("output {output} of {} is asked for", outlets.len())));
        }
        let fits = |bound: &&mut Bound| bound.only.is_none_or(|only| outputs == [only]);
        let bound = self.bounds.iter_mut().find(fits);
        bound.ok_or_else(|| BackendError::Run("no session is open".into()))?.run(batch, outputs, outlets)
    }
}

impl Bound {
    fn new(session: Session, sources: Vec<Source>, only: Option<usize>, buckets: Option<Buckets>) -> Bound {
        let scratch = sources.iter().map(|_| Scratch::default()).collect();
        Bound { session, sources, only, selections: Vec::new(), scratch, buckets }
    }

    fn run(
        &mut self,
        batch: &FeatureBatch,
        outputs: &[usize],
        outlets: &[Outlet],
    ) -> Result<Vec<Vec<f32>>, BackendError> {
        let failed = |error: ort::Error| BackendError::Run(error.to_string());
        let selection = self.selection(outputs, outlets).map_err(failed)?;
        let mut inputs = Vec::with_capacity(self.sources.len());
        // Where every request has one candidate there is nothing to expand.
        let one_to_one = batch.requests == batch.candidates
            && batch.request_of.iter().enumerate().all(|(candidate, request)| candidate == *request as usize);
        for (source, scratch) in self.sources.iter().zip(&mut self.scratch) {
            inputs.push(match *source {
                Source::RequestOf { one_for_all } => {
                    // A bucket's padding would give it other rows than one or those of the candidates.
                    let single = one_for_all && batch.requests == 1 && self.buckets.is_none();
                    let rows = if single { batch.request_of.get(..1) } else { None };
                    let rows = rows.unwrap_or(&batch.request_of);
                    scratch.codes.clear();
                    scratch.codes.extend(rows.iter().map(|request| *request as i32));
                    Rows::Codes { data: &scratch.codes, width: None }
                }
                Source::Feature { column, expand, width } => {
                    let expand = (expand && !one_to_one).then_some(batch.request_of.as_slice());
                    let column = batch
                        .columns
                        .get(column)
                        .ok_or_else(|| BackendError::Batch(format!("it has no column {column}")))?;
                    Rows::of_feature(column, width, expand, scratch)?
                }
            });
        }
        if let Some(buckets) = &mut self.buckets {
            return buckets
                .run(&mut self.session, &inputs, batch.candidates, outputs, outlets)
                .map_err(failed);
        }
        let values: Vec<_> = inputs.iter().map(Rows::value).collect::<Result<_, _>>().map_err(failed)?;
        let (_, options) = &self.selections[selection];
        let results = self.session.run_with_options(values.as_slice(), options).map_err(failed)?;
        let mut scores = Vec::with_capacity(outputs.len());
        for ((_, value), output) in results.iter().zip(outputs) {
            let column = value.try_extract_array::<f32>().map_err(failed)?;
            let outlet = &outlets[*output];
            let expected = batch.candidates * outlet.width();
            if column.len() != expected {
                return Err(BackendError::Run(format!(
                    "the graph gave {} values of '{}', not {expected} ({} candidates)",
                    column.len(),
                    outlet.name,
                    batch.candidates
                )));
            }
            scores.push(column.iter().copied().collect());
        }
        Ok(scores)
    }

    /// Position among `selections` of the options that select `outputs`.
    fn selection(&mut self, outputs: &[usize], outlets: &[Outlet]) -> Result<usize, ort::Error> {
        if let Some(found) = self.selections.iter().position(|(selected, _)| selected == outputs) {
            return Ok(found);
        }
        let selector =
            outputs.iter().fold(OutputSelector::no_default(), |all, output| all.with(&outlets[*output].name));
        if self.selections.len() == KEPT_SELECTIONS {
            self.selections.clear();
        }
        self.selections.push((outputs.to_vec(), RunOptions::new()?.with_outputs(selector)));
        Ok(self.selections.len() - 1)
    }
}

impl std::fmt::Debug for OrtBackend {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("OrtBackend")
            .field("outputs", &self.outlets.iter().map(|outlet| &outlet.name).collect::<Vec<_>>())
            .field("sessions", &self.bounds.len())
            .finish()
    }
}

#[cfg(test)]
mod tests;
