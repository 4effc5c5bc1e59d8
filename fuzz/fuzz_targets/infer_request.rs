//! Bytes that a caller sends as a `ModelInferRequest`.
#![no_main]

use gatefold_fuzz::{seeds, target};

libfuzzer_sys::fuzz_target!(init: seeds::plant("infer_request"), |bytes: &[u8]| {
    (target("infer_request").run)(bytes);
});
