//! The transport stream of a load: one group of datagrams, and the packets that are written whole.
//!
//! One programme with H.264 video and AAC audio at a constant rate. Per group one PAT, one PMT, two PES starts of video with PCR
//! or more, one of audio, null packets for the rest; group and counters as `tidegate_frames::mux` wants them.

use crc::{CRC_32_MPEG_2, Crc};
use tidegate_frames::layout::{TS_PACKET, TS_WORDS};
use tidegate_frames::mux::{AUDIO_START, Datagram, ORDINARY, PAT, PMT, SPECIALS, VIDEO_START};
use tidegate_frames::plan::MAX_GROUP;

const VIDEO_PID: u16 = 0x100;
const AUDIO_PID: u16 = 0x101;
const PMT_PID: u16 = 0x20;
const NULL_PID: u16 = 0x1fff;
/// Periods of 27 MHz in a second.
const SECOND: f64 = 27e6;
/// The datagrams whose first TS packet is special are five at least, two of them apart by as much as PCRs may be.
const MIN_GROUP: u32 = 6;
/// Datagrams from one PCR to the next at least: tables and audio have their places in between.
const MIN_CLOCK: u32 = 2;

/// How far apart things may be.
#[derive(Clone, Copy, Debug)]
struct Spacing {
    /// Tables, and audio's time stamps, in periods of 27 MHz.
    group: u32,
    /// PCRs, and video's time stamps.
    clock: u32,
}

/// As feeds have it: tables within 100 ms, PCRs within 40 ms (DVB, ETSI TS 101 154 4.1.5.3).
const USUAL: Spacing = Spacing {
    group: 2_160_000,
    clock: 1_080_000,
};
/// As streams of few packets a second have it, of radio or for phones, which would be tables and clocks and nothing else: within
/// TR 101 290's 500 ms (1.3.a, 1.5.a) and 100 ms (2.3.a).
const SPARSE: Spacing = Spacing {
    group: 10_800_000,
    clock: 2_160_000,
};

impl Spacing {
    /// A TS packet's stream time at most.
    fn most_ticks(self, packets: u32) -> u32 {
        let clock = self.clock / (MIN_CLOCK * packets);
        let group = self.group / (self.least(packets) * packets);
        clock.min(group)
    }

    /// The smallest group.
    fn least(self, packets: u32) -> u32 {
        (MIN_GROUP..=MAX_GROUP)
            .step_by(2)
            .find(|&group| fits(packets, group, MIN_CLOCK).is_some())
            .unwrap_or(MAX_GROUP)
    }
}

/// Audio of a group: one more than a multiple of 16. A short group has no room for more than one.
const AUDIO: [u32; 2] = [17, 1];

/// How a second of a stream is cut up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    /// TS packets in a datagram.
    pub(crate) packets: u32,
    /// Stream time of a TS packet, periods of 27 MHz.
    pub(crate) ticks: u32,
    /// Datagrams of a group.
    pub(crate) group: u32,
    /// Datagrams from one PCR to the next.
    clock: u32,
    audio: u32,
    video: u32,
}

impl Timing {
    /// The timing of a stream of `rate` datagrams a second.
    pub(crate) fn new(packets: u32, rate: f64) -> Timing {
        let packets = packets.max(1);
        let wanted = (SECOND / (rate * f64::from(packets))) as u32;
        let spacing = if wanted <= USUAL.most_ticks(packets) {
            USUAL
        } else {
            SPARSE
        };
        let least_ticks = USUAL.group.div_ceil(MAX_GROUP * packets);
        let ticks = wanted.clamp(least_ticks, spacing.most_ticks(packets));
        let datagram = ticks * packets;
        let clock = spacing.clock / datagram;
        let most = (spacing.group / datagram).min(MAX_GROUP) & !1;
        let least = spacing.least(packets);
        let group = (least..=most)
            .rev()
            .find(|&group| group % 2 == 0 && fits(packets, group, clock.min(group / 2)).is_some())
            .unwrap_or(least);
        let clock = clock.min(group / 2);
        let (audio, video) = fits(packets, group, clock).unwrap_or((1, 1));
        Timing {
            packets,
            ticks,
            group,
            clock,
            audio,
            video,
        }
    }

    /// The group's datagrams.
    pub(crate) fn group(&self) -> Vec<Datagram> {
        let nulls = self.packets * self.group - self.video - self.audio - 2;
        let specials = starts(self.group, self.clock) + 3;
        let mut fill = Fill {
            slots: self.packets * self.group - specials - if self.packets == 1 { 0 } else { self.group },
            others: self.audio - 1 + nulls,
            audio: self.audio - 1,
            ..Fill::default()
        };
        let mut counters = Counters::default();
        let mut between = [PAT, PMT, AUDIO_START].into_iter();
        (0..self.group)
            .map(|place| {
                let kind = if place % self.clock == 0 {
                    VIDEO_START
                } else {
                    between.next().unwrap_or(ORDINARY)
                };
                let mut datagram = Datagram {
                    kind,
                    ..Datagram::default()
                };
                let packets = datagram.headers.iter_mut().take(self.packets as usize);
                for (index, header) in packets.enumerate() {
                    let last = index + 1 == self.packets as usize;
                    let first = index == 0 && datagram.kind != ORDINARY;
                    *header = match (first, last && self.packets > 1) {
                        (true, _) => counters.special(datagram.kind),
                        (false, true) => counters.plain(VIDEO_PID),
                        (false, false) => counters.plain(fill.next()),
                    };
                }
                datagram
            })
            .collect()
    }
}

