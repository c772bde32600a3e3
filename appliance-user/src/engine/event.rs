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
    /// A security finding; told the first time and then at most once a second per stream and kind.
    Finding {
        /// `sequence-conflict`, `out-of-window`, `ssrc-conflict`, `srt-wrong-passphrase`, `srt-not-authentic`.
        finding: &'static str,
        /// How often it occurred so far.
        count: u64,
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
