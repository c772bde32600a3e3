//! The two paths of one RTP stream (SMPTE ST 2022-7), judged after the merge: what one path lost and the other brought is
//! no loss.

use core::time::Duration;
use std::collections::VecDeque;

use super::numbers::{Head, Numbers, WINDOW};
use super::{Batch, Merged};
use crate::engine::time::Timestamp;

/// How much later than the one path the other may be: the path differential of ST 2022-7's class C.
const SKEW: Duration = Duration::from_millis(450);
/// Numbers that one path lost and the other may still bring, at most; the oldest is decided before its time.
const MAX_PENDING: usize = 4096;
/// Sampled numbers whose times of arrival are remembered for each path: 450 ms at 9,000 packets a second.
const SAMPLES: usize = 128;
/// Weight of a new skew, as a divisor.
const WEIGHT: i64 = 8;

/// The merge of one pair of paths.
#[derive(Debug)]
pub(super) struct Seamless {
    head: Head,
    /// The first number that came, while it is in the window: who brought those before it is not known.
    first: Option<u16>,
    paths: [PathNumbers; 2],
    /// Numbers that were decided, so that both paths' losing them counts once.
    decided: Numbers,
    pending: VecDeque<Pending>,
    merged: Merged,
}

#[derive(Debug)]
struct PathNumbers {
    seen: Numbers,
    here: bool,
    samples: VecDeque<(u16, Timestamp)>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    number: u16,
    path: u8,
    due: Timestamp,
}

impl PathNumbers {
    fn new() -> Self {
        PathNumbers {
            seen: Numbers::new(),
            here: false,
            samples: VecDeque::new(),
        }
    }
}

impl Seamless {
    pub(super) fn new() -> Self {
        Seamless {
            head: Head::default(),
            first: None,
            paths: [PathNumbers::new(), PathNumbers::new()],
            decided: Numbers::new(),
            pending: VecDeque::new(),
            merged: Merged::default(),
        }
    }

    /// Numbers that a path brought.
    pub(super) fn came(&mut self, path: u8, batch: &Batch) {
        for number in batch.numbers() {
            let begins = self.head.distance(*number).is_none();
            let Some(fresh) = self.head.take(*number) else { continue };
            if begins {
                self.first = Some(*number);
            }
            self.first = self.first.filter(|first| self.head.holds(*first));
            for entering in (0..fresh).map(|back| number.wrapping_sub(back)) {
                self.paths.iter_mut().for_each(|path| path.seen.remove(entering));
                self.decided.remove(entering);
            }
            if let Some(path) = self.paths.get_mut(usize::from(path)) {
                path.seen.insert(*number);
                path.here = true;
            }
        }
        if let Some((number, at)) = batch.sample {
            self.measure(path, number, at);
        }
    }

    /// Numbers that a path lost.
    pub(super) fn given_up(&mut self, path: u8, at: Timestamp, first: u16, count: u16) {
        if let Some(lost) = self.merged.path_lost.get_mut(usize::from(path)) {
            *lost += u64::from(count);
        }
        for number in (0..count.min(WINDOW)).map(|n| first.wrapping_add(n)) {
            let before_all = self.first.is_some_and(|first| (number.wrapping_sub(first) as i16) < 0);
            if before_all || !self.head.holds(number) || self.decided.has(number) || self.other_has(path, number) {
                continue;
            }
            if self.pending.len() >= MAX_PENDING
                && let Some(oldest) = self.pending.pop_front()
            {
                self.decide(oldest);
            }
            self.pending.push_back(Pending {
                number,
                path,
                due: at.after(SKEW),
            });
        }
    }

    /// The path's numbers begin anew. The other path's may not have done so yet; what cannot be compared is not judged.
    pub(super) fn rebase(&mut self, path: u8) {
        (self.head, self.first) = (Head::default(), None);
        self.pending.clear();
        self.decided.clear();
        if let Some(path) = self.paths.get_mut(usize::from(path)) {
            path.seen.clear();
            path.samples.clear();
        }
    }

    /// Decides about everything whose time is over by `now`.
    pub(super) fn settle(&mut self, now: Timestamp) {
        while let Some(pending) = self.pending.pop_front_if(|pending| pending.due <= now) {
            self.decide(pending);
        }
    }

    /// The input ends: nothing more comes.
    pub(super) fn finish(&mut self) {
        while let Some(pending) = self.pending.pop_front() {
            self.decide(pending);
        }
    }

    /// The figures so far.
    pub(super) fn merged(&self) -> Merged {
        Merged {
            complete: self.is_complete(),
            ..self.merged
        }
    }

    /// Heap bytes held.
    pub(super) fn memory(&self) -> usize {
        3 * Numbers::MEMORY + self.pending.capacity() * size_of::<Pending>() + 2 * SAMPLES * 16
    }

    fn is_complete(&self) -> bool {
        self.paths.iter().all(|path| path.here)
    }

    fn other_has(&self, path: u8, number: u16) -> bool {
        let other = self.paths.get(usize::from(path ^ 1));
        other.is_some_and(|other| other.seen.has(number))
    }

    /// A number that one path lost is lost if the other did not bring it, and if that other one is here at all.
    fn decide(&mut self, Pending { number, path, .. }: Pending) {
        let judged = self.is_complete() && self.head.holds(number) && !self.other_has(path, number);
        if judged && self.decided.insert(number) {
            self.merged.lost += 1;
        }
    }

    fn measure(&mut self, path: u8, number: u16, at: Timestamp) {
        let [first, second] = &mut self.paths;
        let (own, other, sign) = if path == 0 {
            (first, second, -1)
        } else {
            (second, first, 1)
        };
        if own.samples.len() >= SAMPLES {
            own.samples.pop_front();
        }
        own.samples.push_back((number, at));
        let Some((_, there)) = other.samples.iter().rev().find(|(n, _)| *n == number) else {
            return;
        };
        let later = (at.nanos() as i64)
            .saturating_sub(there.nanos() as i64)
            .saturating_mul(sign);
        let skew = self.merged.skew.get_or_insert(later);
        *skew += (later - *skew) / WEIGHT;
    }
}
