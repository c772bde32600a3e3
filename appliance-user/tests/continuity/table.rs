//! One edit per case on ten seconds of H.264. What TSDuck's `continuity` and `dvb-conformance` both count is right; the
//! expected numbers are theirs. tshark and ffmpeg are asked where they count the same, and each case says why not where
//! they do not.

use tidegate::engine::media::mpegts::{Content, NULL_PID, PACKET_SIZE};

use crate::material::{Packet, VIDEO, clean, counter, has_flags, judge_file, pid, set_counter, video_places};
use crate::oracle;

/// What one of the other programs is expected to count.
#[derive(Clone, Copy)]
enum Other {
    Agrees,
    /// It counts otherwise, for this reason.
    Differs(#[expect(dead_code, reason = "told to the reader")] &'static str),
}
use Other::{Agrees, Differs};

struct Case {
    name: &'static str,
    packets: Vec<Packet>,
    expected: u64,
    tshark: Other,
    ffmpeg: Other,
}

impl Case {
    /// Asks the engine with both ways of hashing, and everyone else.
    fn check(self) {
        let Case {
            name,
            packets,
            expected,
            ..
        } = self;
        for content in [Content::Full, Content::Sampled] {
            let (judge, events) = judge_file(&packets, content);
            let errors = judge.ts().continuity_errors;
            assert_eq!(
                (errors.source, errors.network, errors.unknown),
                (expected, 0, 0),
                "{name}, {content:?}"
            );
            assert_eq!(events.len() as u64, expected, "{name}: one event per offending packet");
            assert_eq!(judge.ts().packets, packets.len() as u64, "{name}");
        }
        assert_eq!(oracle::dvb_conformance(&packets), expected, "{name}: dvb-conformance");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("edited.ts");
        std::fs::write(&path, packets.as_flattened()).expect("room for a file");
        if matches!(self.tshark, Agrees) {
            assert_eq!(oracle::tshark(&path), expected, "{name}: tshark");
        }
        if matches!(self.ffmpeg, Agrees) {
            assert_eq!(oracle::ffmpeg(&path), expected, "{name}: ffmpeg");
        }
    }
}

/// The stream and the places of those of its video packets that may be edited.
fn original() -> (Vec<Packet>, Vec<usize>) {
    let packets = clean().to_vec();
    let mut places = video_places(&packets);
    places.retain(|place| *place > oracle::PROBED / PACKET_SIZE);
    (packets, places)
}

#[test]
fn the_unedited_stream_is_sound() {
    let (packets, _) = original();
    Case {
        name: "unedited",
        packets,
        expected: 0,
        tshark: Agrees,
        ffmpeg: Agrees,
    }
    .check();
}

#[test]
fn three_lone_packets_lost() {
    let (mut packets, places) = original();
    for nth in [900, 500, 100] {
        packets.remove(places[nth]);
    }
    Case {
        name: "three lone packets lost",
        packets,
        expected: 3,
        tshark: Agrees,
        ffmpeg: Agrees,
    }
    .check();
}

#[test]
fn sixteen_consecutive_packets_of_one_pid_lost() {
    let (mut packets, places) = original();
    for nth in (400..416).rev() {
        packets.remove(places[nth]);
    }
    Case {
        name: "16 consecutive packets lost",
        packets,
        expected: 0,
        tshark: Agrees,
        ffmpeg: Agrees,
    }
    .check();
}

#[test]
fn legal_duplicate() {
    let (mut packets, places) = original();
    packets.insert(places[300] + 1, packets[places[300]]);
    let (judge, _) = judge_file(&packets, Content::Full);
    assert_eq!(judge.ts().duplicates, 1);
    let ffmpeg = Differs("it takes every repeated counter for an error");
    Case {
        name: "legal duplicate",
        packets,
        expected: 0,
        tshark: Agrees,
        ffmpeg,
    }
    .check();
}

#[test]
fn three_copies() {
    let (mut packets, places) = original();
    for _ in 0..2 {
        packets.insert(places[300] + 1, packets[places[300]]);
    }
    let tshark = Differs("it lets any number of copies pass");
    Case {
        name: "three copies",
        packets,
        expected: 1,
        tshark,
        ffmpeg: Agrees,
    }
    .check();
}

#[test]
fn same_counter_other_bytes() {
    let (mut packets, places) = original();
    let previous = counter(&packets[places[699]]);
    set_counter(&mut packets[places[700]], previous);
    let tshark = Differs("it takes an equal counter for a duplicate without a look at the bytes");
    Case {
        name: "same counter, other bytes",
        packets,
        expected: 2,
        tshark,
        ffmpeg: Agrees,
    }
    .check();
}

#[test]
fn counter_altered_once() {
    let (mut packets, places) = original();
    let altered = counter(&packets[places[700]]) + 5;
    set_counter(&mut packets[places[700]], altered);
    Case {
        name: "counter altered once",
        packets,
        expected: 2,
        tshark: Agrees,
        ffmpeg: Agrees,
    }
    .check();
}

#[test]
fn two_packets_swapped() {
    let (mut packets, places) = original();
    packets.swap(places[600], places[601]);
    Case {
        name: "two packets swapped",
        packets,
        expected: 3,
        tshark: Agrees,
        ffmpeg: Agrees,
    }
    .check();
}

#[test]
fn packet_lost_and_the_next_one_marked_discontinuous() {
    let (mut packets, places) = original();
    let marked = (200..places.len())
        .find(|nth| has_flags(&packets[places[*nth]]))
        .expect("an adaptation field");
    packets[places[marked]][5] |= 0x80;
    packets.remove(places[marked - 1]);
    let tshark = Differs("it does not read discontinuity_indicator");
    Case {
        name: "lost before a discontinuity_indicator",
        packets,
        expected: 0,
        tshark,
        ffmpeg: Agrees,
    }
    .check();
}

#[test]
fn adaptation_field_only_packet_that_counts() {
    let (mut packets, places) = original();
    let before = packets[places[600]];
    let mut packet: Packet = [0xff; 188];
    packet[..3].copy_from_slice(&before[..3]);
    packet[1] &= 0xbf;
    packet[3] = 0x20;
    set_counter(&mut packet, counter(&before) + 1);
    (packet[4], packet[5]) = (183, 0);
    packets.insert(places[600] + 1, packet);
    let tshark = Differs("it takes the counter as it comes, payload or not");
    Case {
        name: "adaptation field only, counter + 1",
        packets,
        expected: 2,
        tshark,
        ffmpeg: Agrees,
    }
    .check();
}

#[test]
fn noise_in_the_null_packets_counters() {
    let (mut packets, _) = original();
    let mut noise = 1_u32;
    let mut altered = 0;
    for packet in packets.iter_mut().filter(|packet| pid(packet) == NULL_PID) {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        set_counter(packet, (noise >> 24) as u8);
        altered += 1;
    }
    assert!(altered > 100, "the stream has {altered} null packets only");
    Case {
        name: "noise in null packets",
        packets,
        expected: 0,
        tshark: Agrees,
        ffmpeg: Agrees,
    }
    .check();
}

#[test]
fn the_video_is_where_the_edits_are() {
    let (mut packets, places) = original();
    packets.remove(places[100]);
    let (judge, _) = judge_file(&packets, Content::Full);
    let wrong: Vec<u16> = judge
        .pids()
        .filter(|pid| pid.continuity_errors > 0)
        .map(|pid| pid.pid)
        .collect();
    assert_eq!(wrong, [VIDEO]);
    let total: u64 = judge.pids().map(|pid| pid.packets).sum();
    assert_eq!(total, packets.len() as u64);
}
