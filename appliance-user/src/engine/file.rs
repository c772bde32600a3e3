//! A transport stream without a transport: the packets of a `.ts` file, in file order, with the PCR as their clock.

use core::time::Duration;

use super::event::StreamEvent;
use super::judge::FilePacket;
use super::media::mpegts;
use super::outbox::{Media, Outbox};
use super::report::StreamReport;
use super::stream::Stream;
use super::time::Timestamp;
use super::ts::FileClock;
use crate::policy::Rule;

/// How often the stream's state is given time to pass.
const ADVANCE_EVERY: Duration = Duration::from_millis(100);

/// Packets that are read before they are judged.
const BATCH: usize = 64;

/// The inspection of one file.
pub struct Inspection {
    stream: Stream,
    outbox: Outbox,
    clock: FileClock,
    advanced: Timestamp,
    count: u64,
    sync_losses: u64,
}

impl Inspection {
    /// Nothing was read yet. With `extract` the packets come out again ([`Inspection::next_media`]).
    /// Without `analyse` continuity alone is judged.
    pub fn new(extract: bool, analyse: bool) -> Self {
        let mut stream = Stream::of_file(&Rule::observer());
        if analyse {
            stream.analyse();
        }
        let outbox = if extract {
            stream.hand_on();
            Outbox::with_media()
        } else {
            Outbox::default()
        };
        Inspection {
            stream,
            outbox,
            clock: FileClock::default(),
            advanced: Timestamp::default(),
            count: 0,
            sync_losses: 0,
        }
    }

    /// Takes the next packets of the file.
    pub fn packets<'a>(&mut self, packets: impl Iterator<Item = &'a [u8; mpegts::PACKET_SIZE]>) {
        let mut batch = Vec::with_capacity(BATCH);
        for bytes in packets {
            let packet = self.read(bytes);
            let is_due = packet.at.since(self.advanced) >= ADVANCE_EVERY;
            if is_due || batch.len() == BATCH {
                self.stream.offer_file(&batch, &mut self.outbox);
                batch.clear();
            }
            if is_due {
                self.advanced = packet.at;
                self.stream
                    .advance(packet.at, (0, Timestamp::default()), &mut self.outbox);
            }
            batch.push(packet);
        }
        self.stream.offer_file(&batch, &mut self.outbox);
    }

    fn read<'a>(&mut self, bytes: &'a [u8; mpegts::PACKET_SIZE]) -> FilePacket<'a> {
        self.count += 1;
        let at = match bytes[0] == mpegts::SYNC_BYTE {
            true => self.clock.of(bytes),
            false => self.clock.packet(),
        };
        FilePacket { at, bytes }
    }

    /// Between the last packet and the next one the reader lost synchronisation.
    pub fn sync_lost(&mut self) {
        self.sync_losses += 1;
        self.stream.sync_lost(self.clock.now(), &mut self.outbox);
    }

    /// The oldest event that was not fetched yet; its time counts from the file's beginning.
    pub fn next_event(&mut self) -> Option<StreamEvent> {
        self.outbox.fetch()
    }

    /// The oldest packets that were not fetched yet.
    pub fn next_media(&mut self) -> Option<Media> {
        self.outbox.fetch_media()
    }

    /// TS packets taken so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The file ended: what waits is judged and told.
    pub fn finish(&mut self) {
        self.stream.flush(&mut self.outbox);
    }

    /// What there is to say.
    pub fn report(&self) -> StreamReport {
        let mut report = self.stream.report();
        if let Some(ts) = &mut report.ts {
            ts.sync_byte_errors += self.sync_losses;
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::report::StreamState;

    /// A packet with PCR and payload (ISO/IEC 13818-1 2.4.3.4) at a time in milliseconds.
    fn packet(counter: u8, ms: u64) -> [u8; mpegts::PACKET_SIZE] {
        let base = ms * 90;
        let mut packet = [0xff; mpegts::PACKET_SIZE];
        packet[..6].copy_from_slice(&[0x47, 1, 0, 0x30 | counter & 0x0f, 7, 0x10]);
        packet[6..12].copy_from_slice(&(base << 15 | 0x7e00).to_be_bytes()[2..]);
        packet
    }

    fn inspect(seconds: u64, start_ms: u64) -> StreamReport {
        let mut inspection = Inspection::new(false, false);
        let packets: Vec<_> = (0..seconds * 25)
            .map(|n| packet(n as u8 ^ if n == 25 { 8 } else { 0 }, start_ms + n * 40))
            .collect();
        inspection.packets(packets.iter());
        assert_eq!(inspection.count(), seconds * 25);
        inspection.finish();
        inspection.report()
    }

    #[test]
    fn a_stream_that_stays_sound_recovers_by_the_clock_of_its_pcr() {
        let report = inspect(5, 0);
        assert_eq!(
            (report.state, report.worst_state),
            (StreamState::Degraded, StreamState::Degraded)
        );
        // The PCR's base wraps after 26.5 hours; time goes on.
        for start_ms in [0, (1 << 33) / 90 - 5_000] {
            let report = inspect(15, start_ms);
            assert_eq!(
                (report.state, report.worst_state),
                (StreamState::Healthy, StreamState::Degraded)
            );
            assert_eq!(report.ts.expect("a TS").continuity_errors.source, 2);
        }
    }
}
