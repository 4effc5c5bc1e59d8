//! Warm start: first parameters out of a published bundle, as far as they mean the same here.
//!
//! A parameter is taken where the bundle has one of that name and those dimensions. Embedding rows
//! stand for values: where both vocabularies are known, each row is taken to the place that its
//! value has now, so that a model can go on when the samples were built anew. Everything else keeps
//! its fresh value, and the report says why.

mod table;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use gatefold_engine::{Bundle, BundleError};
use gatefold_exec::Parameters;
use gatefold_onnx::{Weight, read_weights};
use gatefold_schema::EncoderSet;

/// Ends the name of a parameter that the export has folded with others.
const FOLDED: &str = ".folded";

/// Why a bundle gives no parameters.
#[derive(Debug, thiserror::Error)]
pub enum WarmStartError {
    /// It cannot be opened.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Its weights cannot be read.
    #[error("{0}")]
    Weights(#[from] io::Error),
    /// Nothing in it fits.
    #[error("none of its parameters fits this model: {0}")]
    NothingFits(String),
}

/// What a training took over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmStart {
    /// Name and version of the bundle.
    pub from: String,
    /// Parameters that were taken.
    pub taken: Vec<String>,
    /// Tables of which rows were taken by their values, and how many.
    pub by_value: Vec<(String, String)>,
    /// Parameters that keep their fresh values, and why.
    pub left: Vec<(String, String)>,
}

/// Overwrites `parameters` with those of the bundle in `path`, or of the latest version in it.
pub(crate) fn load(
    path: &Path,
    encoders: &EncoderSet,
    parameters: &mut Parameters,
) -> Result<WarmStart, WarmStartError> {
    let bundle = Bundle::open_latest(path)?;
    let manifest = bundle.manifest();
    let old = bundle.encoder().set();
    let mut report = WarmStart {
        from: format!("{} {}", manifest.name, manifest.version),
        taken: Vec::new(),
        by_value: Vec::new(),
        left: Vec::new(),
    };
    let mut met = BTreeMap::new();
    let same_inputs = input_layout(old) == input_layout(encoders);
    let file: PathBuf = bundle.path().join(&manifest.plain.file);
    read_weights(&file, |weight: Weight| -> Result<(), WarmStartError> {
        if let Some(name) = weight.name.strip_suffix(FOLDED) {
            let why = "the bundle holds it folded together with its batch normalization";
            met.insert(name.to_owned(), Outcome::Left(why.into()));
        }
        let declared = parameters.declared().iter().find(|declared| declared.name == weight.name).cloned();
        let (Some(declared), Some(values)) = (declared, parameters.by_name_mut(&weight.name)) else {
            return Ok(());
        };
        let name = weight.name.clone();
        let outcome = if declared.table {
            table::take(&weight, &declared, old, encoders, values)
        } else if weight.dims != declared.dims {
            Outcome::Left(format!("it is {:?} in the bundle, {:?} here", weight.dims, declared.dims))
        } else if !same_inputs && weight.dims.first() == Some(&input_width(encoders)) {
            Outcome::Left("the features that it reads are others, or in another order".into())
        } else {
            values.copy_from_slice(&weight.values);
            Outcome::Taken
        };
        met.insert(name, outcome);
        Ok(())
    })?;
    for declared in parameters.declared() {
        let name = declared.name.clone();
        match met.remove(&name) {
            Some(Outcome::Taken) => report.taken.push(name),
            Some(Outcome::ByValue(rows)) => report.by_value.push((name, rows)),
            Some(Outcome::Left(why)) => report.left.push((name, why)),
            None => report.left.push((name, "the bundle has none of that name".into())),
        }
    }
    if report.taken.is_empty() && report.by_value.is_empty() {
        let first = report.left.first().map(|(name, why)| format!("{name}: {why}"));
        return Err(WarmStartError::NothingFits(first.unwrap_or_default()));
    }
    Ok(report)
}

/// What became of a parameter.
enum Outcome {
    Taken,
    /// How many rows, in words.
    ByValue(String),
    /// Why not.
    Left(String),
}

/// What the columns of the first layer stand for.
fn input_layout(encoders: &EncoderSet) -> Vec<(&str, usize)> {
    let features = encoders.features.iter().map(|fitted| &fitted.feature);
    features.map(|feature| (feature.name.as_str(), feature.embedding.unwrap_or(1))).collect()
}

fn input_width(encoders: &EncoderSet) -> usize {
    input_layout(encoders).iter().map(|(_, width)| width).sum()
}
