//! The flow table: bounded, seeded, without allocation once it is full.
//!
//! A flood of new flows must not push out a live stream. So a flow is *established* once it carries a confirmed stream,
//! and only unestablished flows, or established ones that fell silent, make room. When a bounded search finds neither,
//! the newcomer is refused and its packets are decided one by one.

use core::hash::{BuildHasher, Hash};
use core::time::Duration;

use hashbrown::HashTable;
use rapidhash::fast::SeedableState;
use tidegate_common::flow::FlowKey;

use super::time::Timestamp;

/// Slots looked at for a victim when the table is full, and swept at most per call of [`FlowTable::sweep`] times this.
const SEARCH: usize = 32;
/// An established flow this long silent may make room for another.
const IDLE_ESTABLISHED: Duration = Duration::from_secs(10);

/// Where a flow lives; valid until the flow is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FlowIndex(u32);

#[derive(Debug)]
struct Slot<K, T> {
    key: K,
    hash: u64,
    last_seen: Timestamp,
    established: bool,
    value: T,
}

/// What became of an insertion.
#[derive(Debug)]
pub(super) enum Inserted<T> {
    /// There was room.
    Fresh(FlowIndex),
    /// The oldest idle flow of a bounded search made room.
    Evicting(FlowIndex, T),
    /// Every flow that was looked at is alive; the newcomer comes back.
    Refused(T),
}

/// Flows by key, at most `capacity` of them.
pub(super) struct FlowTable<T, K = FlowKey> {
    hasher: SeedableState<'static>,
    index: HashTable<u32>,
    slots: Vec<Option<Slot<K, T>>>,
    free: Vec<u32>,
    capacity: usize,
    victim_hand: usize,
    sweep_hand: usize,
}

impl<T, K: Copy + Eq + Hash> FlowTable<T, K> {
    /// A table for `capacity` flows whose hash is keyed with `seed`, which the driver draws at random.
    pub(super) fn new(capacity: usize, seed: u64) -> Self {
        let capacity = capacity.clamp(1, u32::MAX as usize);
        FlowTable {
            hasher: SeedableState::new(seed),
            index: HashTable::with_capacity(capacity),
            slots: Vec::with_capacity(capacity),
            free: Vec::new(),
            capacity,
            victim_hand: 0,
            sweep_hand: 0,
        }
    }

    /// Flows in the table.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Finds a flow and marks it as seen at `now`.
    pub(super) fn find(&mut self, key: &K, now: Timestamp) -> Option<FlowIndex> {
        let hash = self.hasher.hash_one(key);
        let slots = &self.slots;
        let found = self.index.find(hash, |&i| slot_is(slots, i, hash, key)).copied()?;
        self.slots.get_mut(found as usize)?.as_mut()?.last_seen = now;
        Some(FlowIndex(found))
    }

    /// Whether a flow is in the table, without marking it as seen.
    pub(super) fn contains(&self, key: &K) -> bool {
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |&i| slot_is(&self.slots, i, hash, key)).is_some()
    }

    /// A flow to change, without marking it as seen.
    pub(super) fn peek_mut(&mut self, key: &K) -> Option<&mut T> {
        let hash = self.hasher.hash_one(key);
        let slots = &self.slots;
        let found = self.index.find(hash, |&i| slot_is(slots, i, hash, key)).copied()?;
        self.get_mut(FlowIndex(found))
    }

    /// The flow at an index, while it is there.
    pub(super) fn get_mut(&mut self, index: FlowIndex) -> Option<&mut T> {
        Some(&mut self.slots.get_mut(index.0 as usize)?.as_mut()?.value)
    }

    /// From now on the flow only makes room for another after it fell silent.
    pub(super) fn establish(&mut self, index: FlowIndex) {
        if let Some(Some(slot)) = self.slots.get_mut(index.0 as usize) {
            slot.established = true;
        }
    }

    /// Enters a flow that [`FlowTable::find`] did not find.
    pub(super) fn insert(&mut self, key: K, now: Timestamp, value: T) -> Inserted<T> {
        let evicted = if self.index.len() < self.capacity {
            None
        } else {
            match self.victim(now) {
                Some(victim) => self.remove(victim),
                None => return Inserted::Refused(value),
            }
        };
        let hash = self.hasher.hash_one(key);
        let slot = Some(Slot {
            key,
            hash,
            last_seen: now,
            established: false,
            value,
        });
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place as usize] = slot;
                place
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        let slots = &self.slots;
        self.index.insert_unique(hash, place, |&i| {
            slots.get(i as usize).and_then(Option::as_ref).map_or(0, |s| s.hash)
        });
        match evicted {
            Some((_, value)) => Inserted::Evicting(FlowIndex(place), value),
            None => Inserted::Fresh(FlowIndex(place)),
        }
    }

    /// Looks at the next `budget` slots in turn: hands each flow to `visit`, and removes those for which it says so.
    pub(super) fn sweep(&mut self, budget: usize, mut visit: impl FnMut(&K, Timestamp, &mut T) -> Sweep) {
        for _ in 0..budget.min(self.slots.len()) {
            let place = self.sweep_hand;
            self.sweep_hand = (self.sweep_hand + 1) % self.slots.len();
            let Some(Some(slot)) = self.slots.get_mut(place) else {
                continue;
            };
            if matches!(visit(&slot.key, slot.last_seen, &mut slot.value), Sweep::Remove) {
                self.remove(place as u32);
            }
        }
    }

    /// Every flow.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &T)> {
        self.slots.iter().flatten().map(|slot| (&slot.key, &slot.value))
    }

    /// Every flow, to change.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut T)> {
        self.slots.iter_mut().flatten().map(|slot| (&slot.key, &mut slot.value))
    }

    fn victim(&mut self, now: Timestamp) -> Option<u32> {
        let mut best: Option<(bool, Timestamp, u32)> = None;
        for _ in 0..SEARCH.min(self.slots.len()) {
            let place = self.victim_hand;
            self.victim_hand = (self.victim_hand + 1) % self.slots.len();
            let Some(Some(slot)) = self.slots.get(place) else {
                continue;
            };
            if slot.established && now.since(slot.last_seen) < IDLE_ESTABLISHED {
                continue;
            }
            let candidate = (slot.established, slot.last_seen, place as u32);
            if best.is_none_or(|b| candidate < b) {
                best = Some(candidate);
            }
        }
        best.map(|(_, _, place)| place)
    }

    fn remove(&mut self, place: u32) -> Option<(K, T)> {
        let slot = self.slots.get_mut(place as usize)?.take()?;
        if let Ok(entry) = self.index.find_entry(slot.hash, |&i| i == place) {
            entry.remove();
        }
        self.free.push(place);
        Some((slot.key, slot.value))
    }
}

