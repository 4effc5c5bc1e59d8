//! Text that a file holds: settings of the server, and its tokens file.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    gatefold_fuzz::settings(text);
});
