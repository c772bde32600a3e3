//! A sound transport stream, made packet by packet: a constant-rate multiplex of one programme with video, two audio
//! components, splice information, tables and null packets (ISO/IEC 13818-1, EN 300 468, SCTE 35).
//!
//! It violates nothing that is measured, so what a benchmark over it finds must be nothing: that proves the generator and
//! that there was something to measure.

use std::sync::Arc;

use crc::{CRC_32_MPEG_2, Crc};

/// Bytes of a TS packet.
pub(crate) const PACKET: usize = 188;
/// Packets per second: 20.3 Mbit/s, a contribution feed.
pub(crate) const PACKETS_PER_SECOND: u64 = 13_500;

/// Periods of 27 MHz between two packets; the rate is chosen for it to be whole.
const TICKS: u64 = 27_000_000 / PACKETS_PER_SECOND;
const MS: u64 = 27_000;
const VIDEO: u16 = 0x100;
const AUDIO: [u16; 2] = [0x101, 0x102];
const PMT: u16 = 0x20;
const SPLICE: u16 = 0x1f0;
const NULL: u16 = 0x1fff;
/// Every so many-th packet is a null packet.
const NULL_EVERY: u64 = 20;
/// An audio PES packet has so many TS packets.
const AUDIO_PACKETS: u8 = 3;
/// Presentation comes so long after transmission, in periods of 90 kHz.
const DELAY: u64 = 45_000;
const NOISE: usize = 1 << 16;

/// What repeats itself: its PID and packet, how often, and when it is due.
#[derive(Clone, Debug)]
struct Table {
    packet: [u8; PACKET],
    counter: u8,
    every: u64,
    due: u64,
}

/// An audio component.
#[derive(Clone, Copy, Debug)]
struct Audio {
    counter: u8,
    due: u64,
    left: u8,
}

/// The multiplex. See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct Multiplex {
    sent: u64,
    tables: [Table; 4],
    audio: [Audio; 2],
    video_counter: u8,
    video_due: u64,
    pcr_due: u64,
    noise: Arc<[u8]>,
    place: usize,
}

impl Multiplex {
    /// The first packet is yet to come; `phase` moves frames and payload against those of another multiplex.
    pub(crate) fn new(noise: &Arc<[u8]>, phase: u64) -> Self {
        let table = |pid, section: Vec<u8>, every, due| Table {
            packet: in_packet(pid, &section),
            counter: 0,
            every,
            due,
        };
        let shift = phase % 40 * MS;
        let audio = |due| Audio {
            counter: 0,
            due,
            left: 0,
        };
        Multiplex {
            sent: 0,
            tables: [
                table(0, pat(), 100 * MS, 0),
                table(PMT, pmt(), 100 * MS, 1),
                table(0x11, sdt(), 1000 * MS, 2),
                table(SPLICE, splice_null(), 5000 * MS, 1000 * MS),
            ],
            audio: [audio(5 * MS + shift / 2), audio(16 * MS + shift / 2)],
            video_counter: 0,
            video_due: shift,
            pcr_due: 0,
            noise: Arc::clone(noise),
            place: (phase as usize * 4099) % NOISE,
        }
    }

    /// Writes the next packet.
    pub(crate) fn next(&mut self, packet: &mut [u8; PACKET]) {
        let now = self.sent * TICKS;
        self.sent += 1;
        if let Some(table) = self.tables.iter_mut().find(|table| table.due <= now) {
            table.due += table.every;
            *packet = table.packet;
            packet[3] |= next(&mut table.counter);
        } else if self.sent.is_multiple_of(NULL_EVERY) {
            packet.fill(0xff);
            header(packet, NULL, false, 0x10);
        } else if self.audio.iter().any(|audio| audio.left > 0 || audio.due <= now) {
            self.next_audio(now, packet);
        } else {
            self.next_video(now, packet);
        }
    }

    fn next_audio(&mut self, now: u64, packet: &mut [u8; PACKET]) {
        self.fill(packet);
        for (pid, audio) in AUDIO.into_iter().zip(&mut self.audio) {
            let start = audio.left == 0 && audio.due <= now;
            if !start && audio.left == 0 {
                continue;
            }
            header(packet, pid, start, 0x10 | next(&mut audio.counter));
            if start {
                pes_header(packet, 4, 0xc0, now / 300);
                (audio.due, audio.left) = (audio.due + 24 * MS, AUDIO_PACKETS);
            }
            audio.left -= 1;
            return;
        }
    }

