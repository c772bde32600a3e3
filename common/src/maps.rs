//! The BPF maps: names, sizes, keys and values, as the XDP program declares them and user space fills them.
//!
//! All values are in the machine's own byte order. This crate forbids `unsafe`, so values cross into user space as byte
//! arrays ([`Config::to_bytes`] and its like), which every BPF library takes. Maps stay pinned while processes come and go:
//! [`LAYOUT_HASH`] names a layout, and a process only takes over maps of its own.

mod admit;
mod counters;

pub use admit::{Admit, Family, Screen, Span4, Span6, spans_begin};
pub use counters::{COUNTERS, Counter, Counters, drop_index};

/// Name of the XDP program in the object file.
pub const PROGRAM: &str = "tidegate";
/// Queues that can have a worker. A packet on a queue beyond takes the failure action.
pub const MAX_QUEUES: u32 = 128;
/// Listed prefixes of one address family.
pub const MAX_PREFIXES: u32 = 65_536;
/// Spans that so many prefixes cut a family's addresses into, at most: each adds a beginning and an end.
pub const MAX_SPANS: u32 = 2 * MAX_PREFIXES + 1;
/// Policy slots: one in use, the other being filled.
pub const SLOTS: usize = 2;
/// Raise this when the meaning of a map's contents changes without its size.
const LAYOUT_VERSION: u32 = 1;

/// Names of the maps in the object file and under the pin directory.
pub mod name {
    /// Array of one [`Config`](super::Config), `BPF_F_MMAPABLE`.
    pub const CONFIG: &str = "CONFIG";
    /// Array of [`MAX_QUEUES`](super::MAX_QUEUES) [`Heartbeat`](super::Heartbeat)s, `BPF_F_MMAPABLE`.
    pub const HEARTBEATS: &str = "HEARTBEATS";
    /// XSKMAP: the AF_XDP socket of each queue.
    pub const SOCKETS: &str = "SOCKETS";
    /// Array of one [`Screen`](super::Screen) for each policy slot and address family, see [`Screen::index`](super::Screen::index).
    pub const SCREENS: &str = "SCREENS";
    /// Array of [`MAX_SPANS`](super::MAX_SPANS) [`Span4`](super::Span4)s for each policy slot: admitted inner IPv4 sources.
    pub const SPANS_V4: &str = "SPANS_V4";
    /// Array of [`MAX_SPANS`](super::MAX_SPANS) [`Span6`](super::Span6)s for each policy slot: admitted inner IPv6 sources.
    pub const SPANS_V6: &str = "SPANS_V6";
    /// Per-CPU array of one [`Counters`](super::Counters).
    pub const COUNTERS: &str = "COUNTERS";
}

/// What a map is declared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Its name.
    pub name: &'static str,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Entries it can hold.
    pub max_entries: u32,
}

/// Every map of the program, the log's ring buffer excepted.
pub const MAPS: [Layout; 7] = [
    Layout {
        name: name::CONFIG,
        key_size: 4,
        value_size: Config::SIZE as u32,
        max_entries: 1,
    },
    Layout {
        name: name::HEARTBEATS,
        key_size: 4,
        value_size: Heartbeat::SIZE as u32,
        max_entries: MAX_QUEUES,
    },
    Layout {
        name: name::SOCKETS,
        key_size: 4,
        value_size: 4,
        max_entries: MAX_QUEUES,
    },
    Layout {
        name: name::SCREENS,
        key_size: 4,
        value_size: Screen::SIZE as u32,
        max_entries: Screen::ENTRIES,
    },
    Layout {
        name: name::SPANS_V4,
        key_size: 4,
        value_size: Span4::SIZE as u32,
        max_entries: SLOTS as u32 * MAX_SPANS,
    },
    Layout {
        name: name::SPANS_V6,
        key_size: 4,
        value_size: Span6::SIZE as u32,
        max_entries: SLOTS as u32 * MAX_SPANS,
    },
    Layout {
        name: name::COUNTERS,
        key_size: 4,
        value_size: size_of::<Counters>() as u32,
        max_entries: 1,
    },
];

