//! What the engine tells while it runs: streams that come, change and go.

use std::sync::Arc;

use serde::Serialize;

use super::report::{StreamIdentity, StreamState, TransportReport};
use super::time::Timestamp;

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
    /// An RTMP connection was refused, and is dropped for its life.
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
}
