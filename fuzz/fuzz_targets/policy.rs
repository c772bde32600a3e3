//! libFuzzer's way into `tidegate_fuzz::policy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::policy::run(data));
