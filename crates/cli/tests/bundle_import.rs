//! `gatefold bundle import`: models of other programs become bundles, and what cannot is refused.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use gatefold_engine::Bundle;
use gatefold_proto::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_proto::{DataLocation, DataType},
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
use prost::Message as _;

fn node(operator: &str, inputs: &[&str], output: &str, axis: Option<i64>) -> NodeProto {
    let axis = axis.map(|axis| AttributeProto {
        name: "axis".into(),
        i: Some(axis),
        r#type: AttributeType::Int as i32,
        ..AttributeProto::default()
    });
    NodeProto {
        op_type: operator.into(),
        input: inputs.iter().map(|name| (*name).into()).collect(),
        output: vec![output.into()],
        attribute: axis.into_iter().collect(),
        ..NodeProto::default()
    }
}

fn port(name: &str, kind: DataType, columns: Option<i64>) -> ValueInfoProto {
    let rows = Some(dimension::Value::DimParam("batch".into()));
    let columns = columns.map(|columns| Some(dimension::Value::DimValue(columns)));
    let dim = std::iter::once(rows).chain(columns);
    let dim = dim.map(|value| Dimension { value, ..Dimension::default() }).collect();
    let tensor = type_proto::Tensor { elem_type: kind as i32, shape: Some(TensorShapeProto { dim }) };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value, ..TypeProto::default() }),
        ..Default::default()
    }
}

fn constant(name: &str, dims: &[i64], value: impl Fn(usize) -> f32) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        float_data: (0..dims.iter().product::<i64>() as usize).map(value).collect(),
        ..TensorProto::default()
    }
}

/// The logit of two ids: the sum of both rows of two tables, whose values stand in a file beside it.
fn write_model(folder: &Path) -> PathBuf {
    let table = |name: &str, step: f32| constant(name, &[5, 2], |at| at as f32 * step);
    let mut bytes = Vec::new();
    let mut outside = |mut tensor: TensorProto| {
        let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
        tensor.external_data = vec![
            entry("location", "model.onnx.data".into()),
            entry("offset", bytes.len().to_string()),
            entry("length", (4 * tensor.float_data.len()).to_string()),
        ];
        tensor.data_location = DataLocation::External as i32;
        bytes.extend(std::mem::take(&mut tensor.float_data).iter().flat_map(|value| value.to_le_bytes()));
        tensor
    };
    let initializer = vec![
        outside(table("users", 0.125)),
        outside(table("ads", -0.25)),
        constant("weight", &[4, 1], |at| 1.0 + at as f32),
    ];
    let graph = GraphProto {
        name: "model".into(),
        node: vec![
            node("Gather", &["users", "user"], "u", None),
            node("Gather", &["ads", "ad"], "a", None),
            node("Concat", &["a", "u"], "x", Some(1)),
            node("MatMul", &["x", "weight"], "logit", None),
        ],
        initializer,
        input: vec![port("user", DataType::Int64, None), port("ad", DataType::Int64, None)],
        output: vec![port("logit", DataType::Float, Some(1))],
        ..GraphProto::default()
    };
    let model = ModelProto {
        ir_version: 8,
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        ..ModelProto::default()
    };
    std::fs::write(folder.join("model.onnx.data"), bytes).unwrap();
    let path = folder.join("model.onnx");
    std::fs::write(&path, model.encode_to_vec()).unwrap();
    path
}

const MAP: &str = r#"
name = "shop"
[[feature]]
name = "user"
side = "user"
kind = "categorical"
type = "int"
encoder = { kind = "given", codes = 5 }
[[feature]]
name = "ad"
side = "item"
kind = "categorical"
type = "int"
encoder = { kind = "given", codes = 5 }
[[task]]
name = "ctr"
label = "click"
output = "logit"
sigmoid = true
[golden]
file = "golden.json"
"#;

