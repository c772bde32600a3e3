//! libFuzzer's way into `tidegate_fuzz::scte35`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::scte35::run(data));
