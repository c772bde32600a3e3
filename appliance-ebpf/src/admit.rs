//! The kernel's half of the whitelist: the walk to the inner source, and what the spans say of it.
//!
//! The kernel knows sources, not rules: destination, port and endpoint are the worker's to check.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use tidegate_common::cursor::Cursor;
use tidegate_common::drop_reason::DropReason;
use tidegate_common::maps::{Admit, Counter, drop_index};
use tidegate_common::walk::{self, KernelLimits, Stop};

use crate::counters::Counting;
use crate::cursor::{ColdCursor, XdpCursor};
use crate::spans::listed;
use crate::steer::Settings;

/// What is known of a packet before the worker's state is looked at.
#[derive(Clone, Copy)]
pub enum Admission {
    /// The kernel's stack decides.
    NotForUs,
    /// Wrong, and for us.
    Malformed {
        /// Index of the reason's counter.
        counter: usize,
    },
    /// No rule lists its source.
    Miss {
        /// Offset of the outer IPv4 header.
        ipv4: usize,
    },
    /// For a worker, or the failure action.
    Admitted {
        /// Offset of the outer IPv4 header.
        ipv4: usize,
        /// What the whitelist says of its source.
        admit: Admit,
    },
}

/// How a walk ended, in one word: kind in bits 0 to 7, counter in 8 to 15, offset of the outer IPv4 header in 16 to 31, the
/// whitelist's word in 32 to 63. A word crosses a function's end, where all the ways through the walk become one for the verifier.
#[derive(Clone, Copy)]
struct Ending(u64);

impl Ending {
    const NOT_FOR_US: u64 = 0;
    const MALFORMED: u64 = 1;
    const MISS: u64 = 2;
    const LISTED: u64 = 3;
    const QUOTED: u64 = 4;
    const BEYOND: u64 = 5;
    /// A header was not where this cursor can read: malformed, unless the packet goes on elsewhere.
    const CUT: u64 = 6;
    /// A miss, unless the packet is an ICMP error about a listed source.
    const UNSURE: u64 = 7;

    #[inline(always)]
    const fn at(kind: u64, ipv4: usize) -> Self {
        Ending(kind | (ipv4 as u64 & 0xffff) << 16)
    }

    #[inline(always)]
    const fn with(self, admit: Admit) -> Self {
        Ending(self.0 | (admit.word() as u64) << 32)
    }

    #[inline(always)]
    const fn stopped(stop: Stop) -> Self {
        match stop {
            Stop::Malformed(DropReason::Truncated) => Ending(Self::CUT),
            Stop::Malformed(reason) => Ending(Self::MALFORMED | (drop_index(reason) as u64) << 8),
            Stop::NotForUs | Stop::BeyondLimits => Ending(Self::NOT_FOR_US),
        }
    }

    #[inline(always)]
    const fn kind(self) -> u64 {
        self.0 & 0xff
    }

    #[inline(always)]
    fn admission(self, counting: &mut Counting) -> Admission {
        let ipv4 = (self.0 >> 16 & 0xffff) as usize;
        let admit = Admit::from_word((self.0 >> 32) as u32);
        match self.kind() {
            Self::MALFORMED => Admission::Malformed {
                counter: (self.0 >> 8 & 0xff) as usize,
            },
            Self::CUT => Admission::Malformed {
                counter: drop_index(DropReason::Truncated),
            },
            Self::MISS => Admission::Miss { ipv4 },
            Self::LISTED => Admission::Admitted { ipv4, admit },
            Self::QUOTED => {
                counting.add(Counter::QuoteAdmitted);
                Admission::Admitted { ipv4, admit }
            }
            Self::BEYOND => {
                counting.add(Counter::BeyondKernelWalk);
                Admission::Admitted { ipv4, admit }
            }
            _ => Admission::NotForUs,
        }
    }
}

/// Walks a packet and looks its source up.
///
/// Nearly every packet needs the direct cursor and nothing else. The slow one takes over where a header is not in the linear
/// part, which is only possible in a packet of several buffers, and to follow what an ICMP error quotes: an error comes from
/// a router that nobody lists.
#[inline(always)]
pub fn admit(ctx: &XdpContext, settings: &Settings, counting: &mut Counting) -> Admission {
    let cursor = XdpCursor::new(ctx);
    let ending = walk_to_source::<_, false>(&cursor, settings.geneve_port, settings.slot);
    let cut = ending.kind() == Ending::CUT && cursor.is_partial();
    if cut {
        counting.add(Counter::ColdWalk);
    }
    if cut || ending.kind() == Ending::UNSURE {
        return Ending(walk_cold(ctx.ctx, settings.geneve_port, settings.slot)).admission(counting);
    }
    ending.admission(counting)
}

/// A function of its own, so that the verifier follows the longer walk apart from the usual one, and the stack is shared.
#[inline(never)]
fn walk_cold(ctx: *mut xdp_md, geneve_port: u16, slot: usize) -> u64 {
    walk_to_source::<_, true>(&ColdCursor::new(&XdpContext::new(ctx)), geneve_port, slot).0
}

/// `QUOTES`: whether to follow what an ICMP error quotes, or to say that it might be one.
#[inline(always)]
fn walk_to_source<C: Cursor, const QUOTES: bool>(cursor: &C, geneve_port: u16, slot: usize) -> Ending {
    let outer = match walk::outer::<KernelLimits, C>(cursor, geneve_port) {
        Ok(outer) => outer,
        Err(stop) => return Ending::stopped(stop),
    };
    let inner = match walk::inner::<KernelLimits, C>(cursor, &outer) {
        Ok(inner) => inner,
        // The options are the load balancer's, not the source's: user space, which can walk further, decides.
        Err(Stop::BeyondLimits) => return Ending::at(Ending::BEYOND, outer.ipv4),
        Err(stop) => return Ending::stopped(stop),
    };
    if let Some(admit) = listed(inner.source, slot) {
        return Ending::at(Ending::LISTED, outer.ipv4).with(admit);
    }
    if !inner.may_quote() {
        return Ending::at(Ending::MISS, outer.ipv4);
    }
    if !QUOTES {
        return Ending::at(Ending::UNSURE, outer.ipv4);
    }
    match walk::quoted_source::<KernelLimits, C>(cursor, &inner).and_then(|source| listed(source, slot)) {
        Some(admit) => Ending::at(Ending::QUOTED, outer.ipv4).with(admit),
        None => Ending::at(Ending::MISS, outer.ipv4),
    }
}