/// Datagrams of a group that begin with video's start.
fn starts(group: u32, clock: u32) -> u32 {
    group.div_ceil(clock)
}

/// Packets of audio and video in a group of that many datagrams: each one more than a multiple of 16, and enough video for the
/// end of every datagram, where the marker is.
fn fits(packets: u32, group: u32, clock: u32) -> Option<(u32, u32)> {
    let all = packets * group;
    AUDIO.into_iter().find_map(|audio| {
        let room = all.checked_sub(2 + audio)?;
        let video = room.checked_sub(1)? / 16 * 16 + 1;
        let at_ends = if packets == 1 { 0 } else { group };
        (audio * 4 <= video + 3 && video >= at_ends + starts(group, clock)).then_some((audio, video))
    })
}

/// Spreads audio and null packets evenly over the places that are not a datagram's end.
#[derive(Debug, Default)]
struct Fill {
    slots: u32,
    others: u32,
    audio: u32,
    slot: u64,
    other: u64,
}

impl Fill {
    fn next(&mut self) -> u16 {
        let due = |count: u64, of: u32, among: u32| {
            (count + 1) * u64::from(of) / u64::from(among.max(1)) > count * u64::from(of) / u64::from(among.max(1))
        };
        let other = due(self.slot, self.others, self.slots);
        self.slot += 1;
        if !other {
            return VIDEO_PID;
        }
        let audio = due(self.other, self.audio, self.others);
        self.other += 1;
        if audio { AUDIO_PID } else { NULL_PID }
    }
}

/// Continuity counters of group 0.
#[derive(Debug, Default)]
struct Counters {
    pat: u32,
    pmt: u32,
    video: u32,
    audio: u32,
}

impl Counters {
    fn special(&mut self, kind: u32) -> u32 {
        // PAT, PMT and the starts of PES packets have payload_unit_start_indicator; the starts have an adaptation field.
        match kind {
            PAT => header(0, true, 0x10) | next(&mut self.pat),
            PMT => header(PMT_PID, true, 0x10) | next(&mut self.pmt),
            VIDEO_START => header(VIDEO_PID, true, 0x30) | next(&mut self.video),
            _ => header(AUDIO_PID, true, 0x30) | next(&mut self.audio),
        }
    }

    fn plain(&mut self, pid: u16) -> u32 {
        let counter = match pid {
            VIDEO_PID => next(&mut self.video),
            AUDIO_PID => next(&mut self.audio),
            _ => 0,
        };
        header(pid, false, 0x10) | counter
    }
}

fn next(counter: &mut u32) -> u32 {
    let now = *counter & 0x0f;
    *counter += 1;
    now
}

fn header(pid: u16, start: bool, control: u32) -> u32 {
    0x47 << 24 | u32::from(start) << 22 | u32::from(pid) << 8 | control
}

/// The packets that are written whole, by kind less one; PCR and PTS are yet to be filled in.
pub(crate) fn specials(noise: &[u8]) -> [[u64; TS_WORDS]; SPECIALS as usize] {
    [
        words(&table(0, &pat())),
        words(&table(PMT_PID, &pmt())),
        words(&video_start(noise)),
        words(&audio_start(noise)),
    ]
}

fn words(packet: &[u8; TS_PACKET]) -> [u64; TS_WORDS] {
    let mut words = [0; TS_WORDS];
    for (word, bytes) in words.iter_mut().zip(packet.chunks(8)) {
        let mut whole = [0; 8];
        for (to, from) in whole.iter_mut().zip(bytes) {
            *to = *from;
        }
        *word = u64::from_ne_bytes(whole);
    }
    words
}

fn filled(noise: &[u8]) -> [u8; TS_PACKET] {
    let mut packet = [0xaa; TS_PACKET];
    for (to, from) in packet.iter_mut().zip(noise) {
        *to = *from;
    }
    packet
}

/// An adaptation field of 8 bytes with PCR and one byte of stuffing, then a PES header with PTS, of unbounded length.
fn video_start(noise: &[u8]) -> [u8; TS_PACKET] {
    let mut packet = filled(noise);
    packet[..4].copy_from_slice(&header(VIDEO_PID, true, 0x30).to_be_bytes());
    packet[4..13].copy_from_slice(&[8, 0x10, 0, 0, 0, 0, 0, 0, 0xff]);
    packet[13..22].copy_from_slice(&[0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5]);
    packet
}

