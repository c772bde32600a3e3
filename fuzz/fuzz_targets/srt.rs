//! libFuzzer's way into `tidegate_fuzz::srt`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::srt::run(data));
