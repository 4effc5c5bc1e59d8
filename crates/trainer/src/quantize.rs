//! A bundle published again with tables or layers in fewer bits.

use std::{collections::BTreeSet, fs::File, io, path::Path};

use gatefold_engine::{Bundle, BundleWriter};
use gatefold_onnx::{ExternalWeights, OnnxError, Quantization, Ranges, quantize as rewrite};
use gatefold_schema::{BundleManifest, GraphFile};

use crate::error::TrainError;

mod observe;

pub use observe::{GraphRanges, observe_ranges};

/// File of the tables, which both graphs refer to.
const WEIGHTS_FILE: &str = "weights.bin";

/// What a bundle written in fewer bits differs by from the one that it was made of.
#[derive(Clone, Debug)]
pub struct Rewritten {
    /// The new bundle.
    pub bundle: Bundle,
    /// Tables that are stored in fewer bits.
    pub tables: usize,
    /// Products of the graph that is served that are computed in fewer bits.
    pub products: usize,
}

/// Publishes `bundle` as the next version in `model_folder`, rewritten as `quantization` says.
///
/// Rows of products are quantized by `ranges`, which [`observe_ranges`] found; those of which nothing is known,
/// by the range of their batch. Encoders and golden rows stay; the golden scores must be met within
/// `tolerance` from now on. `provenance` is added to where the bundle comes from. `verify` judges the new
/// bundle before it gets its version.
///
/// # Errors
/// When a graph cannot be rewritten, the bundle cannot be written, or `verify` refuses it.
pub fn quantize(
    bundle: &Bundle,
    quantization: Quantization,
    ranges: &GraphRanges,
    tolerance: f32,
    provenance: &[(&str, String)],
    model_folder: &Path,
    verify: impl FnOnce(&Bundle) -> Result<(), String>,
) -> Result<Rewritten, TrainError> {
    let mut manifest = bundle.manifest().clone();
    manifest.golden_tolerance = Some(tolerance);
    let provenance = provenance.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    manifest.provenance.extend(provenance);
    let (mut tables, mut products) = (0, 0);
    let nothing = Ranges::new();
    let rewrite = |graph: &GraphFile, path: &Path, weights: &mut _, _: &mut _| {
        let ranges = ranges.get(&graph.file).unwrap_or(&nothing);
        let rewritten = rewrite(path, weights, quantization, ranges)?;
        (tables, products) = (rewritten.tables, rewritten.products);
        Ok((rewritten.model, rewritten.read))
    };
    let bundle = with_other_graphs(bundle, manifest, model_folder, rewrite, verify)?;
    Ok(Rewritten { bundle, tables, products })
}

/// The bytes of an ONNX file, and the files that the one it was made of reads tensors from.
type NewGraph = (Vec<u8>, BTreeSet<String>);

/// Publishes `bundle` with another `manifest`, and with its graphs as `rewrite` makes them of their paths; it
/// may change the manifest as it does.
fn with_other_graphs(
    bundle: &Bundle,
    mut manifest: BundleManifest,
    model_folder: &Path,
    mut rewrite: impl FnMut(
        &GraphFile,
        &Path,
        &mut ExternalWeights<'static>,
        &mut BundleManifest,
    ) -> Result<NewGraph, OnnxError>,
    verify: impl FnOnce(&Bundle) -> Result<(), String>,
) -> Result<Bundle, TrainError> {
    let failed = |source| TrainError::Bundle { path: model_folder.to_owned(), source };
    let mut writer = BundleWriter::create(model_folder).map_err(failed)?;
    let mut weights = ExternalWeights::new(WEIGHTS_FILE);
    let mut replaced = BTreeSet::from([WEIGHTS_FILE.to_owned()]);
    let old = bundle.manifest();
    for graph in [Some(&old.plain), old.user_once.as_ref()].into_iter().flatten() {
        let (model, read) = rewrite(graph, &bundle.path().join(&graph.file), &mut weights, &mut manifest)?;
        writer.write(&graph.file, &model).map_err(failed)?;
        replaced.insert(graph.file.clone());
        replaced.extend(read);
    }
    if !weights.is_empty() {
        writer.write_with(WEIGHTS_FILE, |file| weights.write_to(file)).map_err(failed)?;
    }
    for name in old.files.keys().filter(|name| !replaced.contains(*name)) {
        let copy = |mut file: &mut dyn io::Write| {
            io::copy(&mut File::open(bundle.path().join(name))?, &mut file).map(drop)
        };
        writer.write_with(name, copy).map_err(failed)?;
    }
    writer.publish(manifest, verify).map_err(failed)
}
