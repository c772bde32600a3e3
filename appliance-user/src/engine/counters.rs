//! What an engine counts. Every packet ends in exactly one of `returned`, `passed` and `dropped`.

use tidegate_common::drop_reason::DropReason;

/// The counters of one engine, that is of one worker or one capture. All but the gauges only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Packets offered to the engine.
    pub seen: u64,
    /// Packets sent back to the load balancer.
    pub returned: u64,
    /// Packets that are not the appliance's business and stay with the kernel.
    pub passed: u64,
    /// Packets dropped, by reason.
    pub dropped: [u64; DropReason::COUNT],
    /// Packets returned that their rule would have dropped, had it said `enforce = true`, by reason.
    pub shadow_dropped: [u64; DropReason::COUNT],
    /// Bytes of the packets returned, as on the wire.
    pub returned_bytes: u64,
    /// Flows entered into the table.
    pub flows_created: u64,
    /// Flows that made room for another one.
    pub flows_evicted: u64,
    /// Packets decided without a flow, because the table was full of live flows.
    pub flows_refused: u64,
    /// Streams that appeared.
    pub streams_created: u64,
    /// Streams that could not be followed because their flow already held the most it may.
    pub streams_refused: u64,
    /// Events lost because nobody fetched them in time.
    pub events_shed: u64,
    /// Gauge: flows in the table now.
    pub flows: u64,
    /// Gauge: streams followed now.
    pub streams: u64,
    /// Gauge: bytes that streams may still grow by, all together; near 0 new streams are followed with little memory.
    pub memory_left: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            seen: 0,
            returned: 0,
            passed: 0,
            dropped: [0; DropReason::COUNT],
            shadow_dropped: [0; DropReason::COUNT],
            returned_bytes: 0,
            flows_created: 0,
            flows_evicted: 0,
            flows_refused: 0,
            streams_created: 0,
            streams_refused: 0,
            events_shed: 0,
            flows: 0,
            streams: 0,
            memory_left: 0,
        }
    }
}

impl Counters {
    /// Packets dropped for whatever reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Reasons that occurred, with their counts.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        occurred(&self.dropped)
    }

    /// Packets that would have been dropped for whatever reason, had their rule said `enforce = true`.
    pub fn shadow_dropped_total(&self) -> u64 {
        self.shadow_dropped.iter().sum()
    }

    /// Reasons for which packets would have been dropped, with their counts.
    pub fn shadow_drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        occurred(&self.shadow_dropped)
    }

    /// Whether every packet seen is accounted for.
    pub fn reconciles(&self) -> bool {
        self.seen == self.returned + self.passed + self.dropped_total()
    }
}

/// The reasons that occurred.
fn occurred(counts: &[u64; DropReason::COUNT]) -> impl Iterator<Item = (DropReason, u64)> + '_ {
    DropReason::ALL
        .iter()
        .map(|reason| (*reason, counts[reason.index()]))
        .filter(|(_, count)| *count > 0)
}
