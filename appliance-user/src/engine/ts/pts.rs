//! Presentation and decoding time stamps of components (ISO/IEC 13818-1 2.4.3.7): whether they are there, and whether
//! they come often enough (2.7.4; ETSI TR 101 290 2.5).

use super::tr101290::Timer;
use crate::engine::media::mpegts::pes::PesHeader;
use crate::engine::time::Timestamp;

/// Time stamps of one component.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stamps {
    /// When the last PTS came; `None` before the first one.
    last: Option<Timer>,
    /// The last PTS itself, 90 kHz.
    pub(super) current: Option<u64>,
    /// PES packets that begin with a PTS, and with a DTS too.
    pub(super) pts: u64,
    pub(super) dts: u64,
}

impl Stamps {
    /// A PES packet began, with or without time stamps. How often 2.5 is violated: a PES packet needs none, so the time
    /// runs from one PTS to the next.
    pub(super) fn take(&mut self, at: Timestamp, header: &PesHeader, begin: Timestamp, limit: u64) -> u32 {
        self.dts += u64::from(header.dts.is_some());
        if header.pts.is_none() {
            return 0;
        }
        self.pts += 1;
        self.current = header.pts;
        let times = self.overdue(at, begin, limit);
        self.last = Some(Timer::new(at));
        times
    }

    /// A PES packet began scrambled: whether it has a PTS nobody can tell, and 2.5 is measured anew from the next one that
    /// can be read.
    pub(super) fn hide(&mut self) {
        self.last = None;
    }

    /// Violations of 2.5 while no PTS comes.
    pub(super) fn overdue(&mut self, now: Timestamp, begin: Timestamp, limit: u64) -> u32 {
        self.last.as_mut().map_or(0, |last| last.overdue(now, begin, limit))
    }

    /// Until when [`Stamps::overdue`] finds nothing more if no PTS comes.
    pub(super) fn until(&self, limit: u64) -> Timestamp {
        self.last
            .map_or(Timestamp::from_nanos(u64::MAX), |last| last.until(limit))
    }
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

    fn header(pts: bool, dts: bool) -> PesHeader {
        PesHeader {
            stream_id: 0xe0,
            length: 0,
            pts: pts.then_some(1),
            dts: dts.then_some(1),
            scrambling: 0,
        }
    }

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
        assert_eq!(stamps.take(at(5_000), &header(true, true), at(0), limit), 0);
        assert_eq!(stamps.take(at(5_400), &header(false, false), at(0), limit), 0);
        assert_eq!(stamps.take(at(5_701), &header(true, false), at(0), limit), 1);
        assert_eq!(stamps.overdue(at(7_102), at(0), limit), 2);
        assert_eq!(
            stamps.take(at(7_102), &header(true, false), at(0), limit),
            0,
            "told already"
        );
        assert_eq!((stamps.pts, stamps.dts), (3, 1));
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
