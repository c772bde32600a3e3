//! libFuzzer's way into `tidegate_fuzz::ts_packet_sections`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::ts_packet_sections::run(data));
