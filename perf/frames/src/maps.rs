//! The maps between user space and the lab's programs: names, and values laid out as C does.

use crate::check::PARTS;

/// Names of programs and maps in the object.
pub mod name {
    /// Drops everything.
    pub const DROP: &str = "drop_all";
    /// Sends everything back.
    pub const REFLECT: &str = "reflect";
    /// Sends everything back and damages some of it, see [`super::Damage`].
    pub const SPOIL: &str = "spoil";
    /// Makes frames, in the kernel's test run.
    pub const GENERATE: &str = "generate";
    /// Checks frames.
    pub const COLLECT: &str = "collect";
    /// [`crate::Plan`], one entry.
    pub const PLAN: &str = "PLAN";
    /// [`crate::mux::Datagram`] by place in the group.
    pub const GROUP: &str = "GROUP";
    /// TS packets that are written whole, by kind less one.
    pub const SPECIALS: &str = "WHOLE_PACKETS";
    /// [`super::Control`], one entry, written by user space.
    pub const CONTROL: &str = "CONTROL";
    /// [`super::Progress`], one entry, written by the generator.
    pub const PROGRESS: &str = "PROGRESS";
    /// [`crate::sequence::Sequence`] by stream.
    pub const STREAMS: &str = "STREAMS";
    /// [`super::Tally`], one entry per CPU.
    pub const TALLY: &str = "TALLY";
    /// [`super::Damage`], one entry.
    pub const DAMAGE: &str = "DAMAGE";
}

/// What the generator is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Control {
    /// Between two frames: nanoseconds in 1/2^32; 0 for flat out.
    pub interval: u64,
    /// CLOCK_MONOTONIC after which nothing is sent, nanoseconds.
    pub deadline: u64,
    /// Frames after which nothing more is sent.
    pub limit: u64,
    /// A generator that is later than this leaves out what was due before, nanoseconds: what it makes up for at once.
    pub patience: u64,
    /// Frames from unlisted sources after each listed one.
    pub unlisted_each: u32,
    /// 0: unlisted sources alone.
    pub listed: u32,
    /// Not 0: send nothing more.
    pub stop: u32,
    /// Keeps what follows in one word.
    pub padding: u32,
    /// Not 0: send nothing for now. In one word with `change`, so that a generator in the kernel sees both or neither.
    pub held: u32,
    /// How often anything of this was changed: what was due before a change is forgotten.
    pub change: u32,
}

/// How far the generator is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Progress {
    /// When the next frame is due, nanoseconds; 0 before the first, of all or since a change.
    pub due: u64,
    /// Fraction of it in 1/2^32.
    pub due_fraction: u64,
    /// Frames from listed sources.
    pub listed: u64,
    /// Frames from unlisted sources.
    pub unlisted: u64,
    /// Frames that were due and left out since the generator was late.
    pub left_out: u64,
    /// Not 0 once nothing more will be sent: limit, deadline or stop.
    pub done: u64,
    /// The stream whose turn it is.
    pub stream: u32,
    /// Running number of streams with phase 0.
    pub round: u32,
    /// Unlisted frames still to send before the next listed one.
    pub unlisted_left: u32,
    /// [`Control::change`] as the generator last saw it: all that it did before is counted here by then.
    pub change: u32,
}

/// Sub-buckets of an octave: a resolution of 1/64 = 1.6%.
pub const SUB_BUCKETS: u32 = 64;
/// Latencies below 2^8 ns share one bucket.
const LOWEST_BIT: u32 = 8;
/// Latencies of 2^30 ns (1.07 s) and more share one bucket.
const HIGHEST_BIT: u32 = 30;
/// Buckets of the latency histogram.
pub const BUCKETS: usize = ((HIGHEST_BIT - LOWEST_BIT) * SUB_BUCKETS + 2) as usize;

/// The bucket of a latency in nanoseconds.
#[inline(always)]
pub fn bucket(nanos: u64) -> usize {
    if nanos < 1 << LOWEST_BIT {
        return 0;
    }
    if nanos >= 1 << HIGHEST_BIT {
        return BUCKETS - 1;
    }
    let bit = 63 - nanos.leading_zeros();
    // The six bits after the highest one.
    let sub = (nanos >> (bit - 6)) as u32 & (SUB_BUCKETS - 1);
    (1 + (bit - LOWEST_BIT) * SUB_BUCKETS + sub) as usize
}

/// The largest latency that falls into a bucket, nanoseconds; `u64::MAX` for the last.
pub fn bucket_end(index: usize) -> u64 {
    let Some(place) = index.checked_sub(1) else {
        return (1 << LOWEST_BIT) - 1;
    };
    if index >= BUCKETS - 1 {
        return u64::MAX;
    }
    let place = place as u64;
    let octave = place / u64::from(SUB_BUCKETS);
    let sub = place % u64::from(SUB_BUCKETS);
    let bit = octave + u64::from(LOWEST_BIT);
    (1 << bit) + ((sub + 1) << (bit - 6)) - 1
}

/// What one CPU's collector counted. Everything only ever grows; who wants to know about a while subtracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Tally {
    /// GENEVE frames.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of them: from listed streams, with a sound marker.
    pub listed: u64,
    /// Of them: from sources that are not listed.
    pub unlisted: u64,
    /// Numbers missing when a later one came.
    pub missing: u64,
    /// Numbers that came after all, behind a later one.
    pub late: u64,
    /// As `late`, but more than 64 numbers behind: might be a duplicate.
    pub ancient: u64,
    /// Numbers that came again.
    pub duplicated: u64,
    /// Frames of which anything was altered.
    pub altered: u64,
    /// By part; a frame may count under several.
    pub parts: [u64; PARTS],
    /// Frames that were not GENEVE, left to the kernel.
    pub passed: u64,
    /// Latencies of listed frames.
    pub latency: [u64; BUCKETS],
}

/// How [`name::SPOIL`] damages frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Damage {
    /// Every so many-th frame; 0: none.
    pub every: u32,
    /// The byte whose lowest bit is turned; [`DROPPED`] drops the frame instead.
    pub offset: u32,
    /// Frames since the last that was damaged.
    pub count: u32,
    /// Keeps the size a multiple of 8.
    pub padding: u32,
}

/// As [`Damage::offset`]: the frame is dropped.
pub const DROPPED: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_end_where_they_say() {
        for index in 0..BUCKETS - 1 {
            let end = bucket_end(index);
            assert_eq!((bucket(end), bucket(end + 1)), (index, index + 1), "ends at {end}");
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn the_resolution_is_two_per_cent() {
        for index in 2..BUCKETS - 1 {
            let (below, end) = (bucket_end(index - 1), bucket_end(index));
            assert!((end - below) as f64 / below as f64 <= 0.02, "{below} to {end}");
        }
    }
}
