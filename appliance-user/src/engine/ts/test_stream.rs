//! A small DVB transport stream at a constant rate for the tests, and what `dvb-conformance` says of it.
//!
//! Frames of 40 ms with 100 packets of 400 us each: a picture with PCR and PTS, a little audio, tables at their usual
//! intervals, null packets for the rest. Tests take packets away or change them, then number the continuity counters.

use core::time::Duration;
use std::collections::BTreeMap;

use dvb_conformance::{ConformanceMonitor, Indicator as Oracle};

use super::*;
use crate::engine::media::mpegts::{self, Content, PACKET_SIZE, digest_packet};

pub(super) const VIDEO: u16 = 0x100;
pub(super) const AUDIO: u16 = 0x101;
pub(super) const PMT: u16 = 0x1000;
pub(super) const FRAME_PACKETS: u64 = 100;
pub(super) const FRAMES_PER_SECOND: u64 = 25;
const PACKET: Duration = Duration::from_micros(400);

pub(super) type Bytes = [u8; PACKET_SIZE];

/// A packet, when it comes, and which frame's it is.
#[derive(Clone)]
pub(super) struct Timed {
    pub(super) at: Duration,
    pub(super) frame: u64,
    pub(super) bytes: Bytes,
}

impl Timed {
    pub(super) fn pid(&self) -> u16 {
        u16::from_be_bytes([self.bytes[1], self.bytes[2]]) & 0x1fff
    }

    pub(super) fn starts(&self) -> bool {
        self.bytes[1] & 0x40 != 0
    }

    pub(super) fn has_pcr(&self) -> bool {
        self.bytes[3] & 0x20 != 0 && self.bytes[5] & 0x10 != 0
    }

    pub(super) fn set_pcr(&mut self, value: u64) {
        self.bytes[6..12].copy_from_slice(&((value / 300) << 15 | 0x7e00 | (value % 300)).to_be_bytes()[2..]);
    }

    pub(super) fn pcr(&self) -> u64 {
        mpegts::pcr(&self.bytes).expect("a PCR").1
    }
}

fn crc(bytes: &[u8]) -> u32 {
    crc::Crc::<u32>::new(&crc::CRC_32_MPEG_2).checksum(bytes)
}

/// A section of the long form.
pub(super) fn section(table_id: u8, extension: u16, number: u8, last: u8, body: &[u8]) -> Vec<u8> {
    let [high, low] = extension.to_be_bytes();
    let mut bytes = vec![table_id, 0, 0, high, low, 0xc1, number, last];
    bytes.extend(body);
    let length = bytes.len() - 3 + 4;
    bytes[1..3].copy_from_slice(&(0xb000 | length as u16).to_be_bytes());
    bytes.extend(crc(&bytes).to_be_bytes());
    bytes
}

/// A packet that carries one section.
pub(super) fn table(pid: u16, section: &[u8]) -> Bytes {
    let mut packet = [0xff; PACKET_SIZE];
    let [high, low] = pid.to_be_bytes();
    packet[..5].copy_from_slice(&[0x47, 0x40 | high, low, 0x10, 0]);
    packet[5..5 + section.len()].copy_from_slice(section);
    packet
}

pub(super) fn payload(pid: u16, fill: u8) -> Bytes {
    let mut packet = [fill; PACKET_SIZE];
    let [high, low] = pid.to_be_bytes();
    packet[..4].copy_from_slice(&[0x47, high, low, 0x10]);
    packet
}

/// A PES start with a PTS of that many milliseconds, and a PCR if one is wanted.
fn pes(pid: u16, stream_id: u8, pts_ms: u64, pcr: Option<u64>) -> Bytes {
    let mut packet = payload(pid, 0xaa);
    packet[1] |= 0x40;
    let mut start = 4;
    if let Some(value) = pcr {
        packet[3] = 0x30;
        packet[4..6].copy_from_slice(&[7, 0x10]);
        packet[6..12].copy_from_slice(&((value / 300) << 15 | 0x7e00 | (value % 300)).to_be_bytes()[2..]);
        start = 12;
    }
    let pts = (pts_ms * 90) & 0x1_ffff_ffff;
    let stamp = [
        0x21 | (pts >> 29) as u8 & 0x0e,
        (pts >> 22) as u8,
        (pts >> 14) as u8 | 1,
        (pts >> 7) as u8,
        (pts << 1) as u8 | 1,
    ];
    packet[start..start + 9].copy_from_slice(&[0, 0, 1, stream_id, 0, 0, 0x80, 0x80, 5]);
    packet[start + 9..start + 14].copy_from_slice(&stamp);
    packet
}

pub(super) fn pat() -> Bytes {
    table(
        0,
        &section(
            0,
            1,
            0,
            0,
            &[0, 0, 0xe0, 0x10, 0, 1, 0xe0 | (PMT >> 8) as u8, PMT as u8],
        ),
    )
}

