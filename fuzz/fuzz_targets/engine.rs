//! libFuzzer's way into `tidegate_fuzz::engine`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::engine::run(data));