/// An adaptation field of one byte, which is stuffing, then a PES header with PTS, of unbounded length.
fn audio_start(noise: &[u8]) -> [u8; TS_PACKET] {
    let mut packet = filled(noise);
    packet[..4].copy_from_slice(&header(AUDIO_PID, true, 0x30).to_be_bytes());
    packet[4..14].copy_from_slice(&[0, 0, 0, 1, 0xc0, 0, 0, 0x80, 0x80, 5]);
    packet
}

/// A section in a packet of its own.
fn table(pid: u16, section: &[u8]) -> [u8; TS_PACKET] {
    let mut packet = [0xff; TS_PACKET];
    packet[..4].copy_from_slice(&header(pid, true, 0x10).to_be_bytes());
    packet[4] = 0;
    packet[5..5 + section.len()].copy_from_slice(section);
    packet
}

fn section(table_id: u8, body: &[u8]) -> Vec<u8> {
    let mut section = vec![table_id, 0xb0, (body.len() + 4) as u8];
    section.extend_from_slice(body);
    let crc = Crc::<u32>::new(&CRC_32_MPEG_2).checksum(&section);
    section.extend_from_slice(&crc.to_be_bytes());
    section
}

fn pat() -> Vec<u8> {
    section(0x00, &[0, 1, 0xc1, 0, 0, 0, 1, 0xe0, PMT_PID as u8])
}

fn pmt() -> Vec<u8> {
    let mut body = vec![0, 1, 0xc1, 0, 0, 0xe1, 0x00, 0xf0, 0];
    for (stream_type, pid) in [(0x1b, VIDEO_PID), (0x0f, AUDIO_PID)] {
        body.extend_from_slice(&[stream_type, 0xe0 | (pid >> 8) as u8, pid as u8, 0xf0, 0]);
    }
    section(0x02, &body)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn counters_go_on_from_group_to_group_at_any_size_and_rate() {
        for packets in 1..=7 {
            for rate in [1.0, 75.0, 100.0, 333.3, 1928.6, 14_000.0, 1e6] {
                let timing = Timing::new(packets, rate);
                let group = timing.group();
                assert_eq!(group.len(), timing.group as usize);
                let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
                for (place, datagram) in group.iter().enumerate() {
                    for header in &datagram.headers[..packets as usize] {
                        let pid = header >> 8 & 0x1fff;
                        let count = counts.entry(pid).or_default();
                        if pid != u32::from(NULL_PID) {
                            assert_eq!(header & 15, *count & 15, "{packets} {rate} {place}");
                        }
                        *count += 1;
                    }
                    let last = datagram.headers[packets as usize - 1] >> 8 & 0x1fff;
                    assert!(packets == 1 || last == u32::from(VIDEO_PID), "the marker is in video");
                }
                for (pid, count) in counts {
                    assert!(
                        pid == u32::from(NULL_PID) || count % 16 == 1,
                        "{packets} {rate} {pid} {count}"
                    );
                }
            }
        }
    }

    #[test]
    fn tables_and_clocks_are_no_further_apart_than_they_may_be() {
        for packets in 1..=7 {
            for (rate, spacing) in [
                (25.0, SPARSE),
                (36.0, SPARSE),
                (50.0, SPARSE),
                (600.0, USUAL),
                (1928.6, USUAL),
                (25_000.0, USUAL),
                (1e7, USUAL),
            ] {
                let timing = Timing::new(packets, rate);
                let datagram = timing.ticks * packets;
                // Few TS packets in a datagram need more datagrams.
                let spacing = if packets < 7 { SPARSE } else { spacing };
                assert!(datagram * timing.group <= spacing.group, "{packets} {rate} {timing:?}");
                assert!(timing.group.is_multiple_of(2) && (MIN_GROUP..=MAX_GROUP).contains(&timing.group));
                let group = timing.group();
                let places = |kind| (0..group.len()).filter(move |place| group[*place].kind == kind);
                let clocks: Vec<usize> = places(VIDEO_START).collect();
                let group = timing.group();
                let gaps = clocks.windows(2).map(|pair| pair[1] - pair[0]);
                let longest = gaps.chain([group.len() - clocks[clocks.len() - 1]]).max().unwrap();
                assert!(
                    longest as u32 * datagram <= spacing.clock,
                    "{packets} {rate} {timing:?}"
                );
                for kind in [PAT, PMT, AUDIO_START] {
                    assert_eq!(group.iter().filter(|datagram| datagram.kind == kind).count(), 1);
                }
            }
        }
    }

    #[test]
    fn a_stream_of_few_packets_goes_by_the_time_that_it_is_sent_in() {
        for rate in [25.0, 36.0, 50.0, 75.0, 1928.6] {
            let timing = Timing::new(7, rate);
            let real = SECOND / f64::from(timing.ticks * 7);
            assert!((real / rate - 1.0).abs() < 1e-3, "{rate} {real}");
        }
        // Slower than that, clocks run fast.
        assert_eq!(Timing::new(7, 1.0), Timing::new(7, 25.0));
    }
}
