//! The last words: what became of every packet, for people.
//!
//! Kernel and workers count on their own; the summary sets them beside each other, so that a packet that neither can
//! explain shows as a number and not as silence.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use tidegate_common::drop_reason::DropReason;

use super::figures::KernelFigures;
use crate::worker::WorkerSnapshot;

/// What became of every packet while this process ran.
#[derive(Clone, Debug)]
pub struct Summary {
    interface: String,
    ran: Duration,
    /// This process' share of the kernel's counts: those at the end less those at the start.
    kernel: KernelFigures,
    workers: Vec<(u32, WorkerSnapshot)>,
}

/// The same packets counted on both sides of the rings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciliation {
    /// Packets the kernel gave to the rings.
    pub redirected: u64,
    /// Packets the workers took, discarded backlogs included.
    pub taken: u64,
    /// Packets the kernel dropped at the rings, by its own count.
    pub lost_at_ring: u64,
    /// What neither explains: still in a ring when it was closed, or redirected by another process' program.
    pub unexplained: i64,
}

impl Summary {
    /// A summary of `workers` and of the kernel's counts between `before` and `after`.
    pub fn new(
        interface: &str,
        ran: Duration,
        before: &KernelFigures,
        after: &KernelFigures,
        workers: Vec<(u32, WorkerSnapshot)>,
    ) -> Self {
        Summary {
            interface: interface.to_owned(),
            ran,
            kernel: after.since(before),
            workers,
        }
    }

    fn sum(&self, take: impl Fn(&WorkerSnapshot) -> u64) -> u64 {
        self.workers.iter().map(|(_, worker)| take(worker)).sum()
    }

    /// The rings' two sides.
    pub fn reconciliation(&self) -> Reconciliation {
        let taken = self.sum(|w| w.engine.seen);
        let lost_at_ring = self.sum(|w| w.socket.rx_dropped + w.socket.rx_ring_full);
        let redirected = self.kernel.redirected;
        let unexplained = i128::from(redirected) - i128::from(taken) - i128::from(lost_at_ring);
        Reconciliation {
            redirected,
            taken,
            lost_at_ring,
            unexplained: unexplained as i64,
        }
    }

    /// Whether kernel and workers each account for every packet, nothing is lost between them, and every frame is home: in
    /// the pool or on the fill ring. One still on the receive ring is a packet nobody looked at, one on the transmit ring a
    /// packet that may never have left.
    pub fn accounts_for_everything(&self) -> bool {
        let kernel = &self.kernel;
        let decided = kernel.passed_total() + kernel.returned_total() + kernel.dropped_total() + kernel.redirected;
        let workers = self.workers.iter().all(|(_, w)| {
            w.engine.reconciles() && w.frames.is_balanced() && w.frames.receive == 0 && w.frames.transmit == 0
        });
        kernel.seen == decided && workers && self.reconciliation().unexplained == 0
    }

    fn reasons(&self) -> impl Iterator<Item = (DropReason, u64, u64)> + '_ {
        DropReason::ALL.iter().filter_map(|reason| {
            let kernel = self.kernel.dropped[reason.index()];
            let workers = self.sum(|w| w.engine.dropped[reason.index()]);
            (kernel + workers > 0).then_some((*reason, kernel, workers))
        })
    }
}

impl KernelFigures {
    /// What was added since `before`.
    pub fn since(&self, before: &KernelFigures) -> KernelFigures {
        let mut dropped = self.dropped;
        for (now, then) in dropped.iter_mut().zip(before.dropped) {
            *now = now.saturating_sub(then);
        }
        let then = |name: &str| {
            before
                .notes
                .iter()
                .find(|(known, _)| *known == name)
                .map_or(0, |(_, value)| *value)
        };
        KernelFigures {
            seen: self.seen.saturating_sub(before.seen),
            passed: self.passed.saturating_sub(before.passed),
            redirected: self.redirected.saturating_sub(before.redirected),
            returned: self.returned.saturating_sub(before.returned),
            bypass: self.bypass.since(before.bypass),
            dropped,
            notes: self
                .notes
                .iter()
                .map(|(name, value)| (*name, value.saturating_sub(then(name))))
                .collect(),
        }
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kernel = &self.kernel;
        writeln!(f, "tidegate on {}: {:.1} s", self.interface, self.ran.as_secs_f64())?;
        writeln!(f, "  {:<28}{:>16}{:>16}", "packets", "kernel", "workers")?;
        row(f, "seen", kernel.seen, self.sum(|w| w.engine.seen))?;
        row(f, "to workers", kernel.redirected, 0)?;
        row(f, "returned", kernel.returned_total(), self.sum(|w| w.engine.returned))?;
        row(f, "passed", kernel.passed_total(), self.sum(|w| w.engine.passed))?;
        row(
            f,
            "dropped",
            kernel.dropped_total(),
            self.sum(|w| w.engine.dropped_total()),
        )?;
        for (reason, in_kernel, in_workers) in self.reasons() {
            row(f, &format!("  {}", reason.name()), in_kernel, in_workers)?;
        }
        let bypass = kernel.bypass;
        if bypass != super::events::BypassPackets::default() {
            writeln!(
                f,
                "  BYPASS: {} returned uninspected, {} dropped, {} passed while no worker was alive",
                bypass.returned, bypass.dropped, bypass.passed
            )?;
        }
        self.fmt_rings(f)
    }
}

