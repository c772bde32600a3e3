//! libFuzzer's way into `tidegate_fuzz::walker`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::walker::run(data));
