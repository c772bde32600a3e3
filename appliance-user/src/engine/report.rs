//! What the engine says of its streams: the report of `tidegate inspect --format json` and of `/api/v1/streams`.
//!
//! The names are a contract: keys may be added, never renamed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

pub use super::expect::ExpectationReport;
pub use super::flow::RtmpReport;
pub use super::flow::rtp::{FecReport, RtcpReport, RtpReport, SeamlessReport};
pub use super::flow::srt::{GroupReport, HandshakeReport, KeyState, PartyReport, SrtReport};

pub use super::ts::{Cue, CueReport, PidAnalysis, TsAnalysis};

/// The version of the report's shape.
pub const SCHEMA: u32 = 1;

/// One input's report.
#[derive(Clone, Debug, Serialize)]
pub struct InputReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The input as it was named on the command line.
    pub input: String,
    /// Where reading stopped early, and why; absent for an input that was read to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How every packet ended.
    pub packets: PacketTotals,
    /// Drops by reason; only reasons that occurred.
    pub drop_reasons: BTreeMap<&'static str, u64>,
    /// Packets returned that their rule would have dropped, had it said `enforce = true`.
    pub shadow_drops: u64,
    /// Packets that were decided one by one because the flow table was full of live flows; their streams are not followed.
    pub flows_refused: u64,
    /// Rules that say `expected = true`, and whether their media was there, in the policy's order. Only captures have them.
    pub expectations: Vec<ExpectationReport>,
    /// Streams in the order in which they appeared.
    pub streams: Vec<StreamReport>,
}

/// `seen = returned + dropped + passed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PacketTotals {
    /// Packets read.
    pub seen: u64,
    /// Packets that go back to the load balancer.
    pub returned: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Packets that are not for the appliance.
    pub passed: u64,
}

/// Who a stream is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamIdentity {
    /// What it speaks.
    pub protocol: StreamProtocol,
    /// The rule that admitted it; `None` without a policy.
    pub rule: Option<Arc<str>>,
    /// The media sender; `None` for a file.
    pub source: Option<SocketAddr>,
    /// The media receiver; `None` for a file.
    pub destination: Option<SocketAddr>,
    /// GWLB endpoint id, as `0x` and 16 digits.
    #[serde(serialize_with = "endpoint_hex")]
    pub endpoint: Option<u64>,
    /// RTP synchronisation source (RFC 3550 3).
    pub ssrc: Option<u32>,
    /// SRT stream id, where the handshake was seen.
    pub stream_id: Option<Arc<str>>,
}

/// What a stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamProtocol {
    /// RTP media (RFC 3550).
    Rtp,
    /// SMPTE 2022-1 forward error correction beside RTP.
    RtpFec,
    /// RTCP (RFC 3550 6).
    Rtcp,
    /// RIST simple profile (VSF TR-06-1).
    Rist,
    /// SRT (draft-sharabayko-srt).
    Srt,
    /// TS packets in UDP without a transport header.
    TsUdp,
    /// RTMP over TCP.
    Rtmp,
    /// A `.ts` file.
    File,
    /// Anything else that a rule admits.
    Other,
}

impl StreamProtocol {
    /// Whether its packets carry sequence numbers that are judged.
    pub const fn is_sequenced(self) -> bool {
        matches!(self, StreamProtocol::Rtp | StreamProtocol::Rist | StreamProtocol::Srt)
    }

    /// Whether a judge follows it; else its packets are only counted.
    pub const fn is_judged(self) -> bool {
        self.is_sequenced() || matches!(self, StreamProtocol::TsUdp | StreamProtocol::File)
    }

    /// Whether it is what its rule is there for, not a companion of it.
    pub const fn is_media(self) -> bool {
        !matches!(self, StreamProtocol::RtpFec | StreamProtocol::Rtcp)
    }

    /// The name used in reports, policies and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            StreamProtocol::Rtp => "rtp",
            StreamProtocol::RtpFec => "rtp-fec",
            StreamProtocol::Rtcp => "rtcp",
            StreamProtocol::Rist => "rist",
            StreamProtocol::Srt => "srt",
            StreamProtocol::TsUdp => "ts-udp",
            StreamProtocol::Rtmp => "rtmp",
            StreamProtocol::File => "file",
            StreamProtocol::Other => "other",
        }
    }
}

/// How sound a stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamState {
    /// No limit of its rule is exceeded.
    #[default]
    Healthy,
    /// A limit is or was lately exceeded; packets flow.
    Degraded,
    /// Packets are dropped until the hold time is over.
    Blocked,
}

