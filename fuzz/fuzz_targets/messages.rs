//! Bytes that a caller sends as a message of any service.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gatefold_fuzz::messages(bytes));
