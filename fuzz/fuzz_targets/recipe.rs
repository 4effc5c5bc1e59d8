//! Text that a file holds: a recipe, and the map of an import.
#![no_main]

use gatefold_fuzz::{seeds, target};

libfuzzer_sys::fuzz_target!(init: seeds::plant("recipe"), |bytes: &[u8]| {
    (target("recipe").run)(bytes);
});