impl StreamState {
    /// The name used in reports, events and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            StreamState::Healthy => "healthy",
            StreamState::Degraded => "degraded",
            StreamState::Blocked => "blocked",
        }
    }
}

/// Everything known of one stream.
#[derive(Clone, Debug, Serialize)]
pub struct StreamReport {
    /// The engine's streams in the order in which they appeared.
    #[serde(skip)]
    pub ordinal: u64,
    /// Who it is.
    #[serde(flatten)]
    pub identity: StreamIdentity,
    /// `none`, or the cipher by name, or `unverified` where the session was joined without its handshake and its cipher is
    /// unknown so far. Of SRT, [`SrtReport::verified`] says whether the handshake was seen.
    pub encryption: &'static str,
    /// The TS was judged after decryption.
    pub decrypted: bool,
    /// What only SRT knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub srt: Option<SrtReport>,
    /// State at the end.
    pub state: StreamState,
    /// The worst state it was ever in.
    pub worst_state: StreamState,
    /// Limits that are exceeded or were lately, by name, in the order in which they were raised.
    pub conditions: Vec<&'static str>,
    /// Datagrams, every copy counted.
    pub packets: u64,
    /// UDP payload bytes, every copy counted.
    pub bytes: u64,
    /// What the transport's sequence numbers say.
    pub transport: TransportReport,
    /// What the transport stream says; `None` where it could not be seen.
    pub ts: Option<TsReport>,
    /// ETSI TR 101 290 measurements that were evaluated.
    pub tr101290: BTreeMap<&'static str, u64>,
    /// Findings by name.
    pub findings: BTreeMap<&'static str, u64>,
    /// The last cues of the splice information, oldest first.
    pub scte35: Vec<Cue>,
    /// Splice sections in all; absent where there were none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub splice: Option<CueReport>,
    /// What only RTMP knows; absent for other protocols.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtmp: Option<RtmpReport>,
    /// What only RTP, RTCP and FEC know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtp: Option<RtpReport>,
}

/// Transport figures, in packets unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TransportReport {
    /// Sequence numbers missing between the first and the last, at the window's end.
    pub lost: u64,
    /// RFC 4737 type-P-reordered.
    pub reordered: u64,
    /// Copies of a number already seen, retransmissions excluded.
    pub duplicated: u64,
    /// Copies that the sender marked as retransmitted.
    pub retransmitted: u64,
    /// Arrived after their window; judged nowhere.
    pub late: u64,
    /// Times that the sequence was rebased: restart, new SSRC, outage.
    pub resets: u64,
    /// Of the lost ones, how many FEC could rebuild (SMPTE ST 2022-1); absent where no FEC accompanies the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recoverable: Option<u64>,
}

/// Transport stream figures (ISO/IEC 13818-1).
#[derive(Clone, Debug, Default, Serialize)]
pub struct TsReport {
    /// TS packets after duplicates were removed, null packets included.
    pub packets: u64,
    /// Continuity errors by whose fault they are.
    pub continuity_errors: ContinuityErrors,
    /// Legal duplicates (2.4.3.3).
    pub duplicates: u64,
    /// Packets whose sync byte is not 0x47.
    pub sync_byte_errors: u64,
    /// Packets with transport_error_indicator.
    pub transport_errors: u64,
    /// Sections with a bad CRC-32.
    pub crc_errors: u64,
    /// Per PID, in the order of PIDs.
    pub pids: Vec<PidReport>,
    /// Tables, clocks and TR 101 290 were looked at. Not where continuity alone was asked for, or where there was no memory
    /// for more.
    pub analysed: bool,
    /// What they say.
    #[serde(flatten)]
    pub analysis: Option<TsAnalysis>,
}

/// Continuity errors by whose fault they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ContinuityErrors {
    /// It was wrong when the last RTP or SRT sender packetised it.
    pub source: u64,
    /// At least one sequence number is missing in the gap.
    pub network: u64,
    /// The transport has no sequence numbers that could tell.
    pub unknown: u64,
}

/// One PID's figures.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PidReport {
    /// Packet identifier, 13 bits.
    pub pid: u16,
    /// TS packets.
    pub packets: u64,
    /// Continuity errors, whoever made them.
    pub continuity_errors: u64,
    /// stream_type from the PMT, where one was read.
    pub stream_type: Option<u8>,
    /// Bit rate, scrambling, time stamps and PCRs.
    #[serde(flatten)]
    pub analysis: Option<PidAnalysis>,
}

fn endpoint_hex<S: Serializer>(endpoint: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match endpoint {
        Some(id) => serializer.collect_str(&format_args!("0x{id:016x}")),
        None => serializer.serialize_none(),
    }
}
