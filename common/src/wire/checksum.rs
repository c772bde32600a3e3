//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

/// The checksum of `bytes`: the complement of the one's complement sum of its 16-bit words, an odd last byte padded with
/// zero (RFC 1071 1). Over a header that holds a right checksum the result is 0.
pub fn internet(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

/// A checksum after one 16-bit word that it covers has changed from `old` to `new`: HC' = ~(~HC + ~m + m') (RFC 1624 3,
/// equation 3). A wrong checksum stays wrong by the same difference.
#[inline(always)]
pub const fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    // Three words: at most two carries, and adding them in makes no third.
    let sum = (!checksum) as u32 + (!old) as u32 + new as u32;
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// The sum of the 16-bit words without the last folding. It cannot overflow: 2^48 words would be needed.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let mut sum: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    if let [last] = rest {
        sum = sum.saturating_add(u64::from(u16::from_be_bytes([*last, 0])));
    }
    sum
}

/// Adds the carries back in until none is left: four rounds are enough for 64 bits.
const fn fold(mut sum: u64) -> u16 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// The example of RFC 1071 3: the words 0001 f203 f4f5 f6f7 sum to ddf2.
    #[test]
    fn rfc_1071_example() {
        assert_eq!(internet(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    /// The example of RFC 1624 4: HC = dd2f, m = 5555, m' = 3285 gives 0000.
    #[test]
    fn rfc_1624_example() {
        assert_eq!(updated(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    proptest! {
        #[test]
        fn incremental_agrees_with_full(mut bytes in prop::collection::vec(any::<u8>(), 4..64), new in any::<u16>()) {
            bytes.truncate(bytes.len() & !1);
            let before = internet(&bytes);
            let old = u16::from_be_bytes([bytes[2], bytes[3]]);
            bytes[2..4].copy_from_slice(&new.to_be_bytes());
            let incremental = updated(before, old, new);
            let full = internet(&bytes);
            // One's complement has two zeros; both verify. They differ only where every covered byte is zero.
            prop_assert!(incremental == full || (incremental ^ full) == 0xffff && full.is_multiple_of(0xffff));
        }

        #[test]
        fn a_naive_sum_agrees(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut padded: Vec<u8> = bytes.clone();
            if padded.len() % 2 == 1 { padded.push(0); }
            let mut sum = 0u32;
            for pair in padded.chunks(2) {
                sum += u32::from(pair[0]) << 8 | u32::from(pair[1]);
                if sum > 0xffff { sum -= 0xffff; }
            }
            prop_assert_eq!(internet(&bytes), !(sum as u16));
        }
    }
}
