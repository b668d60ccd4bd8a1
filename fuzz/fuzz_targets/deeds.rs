//! libFuzzer's door to [`sheaf_fuzz::deeds`]; the body and what it asserts are there.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| sheaf_fuzz::deeds::target(data));
