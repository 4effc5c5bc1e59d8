//! A model of a few nodes in both forms, made from ONNX messages, and the same sums by hand.
//!
//! Features: `age` (user, number), `history` (user, sequence of up to 3), `price` (item, number),
//! `item` (item, code).
//!
//! ```text
//! user  = weight · age + 0.01 · Σ history
//! ctr   = sigmoid(user + price)      cvr = table[item] · 1      ctcvr = ctr · cvr
//! ```
//! `weight` stands in `weights.bin` beside the graphs; `table` has 5 rows; its
//! product with the 1 × 1 matrix `unit` is all the model's work, and `ctr` needs none of it.

use std::{collections::BTreeMap, path::Path};

use gatefold_engine::{Bundle, BundleWriter};
use gatefold_features::{FeatureBatch, FeatureColumn};
use gatefold_proto::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_proto,
    tensor_proto::DataType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
use gatefold_schema::{
    BundleManifest, Derived, Encoder, EncoderSet, EncoderState, Feature, FittedFeature, Golden,
    GoldenRequest, GraphFile, GraphInput, JsonRequest, Kind, Level, Loss, Pooling, REQUEST_OF, Side, Task,
    ValueType, Vocabulary, VocabularyValues, task,
};
use prost::Message;

const WEIGHT: f32 = 0.75;
const TABLE: [f32; 5] = [0.1, 0.2, 0.3, 0.4, 0.5];
const HISTORY_LENGTH: usize = 3;

/// The model, and what a test may get wrong about it.
pub(crate) struct Model {
    pub(crate) manifest: BundleManifest,
    /// The weight that the file holds; golden rows always use 0.75.
    pub(crate) weight: f32,
    /// `cvr` by the code of `item`, of which golden rows use 2, 3 and 4.
    pub(crate) table: [f32; 5],
    pub(crate) plain_bytes: Option<Vec<u8>>,
    pub(crate) history_width: i64,
    pub(crate) wide_age: bool,
    pub(crate) cvr_name: String,
}

impl Default for Model {
    fn default() -> Self {
        Model {
            manifest: manifest(),
            weight: WEIGHT,
            table: TABLE,
            plain_bytes: None,
            history_width: HISTORY_LENGTH as i64,
            wide_age: false,
            cvr_name: "cvr".into(),
        }
    }
}

impl Model {
    /// Writes the bundle `<folder>/shop/<version>`.
    pub(crate) fn publish(self, folder: &Path) -> Bundle {
        let mut writer = BundleWriter::create(folder.join("shop")).unwrap();
        let plain = self.plain_bytes.clone().unwrap_or_else(|| self.graph(false));
        writer.write("model.onnx", &plain).unwrap();
        writer.write("model.user_once.onnx", &self.graph(true)).unwrap();
        writer.write("weights.bin", &self.weight.to_le_bytes()).unwrap();
        writer.write_vocabulary(&vocabulary()).unwrap();
        writer.write_golden(&Golden { requests: golden_requests() }).unwrap();
        writer.publish(self.manifest, |_| Ok(())).unwrap()
    }

    fn graph(&self, user_once: bool) -> Vec<u8> {
        let number = if self.wide_age { DataType::Double } else { DataType::Float };
        let user_rows = if user_once { "requests" } else { "candidates" };
        let mut input = vec![
            value("age", number, &[rows(user_rows)]),
            value("history", DataType::Int32, &[rows(user_rows), fixed(self.history_width)]),
            value("price", DataType::Float, &[rows("candidates")]),
            value("item", DataType::Int32, &[rows("candidates")]),
        ];
        let to_float = integer("to", DataType::Float as i64);
        let mut nodes = vec![
            node("Cast", &["age"], "age_float", vec![to_float.clone()]),
            node("Mul", &["age_float", "weight"], "weighted", vec![]),
            node("Cast", &["history"], "history_float", vec![to_float]),
            node("ReduceSum", &["history_float", "axis"], "history_sum", vec![integer("keepdims", 0)]),
            node("Mul", &["history_sum", "hundredth"], "history_part", vec![]),
            node("Add", &["weighted", "history_part"], "user", vec![]),
        ];
        let mut user = "user";
        if user_once {
            input.push(value(REQUEST_OF, DataType::Int32, &[rows("candidates")]));
            nodes.push(node("Gather", &["user", REQUEST_OF], "user_rows", vec![integer("axis", 0)]));
            user = "user_rows";
        }
        let cvr = self.cvr_name.as_str();
        nodes.extend([
            node("Add", &[user, "price"], "logit", vec![]),
            node("Sigmoid", &["logit"], "ctr", vec![]),
            node("Gather", &["table", "item"], "item_row", vec![integer("axis", 0)]),
            node("MatMul", &["item_row", "unit"], "item_product", vec![]),
            node("Squeeze", &["item_product", "axis"], cvr, vec![]),
            node("Mul", &["ctr", cvr], "ctcvr", vec![]),
        ]);
        let output = ["ctr", cvr, "ctcvr"].map(|name| value(name, DataType::Float, &[rows("candidates")]));
        let graph = GraphProto {
            node: nodes,
            name: "test".into(),
            initializer: vec![
                external("weight", "weights.bin", 4),
                TensorProto { float_data: vec![0.01], ..tensor("hundredth", DataType::Float, &[1]) },
                TensorProto { int64_data: vec![1], ..tensor("axis", DataType::Int64, &[1]) },
                TensorProto { float_data: self.table.to_vec(), ..tensor("table", DataType::Float, &[5, 1]) },
                TensorProto { float_data: vec![1.0], ..tensor("unit", DataType::Float, &[1, 1]) },
            ],
            input,
            output: output.into(),
            ..GraphProto::default()
        };
        let opset = OperatorSetIdProto { domain: String::new(), version: 17 };
        let model =
            ModelProto { ir_version: 8, graph: Some(graph), opset_import: vec![opset], ..Default::default() };
        model.encode_to_vec()
    }
}

