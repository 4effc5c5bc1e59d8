//! A bundle published again with tables or layers in fewer bits.

use std::{collections::BTreeSet, fs::File, io, path::Path};

use gatefold_engine::{Bundle, BundleWriter};
use gatefold_onnx::{ExternalWeights, Quantization, quantize as rewrite};

use crate::error::TrainError;

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
/// Encoders and golden rows stay; the golden scores must be met within `tolerance` from now on.
/// `provenance` is added to where the bundle comes from. `verify` judges the new bundle before it
/// gets its version.
///
/// # Errors
/// When a graph cannot be rewritten, the bundle cannot be written, or `verify` refuses it.
pub fn quantize(
    bundle: &Bundle,
    quantization: Quantization,
    tolerance: f32,
    provenance: &[(&str, String)],
    model_folder: &Path,
    verify: impl FnOnce(&Bundle) -> Result<(), String>,
) -> Result<Rewritten, TrainError> {
    let failed = |source| TrainError::Bundle { path: model_folder.to_owned(), source };
    let mut manifest = bundle.manifest().clone();
    let mut writer = BundleWriter::create(model_folder).map_err(failed)?;
    let mut weights = ExternalWeights::new(WEIGHTS_FILE);
    let mut replaced = BTreeSet::from([WEIGHTS_FILE.to_owned()]);
    let (mut tables, mut products) = (0, 0);
    for graph in [Some(&manifest.plain), manifest.user_once.as_ref()].into_iter().flatten() {
        let rewritten = rewrite(&bundle.path().join(&graph.file), &mut weights, quantization)?;
        writer.write(&graph.file, &rewritten.model).map_err(failed)?;
        (tables, products) = (rewritten.tables, rewritten.products);
        replaced.insert(graph.file.clone());
        replaced.extend(rewritten.read);
    }
    if !weights.is_empty() {
        writer.write_with(WEIGHTS_FILE, |file| weights.write_to(file)).map_err(failed)?;
    }
    for name in manifest.files.keys().filter(|name| !replaced.contains(*name)) {
        let copy = |mut file: &mut dyn io::Write| {
            io::copy(&mut File::open(bundle.path().join(name))?, &mut file).map(drop)
        };
        writer.write_with(name, copy).map_err(failed)?;
    }
    manifest.golden_tolerance = Some(tolerance);
    let provenance = provenance.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    manifest.provenance.extend(provenance);
    let bundle = writer.publish(manifest, verify).map_err(failed)?;
    Ok(Rewritten { bundle, tables, products })
}
