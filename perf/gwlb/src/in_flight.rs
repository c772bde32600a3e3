//! Packets that an appliance has and has not yet returned.
//!
//! A return is found by a hash over its GENEVE header and inner bytes. What has no equal was altered, and is matched with
//! the packet in flight that it resembles most. What does not come back in time is missing; its hash is remembered for a
//! while, so that a late return is told from one that was never sent.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::wire::{View, distance};

/// Packets in flight at most; beyond, the oldest is given up early.
const MAX_IN_FLIGHT: usize = 32_768;
/// Missing packets remembered at most.
const MAX_MISSING: usize = 32_768;
/// Packets that an altered one is compared with at most, oldest first.
const MAX_COMPARED: usize = 1024;
/// Bytes that may differ, plus this much if not even the entropy port is the same.
const OTHER_PORT: usize = 64;

/// One packet in flight.
#[derive(Debug)]
pub struct Entry {
    /// Number of its flow.
    pub flow: usize,
    /// Number of the target it went to.
    pub target: usize,
    /// When it was sent, for the time-out.
    pub sent_at: Instant,
    /// When it was sent, nanoseconds since 1970, on the clock of the kernel's receive time stamps.
    pub sent_nanos: u64,
    /// The frame.
    pub frame: Vec<u8>,
}

/// What a returned frame turned out to be.
#[derive(Debug)]
pub enum Match {
    /// The same GENEVE header and inner bytes are in flight.
    Same(Entry),
    /// Nothing equal is in flight; this resembles it most.
    Altered(Entry),
    /// It was given up as missing before; flow and target.
    Late(usize, usize),
    /// Nothing like it is in flight.
    Unknown,
}

/// The table.
#[derive(Debug, Default)]
pub struct InFlight {
    hasher: RandomState,
    next: u64,
    /// By number, hence oldest first.
    entries: BTreeMap<u64, Entry>,
    /// Equal packets (duplicates) share a hash; the oldest is first.
    by_hash: HashMap<u64, VecDeque<u64>>,
    missing: HashMap<u64, (usize, usize)>,
    missing_order: VecDeque<u64>,
}

impl InFlight {
    /// Packets in flight now.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Packets of one flow in flight now.
    pub fn per_flow(&self) -> HashMap<usize, u64> {
        let mut counts = HashMap::new();
        for entry in self.entries.values() {
            *counts.entry(entry.flow).or_insert(0) += 1;
        }
        counts
    }

    /// Adds a packet; returns the oldest if there was no room for both, which is to be counted as missing.
    pub fn insert(&mut self, entry: Entry) -> Option<Entry> {
        let evicted = if self.entries.len() >= MAX_IN_FLIGHT {
            self.give_up_oldest()
        } else {
            None
        };
        let hash = self.hash(&entry.frame);
        self.by_hash.entry(hash).or_default().push_back(self.next);
        self.entries.insert(self.next, entry);
        self.next += 1;
        evicted
    }

    /// Finds out what a returned frame is, and takes it off the table.
    pub fn take(&mut self, returned: &View<'_>) -> Match {
        let hash = self.hasher.hash_one(returned.payload);
        if let Some(number) = self.by_hash.get(&hash).and_then(VecDeque::front).copied()
            && let Some(entry) = self.remove(number)
        {
            return Match::Same(entry);
        }
        if let Some((flow, target)) = self.missing.remove(&hash) {
            return Match::Late(flow, target);
        }
        match self.most_alike(returned).and_then(|number| self.remove(number)) {
            Some(entry) => Match::Altered(entry),
            None => Match::Unknown,
        }
    }

    /// Gives up the oldest packet if it is older than `timeout`, and remembers that it is missing.
    pub fn expire(&mut self, now: Instant, timeout: Duration) -> Option<Entry> {
        if self.next_expiry(timeout)? > now {
            return None;
        }
        self.give_up_oldest()
    }

    /// When the oldest packet is to be given up.
    pub fn next_expiry(&self, timeout: Duration) -> Option<Instant> {
        self.entries.first_key_value().map(|(_, entry)| entry.sent_at + timeout)
    }