/// The scores of every candidate, in 64 bits.
pub(crate) fn expected(batch: &FeatureBatch) -> Vec<[f64; 3]> {
    let (
        FeatureColumn::Numbers(age),
        FeatureColumn::Codes { data: history, .. },
        FeatureColumn::Numbers(price),
        FeatureColumn::Codes { data: item, .. },
    ) = (&batch.columns[0], &batch.columns[1], &batch.columns[2], &batch.columns[3])
    else {
        panic!("the columns of this model");
    };
    let score = |candidate: usize| {
        let request = batch.request_of[candidate] as usize;
        let seen: i32 = history[request * HISTORY_LENGTH..][..HISTORY_LENGTH].iter().sum();
        let user = f64::from(WEIGHT) * f64::from(age[request]) + 0.01 * f64::from(seen);
        let ctr = 1.0 / (1.0 + (-(user + f64::from(price[candidate]))).exp());
        let cvr = f64::from(*TABLE.get(item[candidate] as usize).unwrap_or(&f32::NAN));
        [ctr, cvr, ctr * cvr]
    };
    (0..batch.candidates).map(score).collect()
}

/// Values of `history`: code 2 is for all others.
fn vocabulary() -> Vocabulary {
    Vocabulary { table: "history".into(), values: VocabularyValues::Int(vec![1, 9]) }
}

/// Two requests with 3 and 1 candidates. `history` has the codes 3 for 1, 4 for 9 and 2 for all
/// others; `item` is bucketized at 10 and 20: codes 2, 3 and 4.
pub(crate) fn golden_requests() -> Vec<GoldenRequest> {
    let request = |age: f32, history: &[i64], prices: &[f32], items: &[i64], codes: &[i32]| {
        let mut padded: Vec<i32> = history
            .iter()
            .map(|value| match value {
                1 => 3,
                9 => 4,
                _ => 2,
            })
            .collect();
        padded.resize(HISTORY_LENGTH, 0);
        let encoded = FeatureBatch {
            requests: 1,
            candidates: prices.len(),
            request_of: vec![0; prices.len()],
            columns: vec![
                FeatureColumn::Numbers(vec![age]),
                FeatureColumn::Codes { width: HISTORY_LENGTH, data: padded },
                FeatureColumn::Numbers(prices.to_vec()),
                FeatureColumn::Codes { width: 1, data: codes.to_vec() },
            ],
        };
        let scores = expected(&encoded);
        let column = |output: usize| scores.iter().map(|score| score[output] as f32).collect();
        GoldenRequest {
            request: JsonRequest {
                request_id: "golden".into(),
                user: BTreeMap::from([("age".into(), age.into()), ("history".into(), history.into())]),
                context: BTreeMap::new(),
                items: BTreeMap::from([
                    ("price".into(), prices.iter().map(|price| (*price).into()).collect()),
                    ("item".into(), items.iter().map(|item| (*item).into()).collect()),
                ]),
            },
            scores: ["ctr", "cvr", "ctcvr"]
                .iter()
                .enumerate()
                .map(|(i, name)| ((*name).into(), column(i)))
                .collect(),
        }
    };
    vec![
        request(0.5, &[1, 9, 77], &[0.25, 0.5, -1.0], &[5, 10, 99], &[2, 3, 4]),
        request(-2.0, &[], &[0.75], &[19], &[3]),
    ]
}

