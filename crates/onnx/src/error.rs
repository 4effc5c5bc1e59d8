//! What can be wrong with an export.

use gatefold_graph::GraphError;

/// A graph or values that cannot be written as ONNX.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// A loss, a derivative, or a form that no file needs.
    #[error("node {node} ({op}) has no ONNX form: {message}")]
    Unsupported {
        /// Index of the node.
        node: usize,
        /// Its operation.
        op: &'static str,
        /// Why, and what to do.
        message: &'static str,
    },
    /// A graph that cannot be rewritten for serving.
    #[error("folding the graph failed: {0}")]
    Fold(#[from] GraphError),
    /// The points of a calibration do not stand in order.
    #[error("the knots '{name}' must increase strictly, found {next} after {previous}; drop equal ones")]
    Knots {
        /// Name of the parameter.
        name: String,
        /// A knot.
        previous: f32,
        /// The one after it.
        next: f32,
    },
    /// No values were given for a parameter.
    #[error("parameter '{name}' has no values; give the values of every parameter of the graph")]
    MissingValues {
        /// Name of the parameter.
        name: String,
    },
    /// A parameter has the wrong number of values.
    #[error(
        "parameter '{name}' needs {expected} values, found {found}; were they trained for another model?"
    )]
    WrongLength {
        /// Name of the parameter.
        name: String,
        /// Product of its dimensions.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// Two values of one file would have one name.
    #[error("the name '{name}' stands for two values; rename the feature, output or parameter")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// Two files that share external weights disagree about a tensor.
    #[error("external tensor '{name}' has two contents; export both files from the same values")]
    ExternalConflict {
        /// Name of the tensor.
        name: String,
    },
    /// A file to rewrite cannot be used.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The graph has nothing to return.
    #[error("the graph has no output; name at least one")]
    NoOutput,
    /// A protobuf file ends at 2 GiB.
    #[error("the file would have {bytes} bytes, and ONNX files end at 2147483647; make the layers narrower")]
    TooLarge {
        /// Size in bytes, external weights aside.
        bytes: usize,
    },
}
