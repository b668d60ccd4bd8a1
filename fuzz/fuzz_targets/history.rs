//! libFuzzer's door to [`sheaf_fuzz::history`]; the body and what it asserts are there.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| sheaf_fuzz::history::target(data));
