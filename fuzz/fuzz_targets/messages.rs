//! Bytes that a caller sends as a message of any service.
#![no_main]

use gatefold_fuzz::{seeds, target};

libfuzzer_sys::fuzz_target!(init: seeds::plant("messages"), |bytes: &[u8]| {
    (target("messages").run)(bytes);
});
