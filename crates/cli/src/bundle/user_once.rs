//! The user-once form of an imported graph: made, and compared with the plain one before it is kept.

use std::path::Path;

use anyhow::{Result, ensure};
use gatefold_backend_ort::{OpenGraph, OrtLoader, Tensor, Values};
use gatefold_engine::{GOLDEN_TOLERANCE, GraphForm};
use gatefold_features::{Encoder, FeatureBatch};
use gatefold_onnx::split::{Observed, PROBE_ROWS, Seen, Splitter};
use gatefold_proto::onnx::tensor_proto::DataType;
use gatefold_schema::Level;

use super::{golden::Random, tensors, trial::encode};

/// Candidates of the requests in each of the calls that both forms must agree on.
const COMPARED: [&[usize]; 5] = [&[1], &[3, 1, 5], &[1, 1, 1, 1], &[7, 40, 2, 1, 11], &[200]];

/// A graph that computes the request once, and gives the scores of the plain one.
pub(super) struct Form {
    /// The file's bytes.
    pub(super) model: Vec<u8>,
    /// Share of the multiply-adds that is computed once a request.
    pub(super) moved: f64,
    /// Rows that both forms scored.
    pub(super) rows: usize,
    /// Largest difference between them.
    pub(super) largest_difference: f32,
}

/// The user-once form of `plain`, which `graph` runs; `folder` holds the files that its tensors stand in.
pub(super) fn form(
    encoder: &Encoder,
    outputs: &[String],
    plain: &[u8],
    folder: &Path,
    loader: &OrtLoader,
    graph: &mut OpenGraph,
) -> Result<Form> {
    let features = &encoder.set().features;
    let at = |level| features.iter().any(|fitted| fitted.feature.side.level() == level);
    ensure!(at(Level::Request), "every feature is of the item");
    ensure!(at(Level::Candidate), "no feature is of the item");
    let splitter = Splitter::new(plain, folder)?;
    let mut random = Random::new(1);
    let mut probe = loader.open_graph(&splitter.probe()?, folder)?;
    let mut observe = |rows: usize| -> Result<Vec<Seen>> {
        let batch = batch(encoder, &mut random, &vec![1; rows])?;
        let found = probe.run(&tensors::inputs(features, &batch, GraphForm::Plain))?;
        Ok(found.into_iter().map(|(name, tensor)| seen(name, tensor)).collect())
    };
    let observed = Observed::of(observe(PROBE_ROWS[0])?, observe(PROBE_ROWS[1])?);
    drop(probe);
    let is_request = |name: &str| {
        let found = features.iter().find(|fitted| fitted.feature.name == name);
        found.is_some_and(|fitted| fitted.feature.side.level() == Level::Request)
    };
    let split = splitter.split(&is_request, &observed)?;

    let mut once = loader.open_graph(&split.model, folder)?;
    let mut form = Form { model: split.model, moved: split.moved, rows: 0, largest_difference: 0.0 };
    for counts in COMPARED {
        let batch = batch(encoder, &mut random, counts)?;
        let scores = |graph: &mut OpenGraph, form| {
            tensors::scores(graph, &tensors::inputs(features, &batch, form), batch.candidates, outputs)
        };
        let expected = scores(graph, GraphForm::Plain)?;
        let found = scores(&mut once, GraphForm::UserOnce)?;
        for ((name, expected), found) in outputs.iter().zip(&expected).zip(&found) {
            for (row, (expected, found)) in expected.iter().zip(found).enumerate() {
                let difference = (expected - found).abs();
                // Written so that a NaN fails.
                ensure!(
                    difference <= GOLDEN_TOLERANCE,
                    "{name} of row {row} of {} is {found} and {expected} in the plain form; the graph mixes rows, \
                     or its numbers are large",
                    batch.candidates
                );
                form.largest_difference = form.largest_difference.max(difference);
            }
        }
        form.rows += batch.candidates;
    }
    Ok(form)
}

/// Random requests with these numbers of candidates.
fn batch(encoder: &Encoder, random: &mut Random, counts: &[usize]) -> Result<FeatureBatch> {
    let requests: Vec<_> = counts.iter().map(|count| random.request(encoder.set(), "", *count)).collect();
    encode(encoder, &requests)
}

fn seen(name: String, tensor: Tensor) -> Seen {
    let (kind, bytes) = match tensor.values {
        Values::Int32(values) => {
            (DataType::Int32, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        Values::Int64(values) => {
            (DataType::Int64, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        Values::Float32(values) => {
            (DataType::Float, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        Values::Other => (DataType::Undefined, Vec::new()),
    };
    Seen { name, dims: tensor.dims, kind, bytes }
}
