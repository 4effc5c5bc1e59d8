//! The manifest of a bundle whose other files are whole.

use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;

use gatefold_engine::{Bundle, BundleWriter};
use gatefold_features::{RawBatch, Strictness};
use gatefold_schema::{BundleManifest, EncoderSet, Golden, GraphFile, GraphInput, JsonRequest, Level, task};
use serde_json::json;
use tempfile::TempDir;

use super::Reached;
use super::encoder::features;

/// The bytes of a published bundle's `manifest.json` and `golden.json`; its graph is empty.
static PUBLISHED: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let folder = TempDir::new().expect("the temporary folder can be written");
    let mut writer = BundleWriter::create(folder.path().join("demo")).expect("the folder can be written");
    writer.write("model.onnx", b"").expect("the graph can be written");
    writer.write_golden(&golden()).expect("the golden rows can be written");
    let bundle = writer.publish(manifest(), |_| Ok(())).expect("the bundle is whole");
    ["manifest.json", "golden.json"].map(|name| fs::read(bundle.path().join(name)).expect("it was written"))
});

/// The manifest as it is published.
pub(crate) fn published() -> Vec<u8> {
    PUBLISHED[0].clone()
}

/// Opens a bundle with this manifest, and encodes its golden requests.
pub(crate) fn open(manifest: &[u8]) -> Reached {
    let folder = TempDir::new().expect("the temporary folder can be written");
    let files = [("manifest.json", manifest), ("golden.json", &PUBLISHED[1]), ("model.onnx", b"")];
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).expect("the temporary folder can be written");
    }
    let Ok(bundle) = Bundle::open(folder.path()) else { return Reached::Refused };
    let encoder = bundle.encoder();
    let requests: Vec<JsonRequest> =
        bundle.golden().requests.iter().map(|golden| golden.request.clone()).collect();
    match RawBatch::from_json(&requests, encoder.set()) {
        Ok(batch) if encoder.encode(&batch, Strictness::Refuse).is_ok() => Reached::Taken,
        _ => Reached::Refused,
    }
}

fn golden() -> Golden {
    serde_json::from_value(json!({"requests": [{
        "request": {
            "user": {"age": 31.0, "recent": [1]}, "context": {"country": "de"},
            "items": {"item_id": [1, 2], "price": [20.0, null]},
        },
        "scores": {"ctr": [0.1, 0.2], "cvr": [0.3, 0.4], "ctcvr": [0.03, 0.08]},
    }]}))
    .expect("the requests are well formed")
}

fn manifest() -> BundleManifest {
    let features = features();
    let tasks: Vec<task::Task> = serde_json::from_value(json!([
        {"name": "ctr", "label": "click"},
        {"name": "cvr", "label": "conversion", "given": "ctr"},
    ]))
    .expect("the tasks are well formed");
    let derived: Vec<task::Derived> =
        serde_json::from_value(json!([{"name": "ctcvr", "product": ["ctr", "cvr"], "label": "conversion"}]))
            .expect("the product is well formed");
    let input =
        |name: &String| GraphInput { name: name.clone(), feature: name.clone(), level: Level::Candidate };
    BundleManifest {
        format: 0,
        name: String::new(),
        version: 0,
        model: None,
        fingerprint: EncoderSet { features: features.clone(), ..EncoderSet::default() }.fingerprint(),
        vocabularies: Vec::new(),
        outputs: task::outputs(&tasks, &derived),
        tasks,
        derived,
        plain: GraphFile {
            file: "model.onnx".into(),
            inputs: features.iter().map(|fitted| input(&fitted.feature.name)).collect(),
            request_of: None,
        },
        features,
        user_once: None,
        metrics: BTreeMap::new(),
        calibrations: Vec::new(),
        gates: None,
        gate_outputs: Vec::new(),
        golden_tolerance: None,
        provenance: BTreeMap::new(),
        files: BTreeMap::new(),
    }
}
