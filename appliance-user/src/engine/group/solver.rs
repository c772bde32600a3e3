//! Which lost media packets FEC could rebuild: iterative decoding of rows and columns over sequence numbers alone.
//!
//! An FEC packet stands for any one of the packets that it protects, once all others are there or were rebuilt. Whatever
//! order things come in, FEC late or media late, the answer is the same as long as it is within the window.

use super::numbers::{Head, Numbers, WINDOW};
use crate::engine::media::fec::{MAX_SPAN, Protected};

/// FEC packets that wait for more, at most: those whose packets all came leave at once, so on a sound stream few wait. The
/// oldest makes room.
const MAX_WAITING: usize = 512;
/// Times that all waiting FEC packets are looked at in one call. A burst in an ordinary matrix takes four or five, and what
/// is left over goes on with the next call.
const PASSES: usize = 8;
/// Numbers that are looked at in one call: five passes over the rows and columns of two matrices of 20 by 20 with nothing
/// left out. What is left over goes on with the next call.
const LOOKS: usize = 8192;
/// How far FEC may be ahead of the media, whose numbers travel in batches.
const MOST_AHEAD: i16 = 2 * MAX_SPAN as i16;

/// The decoder of one media stream.
#[derive(Debug)]
pub(super) struct Solver {
    head: Head,
    received: Numbers,
    lost: Numbers,
    rebuilt: Numbers,
    waiting: std::collections::VecDeque<Protected>,
    /// Lost numbers that were found to be rebuilt since [`Solver::settle`] last told.
    found: u64,
}

/// What an FEC packet can do now.
enum Standing {
    /// Nothing is missing, or its time is over.
    Over,
    /// Exactly this number is missing.
    Rebuilds(u16),
    /// More must come first.
    Waits,
}

impl Solver {
    pub(super) fn new() -> Self {
        Solver {
            head: Head::default(),
            received: Numbers::new(),
            lost: Numbers::new(),
            rebuilt: Numbers::new(),
            waiting: std::collections::VecDeque::new(),
            found: 0,
        }
    }

    /// A media packet came.
    pub(super) fn media(&mut self, number: u16) {
        let Some(fresh) = self.head.take(number) else { return };
        for back in 0..fresh {
            let entering = number.wrapping_sub(back);
            self.received.remove(entering);
            self.lost.remove(entering);
            self.rebuilt.remove(entering);
        }
        self.received.insert(number);
    }

    /// Numbers that the stream counted as lost.
    pub(super) fn given_up(&mut self, first: u16, count: u16) {
        for number in (0..count.min(WINDOW)).map(|n| first.wrapping_add(n)) {
            let counts = self.head.holds(number) && !self.received.has(number);
            if counts && self.lost.insert(number) && self.rebuilt.has(number) {
                self.found += 1;
            }
        }
    }

    /// An FEC packet came.
    pub(super) fn fec(&mut self, protected: Protected) {
        let near = |distance: i16| distance <= MOST_AHEAD && distance > -(WINDOW as i16);
        if !self.head.distance(protected.base).is_some_and(near) {
            return;
        }
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(protected);
    }

    /// Rebuilds what can be rebuilt and says how many more lost numbers are among it.
    pub(super) fn settle(&mut self) -> u64 {
        let mut looks = LOOKS;
        for _ in 0..PASSES {
            if !self.pass(&mut looks) {
                break;
            }
        }
        core::mem::take(&mut self.found)
    }

    /// The input ends: goes on until nothing more can be rebuilt. Each pass uses up at least one waiting FEC packet.
    pub(super) fn finish(&mut self) -> u64 {
        while self.pass(&mut { usize::MAX }) {}
        core::mem::take(&mut self.found)
    }

    /// The numbers begin anew.
    pub(super) fn rebase(&mut self) {
        self.head = Head::default();
        self.received.clear();
        self.lost.clear();
        self.rebuilt.clear();
        self.waiting.clear();
    }

    /// Heap bytes held.
    pub(super) fn memory(&self) -> usize {
        3 * Numbers::MEMORY + self.waiting.capacity() * size_of::<Protected>()
    }

