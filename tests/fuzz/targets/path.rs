//! libFuzzer's program for lives of a worker.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::path(input));
