//! Generates the Rust of `proto/` with a compiler written in Rust, so that no `protoc` is needed.
//!
//! Beside the code it writes `ranking_descriptors.bin`: the descriptor set that gRPC reflection
//! answers from.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let protos = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", protos.display());

    for file in ["onnx/onnx.proto", "tensorboard/event.proto"] {
        tonic_prost_build::configure().compile_fds(protox::compile([file], [&protos])?)?;
    }

    let ranking = protox::compile(["gatefold/ranking/v1/ranking.proto", "gatefold/ranking/v1/admin.proto"], [&protos])?;
    fs::write(out.join("ranking_descriptors.bin"), ranking.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(ranking)?;
    Ok(())
}
