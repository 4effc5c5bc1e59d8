//! Writes a graph and its parameters as an ONNX file.
//!
//! [`export`] maps every op of the graph to ONNX operators that ONNX Runtime runs fast, and gives
//! the file's bytes: the same graph and values give the same bytes. Inputs and outputs keep their
//! names; rows are the symbolic dimensions [`REQUESTS`] and [`CANDIDATES`]. Embedding tables and
//! other large tensors go into one [`ExternalWeights`] that several files share: ONNX Runtime maps
//! it into memory, so that sessions and processes share its pages.
//!
//! Losses and derivatives have no place in a served model: they are refused, and
//! `gatefold_graph::passes::prune` removes them.
//!
//! Batch normalisation is not written but folded into the weights before it, by [`fold`].
//!
//! [`quantize`] rewrites a file with tables and products in fewer bits.
//!
//! This crate does not know ONNX Runtime: forms were chosen by measuring, and the tests look at
//! structure.
//!
//! # Forms chosen
//! A product and the sum that follows it become one `Gemm`; in a user-once graph the request part
//! is the `C` of the candidate part's `Gemm`, which is broadcast where a batch is one request
//! ([`ONE_OR_CANDIDATES`]). `Mix` is a product of the gate with the stacked
//! experts, and gates of the same experts share the stack.

mod builder;
mod error;
mod export;
mod external;
mod fold;
pub mod foreign;
mod ops;
mod quantize;
mod read;
pub mod split;

pub use error::OnnxError;
pub use export::{CANDIDATES, ExportOptions, IR_VERSION, ONE_OR_CANDIDATES, OPSET, REQUESTS, export};
pub use external::{EXTERNAL_FROM_BYTES, ExternalWeights};
pub use fold::{Folded, fold};
pub use quantize::{
    OBSERVED, Observed, Quantization, Quantized, Range, Ranges, TableType, observe_ranges, quantize,
};
pub use read::{Weight, read_weights};