/// A PMT with these (stream_type, PID).
pub(super) fn pmt(components: &[(u8, u16)]) -> Bytes {
    let mut body = vec![0xe0 | (VIDEO >> 8) as u8, VIDEO as u8, 0xf0, 0];
    for (stream_type, pid) in components {
        body.extend([*stream_type, 0xe0 | (pid >> 8) as u8, *pid as u8, 0xf0, 0]);
    }
    table(PMT, &section(2, 1, 0, 0, &body))
}

fn sdt() -> Bytes {
    table(0x11, &section(0x42, 1, 0, 0, &[0, 1, 0xff, 0, 1, 0xfc, 0x80, 0]))
}

fn nit() -> Bytes {
    table(0x10, &section(0x40, 1, 0, 0, &[0xf0, 0, 0xf0, 0]))
}

fn eit(number: u8) -> Bytes {
    table(0x12, &section(0x4e, 1, number, 1, &[0, 1, 0, 1, 1, 0x4e]))
}

pub(super) fn tdt() -> Bytes {
    table(0x14, &[0x70, 0x70, 5, 0xe8, 0xd2, 0x12, 0x34, 0x56])
}

/// A sound stream of that many seconds, with service information or without.
pub(super) fn stream(seconds: u64, dvb: bool) -> Vec<Timed> {
    // The oracle needs five packets to acquire synchronisation and sees nothing before.
    let lead = (0..5).map(|n| Timed {
        at: PACKET * n,
        frame: 0,
        bytes: payload(NULL_PID, 0xff),
    });
    let frames = (0..seconds * FRAMES_PER_SECOND).flat_map(move |frame| {
        (0..FRAME_PACKETS).map(move |place| {
            let at = PACKET * (5 + frame * FRAME_PACKETS + place) as u32;
            let bytes = packet_of_frame(frame, place, at, dvb);
            Timed { at, frame, bytes }
        })
    });
    lead.chain(frames).collect()
}

fn packet_of_frame(frame: u64, place: u64, at: Duration, dvb: bool) -> Bytes {
    let ms = frame * 40;
    let every = |frames: u64, offset: u64| frame % frames == offset;
    match place {
        // 27 periods of the clock to a microsecond; the start is off a multiple of anything.
        0 => pes(VIDEO, 0xe0, ms + 500, Some(77_777 + at.as_micros() as u64 * 27)),
        2..60 => payload(VIDEO, place as u8),
        60 => pes(AUDIO, 0xc0, ms + 500, None),
        61..70 => payload(AUDIO, place as u8),
        70 if every(2, 0) => pat(),
        71 if every(2, 0) => pmt(&[(0x1b, VIDEO), (0x0f, AUDIO)]),
        72 if dvb && every(25, 0) => sdt(),
        73 if dvb && every(25, 3) => eit(0),
        73 if dvb && every(25, 4) => eit(1),
        74 if dvb && every(125, 5) => nit(),
        75 if dvb && every(250, 6) => tdt(),
        _ => payload(NULL_PID, 0xff),
    }
}

/// Gives every packet with payload its continuity counter.
pub(super) fn number(packets: &mut [Timed]) {
    let mut counters = BTreeMap::new();
    for packet in packets {
        let has_payload = packet.bytes[3] & 0x10 != 0;
        let counter: &mut u8 = counters.entry(packet.pid()).or_insert(15);
        *counter = (*counter + u8::from(has_payload)) & 0x0f;
        packet.bytes[3] = packet.bytes[3] & 0xf0 | *counter;
    }
}

/// What the oracle counts, by ETSI's numbers. It has one indicator for sections too close together where ETSI has it among
/// each table's own.
pub(super) fn oracle(packets: &[Timed]) -> BTreeMap<&'static str, u64> {
    let mut monitor = ConformanceMonitor::new();
    let mut counts = BTreeMap::new();
    for packet in packets {
        for event in monitor.feed(&packet.bytes, packet.at) {
            let own = |pid: Option<u16>| match pid {
                Some(0x10) => "3.1.a",
                Some(0x11) => "3.5.a",
                Some(0x12) => "3.6.a",
                Some(0x13) => "3.7",
                _ => "3.8",
            };
            let numbers: &[&str] = match event.indicator {
                Oracle::TsSyncLoss => &["1.1"],
                Oracle::SyncByteError => &["1.2"],
                Oracle::PatError2 => &["1.3.a"],
                Oracle::PmtError2 => &["1.5.a"],
                Oracle::PidError => &["1.6"],
                Oracle::TransportError => &["2.1"],
                Oracle::CrcError => &["2.2"],
                Oracle::PcrRepetitionError => &["2.3.a"],
                Oracle::PcrDiscontinuityError => &["2.3.b"],
                Oracle::PtsError => &["2.5"],
                Oracle::CatError => &["2.6"],
                Oracle::NitError => &["3.1.a"],
                Oracle::NitOtherError => &["3.1.b"],
                Oracle::SiRepetitionError => &["3.2"],
                Oracle::UnreferencedPid => &["3.4.a"],
                Oracle::SdtError => &["3.5.a"],
                Oracle::SdtOtherError => &["3.5.b"],
                Oracle::EitError => &["3.6.a"],
                Oracle::EitOtherError => &["3.6.b"],
                Oracle::RstError => &["3.7"],
                Oracle::TdtError => &["3.8"],
                Oracle::SiMinGapError => &[own(event.pid.map(|pid| pid.value())), "3.2"],
                // Buffers are not modelled here, continuity is the judge's, and pairs of EIT sections are not measured.
                _ => &[],
            };
            for number in numbers {
                *counts.entry(*number).or_insert(0) += 1;
            }
        }
    }
    counts
}

