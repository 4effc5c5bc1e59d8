//! Text that a file holds: settings of the server, and its tokens file.
#![no_main]

use gatefold_fuzz::{seeds, target};

libfuzzer_sys::fuzz_target!(init: seeds::plant("settings"), |bytes: &[u8]| {
    (target("settings").run)(bytes);
});
