//! The typed graph that every form of a model comes from: training, the ONNX files, and the
//! serving graph that computes a request once.
//!
//! Five nouns: a [`Graph`] is a list of [`Node`]s in the order they can run; a node applies an
//! [`Op`] to the values of earlier nodes; a [`Fact`] says what a value is: its [`Level`] (how many
//! rows: none, one a request, one a candidate), its element type and the dimensions after the
//! rows. Parameters are declared by the graph and owned by whoever runs it. The set of ops is
//! closed, so a missing shape rule, gradient, kernel or ONNX mapping does not compile.
//!
//! This crate never sees a tensor's values.

pub mod activation;
pub mod autodiff;
pub mod fact;
pub mod gradient_op;
pub mod graph;
pub mod op;
pub mod passes;

pub use activation::Activation;
pub use autodiff::{Gradient, Gradients, Rows, differentiate};
pub use fact::{ElementType, Fact, Level};
pub use gradient_op::GradientOp;
pub use graph::{Graph, GraphError, Init, Node, NodeId, ParamId, Parameter};
pub use op::{Op, Pool};