impl Summary {
    fn fmt_rings(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rings = self.reconciliation();
        writeln!(
            f,
            "  rings: {} given, {} taken, {} lost, {} unexplained; transmit ring full for {}",
            rings.redirected,
            rings.taken,
            rings.lost_at_ring,
            rings.unexplained,
            self.sum(|w| w.tx_full)
        )?;
        for (queue, worker) in &self.workers {
            let frames = &worker.frames;
            let residence = &worker.residence;
            writeln!(
                f,
                "  queue {queue}: frames in pool {} + fill {} + receive {} + transmit {} = {} of {}; in the worker p50 {:.1} us, \
                 p99 {:.1} us, max {:.1} us",
                frames.pool,
                frames.fill,
                frames.receive,
                frames.transmit,
                u64::from(frames.pool)
                    + u64::from(frames.fill)
                    + u64::from(frames.receive)
                    + u64::from(frames.transmit),
                frames.total,
                residence.p50 as f64 / 1e3,
                residence.p99 as f64 / 1e3,
                residence.max as f64 / 1e3,
            )?;
        }
        let verdict = if self.accounts_for_everything() { "yes" } else { "NO" };
        writeln!(f, "  every packet and every frame accounted for: {verdict}")
    }
}

fn row(f: &mut Formatter<'_>, name: &str, kernel: u64, workers: u64) -> fmt::Result {
    let workers = if name == "to workers" {
        String::from("-")
    } else {
        workers.to_string()
    };
    writeln!(f, "  {name:<28}{kernel:>16}{workers:>16}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::events::BypassPackets;
    use super::*;
    use crate::engine::counters::Counters;
    use crate::io::FrameAccount;
    use crate::io::xsk::Statistics;
    use crate::worker::Residence;

    pub(in crate::control) fn worker() -> WorkerSnapshot {
        let mut engine = Counters {
            seen: 90,
            returned: 80,
            passed: 1,
            ..Counters::default()
        };
        engine.dropped[DropReason::NoRule.index()] = 9;
        WorkerSnapshot {
            engine,
            frames: FrameAccount {
                total: 64,
                pool: 32,
                fill: 32,
                receive: 0,
                transmit: 0,
            },
            socket: Statistics {
                rx_ring_full: 5,
                ..Statistics::default()
            },
            completed: 78,
            busy_ns: 1,
            idle_ns: 2,
            residence: Residence {
                count: 90,
                p50: 1_500,
                p99: 9_000,
                p999: 20_000,
                max: 30_000,
            },
            ..WorkerSnapshot::default()
        }
    }

    pub(in crate::control) fn kernel() -> KernelFigures {
        let mut kernel = KernelFigures {
            seen: 200,
            passed: 60,
            redirected: 95,
            bypass: BypassPackets {
                returned: 15,
                dropped: 0,
                passed: 0,
            },
            ..KernelFigures::zero()
        };
        kernel.dropped[DropReason::SourceNotListed.index()] = 30;
        kernel
    }

    fn summary(kernel: &KernelFigures) -> Summary {
        Summary::new(
            "ens5",
            Duration::from_secs(2),
            &KernelFigures::zero(),
            kernel,
            vec![(0, worker())],
        )
    }

    #[test]
    fn both_sides_of_the_rings_are_reconciled() {
        let summary = summary(&kernel());
        let rings = summary.reconciliation();
        assert_eq!(
            rings,
            Reconciliation {
                redirected: 95,
                taken: 90,
                lost_at_ring: 5,
                unexplained: 0
            }
        );
        assert!(summary.accounts_for_everything());
        let text = summary.to_string();
        assert!(text.contains("source-not-listed") && text.contains("no-rule"), "{text}");
        assert!(text.contains("BYPASS: 15 returned"), "{text}");
        assert!(text.ends_with("accounted for: yes\n"), "{text}");
    }

    #[test]
    fn a_missing_packet_or_frame_is_said_aloud() {
        let mut lost = kernel();
        lost.redirected += 1;
        lost.seen += 1;
        assert_eq!(summary(&lost).reconciliation().unexplained, 1);
        assert!(summary(&lost).to_string().contains("accounted for: NO"));
        let mut unbalanced = summary(&kernel());
        unbalanced.workers[0].1.frames.pool -= 1;
        assert!(!unbalanced.accounts_for_everything());
    }

    #[test]
    fn a_frame_that_is_not_home_at_the_end_is_said_aloud() {
        for away in [(31, 1, 0), (31, 0, 1), (30, 1, 1)] {
            let mut summary = summary(&kernel());
            let frames = &mut summary.workers[0].1.frames;
            (frames.pool, frames.receive, frames.transmit) = away;
            assert!(frames.is_balanced(), "{away:?}: no frame is lost, only away");
            assert!(!summary.accounts_for_everything(), "{away:?}");
            assert!(summary.to_string().contains("accounted for: NO"), "{away:?}");
        }
    }

    #[test]
    fn counts_of_an_earlier_process_are_taken_off() {
        let mut after = kernel();
        after.seen += 1_000;
        after.passed += 1_000;
        let mut before = KernelFigures::zero();
        before.seen = 1_000;
        before.passed = 1_000;
        assert_eq!(after.since(&before), kernel());
    }
}
