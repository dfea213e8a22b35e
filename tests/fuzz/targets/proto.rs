//! libFuzzer's program for requests of the API.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::proto(input));
