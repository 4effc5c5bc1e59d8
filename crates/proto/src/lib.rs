//! The Rust of the files in `proto/`, generated when this crate is built. No logic lives here but
//! [`bounded`], by which the services decode.

#![allow(missing_docs, clippy::all, reason = "generated code; what it means is said in the .proto files")]

pub mod bounded;

/// The ONNX file format, as far as Gatefold writes and reads it.
pub mod onnx {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

/// TensorBoard's event files, as far as Gatefold writes them.
pub mod tensorboard {
    include!(concat!(env!("OUT_DIR"), "/tensorboard.rs"));
}

/// The public gRPC API.
pub mod ranking {
    /// Version 1: package `gatefold.ranking.v1`.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/gatefold.ranking.v1.rs"));

        /// The descriptor set of this package, for gRPC reflection.
        pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/gatefold.ranking.v1.bin"));
    }
}

/// The Open Inference Protocol: package `inference`.
pub mod inference {
    include!(concat!(env!("OUT_DIR"), "/inference.rs"));

    /// The descriptor set of this package, for gRPC reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/inference.bin"));
}

/// The OpenTelemetry protocol for traces, as far as Gatefold speaks it.
pub mod opentelemetry {
    include!(concat!(env!("OUT_DIR"), "/opentelemetry.proto.collector.trace.v1.rs"));
}
