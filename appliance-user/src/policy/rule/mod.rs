//! One rule of a policy: what it admits, and what is judged of what it admits.
//!
//! Which packets belong to a rule is decided by addresses, ports, endpoint and IP transport alone; whether a packet is what
//! the rule's protocol says is the engine's question.

mod protocol;
mod rtmp;
mod rtp;
mod srt;
mod ts;

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::action::FailureAction;
use super::set::PortSet;

pub use protocol::{Companion, PortRole, Protocol};
pub use rtmp::RtmpRule;
pub use rtp::{MAX_SSRC, Path, RtpRule};
pub use srt::{Encryption, OnUnverified, SrtRule};
pub use ts::{
    BitrateLimit, ContinuityLimit, HOLD, LossLimit, MalformedTs, NullPacketsLimit, OnExceed, PidsLimit, Scte35Rule,
    StreamTypesLimit, Tr101290Limit, Tr101290Thresholds, TsRule,
};

/// How long a finding must last before it is told, where a rule does not say.
pub const RAISE_AFTER: Duration = Duration::from_secs(2);
/// How long a finding must be gone before it is told to be over, where a rule does not say.
pub const CLEAR_AFTER: Duration = Duration::from_secs(10);

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
    /// Whether the streams are waited for: one that never comes is a finding, too. Only with `silence`.
    pub expected: bool,
    /// How long no packet may come before the stream is said to have stopped, or `None` where that is no finding.
    pub silence: Option<Duration>,
    /// How long a finding must last before it is told.
    pub raise_after: Duration,
    /// How long a finding must be gone before it is told to be over.
    pub clear_after: Duration,
    /// What the kernel does while no worker is alive, or `None` for the appliance's `--on-failure`.
    pub on_failure: Option<FailureAction>,
    /// SRT; the defaults where the protocol is another.
    pub srt: SrtRule,
    /// RTP; the defaults where the protocol is another.
    pub rtp: RtpRule,
    /// RTMP; the defaults where the protocol is another.
    pub rtmp: RtmpRule,
    /// The transport stream; the defaults where the protocol carries none.
    pub ts: Arc<TsRule>,
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
            expected: false,
            silence: None,
            raise_after: RAISE_AFTER,
            clear_after: CLEAR_AFTER,
            on_failure: None,
            srt: SrtRule::default(),
            rtp: RtpRule {
                max_ssrc: MAX_SSRC,
                ..RtpRule::default()
            },
            rtmp: RtmpRule::default(),
            ts: Arc::default(),
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

    /// The listed ports and those that accompany them; empty for a rule that takes every port.
    pub(in crate::policy) fn ports_with_companions(&self) -> Vec<(u16, u16)> {
        let companions = self.protocol.companions().iter();
        let companions = companions.flat_map(|(offset, _)| self.ports.shifted(*offset));
        self.ports.ranges().iter().copied().chain(companions).collect()
    }

    /// Whether the rule's receivers may be anywhere because it names none and its protocol cannot do without replies.
    pub(in crate::policy) fn replies_from_anywhere(&self) -> bool {
        self.destinations.is_empty() && self.protocol.needs_replies()
    }
}
