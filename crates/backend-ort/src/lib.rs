//! [`gatefold_engine::Backend`] on ONNX Runtime.
//!
//! The library is loaded at run time from a path that [`OrtSettings`] or the environment gives, so
//! that building needs no ONNX Runtime and one binary runs on any build of it from
//! [`ONNX_RUNTIME_VERSION`] on.
//!
//! Ranking batches are small and of ever different sizes, and one worker thread owns one session;
//! the runtime's defaults suit the opposite case. So a session has its own few threads (one, by
//! default: the worker itself), they do not spin when idle, and no memory is planned for fixed
//! shapes. Feature columns go in as they are, without a copy, where their rows are what the graph
//! wants. ONNX Runtime runs the whole graph whatever outputs are asked for; where one output alone
//! takes notably less work, its own cut of the graph is opened beside the whole one, so that a
//! tower that nobody asked for is not run.
//!
//! On a CUDA [`Device`] the runtime's defaults fit better, and what differs is the other way round:
//! batches are padded so that their shapes repeat, and copied into buffers that the device reads.

mod backend;
mod bind;
mod buckets;
mod device;
mod error;
mod graph;
mod library;
mod prune;
mod rows;

pub use backend::{OrtBackend, OrtLoader, OrtSettings};
pub use device::{Device, DeviceError};
pub use error::OrtError;
pub use graph::{OpenGraph, Tensor, Values};
pub use library::{LIBRARY_FILE, ONNX_RUNTIME_VERSION, find_library};
