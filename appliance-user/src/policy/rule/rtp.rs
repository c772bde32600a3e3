//! What a rule says of RTP.

use ipnet::IpNet;

use crate::policy::set::PayloadTypes;

/// The most concurrent SSRCs that a rule may allow: what the engine follows within one flow.
pub const MAX_SSRC: u16 = 8;

/// One of the two paths of a stream that is sent twice (SMPTE ST 2022-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Where the path's packets come from; within the rule's sources.
    pub source: IpNet,
    /// Where they go; within the rule's destinations.
    pub destination: IpNet,
    /// The media's destination port; one of the rule's.
    pub port: u16,
}

/// What a rule says of RTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpRule {
    /// Payload types that media packets may have, or `None` for every one. Companions are not bound by it.
    pub payload_types: Option<PayloadTypes>,
    /// Concurrent media SSRCs past probation.
    pub max_ssrc: u16,
    /// The two paths of one stream, or `None` where every path is a stream of its own. No packet is of both.
    pub paths: Option<[Path; 2]>,
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
            paths: None,
        }
    }
}
