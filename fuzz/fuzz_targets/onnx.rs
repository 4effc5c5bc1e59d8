//! Bytes that a file holds: a model of another program.
#![no_main]

use gatefold_fuzz::{seeds, target};

libfuzzer_sys::fuzz_target!(init: seeds::plant("onnx"), |bytes: &[u8]| {
    (target("onnx").run)(bytes);
});
