//! The ranges of the values that the products of a bundle read.

use std::{collections::BTreeMap, path::Path};

use gatefold_engine::{BackendError, BackendLoader, Bundle, GraphForm};
use gatefold_features::FeatureBatch;
use gatefold_onnx::{
    OBSERVED, Quantization, Range, Ranges, observe_ranges as with_ranges, quantize as rewrite,
};
use gatefold_schema::{GateOutput, GraphFile};

use super::with_other_graphs;
use crate::error::TrainError;

/// The ranges of values by graph file.
pub type GraphRanges = BTreeMap<String, Ranges>;

/// Runs the graphs of `bundle` on `batches` and gives the range of every value that a product in fewer bits
/// would quantize. Bundles whose graphs show them are written into `folder`, one at a time, and removed.
///
/// # Errors
/// When a graph cannot be read, written, opened or run.
pub fn observe_ranges(
    bundle: &Bundle,
    loader: &dyn BackendLoader,
    batches: &[FeatureBatch],
    folder: &Path,
) -> Result<GraphRanges, TrainError> {
    let mut all = GraphRanges::new();
    for form in [GraphForm::Plain, GraphForm::UserOnce] {
        let Some(graph) = bundle.graph(form) else { continue };
        let (observer, values) = observer(bundle, graph, folder)?;
        let mut ranges = vec![Range::default(); values.len()];
        if !values.is_empty() {
            let mut backend = loader.open(&observer, form)?;
            let manifest = observer.manifest();
            let position = manifest.outputs.len() + manifest.gate_outputs.len() - 1;
            for batch in batches.iter().filter(|batch| batch.candidates > 0) {
                let found = backend.run(batch, &[position])?;
                let row = found.first().and_then(|all| all.get(..2 * values.len()));
                let row = row.ok_or_else(|| BackendError::Run(format!("it gave no '{OBSERVED}'")))?;
                let (least, largest) = row.split_at(values.len());
                for (range, (least, largest)) in ranges.iter_mut().zip(least.iter().zip(largest)) {
                    range.include(*least);
                    range.include(*largest);
                }
            }
        }
        // Tables may be large: one copy of them at a time. What cannot be removed goes with the folder.
        let _ = std::fs::remove_dir_all(observer.path());
        let known = values.into_iter().zip(ranges).filter(|(_, range)| range.is_usable());
        all.insert(graph.file.clone(), known.collect::<Ranges>());
    }
    Ok(all)
}

/// A bundle whose `graph` gives the ranges of some values in the place of a gate's weights, and those values.
fn observer(bundle: &Bundle, graph: &GraphFile, folder: &Path) -> Result<(Bundle, Vec<String>), TrainError> {
    let mut values = Vec::new();
    let folder = folder.join(&bundle.manifest().name);
    let observer = with_other_graphs(
        bundle,
        bundle.manifest().clone(),
        &folder,
        |file, path, weights, manifest| {
            if file.file != graph.file {
                let same = rewrite(path, weights, Quantization::default(), &Ranges::new())?;
                return Ok((same.model, same.read));
            }
            let observed = with_ranges(path, weights)?;
            values = observed.values;
            if !values.is_empty() {
                let columns = ["least", "largest"].into_iter();
                let columns =
                    columns.flat_map(|end| values.iter().map(move |value| format!("{end} {value}")));
                let experts = columns.collect();
                manifest.gate_outputs.push(GateOutput { name: OBSERVED.into(), tasks: Vec::new(), experts });
            }
            Ok((observed.model, observed.read))
        },
        |_| Ok(()),
    )?;
    Ok((observer, values))
}
