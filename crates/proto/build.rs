//! Generates the Rust of `proto/` with a compiler written in Rust, so that no `protoc` is needed.
//!
//! Beside the code it writes `<package>.bin` for each service: the descriptor set that gRPC
//! reflection answers from.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let protos = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", protos.display());

    for file in ["onnx/onnx.proto", "tensorboard/event.proto", "opentelemetry/trace_service.proto"] {
        tonic_prost_build::configure().compile_fds(protox::compile([file], [&protos])?)?;
    }

    let services: [(&[&str], &str); 2] = [
        (
            &["gatefold/ranking/v1/ranking.proto", "gatefold/ranking/v1/admin.proto"],
            "gatefold.ranking.v1.bin",
        ),
        (&["inference/grpc_service.proto"], "inference.bin"),
    ];
    for (files, descriptors) in services {
        let compiled = protox::compile(files, [&protos])?;
        fs::write(out.join(descriptors), compiled.encode_to_vec())?;
        // Tensors are read where they lie in the message.
        let raw = ".inference.ModelInferRequest.raw_input_contents";
        let codec = "crate::bounded::BoundedCodec";
        tonic_prost_build::configure().bytes(raw).codec_path(codec).compile_fds(compiled)?;
    }
    Ok(())
}
