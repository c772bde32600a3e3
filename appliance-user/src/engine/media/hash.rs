//! The hash that tells equal content from different content: a few multiplications, not a defence against forgery.
//!
//! A reordered copy, a legal duplicate and a retransmission carry equal bytes by honest means. Who forges a packet can
//! only make it *look* equal to one that is already known, which gains nothing: an equal copy is judged nowhere.

/// Odd constants with about as many ones as zeros; digits of the golden ratio, sqrt 2, sqrt 3 and e.
const LANES: [u64; 4] = [
    0x9e37_79b9_7f4a_7c15,
    0x6a09_e667_f3bc_c909,
    0xbb67_ae85_84ca_a73b,
    0xb7e1_5162_8aed_2a6b,
];

/// How many bytes share two samples of eight in a payload that is not made of TS packets.
const SAMPLE_STRIDE: usize = 64;

/// Full 64 by 64 bit product, folded.
#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul(b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Takes two more words into `state`.
#[inline]
pub(super) const fn mix(state: u64, a: u64, b: u64) -> u64 {
    fold(a ^ LANES[0] ^ state, b ^ LANES[1])
}

/// Where [`chain`] begins, in each of two strands.
pub(super) const STRANDS: (u64, u64) = (LANES[0], LANES[2]);

/// Takes three more words into `state`, in fewer steps than [`mix`]: where `c` is zero nothing is left but that.
#[inline]
pub(super) const fn chain(state: u64, a: u64, b: u64, c: u64) -> u64 {
    fold((a ^ state).wrapping_add(b), c)
}

/// Two strands of [`chain`] made one hash.
#[inline]
pub(super) const fn join(a: u64, b: u64) -> u32 {
    fold(a ^ LANES[1], b ^ LANES[3]) as u32
}

/// Four words at once.
#[inline]
pub(super) const fn four(words: [u64; 4]) -> u32 {
    let [a, b, c, d] = words;
    // The lower half of what is folded has every bit of both factors in it.
    fold((a ^ LANES[0]).wrapping_add(b), (c ^ LANES[1]).wrapping_add(d)) as u32
}

/// Two words that do not depend on what came before, so that two such products overlap in time.
#[inline]
pub(super) const fn pair(a: u64, b: u64) -> u64 {
    fold(a ^ LANES[2], b ^ LANES[3])
}

/// The final 32 bits.
#[inline]
pub(super) const fn finish(state: u64) -> u32 {
    let mixed = fold(state ^ LANES[2], LANES[0]);
    (mixed ^ (mixed >> 32)) as u32
}

/// Every byte of `bytes`, and their number.
pub(super) fn all(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    let (pairs, odd) = words.as_chunks::<2>();
    let mut state = bytes.len() as u64;
    for [a, b] in pairs {
        state = mix(state, u64::from_le_bytes(*a), u64::from_le_bytes(*b));
    }
    for word in odd {
        state = mix(state, u64::from_le_bytes(*word), 0);
    }
    finish(mix(state, tail(rest), rest.len() as u64))
}

/// The first and last eight bytes of every [`SAMPLE_STRIDE`], the very last bytes, and the length.
pub(super) fn sampled(bytes: &[u8]) -> u32 {
    let (strides, rest) = bytes.as_chunks::<SAMPLE_STRIDE>();
    let mut state = bytes.len() as u64;
    for stride in strides {
        if let (Some(first), Some(last)) = (stride.first_chunk::<8>(), stride.last_chunk::<8>()) {
            state = mix(state, u64::from_le_bytes(*first), u64::from_le_bytes(*last));
        }
    }
    let last = rest
        .last_chunk::<8>()
        .map_or_else(|| tail(rest), |word| u64::from_le_bytes(*word));
    finish(mix(state, last, rest.len() as u64))
}

/// Up to eight bytes as one little-endian word.
fn tail(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .take(8)
        .rev()
        .fold(0, |word, byte| (word << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts_where_all_is_hashed() {
        for length in [0, 1, 7, 8, 9, 15, 16, 17, 188, 1316] {
            let bytes = vec![0x5a; length];
            let hash = all(&bytes);
            assert_eq!(hash, all(&bytes.clone()));
            for place in 0..length {
                let mut other = bytes.clone();
                other[place] ^= 1;
                assert_ne!(hash, all(&other), "byte {place} of {length}");
            }
        }
    }

    #[test]
    fn length_counts_too() {
        assert_ne!(all(&[0; 8]), all(&[0; 9]));
        assert_ne!(sampled(&[0; 128]), sampled(&[0; 192]));
        assert_ne!(sampled(&[0; 3]), sampled(&[0; 4]));
    }

    #[test]
    fn samples_reach_every_stride_and_the_end() {
        let bytes = vec![0x11; 1316];
        let hash = sampled(&bytes);
        for stride in 0..1316 / SAMPLE_STRIDE {
            let mut other = bytes.clone();
            other[stride * SAMPLE_STRIDE + 3] ^= 0x80;
            assert_ne!(hash, sampled(&other));
        }
        let mut other = bytes.clone();
        other[1315] ^= 1;
        assert_ne!(hash, sampled(&other));
    }
}
