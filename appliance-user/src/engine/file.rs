//! A transport stream without a transport: the packets of a `.ts` file, in file order, with the PCR as their clock.

use tidegate_common::digest::{MAX_TS_PACKETS, PacketDigest};

use super::media::mpegts::{self, Content};
use super::outbox::Outbox;
use super::report::StreamReport;
use super::stream::Stream;
use super::time::Timestamp;
use crate::policy::Rule;

/// The PCR wraps after 2^33 periods of 90 kHz, each 300 of 27 MHz (ISO/IEC 13818-1 2.4.3.5).
const PCR_MODULUS: u64 = (1 << 33) * 300;
/// A step of more than this is a new time base, not time that passed.
const PCR_STEP: u64 = 10 * 27_000_000;

/// The inspection of one file.
pub struct Inspection {
    stream: Stream,
    outbox: Outbox,
    clock: PcrClock,
    count: u64,
}

impl Default for Inspection {
    fn default() -> Self {
        Self::new()
    }
}

impl Inspection {
    /// Nothing was read yet.
    pub fn new() -> Self {
        Inspection {
            stream: Stream::of_file(&Rule::observer()),
            outbox: Outbox::default(),
            clock: PcrClock::default(),
            count: 0,
        }
    }

    /// Takes the next packets of the file.
    pub fn packets(&mut self, packets: &[[u8; mpegts::PACKET_SIZE]]) {
        for chunk in packets.chunks(MAX_TS_PACKETS) {
            let mut digest = PacketDigest { ts_visible: true, ..PacketDigest::default() };
            for (place, packet) in digest.ts.iter_mut().zip(chunk) {
                if let Some((pid, pcr)) = mpegts::pcr(packet) {
                    self.clock.tick(pid, pcr);
                }
                *place = mpegts::digest_packet(packet, Content::Full);
            }
            digest.ts_count = chunk.len() as u8;
            self.count += chunk.len() as u64;
            self.stream.offer(self.clock.now, chunk.as_flattened().len(), &digest, &mut self.outbox);
            // A report has no use for events.
            while self.outbox.fetch().is_some() {}
        }
    }

    /// TS packets taken so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The file ended, after its reader lost synchronisation `sync_losses` times.
    pub fn finish(mut self, sync_losses: u64) -> StreamReport {
        self.stream.flush(&mut self.outbox);
        let mut report = self.stream.report();
        report.packets = self.count;
        if let Some(ts) = &mut report.ts {
            ts.sync_byte_errors += sync_losses;
        }
        report
    }
}

/// Time by the first PID that carries a PCR.
#[derive(Default)]
struct PcrClock {
    pid: Option<u16>,
    last: u64,
    now: Timestamp,
}

impl PcrClock {
    fn tick(&mut self, pid: u16, pcr: u64) {
        if self.pid.is_none() {
            self.pid = Some(pid);
            self.last = pcr;
        }
        if self.pid != Some(pid) {
            return;
        }
        let step = (pcr + PCR_MODULUS - self.last) % PCR_MODULUS;
        self.last = pcr;
        if step <= PCR_STEP {
            self.now = Timestamp::from_nanos(self.now.nanos() + step * 1000 / 27);
        }
    }
}
