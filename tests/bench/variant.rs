//! Copies of a bundle under other names, or without its user-once graph.

use std::{fs::File, io, path::Path};

use anyhow::{Context, Result};
use gatefold_backend_ort::{OrtLoader, OrtSettings};
use gatefold_engine::{Bundle, BundleWriter, golden};
use gatefold_onnx::Quantization;
use gatefold_trainer::{observe_ranges, quantize};
use serde_json::{Value, json};

/// How far scores in int8 may be from those of an untrained model.
const INT8_TOLERANCE: f32 = 0.01;

/// Publishes the bundle in `model` again as the next version in `to` with its layers in int8.
pub(crate) fn int8(model: &Path, to: &Path) -> Result<Value> {
    let bundle = Bundle::open_latest(model)?;
    let quantization = Quantization { tables: None, products: true };
    let folder = tempfile::tempdir()?;
    let batches = golden::batches(&bundle)?;
    let ranges = observe_ranges(&bundle, &OrtLoader::new(OrtSettings::default())?, &batches, folder.path())?;
    let copy = quantize(&bundle, quantization, &ranges, INT8_TOLERANCE, &[], to, |_| Ok(()))?;
    Ok(json!({ "bundle": copy.bundle.path(), "products": copy.products }))
}

/// Publishes the bundle in `model` again as the next version in `to` (`models/<name>`), with the
/// plain graph alone if asked.
pub(crate) fn copy(model: &Path, to: &Path, plain_only: bool) -> Result<Value> {
    let bundle = Bundle::open_latest(model)?;
    let mut manifest = bundle.manifest().clone();
    let left_out = if plain_only { manifest.user_once.take().map(|graph| graph.file) } else { None };
    let mut writer = BundleWriter::create(to)?;
    for name in bundle.manifest().files.keys().filter(|name| Some(*name) != left_out.as_ref()) {
        let path = bundle.path().join(name);
        let mut from = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        writer.write_with(name, |mut file| io::copy(&mut from, &mut file).map(drop))?;
    }
    let copy = writer.publish(manifest, |_| Ok(()))?;
    Ok(json!({ "bundle": copy.path(), "version": copy.manifest().version }))
}