/// What a sweep does with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sweep {
    /// It stays.
    Keep,
    /// It goes.
    Remove,
}

fn slot_is<T, K: Eq>(slots: &[Option<Slot<K, T>>], place: u32, hash: u64, key: &K) -> bool {
    slots
        .get(place as usize)
        .and_then(Option::as_ref)
        .is_some_and(|slot| slot.hash == hash && slot.key == *key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use tidegate_common::flow::Tuple;

    fn key(n: u16) -> FlowKey {
        let tuple = Tuple {
            endpoint: None,
            protocol: 17,
            source: SocketAddr::from(([10, 0, 0, 1], n)),
            destination: SocketAddr::from(([10, 0, 0, 2], 5000)),
        };
        tuple.canonical().0
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_flood_does_not_push_out_a_live_stream() {
        let mut table = FlowTable::new(64, 1);
        let Inserted::Fresh(live) = table.insert(key(0), at(0), 0u16) else {
            panic!("an empty table has room")
        };
        table.establish(live);
        for n in 1..5000u16 {
            assert!(table.find(&key(0), at(1)).is_some());
            assert!(!matches!(table.insert(key(n), at(1), n), Inserted::Refused(_)));
            assert!(table.len() <= 64);
        }
        assert!(table.contains(&key(0)));
    }

    #[test]
    fn live_streams_refuse_a_newcomer_and_silent_ones_make_room() {
        let mut table = FlowTable::new(8, 1);
        for n in 0..8 {
            let Inserted::Fresh(index) = table.insert(key(n), at(0), n) else {
                panic!("room for eight")
            };
            table.establish(index);
        }
        assert!(matches!(table.insert(key(9), at(1), 9), Inserted::Refused(_)));
        assert!(matches!(table.insert(key(9), at(11), 9), Inserted::Evicting(_, _)));
        assert_eq!(table.len(), 8);
    }

    #[test]
    fn the_oldest_unestablished_flow_goes_first() {
        let mut table = FlowTable::new(4, 1);
        for n in 0..4 {
            table.insert(key(n), at(u64::from(n)), n);
        }
        table.find(&key(0), at(9));
        let Inserted::Evicting(_, gone) = table.insert(key(7), at(10), 7) else {
            panic!("someone must go")
        };
        assert_eq!(gone, 1);
        assert!(!table.contains(&key(1)));
        assert!(table.contains(&key(7)));
    }

    #[test]
    fn a_sweep_removes_what_it_is_told_to_and_slots_are_used_again() {
        let mut table = FlowTable::new(16, 1);
        for n in 0..16 {
            table.insert(key(n), at(u64::from(n)), n);
        }
        table.sweep(16, |_, _, n| if *n % 2 == 0 { Sweep::Remove } else { Sweep::Keep });
        assert_eq!(table.len(), 8);
        for n in 20..28 {
            assert!(matches!(table.insert(key(n), at(20), n), Inserted::Fresh(_)));
        }
        assert_eq!(table.iter().count(), 16);
        assert!(table.contains(&key(21)) && table.contains(&key(1)) && !table.contains(&key(2)));
    }
}
