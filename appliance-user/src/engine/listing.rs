//! Reports of all streams, at once or a few at a time: a report costs as much as some packets, and a worker has packets waiting.

use super::Engine;
use super::flow::Flow;
use super::report::StreamReport;
use super::stream::Stream;

/// Slots of the flow table looked at for each report that is asked for, so that a table of flows without streams costs no more
/// than one with them.
const SLOTS_PER_REPORT: usize = 16;

/// Where [`Engine::streams_from`] goes on; the default is the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCursor {
    /// Reports of streams that are gone, told already.
    gone: usize,
    /// Slot of the flow table.
    slot: usize,
    /// Streams of the flow in that slot, told already.
    told: usize,
}

impl Engine {
    /// Reports of the streams followed now, after those kept of streams that are gone.
    pub fn streams(&self) -> Vec<StreamReport> {
        let mut reports = Vec::new();
        let mut next = Some(StreamCursor::default());
        while let Some(cursor) = next {
            next = self.streams_from(cursor, usize::MAX, &mut reports);
        }
        reports
    }

    /// Appends the next reports of [`Engine::streams`], `at_most` so many of them, and tells where to go on; `None` after the
    /// last one. May append fewer, even none, and not be at the end, since the flows looked at are bounded too.
    ///
    /// Packets may be processed between two calls. Each stream is then reported as it was at its own call. One that came or
    /// went meanwhile may be missing, and one whose flow was pushed out and came back may be there twice.
    pub fn streams_from(
        &self,
        cursor: StreamCursor,
        at_most: usize,
        into: &mut Vec<StreamReport>,
    ) -> Option<StreamCursor> {
        let (mut at, mut room) = (cursor, at_most);
        for report in self.retired.iter().flatten().skip(at.gone).take(room) {
            into.push(report.clone());
            at.gone += 1;
            room -= 1;
        }
        let looks = at_most.saturating_mul(SLOTS_PER_REPORT);
        for flow in self.flows.places_from(at.slot).take(looks) {
            let streams = flow.map_or(Default::default(), Flow::streams);
            let left = streams.get(at.told..).unwrap_or_default();
            let taken = left.len().min(room);
            into.extend(left.iter().take(taken).map(Stream::report));
            room -= taken;
            if taken < left.len() {
                at.told += taken;
                return Some(at);
            }
            (at.slot, at.told) = (at.slot + 1, 0);
        }
        (at.slot < self.flows.slots()).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::group::tests::{SSRC, at_ms, media, policy, receiver, sender, udp};
    use crate::engine::{Config, Published};

    /// An engine with so many streams; every third flow has two.
    fn engine(flows: u16) -> Engine {
        let mut engine = Engine::new(Config::default());
        let policy = policy("rtp", "[rule.rtp]\nmax_ssrc = 2\n");
        let published = Published {
            policy: &policy,
            generation: 1,
        };
        for flow in 0..flows {
            for n in 0..8 {
                for ssrc in 0..=u32::from(flow % 3 == 0) {
                    let packet = udp(sender(4000 + 2 * flow), receiver(5000), &media(n, SSRC + ssrc));
                    engine.process_bare(at_ms(u64::from(n)), &published, &packet);
                }
            }
        }
        engine
    }

    #[test]
    fn pages_of_any_size_are_the_whole_list() {
        let engine = engine(100);
        let whole = engine.streams();
        assert!(whole.len() > 100, "{}", whole.len());
        for at_most in [1, 2, 7, 16, 1000] {
            let (mut reports, mut next, mut pages) = (Vec::new(), Some(StreamCursor::default()), 0);
            while let Some(cursor) = next {
                let before = reports.len();
                next = engine.streams_from(cursor, at_most, &mut reports);
                assert!(reports.len() - before <= at_most);
                pages += 1;
            }
            assert_eq!(format!("{reports:?}"), format!("{whole:?}"), "{at_most} at a time");
            assert!(pages >= whole.len().div_ceil(at_most), "{pages} pages of {at_most}");
        }
    }

    #[test]
    fn nothing_is_the_end_at_once() {
        let engine = Engine::new(Config::default());
        let mut reports = Vec::new();
        assert_eq!(engine.streams_from(StreamCursor::default(), 8, &mut reports), None);
        assert!(reports.is_empty());
    }
}
