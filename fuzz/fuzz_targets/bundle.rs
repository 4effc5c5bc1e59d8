//! Bytes that stand in a bundle as its `manifest.json`.
#![no_main]

use gatefold_fuzz::{seeds, target};

libfuzzer_sys::fuzz_target!(init: seeds::plant("bundle"), |bytes: &[u8]| {
    (target("bundle").run)(bytes);
});