/// FNV-1a over everything in [`MAPS`]: two builds with the same hash can share pinned maps.
pub const LAYOUT_HASH: u64 = {
    let mut hash = fnv(0xcbf2_9ce4_8422_2325, &LAYOUT_VERSION.to_le_bytes());
    let mut i = 0;
    while i < MAPS.len() {
        let map = &MAPS[i];
        hash = fnv(hash, map.name.as_bytes());
        hash = fnv(hash, &map.key_size.to_le_bytes());
        hash = fnv(hash, &map.value_size.to_le_bytes());
        hash = fnv(hash, &map.max_entries.to_le_bytes());
        i += 1;
    }
    hash
};

const fn fnv(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    // A terminator, so that neighbouring names cannot flow into each other.
    (hash ^ 0xff).wrapping_mul(0x0100_0000_01b3)
}

/// What becomes of admitted packets while no worker is alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FailureAction {
    /// Back to the load balancer, uninspected.
    #[default]
    Return = 0,
    /// Dropped.
    Drop = 1,
    /// Left to the kernel's stack, untouched.
    Pass = 2,
}

impl FailureAction {
    /// The action of a number; one that means nothing is `Return`, the default.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => FailureAction::Drop,
            2 => FailureAction::Pass,
            _ => FailureAction::Return,
        }
    }

    /// The name used in policies, on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            FailureAction::Return => "return",
            FailureAction::Drop => "drop",
            FailureAction::Pass => "pass",
        }
    }

    /// The stricter of two: `Drop` before `Pass` before `Return`.
    pub const fn strictest(self, other: Self) -> Self {
        match (self, other) {
            (FailureAction::Drop, _) | (_, FailureAction::Drop) => FailureAction::Drop,
            (FailureAction::Pass, _) | (_, FailureAction::Pass) => FailureAction::Pass,
            _ => FailureAction::Return,
        }
    }
}

/// What becomes of packets whose inner source no rule lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DefaultAction {
    /// Dropped, counted as `source-not-listed`.
    #[default]
    Drop = 0,
    /// Back to the load balancer.
    Return = 1,
}

impl DefaultAction {
    /// The action of a number; one that means nothing is `Drop`, the default.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => DefaultAction::Return,
            _ => DefaultAction::Drop,
        }
    }
}

/// Which policy is in force: a generation and the slot that holds it, in one word, so that the program reads both at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Active(u64);

impl Active {
    /// Generation `generation` (63 bits) in `slot` (0 or 1).
    pub const fn new(generation: u64, slot: usize) -> Self {
        Active(generation << 1 | (slot as u64 & 1))
    }

    /// From the word in the map.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Active(word)
    }

    /// As the word in the map.
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The slot in use.
    #[inline(always)]
    pub const fn slot(self) -> usize {
        (self.0 & 1) as usize
    }

    /// The policy's generation.
    pub const fn generation(self) -> u64 {
        self.0 >> 1
    }
}

/// The settings of the program. All zero, as before anything was written, means: nothing is for us, all packets pass.
///
/// A new policy is published by one 8-byte store to [`Config::ACTIVE_OFFSET`] of the mapped array, after its slot's spans,
/// screens and default action are in place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Config {
    /// See [`Active`].
    pub active: u64,
    /// How old a heartbeat may be, in nanoseconds.
    pub heartbeat_ns: u64,
    /// UDP port of GENEVE; 0 turns the program off.
    pub geneve_port: u16,
    /// The [`FailureAction`] where the prefix has none of its own.
    pub on_failure: u8,
    /// The [`DefaultAction`] of each policy slot.
    pub default_action: [u8; SLOTS],
    /// Zero.
    pub reserved: [u8; 11],
}

impl Config {
    /// Bytes in the map.
    pub const SIZE: usize = 32;
    /// Where the word of [`Active`] is.
    pub const ACTIVE_OFFSET: usize = 0;

