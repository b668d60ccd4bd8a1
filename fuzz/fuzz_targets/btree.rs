//! libFuzzer's door to [`sheaf_fuzz::btree`]; the body and what it asserts are there.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| sheaf_fuzz::btree::target(data));