    fn next_video(&mut self, now: u64, packet: &mut [u8; PACKET]) {
        self.fill(packet);
        let start = self.video_due <= now;
        let has_pcr = self.pcr_due <= now;
        let control = if has_pcr { 0x30 } else { 0x10 };
        header(packet, VIDEO, start, control | next(&mut self.video_counter));
        if has_pcr {
            self.pcr_due += 35 * MS;
            packet[4..6].copy_from_slice(&[7, 0x10]);
            let bits = (now / 300 % (1 << 33)) << 15 | 0x7e00 | (now % 300);
            packet[6..12].copy_from_slice(&bits.to_be_bytes()[2..]);
        }
        if start {
            self.video_due += 40 * MS;
            pes_header(packet, if has_pcr { 12 } else { 4 }, 0xe0, now / 300);
        }
    }

    /// Payload that looks like compressed media.
    fn fill(&mut self, packet: &mut [u8; PACKET]) {
        self.place = (self.place + 251) % (NOISE - PACKET);
        packet.copy_from_slice(&self.noise[self.place..self.place + PACKET]);
    }
}

/// Bytes without a pattern, to take payload from.
pub(crate) fn noise() -> Arc<[u8]> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..NOISE)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

fn next(counter: &mut u8) -> u8 {
    let now = *counter;
    *counter = (now + 1) & 0x0f;
    now
}

fn header(packet: &mut [u8; PACKET], pid: u16, start: bool, control: u8) {
    let [high, low] = pid.to_be_bytes();
    packet[..4].copy_from_slice(&[0x47, high | u8::from(start) << 6, low, control]);
}

/// A PES header with a PTS (ISO/IEC 13818-1 2.4.3.6), of unbounded length.
fn pes_header(packet: &mut [u8; PACKET], at: usize, stream_id: u8, base: u64) {
    let pts = (base + DELAY) % (1 << 33);
    let marked = |bits: u64| (bits << 1 | 1) as u8;
    packet[at..at + 9].copy_from_slice(&[0, 0, 1, stream_id, 0, 0, 0x80, 0x80, 5]);
    packet[at + 9..at + 14].copy_from_slice(&[
        0x20 | marked(pts >> 30 & 7),
        (pts >> 22) as u8,
        marked(pts >> 15 & 0x7f),
        (pts >> 7) as u8,
        marked(pts & 0x7f),
    ]);
}

/// A section in a packet of its own.
fn in_packet(pid: u16, section: &[u8]) -> [u8; PACKET] {
    let mut packet = [0xff; PACKET];
    header(&mut packet, pid, true, 0x10);
    packet[4] = 0;
    packet[5..5 + section.len()].copy_from_slice(section);
    packet
}

/// A section from its table_id, the two flags before its length and what follows the length, CRC-32 appended.
fn section(table_id: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut section = vec![table_id, flags, (body.len() + 4) as u8];
    section.extend_from_slice(body);
    let crc = Crc::<u32>::new(&CRC_32_MPEG_2).checksum(&section);
    section.extend_from_slice(&crc.to_be_bytes());
    section
}

fn pat() -> Vec<u8> {
    section(0x00, 0xb0, &[0, 1, 0xc1, 0, 0, 0, 1, 0xe0, PMT as u8])
}

fn pmt() -> Vec<u8> {
    let mut body = vec![0, 1, 0xc1, 0, 0, 0xe1, 0x00, 0xf0, 6, 5, 4];
    body.extend_from_slice(b"CUEI");
    for (stream_type, pid) in [(0x1b, VIDEO), (0x0f, AUDIO[0]), (0x0f, AUDIO[1]), (0x86, SPLICE)] {
        body.extend_from_slice(&[stream_type, 0xe0 | (pid >> 8) as u8, pid as u8, 0xf0, 0]);
    }
    section(0x02, 0xb0, &body)
}

fn sdt() -> Vec<u8> {
    let mut body = vec![0, 1, 0xc1, 0, 0, 0, 1, 0xff, 0, 1, 0xfc, 0x80, 14, 0x48, 12, 1, 4];
    body.extend_from_slice(b"Gate\x05Bench");
    section(0x42, 0xf0, &body)
}

/// splice_null(), the heartbeat of splice information (SCTE 35 9.7.1).
fn splice_null() -> Vec<u8> {
    section(0xfc, 0x30, &[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xf0, 0, 0, 0, 0])
}
