//! Inner IP fragments follow their first one, which alone carries the ports (RFC 791 3.2, RFC 8200 4.5).
//!
//! The cache is direct-mapped and bounded: a flood of first fragments costs others their fragments, never memory.
//! Fragments are not reassembled; media does not come in fragments, and what does is forwarded, not judged.

use core::hash::BuildHasher;
use core::net::IpAddr;
use core::time::Duration;

use rapidhash::fast::SeedableState;

use super::Verdict;
use super::time::Timestamp;

/// Datagrams in parts that are remembered at a time; a power of two.
const CAPACITY: usize = 1024;
/// How long the parts of a datagram may take to arrive: the reassembly time-out of RFC 8200 4.5 is 60 s, Linux' for
/// IPv4 is 30 s.
const LIFETIME: Duration = Duration::from_secs(30);

/// What the parts of one datagram share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FragmentKey {
    /// GWLB endpoint id.
    pub endpoint: Option<u64>,
    /// Sender.
    pub source: IpAddr,
    /// Receiver.
    pub destination: IpAddr,
    /// IP protocol number, as in the first part.
    pub protocol: u8,
    /// Identification: 16 bits in IPv4, 32 bits in IPv6.
    pub id: u32,
}

/// Verdicts on first fragments.
pub(super) struct FragmentCache {
    hasher: SeedableState<'static>,
    entries: Vec<Option<(FragmentKey, Timestamp, Verdict)>>,
}

impl FragmentCache {
    /// An empty cache whose hash is keyed with `seed`.
    pub(super) fn new(seed: u64) -> Self {
        FragmentCache {
            hasher: SeedableState::new(seed),
            entries: vec![None; CAPACITY],
        }
    }

    /// Remembers what was decided on a first fragment.
    pub(super) fn remember(&mut self, key: FragmentKey, now: Timestamp, verdict: Verdict) {
        let place = self.place(&key);
        self.entries[place] = Some((key, now, verdict));
    }

    /// What was decided on the first fragment of the same datagram, if it was seen lately.
    pub(super) fn recall(&self, key: &FragmentKey, now: Timestamp) -> Option<Verdict> {
        let (known, at, verdict) = self.entries[self.place(key)].as_ref()?;
        (known == key && now.since(*at) < LIFETIME).then_some(*verdict)
    }

    fn place(&self, key: &FragmentKey) -> usize {
        (self.hasher.hash_one(key) as usize) % CAPACITY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_parts_follow_the_first_for_thirty_seconds() {
        let mut cache = FragmentCache::new(3);
        let key = FragmentKey {
            endpoint: None,
            source: IpAddr::from([10, 0, 0, 1]),
            destination: IpAddr::from([10, 0, 0, 2]),
            protocol: 17,
            id: 77,
        };
        let at = |s: u64| Timestamp::from_nanos(s * 1_000_000_000);
        assert_eq!(cache.recall(&key, at(0)), None);
        cache.remember(key, at(0), Verdict::Return);
        assert_eq!(cache.recall(&key, at(29)), Some(Verdict::Return));
        assert_eq!(cache.recall(&FragmentKey { id: 78, ..key }, at(1)), None);
        assert_eq!(
            cache.recall(
                &FragmentKey {
                    endpoint: Some(1),
                    ..key
                },
                at(1)
            ),
            None
        );
        assert_eq!(cache.recall(&key, at(31)), None);
    }
}