fn manifest() -> BundleManifest {
    let feature = |name: &str, side, kind, value_type, encoder: Encoder| FittedFeature {
        feature: Feature {
            name: name.into(),
            side,
            kind,
            value_type,
            column: None,
            cross: Vec::new(),
            clip: None,
            fit: true,
            encoder,
            embedding: (kind != Kind::Numeric).then_some(4),
            table: None,
            max_len: (kind == Kind::Sequence).then_some(HISTORY_LENGTH),
            pooling: Pooling::Mean,
            query: None,
        },
        state: match kind {
            Kind::Sequence => EncoderState::Vocab { size: 2 },
            _ => EncoderState::Stateless,
        },
    };
    let features = vec![
        feature("age", Side::User, Kind::Numeric, ValueType::Float, Encoder::None),
        feature(
            "history",
            Side::User,
            Kind::Sequence,
            ValueType::Int,
            Encoder::Vocab { min_count: 1, oov_buckets: 1 },
        ),
        feature("price", Side::Item, Kind::Numeric, ValueType::Float, Encoder::None),
        feature(
            "item",
            Side::Item,
            Kind::Categorical,
            ValueType::Int,
            Encoder::Bucketize { edges: vec![10.0, 20.0] },
        ),
    ];
    let graph = |file: &str, once: bool| GraphFile {
        file: file.into(),
        inputs: features
            .iter()
            .map(|fitted| GraphInput {
                name: fitted.feature.name.clone(),
                feature: fitted.feature.name.clone(),
                level: if once { fitted.feature.side.level() } else { Level::Candidate },
            })
            .collect(),
        request_of: once.then(|| REQUEST_OF.into()),
    };
    let task = |name: &str, given: Option<&str>| Task {
        name: name.into(),
        label: format!("label_{name}"),
        given: given.map(Into::into),
        weight: 1.0,
        loss: Loss::CrossEntropy,
        fake_negatives: None,
        potential_label: None,
        oracle: None,
    };
    let tasks = vec![task("ctr", None), task("cvr", Some("ctr"))];
    let product = vec!["ctr".into(), "cvr".into()];
    let derived = vec![Derived { name: "ctcvr".into(), product, label: "label_cvr".into() }];
    let set = EncoderSet {
        features: features.clone(),
        vocabularies: BTreeMap::from([("history".into(), vocabulary())]),
        ..EncoderSet::default()
    };
    BundleManifest {
        format: 1,
        name: String::new(),
        version: 0,
        model: None,
        fingerprint: set.fingerprint(),
        outputs: task::outputs(&tasks, &derived),
        tasks,
        derived,
        plain: graph("model.onnx", false),
        user_once: Some(graph("model.user_once.onnx", true)),
        features,
        vocabularies: vec!["history".into()],
        metrics: BTreeMap::new(),
        calibrations: Vec::new(),
        gates: None,
        gate_outputs: Vec::new(),
        golden_tolerance: None,
        provenance: BTreeMap::new(),
        files: BTreeMap::new(),
    }
}

fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|input| (*input).into()).collect(),
        output: vec![output.into()],
        name: format!("{op}_{output}"),
        op_type: op.into(),
        attribute,
        ..NodeProto::default()
    }
}

fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        i: Some(value),
        r#type: AttributeType::Int as i32,
        ..Default::default()
    }
}

fn tensor(name: &str, element: DataType, dims: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        data_type: element as i32,
        dims: dims.to_vec(),
        ..TensorProto::default()
    }
}

fn external(name: &str, file: &str, bytes: usize) -> TensorProto {
    let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
    TensorProto {
        external_data: vec![
            entry("location", file.into()),
            entry("offset", "0".into()),
            entry("length", bytes.to_string()),
        ],
        data_location: tensor_proto::DataLocation::External as i32,
        ..tensor(name, DataType::Float, &[1])
    }
}

fn rows(name: &str) -> Dimension {
    Dimension { value: Some(dimension::Value::DimParam(name.into())), ..Dimension::default() }
}

fn fixed(size: i64) -> Dimension {
    Dimension { value: Some(dimension::Value::DimValue(size)), ..Dimension::default() }
}

fn value(name: &str, element: DataType, dims: &[Dimension]) -> ValueInfoProto {
    let shape = Some(TensorShapeProto { dim: dims.to_vec() });
    let tensor = type_proto::Tensor { elem_type: element as i32, shape };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), r#type: Some(kind), ..ValueInfoProto::default() }
}
