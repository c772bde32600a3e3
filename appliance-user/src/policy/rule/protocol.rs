//! The protocols of a policy, and which ports and transports belong to each.

/// IP protocol number of TCP.
const TCP: u8 = 6;
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
    /// RTMP in TCP, both ways on the listed port; the stream is watched up to its `publish`, then it passes.
    Rtmp,
    /// Any IP transport, both ways, judged as nothing in particular.
    Any,
}

impl Protocol {
    /// Every protocol, in the order of the documentation.
    pub const ALL: [Protocol; 7] = [
        Protocol::Rtp,
        Protocol::RtpFec,
        Protocol::Rist,
        Protocol::Srt,
        Protocol::TsUdp,
        Protocol::Rtmp,
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
            Protocol::Rtmp => "rtmp",
            Protocol::Any => "any",
        }
    }

    /// Whether the media is RTP, so that `[rule.rtp]` has a meaning.
    pub const fn is_rtp(self) -> bool {
        matches!(self, Protocol::Rtp | Protocol::RtpFec | Protocol::Rist)
    }

    /// Whether the streams are MPEG-TS, so that `[rule.ts]` has a meaning.
    pub const fn carries_ts(self) -> bool {
        match self {
            Protocol::Rtp | Protocol::RtpFec | Protocol::Rist | Protocol::Srt | Protocol::TsUdp => true,
            Protocol::Rtmp | Protocol::Any => false,
        }
    }

    /// Whether the datagrams carry sequence numbers, so that loss and order can be seen. RTMP's do not: TCP repairs both.
    pub const fn has_sequence_numbers(self) -> bool {
        matches!(self, Protocol::Rtp | Protocol::RtpFec | Protocol::Rist | Protocol::Srt)
    }

    /// Number of the IP transport that this protocol travels in, or `None` if that may be any.
    pub(in crate::policy) const fn ip_transport(self) -> Option<u8> {
        match self {
            Protocol::Any => None,
            Protocol::Rtmp => Some(TCP),
            _ => Some(UDP),
        }
    }

    /// Ports that are admitted beside each listed one, as the distance from it.
    pub(super) const fn companions(self) -> &'static [(u16, Companion)] {
        match self {
            Protocol::Rtp | Protocol::Rist => &[(1, Companion::Rtcp)],
            Protocol::RtpFec => &[(2, Companion::FecColumn), (4, Companion::FecRow), (1, Companion::Rtcp)],
            Protocol::Srt | Protocol::TsUdp | Protocol::Rtmp | Protocol::Any => &[],
        }
    }

    /// How far from a listed port the receiver's replies come, or `None` where receivers are silent.
    pub(in crate::policy) const fn reply_offset(self) -> Option<u16> {
        match self {
            Protocol::Srt | Protocol::Rtmp | Protocol::Any => Some(0),
            Protocol::Rtp | Protocol::RtpFec | Protocol::Rist => Some(1),
            Protocol::TsUdp => None,
        }
    }

    /// Whether the protocol cannot do its work without replies. Plain RTP can: its receiver reports are optional.
    pub(in crate::policy) const fn needs_replies(self) -> bool {
        matches!(self, Protocol::Srt | Protocol::Rist | Protocol::Rtmp | Protocol::Any)
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
