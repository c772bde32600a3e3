//! libFuzzer's way into `tidegate_fuzz::rtp_rtcp_fec`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::rtp_rtcp_fec::run(data));