impl Analyser {
    /// One packet, as the judge gives it.
    pub(super) fn packet(
        &mut self,
        at: Timestamp,
        slot: usize,
        header: &TsDigest,
        bytes: Option<&[u8; PACKET_SIZE]>,
        gap: bool,
        out: &mut impl FnMut(Timestamp, TsEvent),
    ) {
        if self.count(at, slot, header, gap) {
            self.attend(slot, header, bytes, gap, out);
        }
    }
}

/// Feeds an analyser as the judge does: a place for each PID, and a gap where the counter is wrong.
#[derive(Default)]
pub(super) struct Feeder {
    pids: Vec<(u16, u8)>,
}

impl Feeder {
    pub(super) fn feed(&mut self, analyser: &mut Analyser, packet: &Timed, out: &mut impl FnMut(Timestamp, TsEvent)) {
        self.feed_at(timestamp(packet.at), analyser, packet, out);
    }

    fn feed_at(
        &mut self,
        at: Timestamp,
        analyser: &mut Analyser,
        packet: &Timed,
        out: &mut impl FnMut(Timestamp, TsEvent),
    ) {
        if packet.bytes[0] != 0x47 {
            analyser.bad_sync(at, out);
            return;
        }
        let (slot, digest, gap) = self.judge(packet);
        analyser.packet(at, slot, &digest, Some(&packet.bytes), gap, out);
    }

    pub(super) fn judge(&mut self, packet: &Timed) -> (usize, TsDigest, bool) {
        let digest = digest_packet(&packet.bytes, Content::Sampled);
        let counter = digest.continuity_counter();
        let known = self.pids.iter().position(|(pid, _)| *pid == digest.pid());
        let slot = known.unwrap_or(self.pids.len());
        let gap = match self.pids.get_mut(slot) {
            Some((pid, last)) => {
                let expected = (*last + u8::from(digest.has_payload())) & 0x0f;
                *last = counter;
                *pid != NULL_PID && expected != counter && !digest.discontinuity()
            }
            None => {
                self.pids.push((digest.pid(), counter));
                false
            }
        };
        (slot, digest, gap)
    }
}

pub(super) fn timestamp(at: Duration) -> Timestamp {
    // Not from zero: a monotonic clock never is.
    Timestamp::from_nanos(1_000_000_000_000 + at.as_nanos() as u64)
}

/// Runs a stream; the analyser and what it told.
pub(super) fn analyse(axis: Axis, packets: &[Timed]) -> (Analyser, Vec<TsEvent>) {
    let (mut analyser, mut feeder, mut told) = (Analyser::new(axis), Feeder::default(), Vec::new());
    let mut clock = FileClock::default();
    let mut end = Timestamp::default();
    for packet in packets {
        end = match axis {
            Axis::Live => timestamp(packet.at),
            Axis::File if packet.bytes[0] != 0x47 => clock.packet(),
            Axis::File => clock.of(&packet.bytes),
        };
        feeder.feed_at(end, &mut analyser, packet, &mut |_, event| told.push(event));
    }
    analyser.advance(end, &mut |_, event| told.push(event));
    (analyser, told)
}

/// What is counted live, without what is 0.
pub(super) fn counted(packets: &[Timed]) -> BTreeMap<&'static str, u64> {
    let (analyser, told) = analyse(Axis::Live, packets);
    let counts: BTreeMap<_, _> = analyser
        .report()
        .tr101290
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .collect();
    let mut by_event = BTreeMap::new();
    for event in &told {
        if let TsEvent::Tr101290 { indicator, .. } = event {
            *by_event.entry(indicator.number()).or_insert(0) += 1;
        }
    }
    assert_eq!(counts, by_event, "each violation is told once");
    counts
}
