//! Small sets that packets are checked against: ports, PIDs and RTP payload types.

use std::fmt;

/// A set of ports as sorted, disjoint, inclusive ranges. Empty stands for "any port" where a rule holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet {
    ranges: Vec<(u16, u16)>,
}

impl PortSet {
    /// The union of inclusive ranges, each given as (lowest, highest).
    pub fn new(ranges: impl IntoIterator<Item = (u16, u16)>) -> Self {
        let mut sorted: Vec<_> = ranges.into_iter().filter(|(low, high)| low <= high).collect();
        sorted.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(sorted.len());
        for (low, high) in sorted {
            match merged.last_mut() {
                Some(last) if u32::from(low) <= u32::from(last.1) + 1 => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        PortSet { ranges: merged }
    }

    /// Whether no port is in the set.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether the set holds this port.
    pub fn contains(&self, port: u16) -> bool {
        let after = self.ranges.partition_point(|(low, _)| *low <= port);
        after
            .checked_sub(1)
            .and_then(|i| self.ranges.get(i))
            .is_some_and(|(_, high)| port <= *high)
    }

    /// Whether every port of this set is in the other.
    pub fn is_subset(&self, other: &PortSet) -> bool {
        // Ranges of the other are merged, so each of ours must lie within a single one of them.
        self.ranges.iter().all(|(low, high)| {
            let after = other.ranges.partition_point(|(start, _)| start <= low);
            after
                .checked_sub(1)
                .and_then(|i| other.ranges.get(i))
                .is_some_and(|(_, end)| high <= end)
        })
    }

    /// The ranges moved up by a distance. What would lie beyond the last port is not there.
    pub(super) fn shifted(&self, by: u16) -> impl Iterator<Item = (u16, u16)> + '_ {
        let moved = move |(low, high): &(u16, u16)| Some((low.checked_add(by)?, high.saturating_add(by)));
        self.ranges.iter().filter_map(moved)
    }

    /// The inclusive ranges in ascending order.
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.ranges
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (low, high)) in self.ranges.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            match low == high {
                true => write!(f, "{comma}{low}")?,
                false => write!(f, "{comma}{low}-{high}")?,
            }
        }
        Ok(())
    }
}

/// The number of PIDs of a transport stream: 13 bits (ISO/IEC 13818-1 2.4.3.3).
const PID_COUNT: usize = 8192;

/// A set of MPEG-TS PIDs, one bit each, for a lookup per TS packet.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PidSet {
    /// `PID_COUNT` bits, or nothing while the set is empty.
    words: Vec<u64>,
}

impl PidSet {
    /// Whether the set holds this PID.
    #[inline]
    pub fn contains(&self, pid: u16) -> bool {
        self.words
            .get(usize::from(pid) / 64)
            .is_some_and(|word| word >> (pid % 64) & 1 == 1)
    }

    /// Whether no PID is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The PIDs in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        // As many as there are bits: none for the empty set, which is what every new stream asks.
        (0..64 * self.words.len() as u16).filter(|pid| self.contains(*pid))
    }
}

impl FromIterator<u16> for PidSet {
    /// Numbers above 0x1FFF are no PIDs and are left out.
    fn from_iter<I: IntoIterator<Item = u16>>(pids: I) -> Self {
        let mut set = PidSet::default();
        for pid in pids.into_iter().filter(|pid| usize::from(*pid) < PID_COUNT) {
            set.words.resize(PID_COUNT / 64, 0);
            if let Some(word) = set.words.get_mut(usize::from(pid) / 64) {
                *word |= 1 << (pid % 64);
            }
        }
        set
    }
}

/// A set of RTP payload types (7 bits, RFC 3550 5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PayloadTypes(u128);

impl PayloadTypes {
    /// Whether the set holds this payload type; numbers above 127 are in no set.
    #[inline]
    pub fn contains(&self, payload_type: u8) -> bool {
        payload_type < 128 && self.0 >> payload_type & 1 == 1
    }

    /// The payload types in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..128).filter(|payload_type| self.contains(*payload_type))
    }
}

impl FromIterator<u8> for PayloadTypes {
    /// Numbers above 127 are no payload types and are left out.
    fn from_iter<I: IntoIterator<Item = u8>>(payload_types: I) -> Self {
        PayloadTypes(
            payload_types
                .into_iter()
                .filter(|n| *n < 128)
                .fold(0, |set, n| set | 1 << n),
        )
    }
}

/// A set of values of `stream_type` (8 bits, ISO/IEC 13818-1 2.4.4.9), one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamTypes([u64; 4]);

impl StreamTypes {
    /// Whether the set holds this stream type.
    #[inline]
    pub fn contains(&self, stream_type: u8) -> bool {
        let word = self.0.get(usize::from(stream_type / 64));
        word.is_some_and(|word| word >> (stream_type % 64) & 1 == 1)
    }

    /// Whether no stream type is in the set.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// The stream types in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=u8::MAX).filter(|stream_type| self.contains(*stream_type))
    }
}

impl FromIterator<u8> for StreamTypes {
    fn from_iter<I: IntoIterator<Item = u8>>(stream_types: I) -> Self {
        let mut set = StreamTypes::default();
        for stream_type in stream_types {
            if let Some(word) = set.0.get_mut(usize::from(stream_type / 64)) {
                *word |= 1 << (stream_type % 64);
            }
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn adjoining_ports_merge() {
        let ports = PortSet::new([(6000, 6010), (5000, 5000), (6011, 6012), (65535, 65535)]);
        assert_eq!(ports.to_string(), "5000, 6000-6012, 65535");
        assert!(ports.contains(65535) && !ports.contains(0) && !ports.contains(6013));
    }

    #[test]
    fn numbers_out_of_range_are_in_no_set() {
        assert!(!PidSet::from_iter([8192, 0xFFFF]).contains(8192));
        assert!(PidSet::from_iter([8191]).contains(8191));
        assert!(!PayloadTypes::from_iter([128, 255]).contains(128));
        assert!(PayloadTypes::from_iter([0, 127]).contains(127));
    }

    proptest! {
        #[test]
        fn ports_behave_as_a_plain_set(
            ours in prop::collection::vec((0u16..40, 0u16..6), 0..6),
            theirs in prop::collection::vec((0u16..40, 0u16..12), 0..6),
        ) {
            let plain = |v: &[(u16, u16)]| v.iter().flat_map(|(low, n)| *low..=low + n).collect::<BTreeSet<u16>>();
            let set = |v: &[(u16, u16)]| PortSet::new(v.iter().map(|(low, n)| (*low, low + n)));
            for port in 0..60 {
                prop_assert_eq!(set(&ours).contains(port), plain(&ours).contains(&port));
            }
            prop_assert_eq!(set(&ours).is_subset(&set(&theirs)), plain(&ours).is_subset(&plain(&theirs)));
        }

        #[test]
        fn pids_behave_as_a_plain_set(pids in prop::collection::btree_set(0u16..8192, 0..20)) {
            let set: PidSet = pids.iter().copied().collect();
            prop_assert_eq!(set.iter().collect::<BTreeSet<u16>>(), pids);
        }
    }
}
