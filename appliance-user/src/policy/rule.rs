//! One rule of a policy: what it admits, and what is judged of what it admits.
//!
//! Which packets belong to a rule is decided by addresses, ports, endpoint and IP transport alone; whether a packet is what
//! the rule's protocol says is the engine's question.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use tidegate_common::flow::Tuple;

use super::action::FailureAction;
use super::glob::Glob;
use super::set::{PayloadTypes, PidSet, PortSet};

/// The most concurrent SSRCs that a rule may allow: what the engine follows within one flow.
pub const MAX_SSRC: u16 = 8;
/// IP protocol number of UDP.
const UDP: u8 = 17;

/// What a rule's streams are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RTP (RFC 3550) on the listed port P, RTCP on P+1.
    Rtp,
    /// RTP with SMPTE 2022-1 FEC: columns on P+2, rows on P+4, RTCP on P+1.
    RtpFec,
    /// RIST simple profile (TR-06-1): RTP on P, RTCP both ways on P+1.
    Rist,
    /// SRT (draft-sharabayko-srt), both ways on the listed port.
    Srt,
    /// MPEG-TS straight in UDP, without sequence numbers; nothing comes back.
    TsUdp,
    /// Any IP transport, both ways, judged as nothing in particular.
    Any,
}

impl Protocol {
    /// Every protocol, in the order of the documentation.
    pub const ALL: [Protocol; 6] = [
        Protocol::Rtp,
        Protocol::RtpFec,
        Protocol::Rist,
        Protocol::Srt,
        Protocol::TsUdp,
        Protocol::Any,
    ];

    /// The name used in policies and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Rtp => "rtp",
            Protocol::RtpFec => "rtp-fec",
            Protocol::Rist => "rist",
            Protocol::Srt => "srt",
            Protocol::TsUdp => "ts-udp",
            Protocol::Any => "any",
        }
    }

    /// Whether the media is RTP, so that `[rule.rtp]` has a meaning.
    pub const fn is_rtp(self) -> bool {
        matches!(self, Protocol::Rtp | Protocol::RtpFec | Protocol::Rist)
    }

    /// Whether the packets carry sequence numbers, so that loss and order can be seen.
    pub const fn has_sequence_numbers(self) -> bool {
        matches!(self, Protocol::Rtp | Protocol::RtpFec | Protocol::Rist | Protocol::Srt)
    }

    /// Whether this protocol travels in the IP transport of that number.
    pub(super) const fn travels_in(self, ip_protocol: u8) -> bool {
        match self {
            Protocol::Any => true,
            _ => ip_protocol == UDP,
        }
    }

    /// Ports that are admitted beside each listed one, as the distance from it.
    const fn companions(self) -> &'static [(u16, Companion)] {
        match self {
            Protocol::Rtp | Protocol::Rist => &[(1, Companion::Rtcp)],
            Protocol::RtpFec => &[(2, Companion::FecColumn), (4, Companion::FecRow), (1, Companion::Rtcp)],
            Protocol::Srt | Protocol::TsUdp | Protocol::Any => &[],
        }
    }

    /// How far from a listed port the receiver's replies come, or `None` where receivers are silent.
    pub(super) const fn reply_offset(self) -> Option<u16> {
        match self {
            Protocol::Srt | Protocol::Any => Some(0),
            Protocol::Rtp | Protocol::RtpFec | Protocol::Rist => Some(1),
            Protocol::TsUdp => None,
        }
    }

    /// Whether the protocol cannot do its work without replies. Plain RTP can: its receiver reports are optional.
    pub(super) const fn needs_replies(self) -> bool {
        matches!(self, Protocol::Srt | Protocol::Rist | Protocol::Any)
    }
}

/// What travels on a port beside the media's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Companion {
    /// RTCP, one above the media (RFC 3550 11; TR-06-1 5.1.1).
    Rtcp,
    /// FEC over columns, two above the media (SMPTE 2022-1).
    FecColumn,
    /// FEC over rows, four above the media (SMPTE 2022-1).
    FecRow,
}

/// What a destination port is to a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortRole {
    /// The rule lists the port, or lists none and so takes every port.
    Media,
    /// The port belongs to the stream on the listed port `media`.
    Companion {
        /// What travels on it.
        kind: Companion,
        /// The listed port that it accompanies: the base port of the group.
        media: u16,
    },
}

