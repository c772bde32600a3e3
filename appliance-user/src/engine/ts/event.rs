//! What the analyser tells of a transport stream.

use super::cues::CueEvent;
use super::tables::TableEvent;
use super::tr101290::Indicator;

/// Something that the analyser found.
#[derive(Clone, Debug, PartialEq)]
pub enum TsEvent {
    /// A violation of ETSI TR 101 290.
    Tr101290 {
        /// What was violated.
        indicator: Indicator,
        /// The PID, where it is about one.
        pid: Option<u16>,
    },
    /// Something that the tables tell; neither [`TableEvent::Section`] nor [`TableEvent::Splice`].
    Table(TableEvent),
    /// A cue, or something that is wrong with splice information.
    Cue(CueEvent),
    /// A PID has become scrambled, or clear again: most of its packets for two seconds.
    Scrambling {
        /// The PID.
        pid: u16,
        /// Scrambled, or clear.
        scrambled: bool,
    },
    /// The bit rate is above the rule's most.
    BitrateHigh {
        /// Bits per second of TS packets, null packets included.
        bitrate: u64,
        /// The most.
        limit: u64,
    },
    /// The bit rate is below the rule's least.
    BitrateLow {
        /// Bits per second of TS packets, null packets included.
        bitrate: u64,
        /// The least.
        limit: u64,
    },
    /// More null packets than the rule allows.
    NullShare {
        /// Per cent of all TS packets, rounded up.
        percent: u8,
        /// The most.
        limit: u8,
    },
    /// A PMT names a component of a type that the rule does not list.
    UnlistedStreamType {
        /// Its PID.
        pid: u16,
        /// stream_type.
        stream_type: u8,
    },
    /// Packets of a PID come that the rule does not list.
    UnlistedPid {
        /// The PID.
        pid: u16,
    },
    /// A PID that the rule requires has not come for as long as TR 101 290 1.6 has it.
    MissingPid {
        /// The PID.
        pid: u16,
    },
}