    /// Looks at every waiting FEC packet once, as far as so many looks at numbers suffice; whether one of them rebuilt
    /// something and there may be more to do.
    fn pass(&mut self, looks: &mut usize) -> bool {
        let mut progress = false;
        // Those that go on waiting come behind the others. So a whole pass leaves them in order, and one that is cut short
        // leaves those in front that were not looked at.
        for _ in 0..self.waiting.len() {
            if *looks == 0 {
                return false;
            }
            let Some(protected) = self.waiting.pop_front() else {
                break;
            };
            match self.standing(protected, looks) {
                Standing::Over => {}
                Standing::Waits => self.waiting.push_back(protected),
                Standing::Rebuilds(number) => {
                    progress = true;
                    if self.rebuilt.insert(number) && self.lost.has(number) {
                        self.found += 1;
                    }
                }
            }
        }
        progress
    }

    /// The numbers come in order, so the first one shows whether the window has gone past them, and where one is ahead of
    /// the media so are all that follow.
    fn standing(&self, protected: Protected, looks: &mut usize) -> Standing {
        let mut missing = None;
        for number in protected.numbers() {
            *looks = looks.saturating_sub(1);
            match self.head.distance(number) {
                Some(distance) if distance > 0 => return Standing::Waits,
                _ if !self.head.holds(number) => return Standing::Over,
                _ if self.received.has(number) || self.rebuilt.has(number) => {}
                _ if missing.is_some() => return Standing::Waits,
                _ => missing = Some(number),
            }
        }
        missing.map_or(Standing::Over, Standing::Rebuilds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn strided(base: u16, offset: u8, count: u8) -> Protected {
        Protected {
            base,
            offset,
            count,
            mask: 0,
        }
    }

    /// Rows and columns of matrices of `l` by `d` that begin at `base`.
    fn matrix(base: u16, l: u8, d: u8) -> Vec<Protected> {
        let columns = (0..l).map(|c| strided(base.wrapping_add(c.into()), l, d));
        let rows = (0..d).map(|r| strided(base.wrapping_add(u16::from(r) * u16::from(l)), 1, l));
        columns.chain(rows).collect()
    }

    /// Brute force over sets: what can be rebuilt of what is missing.
    fn peel(missing: &BTreeSet<u16>, fec: &[Protected]) -> usize {
        let mut left = missing.clone();
        loop {
            let rebuilt = fec.iter().find_map(|protected| {
                let holes: Vec<u16> = protected.numbers().filter(|n| left.contains(n)).collect();
                (holes.len() == 1).then(|| holes[0])
            });
            let Some(number) = rebuilt else { break };
            left.remove(&number);
        }
        missing.len() - left.len()
    }

    #[test]
    fn a_lost_packet_needs_all_others_of_its_row() {
        let mut solver = Solver::new();
        for n in [0, 1, 3, 4, 5, 8, 9] {
            solver.media(n);
        }
        solver.given_up(2, 1);
        solver.given_up(6, 2);
        solver.fec(strided(0, 1, 5));
        solver.fec(strided(5, 1, 5));
        assert_eq!(solver.settle(), 1, "6 and 7 stand in one row");
        solver.media(7);
        assert_eq!(solver.settle(), 1, "7 came late, and 6 is alone now");
        assert_eq!(solver.settle(), 0, "nothing is counted twice");
    }

    #[test]
    fn what_was_not_lost_is_not_counted() {
        let mut solver = Solver::new();
        for n in [0, 1, 2, 4] {
            solver.media(n);
        }
        solver.fec(strided(0, 1, 5));
        assert_eq!(solver.settle(), 0, "3 may be on its way");
        solver.media(3);
        solver.given_up(3, 1);
        assert_eq!(solver.settle(), 0);
        let mut known = Solver::new();
        known.media(10);
        known.given_up(8, 1);
        known.fec(strided(5, 1, 5));
        assert_eq!(known.settle(), 0, "what came before the first packet is not known");
    }

    #[test]
    fn fec_before_media_far_away_or_in_masses_is_harmless() {
        let mut solver = Solver::new();
        solver.fec(strided(0, 1, 5));
        assert!(solver.waiting.is_empty());
        solver.media(100);
        solver.fec(strided(30_000, 1, 5));
        assert!(solver.waiting.is_empty());
        for n in 0..10_000u16 {
            solver.fec(strided(101 + n % 50, 20, 20));
        }
        assert_eq!(solver.waiting.len(), MAX_WAITING);
        assert!(solver.memory() < 16 * 1024);
    }

    #[test]
    fn the_second_missing_number_ends_the_look() {
        let mut solver = Solver::new();
        (0..100).step_by(2).for_each(|n| solver.media(n));
        let mut looks = 1000;
        for base in 0..10 {
            solver.fec(strided(base * 2, 1, 50));
        }
        assert!(!solver.pass(&mut looks));
        assert_eq!(
            (1000 - looks, solver.waiting.len()),
            (40, 10),
            "there, missing, there, missing"
        );
        let mut ahead = Solver::new();
        ahead.media(100);
        ahead.fec(strided(101, 1, 50));
        assert!(!ahead.pass(&mut looks));
        assert_eq!((960 - looks, ahead.waiting.len()), (1, 1));
    }

    #[test]
    fn one_call_looks_at_so_many_numbers_and_the_next_goes_on() {
        let mut solver = Solver::new();
        for n in (0..2000).filter(|n| n % 50 < 48) {
            solver.media(n);
        }
        // Each has two holes at its end, but for the last one, which has one.
        for n in 0..511 {
            solver.fec(strided(n % 38 * 50, 1, 50));
        }
        solver.given_up(1948, 1);
        solver.fec(strided(1900, 1, 49));
        let mut looks = LOOKS;
        assert!(!solver.pass(&mut looks));
        assert_eq!((looks, solver.waiting.len()), (0, 512));
        let mut calls = 1;
        while solver.settle() == 0 {
            calls += 1;
            assert!(calls < 10);
        }
        assert_eq!(calls, 511 * 50 / LOOKS, "one had been before");
        assert_eq!(solver.waiting.len(), 511);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn the_solver_agrees_with_brute_force(
            start in any::<u16>(),
            l in 1u8..12, d in 4u8..12, matrices in 1u16..5,
            losses in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
            fec_losses in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
            burst in 0u16..12,
            fec_delay in 0usize..3,
        ) {
            let size = u16::from(l) * u16::from(d);
            let total = size * matrices;
            // The first and the last packet come, or nobody would know that anything was lost there.
            let mut missing: BTreeSet<u16> = losses.iter().map(|i| 1 + i.index(usize::from(total) - 2) as u16).collect();
            missing.extend((0..burst).map(|n| 2 + n).filter(|n| *n < total - 1));
            let mut fec: Vec<Protected> = (0..matrices).flat_map(|m| matrix(start.wrapping_add(m * size), l, d)).collect();
            for index in &fec_losses {
                if !fec.is_empty() {
                    fec.swap_remove(index.index(fec.len()));
                }
            }
            let mut solver = Solver::new();
            let mut found = 0;
            for n in 0..total {
                let number = start.wrapping_add(n);
                if !missing.contains(&n) {
                    solver.media(number);
                }
                if fec_delay == 1 && n == total / 2 {
                    // Before all of its media came.
                    fec.iter().for_each(|protected| solver.fec(*protected));
                    found += solver.settle();
                }
            }
            if fec_delay == 0 {
                fec.iter().for_each(|protected| solver.fec(*protected));
                found += solver.settle();
            }
            for n in &missing {
                solver.given_up(start.wrapping_add(*n), 1);
            }
            if fec_delay == 2 {
                fec.iter().for_each(|protected| solver.fec(*protected));
            }
            found += solver.finish();
            let absolute: BTreeSet<u16> = missing.iter().map(|n| start.wrapping_add(*n)).collect();
            prop_assert_eq!(found as usize, peel(&absolute, &fec));
        }
    }
}