/// Whether a limit that is exceeded is only told, or also blocks the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnExceed {
    /// Tell.
    #[default]
    Alert,
    /// Tell, and drop the stream's packets for the hold time.
    Block,
}

/// The limit on continuity incidents: exceeded by more than `max_incidents` within any `window`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContinuityLimit {
    /// Incidents within the window that are still borne. All events of all PIDs within 500 ms are one incident.
    pub max_incidents: u32,
    /// Length of the sliding window.
    pub window: Duration,
    /// What to do when there are more.
    pub on_exceed: OnExceed,
    /// How long a block lasts.
    pub hold: Duration,
    /// PIDs whose continuity is not judged.
    pub ignore_pids: PidSet,
}

impl Default for ContinuityLimit {
    fn default() -> Self {
        ContinuityLimit {
            max_incidents: 0,
            window: Duration::from_secs(10),
            on_exceed: OnExceed::Alert,
            hold: Duration::from_secs(10),
            ignore_pids: PidSet::default(),
        }
    }
}

/// The limit on packets lost by the network: exceeded by more than `max_packets` within any `window`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossLimit {
    /// Lost packets within the window that are still borne.
    pub max_packets: u32,
    /// Length of the sliding window.
    pub window: Duration,
    /// What to do when there are more.
    pub on_exceed: OnExceed,
    /// How long a block lasts.
    pub hold: Duration,
}

impl Default for LossLimit {
    fn default() -> Self {
        LossLimit {
            max_packets: 100,
            window: Duration::from_secs(1),
            on_exceed: OnExceed::Alert,
            hold: Duration::from_secs(10),
        }
    }
}

/// What happens to a cleartext TS datagram with bad sync, length or transport error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MalformedTs {
    /// Tell, and forward it.
    #[default]
    Alert,
    /// Tell, and drop the datagram.
    Drop,
}

/// What a rule says of the transport stream. The default is what holds where it says nothing: alerts only.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TsRule {
    /// Limit on continuity incidents.
    pub continuity: ContinuityLimit,
    /// Limit on packets lost by the network.
    pub network_loss: LossLimit,
    /// What happens to malformed TS datagrams; never `Drop` on SRT or RIST.
    pub malformed_ts: MalformedTs,
}

/// Whether an SRT session must, may or must not be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Encryption {
    /// Cleartext is dropped.
    Required,
    /// Either is admitted.
    #[default]
    Optional,
    /// Ciphertext is dropped.
    Forbidden,
}

/// What happens to an SRT session that was joined without its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnUnverified {
    /// Forward it and say that it is unverified.
    #[default]
    Return,
    /// Drop it.
    Drop,
}

/// What a rule says of SRT.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SrtRule {
    /// Stream ids that may call, or `None` for every one.
    pub stream_ids: Option<Vec<Glob>>,
    /// What the session's encryption must be.
    pub encryption: Encryption,
    /// What happens to a session joined without its handshake.
    pub on_unverified: OnUnverified,
}

impl SrtRule {
    /// Whether a handshake with this stream id may pass. A handshake without one has the empty id.
    pub fn admits_stream_id(&self, id: &[u8]) -> bool {
        self.stream_ids
            .as_ref()
            .is_none_or(|globs| globs.iter().any(|glob| glob.matches(id)))
    }
}

/// What a rule says of RTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpRule {
    /// Payload types that media packets may have, or `None` for every one. Companions are not bound by it.
    pub payload_types: Option<PayloadTypes>,
    /// Concurrent media SSRCs past probation.
    pub max_ssrc: u16,
}

impl RtpRule {
    /// Whether media packets may have this payload type.
    pub fn admits_payload_type(&self, payload_type: u8) -> bool {
        self.payload_types
            .as_ref()
            .is_none_or(|types| types.contains(payload_type))
    }
}

impl Default for RtpRule {
    fn default() -> Self {
        RtpRule {
            payload_types: None,
            max_ssrc: 1,
        }
    }
}

