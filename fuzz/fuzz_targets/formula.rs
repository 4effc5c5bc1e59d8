//! Text that a caller or the settings give as a formula.
#![no_main]

use gatefold_fuzz::{seeds, target};

libfuzzer_sys::fuzz_target!(init: seeds::plant("formula"), |bytes: &[u8]| {
    (target("formula").run)(bytes);
});