fn import(folder: &Path, map: &str, scores: &str) -> Output {
    let golden = format!(
        r#"{{"requests": [{{"request": {{"user": {{"user": 1}}, "items": {{"ad": [0, 4]}}}}{scores}}}]}}"#
    );
    std::fs::write(folder.join("golden.json"), golden).unwrap();
    std::fs::write(folder.join("map.toml"), map).unwrap();
    Command::new(env!("CARGO_BIN_EXE_gatefold"))
        .args(["bundle", "import", "--json", "--map"])
        .arg(folder.join("map.toml"))
        .arg(folder.join("model.onnx"))
        .arg("--out")
        .arg(folder.join("models"))
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_model_with_external_data_becomes_a_bundle_in_both_forms() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path());
    // Row 1 of the users is (.25, .375), rows 0 and 4 of the ads (0, -.25) and (-2, -2.25).
    let logits = [-0.5 + 0.75 + 1.5, -2.0 - 4.5 + 0.75 + 1.5f64];
    let [first, second] = logits.map(|logit| 1.0 / (1.0 + (-logit).exp()));
    let output = import(folder.path(), MAP, &format!(r#", "scores": {{"ctr": [{first}, {second}]}}"#));
    assert!(output.status.success(), "{}", text(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["user_once"]["kept"], true, "{report}");
    assert_eq!(report["user_once"]["multiply_adds_moved"], 0.5, "{report}");
    let bundle = Bundle::open(folder.path().join("models/shop/1")).unwrap();
    assert!(bundle.manifest().files.contains_key("model.onnx.data"));
    assert!(bundle.manifest().user_once.is_some());
    let expected = &bundle.golden().requests[0].scores["ctr"];
    assert!((f64::from(expected[0]) - first).abs() < 1e-6 && (f64::from(expected[1]) - second).abs() < 1e-6);
}

#[test]
fn what_cannot_be_a_bundle_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path());
    let models = folder.path().join("models/shop");
    for (from, to, scores, words) in [
        ("sigmoid = true", "", "", "ctr is 1.75, no probability: set sigmoid = true"),
        ("sigmoid = true", "sigmoid = true", r#", "scores": {"ctr": [0.5, 0.5]}"#, "expected Some(0.5)"),
        ("codes = 5", "codes = 1", "", "user is no code"),
        ("name = \"user\"", "name = \"visitor\"", "", "the graph has no input 'visitor'"),
        ("name = \"ctr\"", "nmae = \"ctr\"", "", "did you mean `name`?"),
        ("file = \"golden.json\"", "file = \"nowhere.json\"", "", "nowhere.json"),
    ] {
        let output = import(folder.path(), &MAP.replacen(from, to, 1), scores);
        let said = text(&output);
        assert!(!output.status.success());
        let words = if words == "user is no code" { "1 is no code of the model" } else { words };
        assert!(said.contains(words), "{said}");
        assert!(!models.exists() || std::fs::read_dir(&models).unwrap().count() == 0, "{said}");
    }
    let version = MAP.replacen("name = \"shop\"", "name = \"shop\"\nversion = 4", 1);
    assert!(import(folder.path(), &version, "").status.success());
    let said = text(&import(folder.path(), &version, ""));
    assert!(said.contains("models/shop/4") && said.contains("this version is there already"), "{said}");
    std::fs::remove_file(folder.path().join("model.onnx.data")).unwrap();
    let said = text(&import(folder.path(), MAP, ""));
    assert!(said.contains("model.onnx.data, where tensors of the model stand"), "{said}");
}

#[test]
fn a_map_is_suggested() {
    let folder = tempfile::tempdir().unwrap();
    let model = write_model(folder.path());
    let output = Command::new(env!("CARGO_BIN_EXE_gatefold"))
        .args(["bundle", "import", "--suggest"])
        .arg(&model)
        .output()
        .unwrap();
    let map = String::from_utf8(output.stdout).unwrap();
    std::fs::write(folder.path().join("map.toml"), &map).unwrap();
    let output = import(folder.path(), &map, "");
    assert!(output.status.success(), "{map}\n{}", text(&output));
}

/// The interpreter with the peers' requirements, where somebody has made it.
fn reference_python() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")))?;
    let python = cache.join("gatefold/venv-reference/bin/python");
    let peers = Command::new(&python).args(["-c", "import torch_rechub, deepctr_torch, onnxscript"]).output();
    peers.is_ok_and(|output| output.status.success()).then_some(python)
}

#[test]
fn mmoes_of_torch_rechub_and_deepctr_torch_score_as_in_pytorch() {
    let Some(python) = reference_python() else {
        eprintln!(
            "skipped: no environment with benches/peers/requirements.txt (cargo xtask bench train --setup)"
        );
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../training/reference/foreign.py");
    for library in ["torch-rechub", "deepctr-torch"] {
        for exporter in ["dynamo", "torchscript"] {
            let folder = tempfile::tempdir().unwrap();
            let export = Command::new(&python)
                .arg(&script)
                .args([library, "--exporter", exporter, "--out"])
                .arg(folder.path())
                .output()
                .unwrap();
            assert!(export.status.success(), "{library} {exporter}: {}", text(&export));
            // The map names golden requests with the scores that PyTorch gives.
            let output = Command::new(env!("CARGO_BIN_EXE_gatefold"))
                .args(["bundle", "import", "--json", "--map"])
                .arg(folder.path().join(format!("{library}.toml")))
                .arg(folder.path().join(format!("{library}.onnx")))
                .arg("--out")
                .arg(folder.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "{library} {exporter}: {}", text(&output));
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(report["user_once"]["kept"], true, "{library} {exporter}: {report}");
            // 18 of 26 columns of the first layers are the user's.
            let moved = report["user_once"]["multiply_adds_moved"].as_f64().unwrap();
            assert!((0.4..0.7).contains(&moved), "{library} {exporter}: {report}");
        }
    }
}
