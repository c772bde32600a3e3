//! Why a packet was dropped: one enum, stable numbers, one kebab-case name each.
//!
//! Every packet that is not returned or passed is counted exactly once under one of these. The numbers index the
//! kernel's per-CPU counters and the worker's; they are part of the map layout and are never reused.

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident = $number:literal => $name:literal,)*) => {
        /// Why a packet was dropped. See each variant for the clause that makes it wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DropReason { $($(#[$doc])* $variant = $number,)* }

        impl DropReason {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)*];

            /// The stable kebab-case name used in reports, metrics and logs.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name,)* }
            }
        }
    };
}

drop_reasons! {
    /// A header is cut short by the end of the frame.
    Truncated = 0 => "truncated",
    /// Outer IPv4: version, header length or total length is impossible (RFC 791).
    OuterIpv4 = 1 => "outer-ipv4",
    /// Outer IPv4 first fragment to the GENEVE port: GWLB never fragments, and a part cannot be returned whole.
    OuterFragment = 2 => "outer-fragment",
    /// Outer UDP length does not fit the IPv4 payload (RFC 768).
    OuterUdpLength = 3 => "outer-udp-length",
    /// GENEVE version is not 0 (RFC 8926 3.4).
    GeneveVersion = 4 => "geneve-version",
    /// GENEVE control packet (O bit): its payload must not be forwarded (RFC 8926 3.4).
    GeneveControl = 5 => "geneve-control",
    /// GENEVE options do not add up to the header's option length (RFC 8926 3.5).
    GeneveOptions = 6 => "geneve-options",
    /// A critical GENEVE option that this appliance does not know (RFC 8926 3.5.1).
    GeneveCriticalOption = 7 => "geneve-critical-option",
    /// GENEVE protocol type is neither IPv4 (0x0800) nor IPv6 (0x86DD).
    GeneveProtocol = 8 => "geneve-protocol",
    /// Inner IPv4: version, header length or total length is impossible (RFC 791).
    InnerIpv4 = 9 => "inner-ipv4",
    /// Inner IPv6: version or payload length is impossible (RFC 8200).
    InnerIpv6 = 10 => "inner-ipv6",
    /// Inner UDP length does not fit the IP payload (RFC 768).
    InnerUdpLength = 11 => "inner-udp-length",
    /// Inner TCP data offset is impossible (RFC 9293 3.1).
    InnerTcpHeader = 12 => "inner-tcp-header",
    /// More options or extension headers than the largest walker accepts.
    TooManyHeaders = 13 => "too-many-headers",
    /// No rule admits the inner source; the policy's default action is `drop`.
    SourceNotListed = 14 => "source-not-listed",
    /// The source is listed, but no rule admits this destination, port, endpoint or transport.
    NoRule = 15 => "no-rule",
    /// A packet against a rule's direction without an admitted forward flow.
    UnsolicitedReply = 16 => "unsolicited-reply",
    /// The rule says RTP and the packet is not RTP (RFC 3550 5.1).
    NotRtp = 17 => "not-rtp",
    /// The rule says SRT and the packet is not SRT (draft-sharabayko-srt 3).
    NotSrt = 18 => "not-srt",
    /// The rule says TS over UDP and the datagram does not begin with a TS packet (ISO/IEC 13818-1 2.4.3.2).
    NotTs = 19 => "not-ts",
    /// An SRT handshake whose stream id the rule does not match, or a packet of the session that it asked for.
    SrtStreamId = 20 => "srt-stream-id",
    /// An SRT handshake or data packet that breaks the rule's encryption policy, or a packet of a session so refused.
    SrtEncryption = 21 => "srt-encryption",
    /// An SRT session joined without its handshake, under `on_unverified = "drop"`.
    SrtUnverified = 22 => "srt-unverified",
    /// An RTP payload type that the rule does not list.
    RtpPayloadType = 23 => "rtp-payload-type",
    /// The stream is blocked for its hold time.
    StreamBlocked = 24 => "stream-blocked",
    /// A cleartext TS datagram with bad sync, length or transport error under `malformed_ts = "drop"`.
    MalformedTs = 25 => "malformed-ts",
    /// The failure action is `drop` and no worker is alive on the packet's queue.
    WorkerDead = 26 => "worker-dead",
    /// The worker found its own heartbeat stale and discarded what had queued up meanwhile.
    StaleAfterStall = 27 => "stale-after-stall",
    /// A packet that XDP should have left to the kernel reached a worker.
    NotForUs = 28 => "not-for-us",
    /// A fragment whose first part was never seen, under a default action of `drop`.
    FragmentWithoutFirst = 29 => "fragment-without-first",
    /// A packet of more buffers than any kernel makes.
    TooLarge = 30 => "too-large",
    /// The transmit ring was full.
    TransmitFull = 31 => "transmit-full",
    /// Still in the receive ring when the worker's time to stop was over.
    ShuttingDown = 32 => "shutting-down",
    /// The rule says RTMP and the TCP stream is not RTMP, or hides what the rule asks for.
    NotRtmp = 33 => "not-rtmp",
    /// An RTMP `connect` to an application that the rule does not match.
    RtmpApplication = 34 => "rtmp-application",
    /// An RTMP `publish` or `play` with a stream key that the rule does not match.
    RtmpStreamKey = 35 => "rtmp-stream-key",
    /// An RTMP connection that was not followed from its beginning, under `on_unverified = "drop"`.
    RtmpUnverified = 36 => "rtmp-unverified",
}

impl DropReason {
    /// How many numbers are taken; the size of every array indexed by a reason.
    pub const COUNT: usize = Self::ALL.len();

    /// The reason's number, for indexing.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The reason of a number, if there is one.
    pub fn from_index(index: usize) -> Option<Self> {
        Self::ALL.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_names_unique() {
        for (i, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), i);
            assert_eq!(DropReason::from_index(i), Some(*reason));
            for other in &DropReason::ALL[i + 1..] {
                assert_ne!(reason.name(), other.name());
            }
        }
        assert_eq!(DropReason::from_index(DropReason::COUNT), None);
    }
}
