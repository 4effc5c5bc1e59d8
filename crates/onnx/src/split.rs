//! User once for foreign graphs: an ONNX graph rewritten so that what depends on the request alone is
//! computed once a request.
//!
//! Every value has a level: constant, request, candidate; or it follows from the number of rows alone
//! (shapes, and what is made of them), and can be had for the rows of either level. A value of the
//! request is computed on request rows, and gathered to the candidates by the new input `request_of`
//! where a node reads it together with a candidate's.
//!
//! A join of both levels is not built for a linear layer. Operators that only move columns about
//! (`Concat`, `Reshape`, `Slice`, …) are followed column by column, so that however user and item are
//! interleaved, nested and flattened, the layer's input is known as columns of values of one level each.
//! Then `W·[u; c] = Wu·u + Wc·c`: the weight's rows are sorted by level, and the request's share of the
//! product, bias and batch normalisation included, is gathered. Operators that treat each column by
//! itself (a cast, a lookup in one table) are divided in the same way.
//!
//! Shapes and constants are not inferred but observed: [`Splitter::probe`] is the graph with every value
//! among its outputs, which a runtime runs with two numbers of rows. Whether the result is exact is not
//! proved here either, but by running it beside the plain form: an operator that mixes rows is found out
//! so.

mod columns;
mod emit;
mod linear;
mod plan;
mod values;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use gatefold_proto::onnx::{ModelProto, TensorProto, ValueInfoProto, tensor_proto::DataType};
use prost::Message as _;

use crate::foreign::{ForeignError, encode};

/// The numbers of rows to run [`Splitter::probe`] with.
pub const PROBE_ROWS: [usize; 2] = [7, 11];

/// The least share of the multiply-adds that is worth a graph of its own.
const WORTHWHILE: f64 = 0.05;

/// What two runs of the probe tell about the values of a graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Dimensions of each value with [`PROBE_ROWS`] rows.
    pub dims: BTreeMap<String, [Vec<usize>; 2]>,
    /// Values that were the same in both runs, where their elements could be read.
    pub constants: BTreeMap<String, TensorProto>,
}

/// A value of the probe, as a run gave it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// Its dimensions.
    pub dims: Vec<usize>,
    /// The type of its elements; [`DataType::Undefined`] where they could not be read.
    pub kind: DataType,
    /// Its elements, little-endian.
    pub bytes: Vec<u8>,
}

impl Observed {
    /// What a run with each of [`PROBE_ROWS`] rows gave.
    pub fn of(first: Vec<Seen>, second: Vec<Seen>) -> Self {
        let mut observed = Self::default();
        let mut second: BTreeMap<String, Seen> =
            second.into_iter().map(|seen| (seen.name.clone(), seen)).collect();
        for seen in first {
            let Some(other) = second.remove(&seen.name) else { continue };
            if seen == other && seen.kind != DataType::Undefined {
                let tensor = TensorProto {
                    name: seen.name.clone(),
                    dims: seen.dims.iter().map(|dim| *dim as i64).collect(),
                    data_type: seen.kind as i32,
                    raw_data: seen.bytes,
                    ..TensorProto::default()
                };
                observed.constants.insert(seen.name.clone(), tensor);
            }
            observed.dims.insert(seen.name, [seen.dims, other.dims]);
        }
        observed
    }
}

/// A graph whose request level is computed once a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// The file's bytes. Its inputs at request level have one row a request, and `request_of` is one
    /// input more: `int32 [candidates]`.
    pub model: Vec<u8>,
    /// Share of the plain graph's multiply-adds that is computed once a request, 0 to 1.
    pub moved: f64,
}

/// Why a graph has no user-once form.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    /// A graph inside a node cannot be followed.
    #[error("node '{node}' ({operator}) holds a graph of its own, whose values cannot be divided by level")]
    InnerGraph {
        /// Name of the node.
        node: String,
        /// Its operator.
        operator: String,
    },
    /// A value that the probe did not give.
    #[error("the value '{value}' was not observed")]
    NotObserved {
        /// The value.
        value: String,
    },
    /// Too little of the work depends on the request alone.
    #[error(
        "{:.1} % of the multiply-adds depend on the request alone, too little for a graph of its own{}",
        moved * 100.0,
        meeting.as_ref().map_or_else(String::new, |meeting| format!(": {meeting}"))
    )]
    TooLittle {
        /// Share of the multiply-adds.
        moved: f64,
        /// Where both levels meet first.
        meeting: Option<String>,
    },
    /// A tensor or the file itself cannot be used.
    #[error(transparent)]
    Model(#[from] ForeignError),
}

/// A plain graph to be split.
#[derive(Clone, Debug)]
pub struct Splitter {
    model: ModelProto,
    folder: PathBuf,
}

impl Splitter {
    /// Reads the plain graph; `folder` holds the files that its tensors stand in.
    ///
    /// # Errors
    /// When it is no ONNX file.
    pub fn new(plain: &[u8], folder: &Path) -> Result<Self, ForeignError> {
        let model = ModelProto::decode(plain).map_err(|error| ForeignError::NotOnnx {
            path: folder.to_path_buf(),
            reason: error.to_string(),
        })?;
        Ok(Self { model, folder: folder.to_path_buf() })
    }

    /// The graph with the result of every node among its outputs.
    ///
    /// # Errors
    /// When the file becomes too large.
    pub fn probe(&self) -> Result<Vec<u8>, ForeignError> {
        let mut model = self.model.clone();
        if let Some(graph) = &mut model.graph {
            let names = graph.node.iter().flat_map(|node| &node.output).filter(|name| !name.is_empty());
            let value = |name: &String| ValueInfoProto { name: name.clone(), ..ValueInfoProto::default() };
            graph.output = names.map(value).collect();
        }
        encode(&model)
    }

    /// The user-once form, where the inputs that `is_request` names are at request level.
    ///
    /// # Errors
    /// When the graph cannot be split, or it would not be worth it.
    pub fn split(&self, is_request: &dyn Fn(&str) -> bool, observed: &Observed) -> Result<Split, SplitError> {
        let graph = self.model.graph.clone().unwrap_or_default();
        let values = values::Values::of(&graph, &self.folder, is_request, observed)?;
        let plan = plan::Plan::of(&values)?;
        let (moved, meeting) = plan.share();
        if moved < WORTHWHILE {
            return Err(SplitError::TooLittle { moved, meeting });
        }
        let mut model = self.model.clone();
        model.graph = Some(emit::emit(&plan)?);
        Ok(Split { model: encode(&model)?, moved })
    }
}
