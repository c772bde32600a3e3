//! What a link's account says of a stream: counted here by sets of numbers, without a window and without a clock.

use std::collections::{BTreeMap, BTreeSet};

use crate::lossy_lab::link::Passage;

/// How a protocol numbers its packets.
#[derive(Clone, Copy)]
pub(crate) struct Wire {
    header: usize,
    /// Bits of the sequence numbers, all set.
    space: u32,
    is_retransmitted: fn(&[u8]) -> bool,
}

/// RTP (RFC 3550 5.1) without CSRCs and extension.
pub(crate) const RTP: Wire = Wire {
    header: 12,
    space: 0xffff,
    is_retransmitted: |_| false,
};
/// RIST's simple profile (VSF TR-06-1 5.3.3): what is sent again has the lowest bit of its SSRC set.
pub(crate) const RIST: Wire = Wire {
    is_retransmitted: |datagram| datagram[11] & 1 == 1,
    ..RTP
};
/// SRT (draft-sharabayko-srt 3.1).
pub(crate) const SRT: Wire = Wire {
    header: 16,
    space: 0x7fff_ffff,
    is_retransmitted: |datagram| datagram[4] & 0x04 != 0,
};

/// The sequence number of an RTP packet with MPEG-2 TS in it.
pub(crate) fn rtp_number(datagram: &[u8]) -> Option<u32> {
    let [0x80, kind, high, low, ..] = *datagram else {
        return None;
    };
    (kind & 0x7f == 33 && datagram.len() > 12).then(|| u16::from_be_bytes([high, low]).into())
}

/// What is true of a stream behind a link.
pub(crate) struct Truth {
    /// Delivered datagrams, copies included.
    pub(crate) packets: u64,
    /// Numbers between the first and the last one delivered that never were.
    pub(crate) lost: u64,
    pub(crate) reordered: u64,
    pub(crate) duplicated: u64,
    pub(crate) retransmitted: u64,
    /// The transport stream as it was delivered: in order of the numbers, each once.
    pub(crate) delivered: Vec<u8>,
    /// The same as it was sent.
    pub(crate) sent: Vec<u8>,
}

impl Truth {
    pub(crate) fn new(wire: Wire, numbered: fn(&[u8]) -> Option<u32>, passages: &[&Passage]) -> Truth {
        let numbers = || {
            passages
                .iter()
                .filter_map(|passage| Some((numbered(&passage.bytes)?, passage)))
        };
        // A loss is written down at once, a delivery when the delay is over.
        let first = numbers().find_map(|(number, passage)| passage.delivered.then_some(number));
        let first = first.expect("a stream");
        let (mut sent, mut seen) = (BTreeMap::new(), BTreeSet::new());
        let [mut packets, mut reordered, mut duplicated, mut retransmitted] = [0; 4];
        for (number, passage) in numbers() {
            let place = number.wrapping_sub(first) & wire.space;
            sent.insert(place, &passage.bytes[wire.header..]);
            if !passage.delivered {
                continue;
            }
            packets += 1;
            let overtaken = seen.last().is_some_and(|highest| place < *highest);
            let is_copy = !seen.insert(place);
            if (wire.is_retransmitted)(&passage.bytes) {
                retransmitted += 1;
            } else if is_copy {
                duplicated += 1;
            } else {
                reordered += u64::from(overtaken);
            }
        }
        let last = *seen.last().expect("a stream");
        assert_eq!(
            sent.range(..=last).count() as u64,
            u64::from(last) + 1,
            "the link saw all that the sender sent, and the first of it was delivered"
        );
        let delivered = sent.iter().filter(|(place, _)| seen.contains(place));
        Truth {
            packets,
            lost: u64::from(last) + 1 - seen.len() as u64,
            reordered,
            duplicated,
            retransmitted,
            delivered: delivered.flat_map(|(_, payload)| payload.iter().copied()).collect(),
            sent: sent.values().flat_map(|payload| payload.iter().copied()).collect(),
        }
    }
}
