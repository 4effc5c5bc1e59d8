//! Inputs to begin with: real ones, from which a fuzzer finds its way to what lies beyond the first
//! check, and which the tests damage.

use gatefold_proto::inference::{
    InferTensorContents, ModelInferRequest, RepositoryModelLoadRequest, model_infer_request::InferInputTensor,
};
use gatefold_proto::ranking::v1 as wire;
use gatefold_proto::ranking::v1::column::Values;
use prost::Message;

use super::{bundle, onnx};

/// Writes the seeds of `target` into the corpus that libFuzzer is told: the folders among the arguments.
pub fn plant(target: &str) {
    let folders = std::env::args_os().skip(1).map(std::path::PathBuf::from).filter(|path| path.is_dir());
    for folder in folders {
        for (index, seed) in (super::target(target).seeds)().into_iter().enumerate() {
            let file = folder.join(format!("seed-{index}"));
            std::fs::write(&file, seed).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
    }
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(crate) fn score_requests() -> Vec<Vec<u8>> {
    let column = |name: &str, values, missing: &[u32]| wire::Column {
        name: name.into(),
        values: Some(values),
        missing: missing.to_vec(),
    };
    let plain = wire::ScoreRequest {
        request_id: "r1".into(),
        user: vec![
            column("age", Values::Floats(wire::Floats { values: vec![31.0] }), &[]),
            column(
                "recent",
                Values::IntLists(wire::IntLists { values: vec![7, 8], offsets: vec![0, 2] }),
                &[],
            ),
        ],
        context: vec![column("country", Values::Texts(wire::Texts { values: vec!["de".into()] }), &[])],
        items: vec![
            column("item_id", Values::Ints(wire::Ints { values: vec![0, 1, 2] }), &[]),
            column("price", Values::Floats(wire::Floats { values: vec![10.0, 20.0, 30.0] }), &[1]),
        ],
        ..wire::ScoreRequest::default()
    };
    let ranked = wire::ScoreRequest {
        formula: "ctr ^ 0.6 * price".into(),
        top_k: 2,
        model: "demo".into(),
        ..plain.clone()
    };
    [plain, ranked].iter().map(Message::encode_to_vec).collect()
}

pub(crate) fn infer_requests() -> Vec<Vec<u8>> {
    let empty = InferTensorContents::default;
    let int64s = |values: &[i64]| InferTensorContents { int64_contents: values.to_vec(), ..empty() };
    let fp32s = |values: &[f32]| InferTensorContents { fp32_contents: values.to_vec(), ..empty() };
    let typed = [
        ("age", "FP32", vec![1], fp32s(&[31.0])),
        ("recent", "INT64", vec![1, 3], int64s(&[7, 8, 0])),
        ("recent.length", "INT64", vec![1], int64s(&[2])),
        (
            "country",
            "BYTES",
            vec![1],
            InferTensorContents { bytes_contents: vec![b"de".to_vec()], ..empty() },
        ),
        ("item_id", "INT64", vec![2], int64s(&[1, 2])),
        ("price", "FP32", vec![2, 1], fp32s(&[10.0, 20.0])),
        (
            "price.missing",
            "BOOL",
            vec![2],
            InferTensorContents { bool_contents: vec![false, true], ..empty() },
        ),
    ];
    let raw: [(&str, &str, Vec<i64>, &[u8]); 5] = [
        ("age", "FP64", vec![2], &[0; 16]),
        ("recent", "INT16", vec![2, 1], &[7, 0, 8, 0]),
        ("country", "BYTES", vec![2], b"\x02\0\0\0de\0\0\0\0"),
        ("item_id", "UINT8", vec![2], &[1, 2]),
        ("price", "INT32", vec![2, 1], &[10, 0, 0, 0, 20, 0, 0, 0]),
    ];
    let input = |name: &str, datatype: &str, shape: Vec<i64>, contents| InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape,
        contents,
        ..InferInputTensor::default()
    };
    let raw_input_contents = raw.iter().map(|(.., bytes)| bytes.to_vec().into()).collect();
    let raw = raw.into_iter().map(|(name, datatype, shape, _)| input(name, datatype, shape, None));
    let typed = typed
        .into_iter()
        .map(|(name, datatype, shape, contents)| input(name, datatype, shape, Some(contents)));
    let request = ModelInferRequest { model_name: "demo".into(), id: "r1".into(), ..Default::default() };
    let typed = ModelInferRequest { inputs: typed.collect(), ..request.clone() };
    let raw = ModelInferRequest { inputs: raw.collect(), raw_input_contents, ..request };
    [typed, raw].iter().map(Message::encode_to_vec).collect()
}

pub(crate) fn messages() -> Vec<Vec<u8>> {
    let label = wire::SetLabelRequest { model: "demo".into(), label: "canary".into(), version: 2 };
    let load = RepositoryModelLoadRequest { model_name: "demo".into(), ..Default::default() };
    let mut messages = [score_requests(), infer_requests()].concat();
    messages.extend([label.encode_to_vec(), load.encode_to_vec()]);
    messages
}

pub(crate) fn formulas() -> Vec<Vec<u8>> {
    texts(&[
        "ctr ^ 0.6 * ctcvr * coalesce(price, 0)",
        "-2e-3 + `price (eur)` / max(a, min(b, .5), sqrt(abs(c)))",
        "sigmoid(logit(ctr) - ln(1 + exp(log1p(cvr))))",
    ])
}

pub(crate) fn traceparents() -> Vec<Vec<u8>> {
    texts(&[
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more",
    ])
}

pub(crate) fn settings() -> Vec<Vec<u8>> {
    texts(&[
        include_str!("../../deploy/server.toml"),
        "listen = \"[::]:1\"\n[limits]\ncandidates = 9\n[versions.demo]\nlatest = 2\n",
        "[[caller]]\nname = \"feed\"\nrights = [\"score\"]\n\
         sha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"\n",
    ])
}

pub(crate) fn recipes() -> Vec<Vec<u8>> {
    texts(&[
        include_str!("../../training/recipes/adult.toml"),
        include_str!("../../training/recipes/census.toml"),
        include_str!("../../training/recipes/synthetic.toml"),
        onnx::MAP,
    ])
}

pub(crate) fn manifests() -> Vec<Vec<u8>> {
    vec![bundle::published()]
}

pub(crate) fn onnx_files() -> Vec<Vec<u8>> {
    vec![onnx::file()]
}
