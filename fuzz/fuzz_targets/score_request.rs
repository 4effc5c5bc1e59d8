//! Bytes that a caller sends as a `ScoreRequest`.
#![no_main]

use gatefold_fuzz::{seeds, target};

libfuzzer_sys::fuzz_target!(init: seeds::plant("score_request"), |bytes: &[u8]| {
    (target("score_request").run)(bytes);
});
