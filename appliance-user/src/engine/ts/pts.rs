//! Presentation and decoding time stamps of components (ISO/IEC 13818-1 2.4.3.7): whether they are there, and whether
//! they come often enough (2.7.4; ETSI TR 101 290 2.5).

use super::tr101290::Timer;
use crate::engine::media::mpegts::PACKET_SIZE;
use crate::engine::time::Timestamp;

/// Time stamps of one component.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stamps {
    /// When the last PTS came; `None` before the first one.
    last: Option<Timer>,
    /// PES packets that begin with a PTS, and with a DTS too.
    pub(super) pts: u64,
    pub(super) dts: u64,
}

impl Stamps {
    /// A PES packet began, with or without time stamps. How often 2.5 is violated: a PES packet needs none, so the time
    /// runs from one PTS to the next.
    pub(super) fn take(&mut self, at: Timestamp, has: (bool, bool), begin: Timestamp, limit: u64) -> u32 {
        let (pts, dts) = has;
        self.pts += u64::from(pts);
        self.dts += u64::from(dts);
        if !pts {
            return 0;
        }
        let times = self.overdue(at, begin, limit);
        self.last = Some(Timer::new(at));
        times
    }

    /// Violations of 2.5 while no PTS comes.
    pub(super) fn overdue(&mut self, now: Timestamp, begin: Timestamp, limit: u64) -> u32 {
        self.last.as_mut().map_or(0, |last| last.overdue(now, begin, limit))
    }
}

/// Whether the PES packet that begins in a TS packet has a PTS, and a DTS; `None` where none begins there, or one that has
/// no place for them (2.4.3.7: its stream_id is of a map, a directory, padding, or a private stream of the second kind).
pub(super) fn time_stamps(packet: &[u8; PACKET_SIZE]) -> Option<(bool, bool)> {
    let payload = match packet[3] & 0x30 {
        0x10 => packet.get(4..),
        0x30 => packet.get(5 + usize::from(packet[4])..),
        _ => None,
    }?;
    let [0, 0, 1, stream_id, _, _, marker, flags, ..] = *payload else {
        return None;
    };
    let has_flags = !matches!(stream_id, 0xbc | 0xbe | 0xbf | 0xf0..=0xf2 | 0xf8 | 0xff) && marker & 0xc0 == 0x80;
    has_flags.then_some((flags & 0x80 != 0, flags & 0xc0 == 0xc0))
}

/// Whether PTSs of a component are measured: video and audio (ISO/IEC 13818-1 table 2-34 and the user private types that
/// ATSC assigns). Data, sections, subtitles and teletext have something to show when they have.
pub(super) fn is_timed(stream_type: u8) -> bool {
    matches!(
        stream_type,
        0x01..=0x04 | 0x0f..=0x11 | 0x1b..=0x1c | 0x1e..=0x26 | 0x2d | 0x2e | 0x32..=0x35 | 0x42 | 0x80..=0x83 | 0x87
            | 0xd1 | 0xd2 | 0xea
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn the_time_runs_from_one_pts_to_the_next() {
        let mut stamps = Stamps::default();
        let limit = 700_000_000;
        assert_eq!(
            stamps.overdue(at(5_000), at(0), limit),
            0,
            "nothing is owed before the first"
        );
        assert_eq!(stamps.take(at(5_000), (true, true), at(0), limit), 0);
        assert_eq!(stamps.take(at(5_400), (false, false), at(0), limit), 0);
        assert_eq!(stamps.take(at(5_701), (true, false), at(0), limit), 1);
        assert_eq!(stamps.overdue(at(7_102), at(0), limit), 2);
        assert_eq!(stamps.take(at(7_102), (true, false), at(0), limit), 0, "told already");
        assert_eq!((stamps.pts, stamps.dts), (3, 1));
    }

    #[test]
    fn the_flags_of_a_pes_header_are_found_behind_the_adaptation_field() {
        let packet = |control: u8, start: usize, header: [u8; 8]| {
            let mut packet = [0xff; PACKET_SIZE];
            packet[..5].copy_from_slice(&[0x47, 0x41, 0, control, 7]);
            packet[start..start + 8].copy_from_slice(&header);
            time_stamps(&packet)
        };
        let video = |flags| [0, 0, 1, 0xe0, 0, 0, 0x80, flags];
        assert_eq!(packet(0x10, 4, video(0xc0)), Some((true, true)));
        assert_eq!(packet(0x30, 12, video(0x80)), Some((true, false)));
        assert_eq!(packet(0x30, 12, video(0x00)), Some((false, false)));
        assert_eq!(packet(0x20, 4, video(0xc0)), None, "no payload");
        assert_eq!(packet(0x10, 4, [0, 0, 1, 0xbe, 0, 0, 0x80, 0xc0]), None, "padding");
        assert_eq!(packet(0x10, 4, [0, 0, 2, 0xe0, 0, 0, 0x80, 0xc0]), None);
        let mut long = [0x47; PACKET_SIZE];
        for length in 0..=255 {
            long[3..5].copy_from_slice(&[0x30, length]);
            assert_eq!(time_stamps(&long), None);
        }
    }

    #[test]
    fn only_what_is_seen_and_heard_is_timed() {
        for video_or_audio in [0x02, 0x03, 0x0f, 0x11, 0x1b, 0x24, 0x33, 0x81, 0x87] {
            assert!(is_timed(video_or_audio), "{video_or_audio:#x}");
        }
        for data in [0x05, 0x06, 0x0d, 0x15, 0x86] {
            assert!(!is_timed(data), "{data:#x}");
        }
    }
}
