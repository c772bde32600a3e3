//! What may be wrong with a stream: the causes that a rule sets a limit on, by the names that policies and events use.

/// One thing that may be wrong with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::engine) enum Cause {
    /// Continuity incidents that the network did not make (ISO/IEC 13818-1 2.4.3.3). Counted.
    Continuity,
    /// Packets that the network lost. Counted.
    NetworkLoss,
    /// Violations of TR 101 290 of the rule's priorities. Counted.
    Tr101290,
    /// Faults of splice information (ANSI/SCTE 35). Counted.
    Scte35,
    /// No packet for longer than the rule's `silence`.
    Silence,
    /// The bit rate of the TS packets is below the least.
    BitrateLow,
    /// The bit rate of the TS packets is above the most.
    BitrateHigh,
    /// Too many of the TS packets are null packets.
    NullPackets,
    /// A programme's component is of a type that the rule does not allow.
    StreamType,
    /// A PID that the rule does not allow.
    PidUnlisted,
    /// A PID that the rule requires stays away.
    PidMissing,
}

impl Cause {
    /// How many of them are counted; they come first.
    pub(super) const COUNTED: usize = 4;

    /// The name of the condition in reports and events.
    pub(in crate::engine) const fn name(self) -> &'static str {
        match self {
            Cause::Continuity => "continuity",
            Cause::NetworkLoss => "network-loss",
            Cause::Tr101290 => "tr101290",
            Cause::Scte35 => "scte35",
            Cause::Silence => "silence",
            Cause::BitrateLow => "bitrate-low",
            Cause::BitrateHigh => "bitrate-high",
            Cause::NullPackets => "null-packets",
            Cause::StreamType => "stream-type",
            Cause::PidUnlisted => "pid-unlisted",
            Cause::PidMissing => "pid-missing",
        }
    }

    /// The key of the policy that holds the limit.
    pub(in crate::engine) const fn key(self) -> &'static str {
        match self {
            Cause::Continuity => "continuity",
            Cause::NetworkLoss => "network_loss",
            Cause::Tr101290 => "tr101290",
            Cause::Scte35 => "scte35",
            Cause::Silence => "silence",
            Cause::BitrateLow | Cause::BitrateHigh => "bitrate",
            Cause::NullPackets => "null_packets",
            Cause::StreamType => "stream_types",
            Cause::PidUnlisted | Cause::PidMissing => "pids",
        }
    }

    /// Its place among the counted causes; `None` where it is a condition that lasts.
    pub(super) const fn counted(self) -> Option<usize> {
        let place = self as usize;
        if place < Cause::COUNTED { Some(place) } else { None }
    }
}
