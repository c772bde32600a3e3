//! The part of a stream's report that only RTP has. The names are a contract: keys may be added, never renamed.

use serde::Serialize;

/// What only RTP knows of a stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RtpReport {
    /// Interarrival jitter (RFC 3550 A.8) in milliseconds; `None` where the payload's clock is not known.
    pub jitter_ms: Option<f64>,
    /// The same in units of the RTP clock.
    pub jitter: Option<f64>,
    /// The RTP clock in Hz, where jitter is measured.
    pub clock_rate: Option<u32>,
    /// Payload types seen, in ascending order.
    pub payload_types: Vec<u8>,
    /// Packets with the marker bit set.
    pub markers: u64,
    /// Jumps of the RTP time stamp that no marker announced.
    pub timestamp_jumps: u64,
    /// Jumps of the RTP time stamp at a packet with the marker bit (RFC 2250 2).
    pub signalled_timestamp_jumps: u64,
    /// What RTCP says of the stream; `None` where none was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtcp: Option<RtcpReport>,
    /// FEC packets, in the report of the FEC stream itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fec: Option<FecReport>,
    /// The merge with the stream's other path (SMPTE ST 2022-7), where the rule names both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seamless: Option<SeamlessReport>,
    /// A companion that belongs to the stream was not seen here, or not told of in full: figures that need it say too little.
    pub partial: bool,
}

/// What RTCP says of a stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RtcpReport {
    /// Sender reports seen.
    pub sender_reports: u64,
    /// Packets that the sender counted between its first and its last report seen here.
    pub sent_packets: u64,
    /// Payload bytes that the sender counted between them.
    pub sent_octets: u64,
    /// Of those packets, how many lie between reports at which it is known what had come here.
    pub compared_packets: u64,
    /// Of those compared, how many did not come here, packets still on their way when the report came among them; `None`
    /// where nothing could be compared, as in the report of an RTCP stream itself, and where the sender repeats packets.
    pub missing: Option<u64>,
    /// The sender's canonical name, its first 64 bytes.
    pub cname: Option<String>,
    /// Report blocks of receivers seen.
    pub receiver_reports: u64,
    /// Lost on the way to the receiver between its last two reports, in percent.
    pub fraction_lost_percent: Option<f64>,
    /// Lost on the way to the receiver in all, as it counts.
    pub cumulative_lost: Option<i32>,
    /// Interarrival jitter at the receiver, in units of the RTP clock.
    pub receiver_jitter: Option<u32>,
    /// From here to the receiver and back, from sender and receiver reports or RIST's echo, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// Retransmission requests seen.
    pub nacks: u64,
    /// Numbers asked for in them.
    pub nacked_packets: u64,
    /// BYE packets of the sender seen.
    pub byes: u64,
    /// Extended reports (RFC 3611) seen.
    pub extended_reports: u64,
    /// RTCP packets that could not be read.
    pub malformed: u64,
}

/// The packets of an FEC stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FecReport {
    /// Column packets.
    pub columns: u64,
    /// Row packets.
    pub rows: u64,
    /// Packets that are no FEC packets.
    pub malformed: u64,
    /// Packets in a row of the matrix (L), as last seen.
    pub width: u8,
    /// Packets in a column of the matrix (D), as last seen; 0 where no column was.
    pub depth: u8,
}

/// The merge of two paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct SeamlessReport {
    /// Numbers that neither path brought.
    pub lost: u64,
    /// Numbers that each path lost, in the order of the rule.
    pub path_lost: [u64; 2],
    /// How much later the second path is than the first, in milliseconds.
    pub skew_ms: Option<f64>,
}
