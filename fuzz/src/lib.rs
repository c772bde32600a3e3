//! What is fuzzed, and what must hold: one module for each target, with a `run` that panics where a promise is broken and
//! the `seeds` that a corpus begins with.
//!
//! Nothing here knows libFuzzer. `fuzz_targets/` joins each module to it, and `appliance-user/tests/fuzz_regressions.rs`
//! includes this file to run every seed and every committed input of `regressions/TARGET/` under plain `cargo test`. So a
//! new target is a module here, a line in [`TARGETS`], a file in `fuzz_targets/` and a `[[bin]]` in `Cargo.toml`.

pub mod engine;
pub mod packets;
pub mod pcap_reader;
pub mod policy;
pub mod rtmp;
pub mod rtp_rtcp_fec;
pub mod scte35;
pub mod srt;
pub mod ts_packet_sections;
pub mod walker;

/// A target by its name.
pub struct Target {
    /// The name of its module, its binary and its folders.
    pub name: &'static str,
    /// Takes an input; panics where a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs to begin with: what is sound, for mutation to spoil.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        /// Every target.
        pub const TARGETS: &[Target] = &[$(Target {
            name: stringify!($name),
            run: $name::run,
            seeds: $name::seeds,
        }),*];
    };
}

targets!(
    walker,
    rtp_rtcp_fec,
    srt,
    ts_packet_sections,
    scte35,
    rtmp,
    policy,
    pcap_reader,
    engine,
);

/// Takes an input apart from its beginning; what is not there is 0 or empty, so that every input means something.
pub struct Take<'a>(pub &'a [u8]);

impl<'a> Take<'a> {
    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// The next two bytes, big-endian.
    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// The next bytes, at most so many.
    pub fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
