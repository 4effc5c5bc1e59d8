//! ONNX files that other programs wrote.
//!
//! [`ForeignModel`] reads one and tells its inputs and outputs. [`ForeignModel::adapt`] gives it the
//! inputs and outputs of a bundle, by a map: one input a feature (codes as `int32 [rows]` or
//! `[rows, max_len]`, numbers as `float [rows]`), one output a task (`float [rows]`). What lies between
//! is not touched, and what the outputs do not need is left out. From there on everything that reads a
//! bundle treats it as one of Gatefold's own. [`ForeignModel::suggest`] writes a map to begin with.

mod adapt;
mod error;
pub(crate) mod graph;
mod suggest;
pub(crate) mod tensor;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use gatefold_proto::onnx::{
    GraphProto, ModelProto, ValueInfoProto,
    tensor_proto::{DataLocation, DataType},
    tensor_shape_proto::dimension,
    type_proto,
};
use prost::Message as _;

pub(crate) use adapt::encode;
pub use error::ForeignError;

/// The lowest version of the standard operators that can be adapted: from it on `Clip` and `Slice` take
/// their bounds as inputs.
const LOWEST_OPSET: i64 = 11;

/// An ONNX file that another program wrote.
#[derive(Clone, Debug)]
pub struct ForeignModel {
    path: PathBuf,
    model: ModelProto,
}

/// An input or output of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name.
    pub name: String,
    /// Element type; `None` where it is no dense tensor.
    pub element: Option<DataType>,
    /// Dimensions, `None` where one is open; `None` as a whole where the rank is unknown.
    pub dims: Option<Vec<Option<usize>>>,
}

impl ForeignModel {
    /// Reads the file at `path`; tensors that stand in files beside it are not read.
    ///
    /// # Errors
    /// When it cannot be read, is no ONNX file, or uses operators of before version 11.
    pub fn open(path: &Path) -> Result<Self, ForeignError> {
        let bytes =
            fs::read(path).map_err(|source| ForeignError::Read { path: path.to_path_buf(), source })?;
        Self::from_bytes(&bytes, path)
    }

    /// As [`open`](Self::open), where the file's bytes are at hand.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, ForeignError> {
        let not_onnx = |reason: String| ForeignError::NotOnnx { path: path.to_path_buf(), reason };
        let model = ModelProto::decode(bytes).map_err(|error| not_onnx(error.to_string()))?;
        if model.graph.as_ref().is_none_or(|graph| graph.node.is_empty()) {
            return Err(not_onnx("it holds no graph".into()));
        }
        let standard = model.opset_import.iter().find(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
        let found = standard.map_or(0, |set| set.version);
        if found < LOWEST_OPSET {
            return Err(ForeignError::Opset { found, lowest: LOWEST_OPSET });
        }
        Ok(Self { path: path.to_path_buf(), model })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who wrote it, such as `pytorch 2.15.0`; empty where it does not say.
    pub fn producer(&self) -> String {
        format!("{} {}", self.model.producer_name, self.model.producer_version).trim().to_owned()
    }

    /// The inputs, in the graph's order.
    pub fn inputs(&self) -> Vec<Port> {
        let graph = self.graph();
        // Old files list constants among the inputs.
        let constants: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        graph.input.iter().filter(|input| !constants.contains(input.name.as_str())).map(port).collect()
    }

    /// The outputs, in the graph's order.
    pub fn outputs(&self) -> Vec<Port> {
        self.graph().output.iter().map(port).collect()
    }

    /// Files beside the model's that hold its tensors, as it names them.
    ///
    /// # Errors
    /// A name that leads elsewhere than into the model's folder.
    pub fn external_files(&self) -> Result<BTreeSet<String>, ForeignError> {
        let mut files = BTreeSet::new();
        for tensor in graph::tensors(self.graph()) {
            if tensor.data_location != DataLocation::External as i32 {
                continue;
            }
            let location = tensor::external_entry(tensor, "location").unwrap_or_default();
            let parts: Vec<&str> = location.split('/').collect();
            let plain = |part: &&str| !part.is_empty() && *part != "." && *part != "..";
            if parts.len() > 2 || !parts.iter().all(plain) || location.contains('\\') {
                let (tensor, location) = (tensor.name.clone(), location.to_owned());
                return Err(ForeignError::Location { tensor, location });
            }
            files.insert(location.to_owned());
        }
        Ok(files)
    }

    fn graph(&self) -> &GraphProto {
        static EMPTY: std::sync::LazyLock<GraphProto> = std::sync::LazyLock::new(GraphProto::default);
        self.model.graph.as_ref().unwrap_or(&EMPTY)
    }
}

fn port(value: &ValueInfoProto) -> Port {
    let tensor = match value.r#type.as_ref().and_then(|found| found.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => Some(tensor),
        _ => None,
    };
    let dim = |dim: &gatefold_proto::onnx::tensor_shape_proto::Dimension| match dim.value {
        Some(dimension::Value::DimValue(size)) => usize::try_from(size).ok(),
        _ => None,
    };
    Port {
        name: value.name.clone(),
        element: tensor.and_then(|tensor| DataType::try_from(tensor.elem_type).ok()),
        dims: tensor
            .and_then(|tensor| tensor.shape.as_ref())
            .map(|shape| shape.dim.iter().map(dim).collect()),
    }
}

/// Values in the dimensions that are known.
fn size(dims: &[Option<usize>]) -> usize {
    dims.iter().flatten().fold(1, |size, dim| size.saturating_mul(*dim))
}

impl Port {
    /// Element type and dimensions in words.
    pub(crate) fn in_words(&self) -> String {
        let dim = |dim: &Option<usize>| dim.map_or_else(|| "?".to_owned(), |dim| dim.to_string());
        let element = self.element.map_or("no tensor", |element| element.as_str_name()).to_lowercase();
        match &self.dims {
            Some(dims) => format!("{element} [{}]", dims.iter().map(dim).collect::<Vec<_>>().join(", ")),
            None => format!("{element} of unknown rank"),
        }
    }
}
