//! A bare loop around ONNX Runtime: what a graph costs with nothing around it, which no server that
//! runs the same graph can beat.

use std::{
    path::{Path, PathBuf},
    sync::Barrier,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use gatefold_backend_ort::find_library;
use gatefold_engine::Bundle;
use gatefold_features::{Encoder, FeatureBatch, FeatureColumn, RawBatch, Strictness};
use gatefold_schema::{JsonRequest, REQUEST_OF, strict};
use ort::{
    environment::Environment,
    session::{
        HasSelectedOutputs, OutputSelector, RunOptions, Session, SessionInputValue,
        builder::GraphOptimizationLevel,
    },
    value::{DynValue, Tensor},
};
use serde_json::{Value, json};

use crate::resources;

/// What to run.
#[derive(clap::Args)]
pub(crate) struct RawOptions {
    /// ONNX file with one input a feature; with an input `request_of` the request level has one row.
    #[arg(long)]
    graph: PathBuf,
    /// Bundle or model folder whose encoders make the inputs.
    #[arg(long)]
    model: PathBuf,
    /// JSON file of requests, run in turn.
    #[arg(long)]
    requests: PathBuf,
    /// Candidates a request: those of the file are cut or repeated.
    #[arg(long)]
    candidates: Option<usize>,
    /// Seconds to run for.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Threads, each with a session of its own that computes in one thread.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

/// Inputs of one run.
struct Prepared {
    inputs: Vec<DynValue>,
    candidates: usize,
}

/// Candidates a second, processor time, and the mean of every output over the first requests.
pub(crate) fn measure(options: &RawOptions) -> Result<Value> {
    ensure!(options.threads > 0 && options.seconds > 0.0, "threads and seconds must be above 0");
    let bundle = Bundle::open_latest(&options.model)?;
    let batches = batches(options, bundle.encoder())?;
    let library = find_library(None)?;
    let environment = ort::init_from(library)?.with_telemetry(false).build()?;
    let mut workers = Vec::new();
    for _ in 0..options.threads {
        let session = session(&environment, &options.graph)?;
        let scores = scores(&session, &bundle)?;
        let prepared = batches.iter().map(|batch| prepare(&session, bundle.encoder(), batch));
        let prepared: Vec<Prepared> = prepared.collect::<Result<_>>()?;
        workers.push((session, scores, prepared));
    }
    let mut means = Vec::new();
    for (session, scores, prepared) in &mut workers {
        means = first_pass(session, scores, prepared)?;
    }

    let barrier = Barrier::new(workers.len());
    let (start, before) = (Instant::now(), resources::now());
    let end = start + Duration::from_secs_f64(options.seconds);
    let (candidates, runs) = std::thread::scope(|scope| -> Result<(usize, usize)> {
        let threads: Vec<_> = workers
            .iter_mut()
            .map(|(session, scores, prepared)| {
                let barrier = &barrier;
                scope.spawn(move || -> Result<(usize, usize)> {
                    barrier.wait();
                    let (mut candidates, mut runs) = (0, 0);
                    for request in prepared.iter().cycle() {
                        if Instant::now() >= end {
                            break;
                        }
                        run(session, scores, request)?;
                        candidates += request.candidates;
                        runs += 1;
                    }
                    Ok((candidates, runs))
                })
            })
            .collect();
        let mut sum = (0, 0);
        for thread in threads {
            let (candidates, runs) = thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            sum = (sum.0 + candidates, sum.1 + runs);
        }
        Ok(sum)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu_seconds = resources::now().cpu_seconds - before.cpu_seconds;
    Ok(json!({
        "candidates_per_second": candidates as f64 / seconds,
        "cpu_seconds_a_million": cpu_seconds / candidates as f64 * 1e6,
        "cpu_ms_a_run": cpu_seconds / runs as f64 * 1e3,
        "runs": runs,
        "mean_scores": means,
    }))
}

fn batches(options: &RawOptions, encoder: &Encoder) -> Result<Vec<FeatureBatch>> {
    let path = options.requests.display().to_string();
    let text = std::fs::read(&options.requests).with_context(|| format!("cannot read {path}"))?;
    let requests: Vec<JsonRequest> = strict::from_json(&text, &path)?;
    ensure!(!requests.is_empty(), "{path} holds no request");
    let encode = |mut request: JsonRequest| {
        if let Some(candidates) = options.candidates {
            for values in request.items.values_mut() {
                *values = values.iter().cycle().take(candidates).cloned().collect();
            }
        }
        let raw = RawBatch::from_json(std::slice::from_ref(&request), encoder.set())?;
        Ok(encoder.encode(&raw, Strictness::Refuse)?)
    };
    requests.into_iter().map(encode).collect()
}

/// One thread; everything else as ONNX Runtime has it by default.
fn session(environment: &Environment, graph: &Path) -> Result<Session> {
    let open = || -> Result<Session, ort::Error> {
        let builder = Session::builder(environment)?.with_optimization_level(GraphOptimizationLevel::All)?;
        builder.with_intra_threads(1)?.with_inter_threads(1)?.commit_from_file(graph)
    };
    open().with_context(|| format!("cannot open {}", graph.display()))
}

/// The bundle's scores among the graph's outputs: what else a graph gives, such as gate weights, is not
/// computed unless it is asked for.
fn scores(session: &Session, bundle: &Bundle) -> Result<RunOptions<HasSelectedOutputs>> {
    let mut selector = OutputSelector::no_default();
    for output in &bundle.manifest().outputs {
        let found = session.outputs().iter().any(|outlet| outlet.name() == output.name);
        ensure!(found, "the graph has no output '{}', which its bundle has", output.name);
        selector = selector.with(&output.name);
    }
    Ok(RunOptions::new()?.with_outputs(selector))
}

/// The batch as the session's inputs.
fn prepare(session: &Session, encoder: &Encoder, batch: &FeatureBatch) -> Result<Prepared> {
    let rows: Vec<i32> = batch.request_of.iter().map(|row| *row as i32).collect();
    let user_once = session.inputs().iter().any(|input| input.name() == REQUEST_OF);
    let mut inputs = Vec::new();
    for input in session.inputs() {
        if input.name() == REQUEST_OF {
            inputs.push(Tensor::from_array(([rows.len()], rows.clone()))?.into_dyn());
            continue;
        }
        let index = encoder.feature_index(input.name());
        let index = index.with_context(|| format!("the graph's input '{}' is no feature", input.name()))?;
        let column = &batch.columns[index];
        let expand = !user_once && column.rows() != batch.candidates;
        let column = if expand { column.take(&batch.request_of) } else { column.clone() };
        inputs.push(match column {
            FeatureColumn::Codes { width: 1, data } => Tensor::from_array(([data.len()], data))?.into_dyn(),
            FeatureColumn::Codes { width, data } => {
                Tensor::from_array(([data.len() / width, width], data))?.into_dyn()
            }
            FeatureColumn::Numbers(data) => Tensor::from_array(([data.len()], data))?.into_dyn(),
        });
    }
    Ok(Prepared { inputs, candidates: batch.candidates })
}

/// Runs each request once, which warms the session; the mean of every output, by its name.
fn first_pass(
    session: &mut Session,
    scores: &RunOptions<HasSelectedOutputs>,
    prepared: &[Prepared],
) -> Result<Vec<(String, f64)>> {
    let mut sums: Vec<(String, f64)> = Vec::new();
    let mut candidates = 0;
    for request in prepared {
        let values: Vec<SessionInputValue<'_>> = request.inputs.iter().map(SessionInputValue::from).collect();
        let outputs = session.run_with_options(values.as_slice(), scores)?;
        candidates += request.candidates;
        for (place, (name, value)) in outputs.iter().enumerate() {
            let scores = value.try_extract_array::<f32>()?;
            let sum: f64 = scores.iter().map(|score| f64::from(*score)).sum();
            match sums.get_mut(place) {
                Some(known) => known.1 += sum,
                None => sums.push((name.to_owned(), sum)),
            }
        }
    }
    Ok(sums.into_iter().map(|(name, sum)| (name, sum / candidates as f64)).collect())
}

fn run(session: &mut Session, scores: &RunOptions<HasSelectedOutputs>, request: &Prepared) -> Result<()> {
    let values: Vec<SessionInputValue<'_>> = request.inputs.iter().map(SessionInputValue::from).collect();
    session.run_with_options(values.as_slice(), scores)?;
    Ok(())
}
