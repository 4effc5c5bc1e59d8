//! Small ONNX graphs written by hand, and both of their forms run on the same requests.

use std::path::Path;

use gatefold_backend_ort::{OrtLoader, OrtSettings, Tensor, Values};
use gatefold_onnx::split::{Observed, PROBE_ROWS, Seen, Split, SplitError, Splitter};
use gatefold_proto::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_proto::DataType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
use prost::Message as _;

/// Codes of every input.
const CODES: i32 = 9;

/// An attribute of a node.
pub(crate) enum Attribute<'a> {
    Int(&'a str, i64),
    Ints(&'a str, &'a [i64]),
    Float(&'a str, f32),
}

/// A graph under way; inputs whose name begins with `u` are the request's.
pub(crate) struct Net {
    graph: GraphProto,
    state: u64,
}

impl Net {
    pub(crate) fn new() -> Self {
        Self { graph: GraphProto::default(), state: 1 }
    }

    /// An input of codes, with dimensions after the rows.
    pub(crate) fn codes(&mut self, name: &str, dims: &[i64]) {
        self.graph.input.push(value(name, DataType::Int32, dims));
    }

    /// An input of one number a row.
    pub(crate) fn numbers(&mut self, name: &str) {
        self.graph.input.push(value(name, DataType::Float, &[]));
    }

    pub(crate) fn table(&mut self, name: &str, rows: i64, width: i64) {
        self.floats(name, &[rows as usize, width as usize]);
    }

    pub(crate) fn floats(&mut self, name: &str, dims: &[usize]) {
        let values = (0..dims.iter().product()).map(|_| random(&mut self.state)).collect();
        let dims = dims.iter().map(|dim| *dim as i64).collect();
        self.constant(TensorProto {
            name: name.into(),
            dims,
            data_type: DataType::Float as i32,
            float_data: values,
            ..TensorProto::default()
        });
    }

    pub(crate) fn scalar(&mut self, name: &str, value: f32) {
        self.floats(name, &[]);
        self.graph.initializer.last_mut().unwrap().float_data = vec![value];
    }

    /// Scale, shift, mean and variance of a batch normalisation.
    pub(crate) fn norm(&mut self, name: &str, width: usize) {
        for part in ["s", "b", "m", "v"] {
            self.floats(&format!("{name}.{part}"), &[width]);
        }
        let variance = self.graph.initializer.last_mut().unwrap();
        variance.float_data.iter_mut().for_each(|value| *value = value.abs() + 0.5);
    }

    pub(crate) fn ints(&mut self, name: &str, values: &[i64]) {
        self.constant(TensorProto {
            name: name.into(),
            dims: vec![values.len() as i64],
            data_type: DataType::Int64 as i32,
            int64_data: values.to_vec(),
            ..TensorProto::default()
        });
    }

    /// One integer without dimensions.
    pub(crate) fn int64(&mut self, name: &str, value: i64) {
        self.ints(name, &[value]);
        self.graph.initializer.last_mut().unwrap().dims.clear();
    }

    pub(crate) fn int32(&mut self, name: &str, value: i32) {
        self.constant(TensorProto {
            name: name.into(),
            data_type: DataType::Int32 as i32,
            int32_data: vec![value],
            ..TensorProto::default()
        });
    }

    fn constant(&mut self, tensor: TensorProto) {
        self.graph.initializer.push(tensor);
    }

    pub(crate) fn op(&mut self, operator: &str, inputs: &[&str], output: &str, attributes: &[Attribute<'_>]) {
        self.ops(operator, inputs, &[output], attributes);
    }

    pub(crate) fn ops(
        &mut self,
        operator: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[Attribute<'_>],
    ) {
        self.graph.node.push(NodeProto {
            name: outputs[0].into(),
            op_type: operator.into(),
            input: inputs.iter().map(|name| (*name).into()).collect(),
            output: outputs.iter().map(|name| (*name).into()).collect(),
            attribute: attributes.iter().map(attribute).collect(),
            ..NodeProto::default()
        });
    }

    /// An `If` that hands on a value.
    pub(crate) fn branch(&mut self, read: &str, output: &str) {
        self.constant(TensorProto {
            name: "yes".into(),
            data_type: DataType::Bool as i32,
            int32_data: vec![1],
            ..TensorProto::default()
        });
        let graph = |name: &str| AttributeProto {
            name: name.into(),
            g: Some(GraphProto {
                name: name.into(),
                node: vec![NodeProto {
                    op_type: "Identity".into(),
                    input: vec![read.into()],
                    output: vec![format!("{name}.out")],
                    ..NodeProto::default()
                }],
                output: vec![value(&format!("{name}.out"), DataType::Float, &[3])],
                ..GraphProto::default()
            }),
            r#type: AttributeType::Graph as i32,
            ..AttributeProto::default()
        };
        self.op("If", &["yes"], output, &[]);
        let node = self.graph.node.last_mut().unwrap();
        node.attribute = vec![graph("then_branch"), graph("else_branch")];
    }

    /// The sum of a row of `read` as a probability called `name`.
    pub(crate) fn output(&mut self, read: &str, name: &str) {
        let logit = format!("{name}.logit");
        self.ints(&format!("{name}.shape"), &[-1]);
        self.ints(&format!("{name}.axis"), &[-1]);
        self.op("ReduceSum", &[read, &format!("{name}.axis")], &logit, &[]);
        self.op("Reshape", &[&logit, &format!("{name}.shape")], &format!("{name}.flat"), &[]);
        self.op("Sigmoid", &[&format!("{name}.flat")], name, &[]);
        self.graph.output.push(value(name, DataType::Float, &[]));
    }

    pub(crate) fn model(&self) -> Vec<u8> {
        let model = ModelProto {
            ir_version: 8,
            graph: Some(GraphProto { name: "net".into(), ..self.graph.clone() }),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
            ..ModelProto::default()
        };
        model.encode_to_vec()
    }
}

fn random(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
}

fn value(name: &str, kind: DataType, dims: &[i64]) -> ValueInfoProto {
    let rows = [dimension::Value::DimParam("candidates".into())];
    let dims = rows.into_iter().chain(dims.iter().map(|dim| dimension::Value::DimValue(*dim)));
    let dim = dims.map(|value| Dimension { value: Some(value), ..Dimension::default() }).collect();
    let tensor = type_proto::Tensor { elem_type: kind as i32, shape: Some(TensorShapeProto { dim }) };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value, ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}

fn attribute(attribute: &Attribute<'_>) -> AttributeProto {
    let (name, filled) = match attribute {
        Attribute::Int(name, i) => {
            (name, AttributeProto { i: Some(*i), r#type: AttributeType::Int as i32, ..Default::default() })
        }
        Attribute::Ints(name, ints) => (
            name,
            AttributeProto { ints: ints.to_vec(), r#type: AttributeType::Ints as i32, ..Default::default() },
        ),
        Attribute::Float(name, f) => {
            (name, AttributeProto { f: Some(*f), r#type: AttributeType::Float as i32, ..Default::default() })
        }
    };
    AttributeProto { name: (*name).into(), ..filled }
}

fn loader() -> OrtLoader {
    OrtLoader::new(OrtSettings::default()).unwrap()
}

/// Random values for the inputs of a model, one row for each entry of `request_of`: those of the request
/// are the same in every row of a request.
fn inputs(model: &[u8], request_of: &[i32], once: bool, seed: u64) -> Vec<(String, Tensor)> {
    let graph = ModelProto::decode(model).unwrap().graph.unwrap();
    let requests = 1 + *request_of.last().unwrap() as usize;
    let mut state = seed;
    let mut inputs = Vec::new();
    for input in graph.input.iter().filter(|input| input.name != "request_of") {
        let Some(type_proto::Value::TensorType(kind)) = &input.r#type.as_ref().unwrap().value else {
            panic!()
        };
        let dims: Vec<usize> = kind.shape.as_ref().unwrap().dim[1..]
            .iter()
            .map(|dim| match dim.value {
                Some(dimension::Value::DimValue(size)) => size as usize,
                _ => panic!(),
            })
            .collect();
        let width: usize = dims.iter().product();
        let of_request = input.name.starts_with('u');
        let rows = if of_request { requests } else { request_of.len() };
        let own: Vec<f32> = (0..rows * width).map(|_| random(&mut state) + 0.5).collect();
        let repeat = of_request && !once;
        let values: Vec<f32> = match repeat {
            true => {
                request_of.iter().flat_map(|row| own[*row as usize * width..][..width].to_vec()).collect()
            }
            false => own,
        };
        let rows = if repeat { request_of.len() } else { rows };
        let codes = kind.elem_type == DataType::Int32 as i32;
        let values = match codes {
            true => Values::Int32(values.iter().map(|value| (value * CODES as f32) as i32).collect()),
            false => Values::Float32(values),
        };
        let dims = std::iter::once(rows).chain(dims).collect();
        inputs.push((input.name.clone(), Tensor { dims, values }));
    }
    if once {
        let (dims, values) = (vec![request_of.len()], Values::Int32(request_of.to_vec()));
        inputs.push(("request_of".into(), Tensor { dims, values }));
    }
    inputs
}

/// The user-once form of a model, as an import makes it.
pub(crate) fn split(model: &[u8]) -> Result<Split, SplitError> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let splitter = Splitter::new(model, folder)?;
    let mut probe = loader().open_graph(&splitter.probe()?, folder).unwrap();
    let [first, second] = PROBE_ROWS.map(|rows| {
        let request_of: Vec<i32> = (0..rows as i32).collect();
        let found = probe.run(&inputs(model, &request_of, false, 3)).unwrap();
        found.into_iter().map(|(name, tensor)| seen(name, tensor)).collect()
    });
    splitter.split(&|name| name.starts_with('u'), &Observed::of(first, second))
}

fn seen(name: String, tensor: Tensor) -> Seen {
    let (kind, bytes) = match tensor.values {
        Values::Int32(values) => {
            (DataType::Int32, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        Values::Int64(values) => {
            (DataType::Int64, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        Values::Float32(values) => {
            (DataType::Float, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        Values::Other => (DataType::Undefined, Vec::new()),
    };
    Seen { name, dims: tensor.dims, kind, bytes }
}

/// The largest difference between the outputs of both forms, over calls with several requests that have
/// different numbers of candidates.
pub(crate) fn compare(plain: &[u8], once: &[u8]) -> f32 {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let loader = loader();
    let [mut of_plain, mut of_once] = [plain, once].map(|model| loader.open_graph(model, folder).unwrap());
    let mut largest = 0.0f32;
    for (seed, counts) in [&[1][..], &[3, 1, 5], &[2, 2, 9, 1, 4], &[40]].iter().enumerate() {
        let request_of: Vec<i32> = counts
            .iter()
            .enumerate()
            .flat_map(|(row, count)| std::iter::repeat_n(row as i32, *count))
            .collect();
        let seed = seed as u64 + 17;
        let expected = of_plain.run(&inputs(plain, &request_of, false, seed)).unwrap();
        let found = of_once.run(&inputs(plain, &request_of, true, seed)).unwrap();
        assert_eq!(expected.len(), found.len());
        for ((name, expected), (_, found)) in expected.iter().zip(&found) {
            let (Values::Float32(expected), Values::Float32(found)) = (&expected.values, &found.values)
            else {
                panic!("{name} is not of floats")
            };
            assert_eq!((expected.len(), found.len()), (request_of.len(), request_of.len()), "{name}");
            let differences = expected.iter().zip(found).map(|(expected, found)| (expected - found).abs());
            largest = differences.fold(largest, f32::max);
        }
    }
    largest
}

/// The operators of a model.
pub(crate) fn operators(model: &[u8]) -> Vec<String> {
    let graph = ModelProto::decode(model).unwrap().graph.unwrap();
    graph.node.into_iter().map(|node| node.op_type).collect()
}
