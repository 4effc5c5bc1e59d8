//! Text that a caller sends as the header `traceparent`.
#![no_main]

use gatefold_fuzz::{seeds, target};

libfuzzer_sys::fuzz_target!(init: seeds::plant("traceparent"), |bytes: &[u8]| {
    (target("traceparent").run)(bytes);
});
