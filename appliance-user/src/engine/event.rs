//! What the engine tells while it runs: streams that come, change and go.

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
    },
    /// The sender said that it leaves (RFC 3550 6.6). Whoever can send RTCP can say so: the stream's media tells.
    Bye,
    /// A finding; told the first time and then at most once a second per stream and kind.
    Finding {
        /// `sequence-conflict`, `out-of-window`, `ssrc-conflict`, `bye-with-media`, `rtp-timestamp-jump`.
        finding: &'static str,
        /// How often it occurred so far.
        count: u64,
    },
}
