//! Encoded features as the inputs of a graph that stands beside any bundle.

use anyhow::{Context, Result, ensure};
use gatefold_backend_ort::{OpenGraph, Tensor, Values};
use gatefold_engine::GraphForm;
use gatefold_features::{FeatureBatch, FeatureColumn};
use gatefold_schema::{FittedFeature, Level, REQUEST_OF};

/// The inputs of a bundle's graph: columns at the request level are expanded for the plain form.
pub(super) fn inputs(
    features: &[FittedFeature],
    batch: &FeatureBatch,
    form: GraphForm,
) -> Vec<(String, Tensor)> {
    let mut inputs = Vec::new();
    for (fitted, column) in features.iter().zip(&batch.columns) {
        let expand = form == GraphForm::Plain && fitted.feature.side.level() == Level::Request;
        let column = if expand { column.take(&batch.request_of) } else { column.clone() };
        let rows = column.rows();
        let tensor = match column {
            FeatureColumn::Codes { width, data } => {
                let sequence = fitted.feature.max_len.is_some();
                Tensor {
                    dims: if sequence { vec![rows, width] } else { vec![rows] },
                    values: Values::Int32(data),
                }
            }
            FeatureColumn::Numbers(data) => Tensor { dims: vec![rows], values: Values::Float32(data) },
        };
        inputs.push((fitted.feature.name.clone(), tensor));
    }
    if form == GraphForm::UserOnce {
        let rows = batch.request_of.iter().map(|row| *row as i32).collect();
        let tensor = Tensor { dims: vec![batch.candidates], values: Values::Int32(rows) };
        inputs.push((REQUEST_OF.to_owned(), tensor));
    }
    inputs
}

/// Runs the graph: one list of scores an output, in the order of `outputs`.
pub(super) fn scores(
    graph: &mut OpenGraph,
    inputs: &[(String, Tensor)],
    candidates: usize,
    outputs: &[String],
) -> Result<Vec<Vec<f32>>> {
    let found = graph.run(inputs)?;
    let mut scores = Vec::with_capacity(outputs.len());
    for output in outputs {
        let (_, tensor) = found
            .iter()
            .find(|(name, _)| name == output)
            .with_context(|| format!("the graph has no output '{output}'"))?;
        let Values::Float32(values) = &tensor.values else {
            anyhow::bail!("output '{output}' is not of floats");
        };
        ensure!(
            values.len() == candidates,
            "output '{output}' gave {} scores for {candidates} candidates; add column = … where it has several \
             columns, and see that every row has a score of its own",
            values.len()
        );
        scores.push(values.clone());
    }
    Ok(scores)
}
