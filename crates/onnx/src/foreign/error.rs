//! Why a foreign model cannot become a bundle.

use std::{io, path::PathBuf};

/// A foreign model, or a map of it, that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no ONNX model.
    #[error("{}: not an ONNX model: {reason}", path.display())]
    NotOnnx {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The operators are too old.
    #[error("the model uses version {found} of the ONNX operators; export it with opset {lowest} or later")]
    Opset {
        /// Version found.
        found: i64,
        /// The lowest that can be used.
        lowest: i64,
    },
    /// A tensor stands in a file that is not beside the model's.
    #[error(
        "tensor '{tensor}' stands in the file '{location}'; put it into the model's folder and export again"
    )]
    Location {
        /// The tensor.
        tensor: String,
        /// Where it is said to stand.
        location: String,
    },
    /// An input that no feature feeds, or that its features do not fit.
    #[error("input '{name}': {reason}")]
    Input {
        /// The input.
        name: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A feature that the graph has no place for.
    #[error("feature '{name}': {reason}")]
    Feature {
        /// The feature.
        name: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A task that the graph does not predict.
    #[error("task '{name}': {reason}")]
    Task {
        /// The task.
        name: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A tensor cannot be read.
    #[error("tensor '{name}': {reason}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A protobuf file ends at 2 GiB.
    #[error("the file would have {bytes} bytes, and ONNX files end at 2147483647; export with external data")]
    TooLarge {
        /// Size in bytes, external weights aside.
        bytes: usize,
    },
}
