//! libFuzzer's way into `tidegate_fuzz::pcap_reader`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::pcap_reader::run(data));
