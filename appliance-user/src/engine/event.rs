//! What the engine tells while it runs: streams that come, change and go.

use std::sync::Arc;

use serde::Serialize;

use super::report::{StreamIdentity, StreamState, TransportReport};
use super::time::Timestamp;
use super::ts::Cue;

/// Events an engine keeps until its driver fetches them; more are shed and counted.
pub const EVENT_CAPACITY: usize = 1024;

/// Something that happened to a stream.
#[derive(Clone, Debug, Serialize)]
pub struct StreamEvent {
    /// When, on the driver's time axis.
    #[serde(skip)]
    pub at: Timestamp,
    /// Whom it concerns.
    pub stream: StreamIdentity,
    /// What happened.
    #[serde(flatten)]
    pub change: StreamChange,
}

/// What happened to a stream.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum StreamChange {
    /// First confirmed packets.
    StreamAppeared,
    /// Silent for longer than the flow's idle time, or replaced.
    StreamGone {
        /// Why it went.
        cause: &'static str,
        /// Datagrams in its life.
        packets: u64,
        /// Its transport figures in the end.
        transport: TransportReport,
    },
    /// It moved from one state to another.
    StateChanged {
        /// State before.
        from: StreamState,
        /// State now.
        to: StreamState,
        /// The limit or time that moved it, by its policy key.
        cause: &'static str,
        /// The figure that was compared: incidents or packets within `window_ms`.
        count: u64,
        /// The limit it was compared with.
        limit: u64,
        /// The sliding window of that limit, in milliseconds.
        window_ms: u64,
        /// How long the stream is blocked at least, in milliseconds; only of a block.
        #[serde(skip_serializing_if = "Option::is_none")]
        hold_ms: Option<u64>,
        /// `probation` where the stream enters or leaves the time after a block.
        #[serde(skip_serializing_if = "Option::is_none")]
        phase: Option<&'static str>,
        /// What else the operator has to know.
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<&'static str>,
    },
    /// A limit is exceeded; told once until it is cleared, whatever state the stream is in.
    ConditionRaised {
        /// What is wrong, by the name that the report's `conditions` have.
        condition: &'static str,
        /// The limit, by its policy key.
        cause: &'static str,
        /// What was compared with the limit: a count within the window, milliseconds, bits per second, per cent, a stream
        /// type or a PID.
        figure: u64,
        /// The limit it was compared with.
        limit: u64,
        /// What the figure is taken over, in milliseconds, where there is such a time.
        #[serde(skip_serializing_if = "Option::is_none")]
        window_ms: Option<u64>,
        /// `alert` or `block`.
        on_exceed: &'static str,
        /// `probation` in the time after a block.
        #[serde(skip_serializing_if = "Option::is_none")]
        phase: Option<&'static str>,
    },
    /// A limit that was exceeded has not been for the rule's `clear_after`.
    ConditionCleared {
        /// What was wrong.
        condition: &'static str,
        /// The limit, by its policy key.
        cause: &'static str,
        /// From the raise until now, in milliseconds.
        lasted_ms: u64,
        /// `probation` in the time after a block.
        #[serde(skip_serializing_if = "Option::is_none")]
        phase: Option<&'static str>,
    },
    /// The stream would be blocked now, had its rule not said `enforce = false`; told once per block.
    BlockWithheld {
        /// What is wrong.
        condition: &'static str,
        /// The limit, by its policy key.
        cause: &'static str,
        /// What was compared with the limit.
        figure: u64,
        /// The limit it was compared with.
        limit: u64,
        /// What the figure is taken over, in milliseconds, where there is such a time.
        #[serde(skip_serializing_if = "Option::is_none")]
        window_ms: Option<u64>,
        /// How long the stream would have been blocked at least, in milliseconds.
        hold_ms: u64,
        /// `false`.
        enforced: bool,
    },
    /// A block did not end when it was last said to, for what blocks has exceeded its limit since; told at most once per
    /// `hold`.
    BlockProlonged {
        /// What prolonged it last.
        condition: &'static str,
        /// The limit, by its policy key.
        cause: &'static str,
        /// How long the stream is blocked from now on at least, in milliseconds.
        hold_ms: u64,
    },
    /// The sender said that it leaves (RFC 3550 6.6). Whoever can send RTCP can say so: the stream's media tells.
    Bye,
    /// A finding; told the first time and then at most once a second per stream and kind.
    Finding {
        /// Its name: `sequence-conflict`, `out-of-window`, `ssrc-conflict` and others.
        finding: &'static str,
        /// How often it occurred so far.
        count: u64,
    },
    /// An RTMP client may publish or play what it asked for.
    RtmpAdmitted {
        /// The application, without a query.
        application: Option<Arc<str>>,
        /// `publish` or `play`.
        purpose: Option<&'static str>,
        /// Which of the rule's stream keys matched, counted from 1.
        key_pattern: Option<u32>,
    },
    /// An RTMP connection was refused, and is dropped for its life where its rule enforces.
    RtmpRefused {
        /// The application that it asked for, without a query.
        application: Option<Arc<str>>,
        /// `rtmp-application`, `rtmp-stream-key` or `not-rtmp`.
        reason: &'static str,
    },
    /// A party of an SRT handshake was refused by its peer; told at most once a second per flow.
    SrtRejected {
        /// The reason as on the wire, 1000 and up.
        code: u32,
        /// Its name; `other` where it has none.
        reason: &'static str,
        /// Rejections in this flow so far.
        count: u64,
    },
    /// The receiver of an SRT stream does not take the sender's keys.
    SrtKeyRefused {
        /// `no-secret`, `bad-secret`, `bad-crypto-mode`, `unsecured` or `other`.
        state: &'static str,
    },
    /// The key of an SRT session came by after packets that could not be deciphered; from now on they are.
    SrtKeyLearnt {
        /// The cipher.
        encryption: &'static str,
    },
    /// A party closed the SRT session.
    SrtShutdown {
        /// `sender` or `receiver` of this stream.
        by: &'static str,
    },
    /// ETSI TR 101 290 was violated; told the first time and then at most once a second per stream and indicator.
    Tr101290 {
        /// ETSI's number, such as `1.3.a`.
        indicator: &'static str,
        /// ETSI's name, such as `PAT_error_2`.
        name: &'static str,
        /// ETSI's priority, 1 to 3.
        priority: u8,
        /// The PID of the last violation, where it was about one.
        pid: Option<u16>,
        /// Violations since it was last told.
        count: u64,
    },
    /// The PAT is new or lists other programmes than before.
    PatChanged {
        /// version_number.
        version: u8,
        /// Programmes that it lists.
        programmes: u16,
        /// It is the stream's first.
        initial: bool,
    },
    /// The PAT lists a programme no more.
    ProgrammeRemoved {
        /// program_number.
        programme: u16,
    },
    /// A PMT lists a component that it did not list before, or not with this stream_type.
    ComponentAdded {
        /// program_number.
        programme: u16,
        /// Its PID.
        pid: u16,
        /// stream_type.
        stream_type: u8,
        /// The stream_type's name in policies.
        kind: &'static str,
        /// It was in the programme's first PMT.
        initial: bool,
    },
    /// A PMT does not list a component any more, or with another stream_type.
    ComponentRemoved {
        /// program_number.
        programme: u16,
        /// Its PID.
        pid: u16,
        /// stream_type.
        stream_type: u8,
        /// The stream_type's name in policies.
        kind: &'static str,
    },
    /// A PMT names another PCR PID; 8191 for none.
    PcrPidChanged {
        /// program_number.
        programme: u16,
        /// Before.
        from: u16,
        /// Now.
        to: u16,
    },
    /// A table has another version_number.
    TableVersion {
        /// Where.
        pid: u16,
        /// table_id.
        table_id: u8,
        /// table_id_extension: the programme, network or transport stream.
        extension: u16,
        /// version_number now.
        version: u8,
    },
    /// A section could not be assembled or read; what was known stays.
    SectionMalformed {
        /// Where.
        pid: u16,
        /// table_id, where so much was received.
        table_id: Option<u8>,
        /// What is wrong.
        error: String,
    },
    /// A PID has become scrambled, or clear again.
    Scrambling {
        /// The PID.
        pid: u16,
        /// Scrambled, or clear.
        scrambled: bool,
    },
    /// A cue (ANSI/SCTE 35).
    Cue(Box<Cue>),
    /// Something is wrong with splice information.
    CueFinding {
        /// Where.
        pid: u16,
        /// `bad-crc`, `malformed`, `encrypted`, `unannounced` or `short-preroll`.
        finding: &'static str,
        /// Of a short pre-roll: milliseconds to the splice point, negative where that is past.
        #[serde(skip_serializing_if = "Option::is_none")]
        preroll_ms: Option<i64>,
    },
    /// More happened to the stream within a second than was told.
    EventsWithheld {
        /// Events that were not told.
        count: u64,
    },
}

impl StreamChange {
    /// Whether it tells what becomes of a stream's packets, or of a limit of its rule.
    pub(super) const fn is_verdict(&self) -> bool {
        matches!(
            self,
            StreamChange::StateChanged { .. }
                | StreamChange::ConditionRaised { .. }
                | StreamChange::ConditionCleared { .. }
                | StreamChange::BlockWithheld { .. }
        )
    }
}
