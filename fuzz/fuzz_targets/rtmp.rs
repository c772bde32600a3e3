//! libFuzzer's way into `tidegate_fuzz::rtmp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::rtmp::run(data));
