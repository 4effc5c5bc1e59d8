//! Why a model cannot be run by ONNX Runtime.

use std::path::PathBuf;

use gatefold_engine::BackendError;

use crate::{Device, library::ONNX_RUNTIME_VERSION};

/// ONNX Runtime, or a graph, that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OrtError {
    /// No library was found.
    #[error(
        "ONNX Runtime {ONNX_RUNTIME_VERSION} was not found: {}; run `cargo xtask setup`, or set \
         ORT_DYLIB_PATH to libonnxruntime.so of that version or later",
        tried.join("; ")
    )]
    NoLibrary {
        /// Where it was looked for and why it is not there.
        tried: Vec<String>,
    },
    /// The library does not load, or is too old.
    #[error(
        "{}: ONNX Runtime cannot be loaded: {reason}; run `cargo xtask setup`, or set ORT_DYLIB_PATH to \
         libonnxruntime.so {ONNX_RUNTIME_VERSION} or later",
        library.display()
    )]
    Load {
        /// The library.
        library: PathBuf,
        /// Why.
        reason: String,
    },
    /// The device cannot be had.
    #[error(
        "{device} cannot run models: {reason}; check that `nvidia-smi` lists the GPU, that ORT_DYLIB_PATH or \
         ort_library names libonnxruntime.so of the wheel onnxruntime-gpu {ONNX_RUNTIME_VERSION} (it is {} \
         now), and that LD_LIBRARY_PATH has the libraries of CUDA 13 and cuDNN 9; or set device to cpu",
        library.display()
    )]
    NoDevice {
        /// The device asked for.
        device: Device,
        /// The library in use.
        library: PathBuf,
        /// What the runtime says.
        reason: String,
    },
    /// Another library is loaded already.
    #[error(
        "this process already runs ONNX Runtime from {}, it cannot load {} as well: give one path",
        loaded.display(),
        asked.display()
    )]
    OtherLibrary {
        /// The library in use.
        loaded: PathBuf,
        /// The library asked for.
        asked: PathBuf,
    },
    /// The file is no ONNX graph that the runtime reads.
    #[error("{}: not an ONNX model that ONNX Runtime reads: {reason}; export the model again", file.display())]
    NotOnnx {
        /// The file.
        file: PathBuf,
        /// What the runtime says.
        reason: String,
    },
    /// The graph does not fit the manifest.
    #[error("{}: {reason}", file.display())]
    Graph {
        /// The file.
        file: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The runtime refuses an option.
    #[error("ONNX Runtime cannot be set up: {0}")]
    Setup(String),
    /// A graph beside any bundle failed to run.
    #[error("running the graph failed: {0}")]
    Run(String),
    /// The bundle has no user-once graph.
    #[error("{} has no user-once graph: use the plain one, or publish the model again", bundle.display())]
    NoUserOnce {
        /// The bundle.
        bundle: PathBuf,
    },
}

impl From<OrtError> for BackendError {
    fn from(error: OrtError) -> BackendError {
        match error {
            OrtError::NotOnnx { file, reason } => BackendError::Load {
                file,
                reason: format!(
                    "not an ONNX model that ONNX Runtime reads: {reason}; export the model again"
                ),
            },
            OrtError::Graph { file, reason } => BackendError::Load { file, reason },
            OrtError::NoUserOnce { bundle } => BackendError::NoUserOnce { bundle },
            other => BackendError::Unavailable(other.to_string()),
        }
    }
}
