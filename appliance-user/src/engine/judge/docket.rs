//! Events on their way out: findings at once, judgements only when it is known what stands beside them.
//!
//! A forged packet comes before the genuine one with its number, so the errors that it causes are judged before the
//! conflict that explains them is seen. Holding judgements back for the settling time lets the conflict mark them.

use std::collections::VecDeque;

use super::{Event, Sink};
use crate::engine::memory::Grant;
use crate::engine::time::Timestamp;
use crate::engine::ts::TsEvent;

/// Events held back at most; beyond that the oldest are told as they stand.
const MAX_HELD: usize = 1024;
/// Room that the first event makes.
const FIRST_ROOM: usize = 8;
/// Room that is kept when nothing is held.
const KEPT_ROOM: usize = 16;
/// Losses this close together, in nanoseconds, are told as one.
const LOSS_GRAIN: u64 = 10_000_000;

/// What an injected packet pushes out may be missed so many nanoseconds late: the longest interval of TR 101 290 (TDT).
const LONGEST_ABSENCE: u64 = 30_000_000_000;

/// Events of one stream that were not told yet.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Docket {
    held: VecDeque<(Timestamp, Event)>,
    /// At most what one call can find: told at the end of the call, or of the next one after a rebase.
    ready: Vec<Event>,
    last_finding: Option<Timestamp>,
    /// There is something in it.
    waits: bool,
}

impl Docket {
    /// Where that begins which every packet needs.
    pub(super) const HOT: usize = core::mem::offset_of!(Docket, waits);

    /// An event that need not wait.
    pub(super) fn tell(&mut self, event: Event) {
        self.waits = true;
        self.ready.push(event);
    }

    /// Whether there is anything to tell, now or later.
    #[inline]
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// An event that waits until `due`.
    pub(super) fn hold(&mut self, due: Timestamp, event: Event, grant: &mut Grant) {
        self.waits = true;
        if let &Event::Lost { at, count, tainted } = &event
            && let Some((
                _,
                Event::Lost {
                    at: first,
                    count: sum,
                    tainted: taint,
                },
            )) = self.held.back_mut()
            && at.nanos().saturating_sub(first.nanos()) < LOSS_GRAIN
        {
            *sum = sum.saturating_add(count);
            *taint |= tainted;
            return;
        }
        if !self.has_room(grant)
            && let Some((_, oldest)) = self.held.pop_front()
        {
            self.ready.push(oldest);
        }
        self.held.push_back((due, event));
    }

    /// Something that the analyser found waits too, `settling` nanoseconds: whoever injects packets may have caused it.
    pub(super) fn hold_ts(&mut self, at: Timestamp, event: TsEvent, settling: u64, grant: &mut Grant) {
        let tainted = self.is_tainted(at, settling.saturating_add(LONGEST_ABSENCE));
        self.hold(after(at, settling), Event::Ts { at, event, tainted }, grant);
    }

    fn has_room(&mut self, grant: &mut Grant) -> bool {
        let room = self.held.capacity();
        if self.held.len() < room.min(MAX_HELD) {
            return true;
        }
        let more = room.max(FIRST_ROOM);
        let grows = room < MAX_HELD && grant.grow(more * size_of::<(Timestamp, Event)>());
        if grows {
            self.held.reserve_exact(more);
        }
        grows
    }

    /// Bytes that it holds.
    pub(super) fn memory(&self) -> usize {
        self.held.capacity() * size_of::<(Timestamp, Event)>()
    }

    /// A finding: everything held back stands beside it.
    pub(super) fn taint(&mut self, at: Timestamp) {
        self.last_finding = Some(at);
        for (_, event) in &mut self.held {
            if let Event::ContinuityError { tainted, .. } | Event::Lost { tainted, .. } | Event::Ts { tainted, .. } =
                event
            {
                *tainted = true;
            }
        }
    }

    /// Whether the last finding is no older than `reach` nanoseconds.
    pub(super) fn is_tainted(&self, now: Timestamp, reach: u64) -> bool {
        self.last_finding
            .is_some_and(|finding| now.nanos().saturating_sub(finding.nanos()) <= reach)
    }

    /// Tells what is ready and what has settled.
    #[inline]
    pub(super) fn release(&mut self, now: Timestamp, out: &mut impl Sink) {
        if self.waits {
            self.release_due(|due| due <= now, out);
        }
    }

    /// Tells everything.
    pub(super) fn release_all(&mut self, out: &mut impl Sink) {
        self.release_due(|_| true, out);
    }

    #[inline(never)]
    fn release_due(&mut self, is_due: impl Fn(Timestamp) -> bool, out: &mut impl Sink) {
        for event in self.ready.drain(..) {
            out.event(event);
        }
        while let Some((_, event)) = self.held.pop_front_if(|(due, _)| is_due(*due)) {
            out.event(event);
        }
        self.waits = !self.held.is_empty();
        self.ready.shrink_to(KEPT_ROOM);
        if self.held.is_empty() {
            self.held.shrink_to(KEPT_ROOM);
        }
    }
}

/// An instant so many nanoseconds later.
pub(super) fn after(at: Timestamp, nanoseconds: u64) -> Timestamp {
    Timestamp::from_nanos(at.nanos().saturating_add(nanoseconds))
}
