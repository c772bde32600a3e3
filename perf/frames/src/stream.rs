//! What follows from a stream's number: its addresses, its cookie, where it is in its group when the load begins.

use crate::layout::UNLISTED;
use crate::plan::Plan;

/// Spreads numbers over 32 bits without a pattern that a hash or a scheduler could share (Knuth's multiplicative hash).
const SPREAD: u32 = 0x9e37_79b1;
/// Synchronisation sources and SRT socket ids count from here.
const IDENTITY: u32 = 0x5447_0001;

/// What makes one stream differ from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Inner source address.
    pub source: u32,
    /// Outer UDP source port: the entropy of the flow (RFC 8926 3.3), which decides the queue.
    pub entropy: u16,
    /// GENEVE flow cookie.
    pub cookie: u32,
    /// RTP SSRC, or SRT destination socket id.
    pub identity: u32,
    /// Its first datagram is the group's datagram of this number, so that streams do not send their tables all at once.
    pub phase: u32,
}

impl Stream {
    /// The listed stream of that number.
    #[inline(always)]
    pub fn listed(plan: &Plan, number: u32) -> Stream {
        Stream::at(plan, number, plan.source.wrapping_add(number))
    }

    /// The source of the flood's frame of that number: a new one each time, without order.
    #[inline(always)]
    pub fn unlisted(plan: &Plan, number: u32) -> Stream {
        let bits = plan.unlisted_bits & 31;
        let host = number.wrapping_mul(SPREAD) & (1u32 << bits).wrapping_sub(1);
        Stream::at(plan, number | UNLISTED, plan.unlisted | host)
    }

    #[inline(always)]
    fn at(plan: &Plan, number: u32, source: u32) -> Stream {
        let spread = number.wrapping_mul(SPREAD);
        Stream {
            source,
            // The dynamic ports.
            entropy: 0xc000 | (spread >> 18) as u16,
            cookie: spread,
            identity: IDENTITY.wrapping_add(number),
            phase: ((spread as u64).wrapping_mul(plan.group as u64) >> 32) as u32,
        }
    }
}