/// One rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Unique within the policy.
    pub name: String,
    /// What the rule's streams are.
    pub protocol: Protocol,
    /// Where streams may come from; never empty.
    pub sources: Vec<IpNet>,
    /// Where streams may go; empty for anywhere.
    pub destinations: Vec<IpNet>,
    /// Destination ports of the media; empty for any.
    pub ports: PortSet,
    /// GWLB endpoint ids, sorted; empty for any, then packets without an id are taken too.
    pub endpoints: Vec<u64>,
    /// How long the judge waits for a late packet, or `None` for the protocol's own measure.
    pub reorder_window: Option<Duration>,
    /// `false`: judge and tell, drop and block nothing.
    pub enforce: bool,
    /// What the kernel does while no worker is alive, or `None` for the appliance's `--on-failure`.
    pub on_failure: Option<FailureAction>,
    /// SRT; the defaults where the protocol is another.
    pub srt: SrtRule,
    /// RTP; the defaults where the protocol is another.
    pub rtp: RtpRule,
    /// The transport stream; the defaults where the protocol carries none.
    pub ts: TsRule,
}

/// How a rule comes to take a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The rule lists the packet's destination port.
    Listed,
    /// The rule lists no ports.
    AnyPort,
    /// The port accompanies one that the rule lists.
    Companion,
}

impl Rule {
    /// What holds for traffic that is observed without a policy: no name, any protocol, the defaults of every limit.
    pub fn observer() -> Rule {
        Rule {
            name: String::new(),
            protocol: Protocol::Any,
            sources: Vec::new(),
            destinations: Vec::new(),
            ports: PortSet::default(),
            endpoints: Vec::new(),
            reorder_window: None,
            enforce: true,
            on_failure: None,
            srt: SrtRule::default(),
            rtp: RtpRule {
                max_ssrc: MAX_SSRC,
                ..RtpRule::default()
            },
            ts: TsRule::default(),
        }
    }

    /// What a destination port of the rule's own direction is to the rule, or `None` if it is nothing to it. Where a port
    /// accompanies several listed ones, FEC is named before RTCP: RTCP shows itself by its packet type (RFC 5761 4).
    pub fn port_role(&self, port: u16) -> Option<PortRole> {
        if self.ports.is_empty() || self.ports.contains(port) {
            return Some(PortRole::Media);
        }
        self.protocol.companions().iter().find_map(|(offset, kind)| {
            let media = port.checked_sub(*offset).filter(|media| self.ports.contains(*media))?;
            Some(PortRole::Companion { kind: *kind, media })
        })
    }

    /// Whether and how the rule takes a packet in its own direction.
    pub(super) fn claim(&self, tuple: &Tuple) -> Option<Claim> {
        let taken = self.protocol.travels_in(tuple.protocol)
            && self.takes_endpoint(tuple.endpoint)
            && holds(&self.sources, tuple.source.ip())
            && (self.destinations.is_empty() || holds(&self.destinations, tuple.destination.ip()));
        if !taken {
            return None;
        }
        Some(match self.port_role(tuple.destination.port())? {
            PortRole::Media if self.ports.is_empty() => Claim::AnyPort,
            PortRole::Media => Claim::Listed,
            PortRole::Companion { .. } => Claim::Companion,
        })
    }

    /// Whether a packet comes from a receiver of the rule's streams, on a port that its protocol replies from.
    pub(super) fn answers(&self, reply: &Tuple) -> bool {
        self.protocol.travels_in(reply.protocol)
            && self.takes_endpoint(reply.endpoint)
            && holds(&self.sources, reply.destination.ip())
            && self.may_reply(reply.source.ip())
            && self.is_reply_port(reply.source.port())
    }

    /// Whether the rule's receivers may be anywhere because it names none and its protocol cannot do without replies.
    pub(super) fn replies_from_anywhere(&self) -> bool {
        self.destinations.is_empty() && self.protocol.needs_replies()
    }

    fn may_reply(&self, address: IpAddr) -> bool {
        self.replies_from_anywhere() || holds(&self.destinations, address)
    }

    fn is_reply_port(&self, port: u16) -> bool {
        let Some(offset) = self.protocol.reply_offset() else {
            return false;
        };
        self.ports.is_empty() || port.checked_sub(offset).is_some_and(|media| self.ports.contains(media))
    }

    fn takes_endpoint(&self, endpoint: Option<u64>) -> bool {
        self.endpoints.is_empty() || endpoint.is_some_and(|id| self.endpoints.binary_search(&id).is_ok())
    }
}

fn holds(prefixes: &[IpNet], address: IpAddr) -> bool {
    prefixes.iter().any(|prefix| prefix.contains(&address))
}