    fn give_up_oldest(&mut self) -> Option<Entry> {
        let number = *self.entries.first_key_value()?.0;
        let entry = self.remove(number)?;
        if self.missing_order.len() >= MAX_MISSING
            && let Some(oldest) = self.missing_order.pop_front()
        {
            self.missing.remove(&oldest);
        }
        let hash = self.hash(&entry.frame);
        self.missing.insert(hash, (entry.flow, entry.target));
        self.missing_order.push_back(hash);
        Some(entry)
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        let hash = self.hash(&entry.frame);
        if let Some(numbers) = self.by_hash.get_mut(&hash) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.by_hash.remove(&hash);
            }
        }
        Some(entry)
    }

    fn hash(&self, frame: &[u8]) -> u64 {
        // Our own frames always have a view; anything else would simply never be found again.
        self.hasher
            .hash_one(View::parse(frame).map(|view| view.payload).unwrap_or_default())
    }

    fn most_alike(&self, returned: &View<'_>) -> Option<u64> {
        // More than half of it different: another packet, not an altered one.
        let mut best = (returned.payload.len() / 2, None);
        for (number, entry) in self.entries.iter().take(MAX_COMPARED) {
            let Some(sent) = View::parse(&entry.frame) else {
                continue;
            };
            let same_port = sent.source_port == returned.source_port || sent.source_port == returned.destination_port;
            let penalty = if same_port { 0 } else { OTHER_PORT };
            let unlike = distance(sent.payload, returned.payload, best.0) + penalty;
            if unlike < best.0 {
                best = (unlike, Some(*number));
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::wire::Outer;

    fn entry(flow: usize, fill: u8, at: Instant) -> Entry {
        let outer = Outer {
            local_mac: [2; 6],
            remote_mac: [4; 6],
            local_ip: Ipv4Addr::new(10, 254, 0, 1),
            remote_ip: Ipv4Addr::new(10, 254, 0, 2),
            entropy_port: 50_000 + flow as u16,
            endpoint: 1,
            attachment: 2,
            cookie: flow as u32,
            zero_udp_checksum: false,
        };
        let mut inner = vec![fill; 200];
        inner[0] = 0x45;
        let mut frame = Vec::new();
        outer.wrap(&inner, &mut frame).expect("fits");
        Entry {
            flow,
            target: 0,
            sent_at: at,
            sent_nanos: 0,
            frame,
        }
    }

    fn take(table: &mut InFlight, frame: &[u8]) -> Match {
        table.take(&View::parse(frame).expect("a view"))
    }

    #[test]
    fn equal_packets_are_taken_once_each() {
        let (mut table, now) = (InFlight::default(), Instant::now());
        let frame = entry(1, 9, now).frame;
        assert!(table.insert(entry(1, 9, now)).is_none());
        assert!(table.insert(entry(1, 9, now)).is_none());
        assert!(matches!(take(&mut table, &frame), Match::Same(_)));
        assert!(matches!(take(&mut table, &frame), Match::Same(_)));
        assert!(matches!(take(&mut table, &frame), Match::Unknown));
        assert!(table.is_empty());
    }

    #[test]
    fn an_altered_packet_is_matched_with_its_original() {
        let (mut table, now) = (InFlight::default(), Instant::now());
        for fill in 0..20 {
            table.insert(entry(1, fill, now));
        }
        let mut frame = entry(1, 13, now).frame;
        let original = frame.clone();
        frame[200] ^= 0xff;
        let Match::Altered(found) = take(&mut table, &frame) else {
            panic!("not altered")
        };
        assert_eq!(found.frame, original);
        assert_eq!(table.len(), 19);
        let Match::Unknown = take(&mut table, &entry(1, 99, now).frame) else {
            panic!("resembles nothing")
        };
    }

    #[test]
    fn time_out_then_late_then_unknown() {
        let (mut table, now) = (InFlight::default(), Instant::now());
        let timeout = Duration::from_secs(1);
        table.insert(entry(3, 1, now));
        assert!(table.expire(now + timeout - Duration::from_nanos(1), timeout).is_none());
        assert_eq!(table.next_expiry(timeout), Some(now + timeout));
        assert_eq!(table.expire(now + timeout, timeout).expect("expired").flow, 3);
        let frame = entry(3, 1, now).frame;
        assert!(matches!(take(&mut table, &frame), Match::Late(3, 0)));
        assert!(matches!(take(&mut table, &frame), Match::Unknown));
    }

    #[test]
    fn the_oldest_gives_way() {
        let (mut table, now) = (InFlight::default(), Instant::now());
        for number in 0..MAX_IN_FLIGHT {
            assert!(table.insert(entry(number % 100, number as u8, now)).is_none());
        }
        assert_eq!(table.insert(entry(5, 5, now)).expect("evicted").flow, 0);
        assert_eq!(table.len(), MAX_IN_FLIGHT);
    }
}
