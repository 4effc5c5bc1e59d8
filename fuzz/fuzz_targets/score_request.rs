//! Bytes that a caller sends as a `ScoreRequest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    gatefold_fuzz::score_request(bytes);
});
