//! What the XDP program counts: every packet once by how it ended, and some things on the way.

use crate::drop_reason::DropReason;

/// What the program counts besides drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Counter {
    /// Every packet the program was shown.
    Seen = 0,
    /// Left to the kernel's stack: not for us.
    Passed = 1,
    /// Given to a worker.
    Redirected = 2,
    /// Returned by the default action.
    Returned = 3,
    /// Returned by the failure action.
    BypassReturned = 4,
    /// Left to the kernel's stack by the failure action.
    BypassPassed = 5,
    /// Beyond the kernel's limits. Counted in addition to what became of the packet, as are all that follow.
    BeyondKernelWalk = 6,
    /// Headers outside the linear part, read by the slow cursor.
    ColdWalk = 7,
    /// ICMP errors admitted because of what they quote.
    QuoteAdmitted = 8,
    /// The beat was fresh, but no socket took the packet.
    NoSocket = 9,
    /// A queue went into bypass.
    BypassEntered = 10,
    /// A queue came out of bypass.
    BypassLeft = 11,
}

impl Counter {
    /// Every counter, in the order of its number.
    pub const ALL: [Counter; 12] = [
        Counter::Seen,
        Counter::Passed,
        Counter::Redirected,
        Counter::Returned,
        Counter::BypassReturned,
        Counter::BypassPassed,
        Counter::BeyondKernelWalk,
        Counter::ColdWalk,
        Counter::QuoteAdmitted,
        Counter::NoSocket,
        Counter::BypassEntered,
        Counter::BypassLeft,
    ];

    /// The stable kebab-case name used in reports and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Counter::Seen => "seen",
            Counter::Passed => "passed",
            Counter::Redirected => "redirected",
            Counter::Returned => "returned",
            Counter::BypassReturned => "bypass-returned",
            Counter::BypassPassed => "bypass-passed",
            Counter::BeyondKernelWalk => "beyond-kernel-walk",
            Counter::ColdWalk => "cold-walk",
            Counter::QuoteAdmitted => "quote-admitted",
            Counter::NoSocket => "no-socket",
            Counter::BypassEntered => "bypass-entered",
            Counter::BypassLeft => "bypass-left",
        }
    }
}

/// Numbers in [`Counters`]: those of [`Counter`], then one for each [`DropReason`].
pub const COUNTERS: usize = Counter::ALL.len() + DropReason::COUNT;

/// The program's counters on one CPU, or summed over all. As a map's value: `[u64; COUNTERS]`.
///
/// Every packet is seen once and ends in one way, so
/// `seen = passed + redirected + returned + dropped`, see [`Counters::reconciles`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Counters(pub [u64; COUNTERS]);

impl Default for Counters {
    fn default() -> Self {
        Counters([0; COUNTERS])
    }
}

impl Counters {
    /// Adds another CPU's.
    pub fn add(&mut self, other: &[u64; COUNTERS]) {
        for (mine, theirs) in self.0.iter_mut().zip(other) {
            *mine = mine.wrapping_add(*theirs);
        }
    }

    /// One counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).copied().unwrap_or(0)
    }

    /// Packets dropped for one reason. Those that the failure action drops are under [`DropReason::WorkerDead`].
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.0.get(drop_index(reason)).copied().unwrap_or(0)
    }

    /// Packets dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        DropReason::ALL.iter().map(|reason| self.dropped(*reason)).sum()
    }

    /// Packets left to the kernel's stack, for both reasons.
    pub fn passed_total(&self) -> u64 {
        self.get(Counter::Passed).wrapping_add(self.get(Counter::BypassPassed))
    }

    /// Packets sent back by the program, for both reasons.
    pub fn returned_total(&self) -> u64 {
        self.get(Counter::Returned)
            .wrapping_add(self.get(Counter::BypassReturned))
    }

    /// Whether every packet seen is accounted for. Holds exactly only while no packet is on its way.
    pub fn reconciles(&self) -> bool {
        let ended = [
            self.passed_total(),
            self.get(Counter::Redirected),
            self.returned_total(),
            self.dropped_total(),
        ];
        self.get(Counter::Seen) == ended.into_iter().sum()
    }
}

/// Where a drop reason is counted.
#[inline(always)]
pub const fn drop_index(reason: DropReason) -> usize {
    Counter::ALL.len() + reason.index()
}

const _: () = assert!(size_of::<Counters>() == COUNTERS * 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_dense_and_names_unique() {
        for (i, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, i);
            for other in &Counter::ALL[i + 1..] {
                assert_ne!(counter.name(), other.name());
            }
        }
        assert_eq!(drop_index(DropReason::Truncated), Counter::ALL.len());
    }

    #[test]
    fn accounting_notices_a_lost_packet() {
        let mut counters = Counters::default();
        counters.0[Counter::Seen as usize] = 3;
        counters.0[Counter::Redirected as usize] = 1;
        counters.0[drop_index(DropReason::WorkerDead)] = 1;
        assert!(!counters.reconciles());
        counters.0[Counter::BypassPassed as usize] = 1;
        counters.0[Counter::BypassEntered as usize] = 7;
        assert!(counters.reconciles());
    }
}