    /// As the map holds it.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[0..8].copy_from_slice(&self.active.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.heartbeat_ns.to_ne_bytes());
        bytes[16..18].copy_from_slice(&self.geneve_port.to_ne_bytes());
        bytes[18] = self.on_failure;
        bytes[19..21].copy_from_slice(&self.default_action);
        bytes[21..32].copy_from_slice(&self.reserved);
        bytes
    }

    /// From what the map holds.
    pub const fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        let [
            a,
            b,
            c,
            d,
            e,
            f,
            g,
            h,
            i,
            j,
            k,
            l,
            m,
            n,
            o,
            p,
            q,
            r,
            on_failure,
            s0,
            s1,
            reserved @ ..,
        ] = bytes;
        Config {
            active: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            heartbeat_ns: u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
            geneve_port: u16::from_ne_bytes([q, r]),
            on_failure,
            default_action: [s0, s1],
            reserved,
        }
    }
}

/// One queue's heartbeat, alone on its cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Heartbeat {
    /// When the worker last said that it is alive: nanoseconds of `CLOCK_MONOTONIC`, 0 for never. Written by the worker only.
    pub beat: u64,
    /// User space's own; the program does not look at them.
    pub notes: [u64; 6],
    /// Not 0 while the queue is in bypass. Written by the program only, when that changes.
    pub dark: u64,
}

impl Heartbeat {
    /// Bytes in the map.
    pub const SIZE: usize = 64;
    /// Where [`Heartbeat::beat`] is.
    pub const BEAT_OFFSET: usize = 0;
    /// Where [`Heartbeat::dark`] is.
    pub const DARK_OFFSET: usize = 56;

    /// Whether a beat is too old at `now`. Compared as signed: the worker may beat after the program has read the clock, and
    /// the coarse clock lags by up to a tick, so a beat in the future is a fresh one.
    #[inline(always)]
    pub const fn is_stale(beat: u64, now: u64, limit_ns: u64) -> bool {
        now.wrapping_sub(beat) as i64 > limit_ns as i64
    }
}

const _: () = assert!(size_of::<Config>() == Config::SIZE);
const _: () = assert!(core::mem::offset_of!(Config, active) == Config::ACTIVE_OFFSET);
const _: () = assert!(size_of::<Heartbeat>() == Heartbeat::SIZE);
const _: () = assert!(core::mem::offset_of!(Heartbeat, beat) == Heartbeat::BEAT_OFFSET);
const _: () = assert!(core::mem::offset_of!(Heartbeat, dark) == Heartbeat::DARK_OFFSET);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernel_keeps_whole_names() {
        for map in MAPS {
            assert!(map.name.len() < 16, "{} is longer than the kernel keeps", map.name);
        }
    }

    #[test]
    fn stale_is_signed() {
        assert!(!Heartbeat::is_stale(1_000, 1_000, 80));
        assert!(!Heartbeat::is_stale(1_000, 1_080, 80));
        assert!(Heartbeat::is_stale(1_000, 1_081, 80));
        assert!(
            !Heartbeat::is_stale(1_001, 1_000, 80),
            "a beat after the clock was read"
        );
        assert!(Heartbeat::is_stale(0, 1_000_000_000, 80_000_000), "never beaten");
    }

    #[test]
    fn the_strictest_failure_action_wins() {
        use FailureAction::{Drop, Pass, Return};
        for (one, other, strictest) in [
            (Return, Return, Return),
            (Return, Pass, Pass),
            (Pass, Drop, Drop),
            (Return, Drop, Drop),
        ] {
            assert_eq!((one.strictest(other), other.strictest(one)), (strictest, strictest));
        }
        for action in [Return, Drop, Pass] {
            assert_eq!(FailureAction::from_number(action as u8), action);
        }
    }

    proptest! {
        #[test]
        fn config_round_trip(bytes in any::<[u8; 32]>()) {
            prop_assert_eq!(Config::from_bytes(bytes).to_bytes(), bytes);
        }

        #[test]
        fn active_round_trip(generation in 0u64..1 << 63, slot in 0usize..2) {
            let active = Active::from_word(Active::new(generation, slot).word());
            prop_assert_eq!((active.generation(), active.slot()), (generation, slot));
        }
    }
}
