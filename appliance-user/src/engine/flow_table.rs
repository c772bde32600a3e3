//! The flow table: bounded, seeded, without allocation once it is full.
//!
//! A flood of new flows must not push out a live stream. So a flow is *established* once it carries a confirmed stream,
//! and only unestablished flows, or established ones that fell silent, make room. When a bounded search finds neither,
//! the newcomer is refused and its packets are decided one by one.

mod index;

use core::hash::BuildHasher;
use core::time::Duration;

use rapidhash::fast::SeedableState;
use tidegate_common::flow::FlowKey;

use self::index::Index;
use super::group::GroupKey;
use super::time::Timestamp;
use crate::prefetch::{prefetch, prefetch_element};

/// Slots looked at for a victim when the table is full, and swept at most per call of [`FlowTable::sweep`] times this.
const SEARCH: usize = 32;
/// A flow has its turn in a sweep this often at least, for what nobody waits for: memory that is given back, figures of what fell
/// silent. One whose turn is further ahead was entered by a clock that was set back.
const TURN_EVERY: Duration = Duration::from_secs(2);
/// An established flow this long silent may make room for another.
const IDLE_ESTABLISHED: Duration = Duration::from_secs(10);

/// Where a flow lives; valid until the flow is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FlowIndex(u32);

impl FlowIndex {
    /// Where no flow is: a table has fewer slots than there are numbers.
    pub(super) const NOWHERE: FlowIndex = FlowIndex(u32::MAX);
}

/// What flows are found by.
pub(super) trait Key: Copy + Eq {
    /// Whether both are the same.
    #[inline(always)]
    fn is(&self, other: &Self) -> bool {
        self == other
    }

    /// A hash that nobody can foresee who does not know the seed.
    fn hash(&self, hasher: &Hasher) -> u64;
}

/// Hashes keys, each table in a way of its own: what collides in one is nothing to another.
#[derive(Clone, Debug)]
pub(super) struct Hasher {
    others: SeedableState<'static>,
    keys: [u64; FlowKey::WORDS],
    /// What the upper halves of two IPv4 addresses come to.
    ipv4: u64,
}

impl Hasher {
    fn new(seed: u64) -> Self {
        let mut state = seed;
        let keys: [u64; FlowKey::WORDS] = core::array::from_fn(|_| split_mix(&mut state));
        let [_, low, _, high, ..] = keys;
        Hasher {
            others: SeedableState::new(seed),
            keys,
            ipv4: folded(low, high),
        }
    }
}

impl Key for FlowKey {
    #[inline(always)]
    fn is(&self, other: &Self) -> bool {
        FlowKey::is(self, other)
    }

    /// Secret numbers are put over the words, pairs of which are multiplied to 128 bits and folded, as wyhash and its kin do
    /// it. Whoever does not know the numbers cannot know which words collide.
    #[inline(always)]
    fn hash(&self, hasher: &Hasher) -> u64 {
        let [a, b, c, d, e, f] = *self.words();
        let [ka, kb, kc, kd, ke, kf] = hasher.keys;
        let upper = match b | d {
            0 => hasher.ipv4,
            _ => folded(b ^ kb, d ^ kd),
        };
        folded(a ^ ka, f ^ kf) ^ folded(c ^ kc, e ^ ke) ^ upper
    }
}

impl Key for GroupKey {
    fn hash(&self, hasher: &Hasher) -> u64 {
        hasher.others.hash_one(self)
    }
}

/// The upper half of a product over its lower one.
#[inline(always)]
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014): independent numbers of one seed.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// A flow's place, on a cache line boundary, in the order in which it is read.
#[derive(Debug)]
#[repr(C, align(64))]
struct Slot<K, T> {
    key: K,
    last_seen: Timestamp,
    value: T,
}

// Two cache lines a flow: one to find it by, one that says what it speaks and where its streams are.
const _: () = assert!(size_of::<Option<Slot<FlowKey, super::flow::Flow>>>() == 128);

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
    hasher: Hasher,
    index: Index,
    slots: Vec<Option<Slot<K, T>>>,
    /// Whether the flow in each slot is established; apart from the slots, which have no room for it.
    established: Vec<bool>,
    /// When a sweep is to look at each slot again. They lie together: most slots have nothing to be looked at for, and a sweep
    /// that read them all would wait for memory more than it works.
    turns: Vec<Timestamp>,
    free: Vec<u32>,
    capacity: usize,
    victim_hand: usize,
    sweep_hand: usize,
}

impl<T, K: Key> FlowTable<T, K> {
    /// A table for `capacity` flows whose hash is keyed with `seed`, which the driver draws at random.
    pub(super) fn new(capacity: usize, seed: u64) -> Self {
        let capacity = capacity.clamp(1, u32::MAX as usize);
        FlowTable {
            hasher: Hasher::new(seed),
            index: Index::new(capacity),
            slots: Vec::with_capacity(capacity),
            established: Vec::with_capacity(capacity),
            turns: Vec::with_capacity(capacity),
            free: Vec::new(),
            capacity,
            victim_hand: 0,
            sweep_hand: 0,
        }
    }

    /// Slots that a whole [`FlowTable::sweep`] goes through: those of flows, and those that were.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Flows in the table.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// The hash of a key, for [`FlowTable::guess`] and [`FlowTable::find_hashed`].
    #[inline(always)]
    pub(super) fn hash(&self, key: &K) -> u64 {
        key.hash(&self.hasher)
    }

    /// Asks for what [`FlowTable::guess`] will read.
    #[inline(always)]
    pub(super) fn ask(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Where the flow of a key with that hash is, nowhere if it is not in the table; the flow itself is not looked at, only asked
    /// for from memory.
    #[inline]
    pub(super) fn guess(&self, hash: u64) -> FlowIndex {
        let Some(place) = self.index.find(hash, |_| true) else {
            return FlowIndex::NOWHERE;
        };
        prefetch_element(&self.slots, place as usize);
        FlowIndex(place)
    }

    /// The flow at a place that was guessed, without looking whether it is the right one.
    #[inline]
    pub(super) fn at(&self, index: FlowIndex) -> Option<&T> {
        Some(&self.slots.get(index.0 as usize)?.as_ref()?.value)
    }

    /// Finds a flow and marks it as seen at `now`.
    pub(super) fn find(&mut self, key: &K, now: Timestamp) -> Option<FlowIndex> {
        self.find_hashed(key, self.hash(key), FlowIndex::NOWHERE, now)
    }

    /// [`FlowTable::find`] with the key's hash and the place at which the flow was guessed to be.
    #[inline]
    pub(super) fn find_hashed(&mut self, key: &K, hash: u64, guess: FlowIndex, now: Timestamp) -> Option<FlowIndex> {
        let (found, last_seen, _) = self.look_up(key, hash, guess)?;
        *last_seen = now;
        Some(found)
    }

    /// The same without marking it as seen: where the flow is, when it was seen last, and itself.
    #[inline(always)]
    pub(super) fn look_up(
        &mut self,
        key: &K,
        hash: u64,
        guess: FlowIndex,
    ) -> Option<(FlowIndex, &mut Timestamp, &mut T)> {
        // Of several keys with one hash, of which there are hardly ever two, this is the first.
        let likely = match guess {
            FlowIndex::NOWHERE => FlowIndex(self.index.find(hash, |_| true)?),
            guess => guess,
        };
        if slot_is(&self.slots, likely.0, key) {
            return self.slot_mut(likely);
        }
        let found = self.place_apart(*key, hash)?;
        self.slot_mut(found)
    }

    #[inline(always)]
    fn slot_mut(&mut self, index: FlowIndex) -> Option<(FlowIndex, &mut Timestamp, &mut T)> {
        let slot = self.slots.get_mut(index.0 as usize)?.as_mut()?;
        Some((index, &mut slot.last_seen, &mut slot.value))
    }

    /// Whether a flow is in the table, without marking it as seen.
    pub(super) fn contains(&self, key: &K) -> bool {
        self.place(key, self.hash(key)).is_some()
    }

    /// A flow to change, without marking it as seen; the next sweep looks at it.
    pub(super) fn peek_mut(&mut self, key: &K) -> Option<&mut T> {
        let index = self.place(key, self.hash(key))?;
        self.wake(index);
        self.get_mut(index)
    }

    /// The next sweep looks at the flow, whatever it was to wait for: something has changed.
    pub(super) fn wake(&mut self, index: FlowIndex) {
        if let Some(turn) = self.turns.get_mut(index.0 as usize) {
            *turn = Timestamp::default();
        }
    }

    /// The flow at an index, while it is there.
    #[inline]
    pub(super) fn get_mut(&mut self, index: FlowIndex) -> Option<&mut T> {
        Some(&mut self.slots.get_mut(index.0 as usize)?.as_mut()?.value)
    }

    #[cold]
    fn place_apart(&self, key: K, hash: u64) -> Option<FlowIndex> {
        self.place(&key, hash)
    }

    #[inline]
    fn place(&self, key: &K, hash: u64) -> Option<FlowIndex> {
        let place = self.index.find(hash, |place| slot_is(&self.slots, place, key))?;
        Some(FlowIndex(place))
    }

    /// From now on the flow only makes room for another after it fell silent.
    pub(super) fn establish(&mut self, index: FlowIndex) {
        if let Some(established) = self.established.get_mut(index.0 as usize) {
            *established = true;
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
        let hash = self.hash(&key);
        let slot = Some(Slot {
            key,
            last_seen: now,
            value,
        });
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place as usize] = slot;
                self.established[place as usize] = false;
                self.turns[place as usize] = Timestamp::default();
                place
            }
            None => {
                self.slots.push(slot);
                self.established.push(false);
                self.turns.push(Timestamp::default());
                (self.slots.len() - 1) as u32
            }
        };
        self.index.insert(hash, place);
        match evicted {
            Some((_, value)) => Inserted::Evicting(FlowIndex(place), value),
            None => Inserted::Fresh(FlowIndex(place)),
        }
    }

    /// Goes through the next `budget` slots in turn: hands each flow to `visit` that is to be looked at by `now`, or all of
    /// them, and removes those for which it says so.
    pub(super) fn sweep(
        &mut self,
        budget: usize,
        now: Timestamp,
        all: bool,
        mut visit: impl FnMut(&K, Timestamp, &mut T) -> Sweep,
    ) {
        for _ in 0..budget.min(self.slots.len()) {
            let place = self.sweep_hand;
            self.sweep_hand = if place + 1 < self.slots.len() { place + 1 } else { 0 };
            let Some(turn) = self.turns.get_mut(place) else {
                continue;
            };
            if *turn > now && turn.since(now) <= TURN_EVERY && !all {
                continue;
            }
            let Some(Some(slot)) = self.slots.get_mut(place) else {
                continue;
            };
            match visit(&slot.key, slot.last_seen, &mut slot.value) {
                Sweep::Keep(until) => *turn = until.min(now.after(TURN_EVERY)),
                Sweep::Remove => drop(self.remove(place as u32)),
            }
        }
    }

    /// Asks for what the next sweeps of `budget` slots each will read of those flows whose turn it is then: of the first of
    /// these sweeps what the last of `steps` asks for, and of each later one what one step less can know of.
    pub(super) fn ask_ahead<const N: usize>(&self, budget: usize, now: Timestamp, steps: [impl Fn(&T); N]) {
        // Of fewer flows, what a sweep needs was needed a moment ago.
        if self.slots.len() <= budget.saturating_mul(N + 1) {
            return;
        }
        for sweep in 0..=N {
            let step = N.checked_sub(sweep + 1).and_then(|step| steps.get(step));
            for place in 0..budget {
                let place = self.sweep_hand + sweep * budget + place;
                let place = place.checked_sub(self.slots.len()).unwrap_or(place);
                if self.turns.get(place).is_none_or(|turn| *turn > now) {
                    continue;
                }
                match (step, self.slots.get(place)) {
                    (None, Some(slot)) => prefetch(slot),
                    (Some(ask), Some(Some(slot))) => ask(&slot.value),
                    _ => {}
                }
            }
        }
    }

    /// Every flow.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &T)> {
        self.slots.iter().flatten().map(|slot| (&slot.key, &slot.value))
    }

    /// What is in each slot from that one on.
    pub(super) fn places_from(&self, place: usize) -> impl Iterator<Item = Option<&T>> {
        let slots = self.slots.get(place..).unwrap_or_default();
        slots.iter().map(|slot| slot.as_ref().map(|slot| &slot.value))
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
            let established = self.established.get(place).copied().unwrap_or_default();
            if established && now.since(slot.last_seen) < IDLE_ESTABLISHED {
                continue;
            }
            let candidate = (established, slot.last_seen, place as u32);
            if best.is_none_or(|b| candidate < b) {
                best = Some(candidate);
            }
        }
        best.map(|(_, _, place)| place)
    }

    fn remove(&mut self, place: u32) -> Option<(K, T)> {
        let slot = self.slots.get_mut(place as usize)?.take()?;
        let hash = self.hash(&slot.key);
        self.index.remove(hash, place);
        self.free.push(place);
        Some((slot.key, slot.value))
    }
}

/// What a sweep does with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sweep {
    /// It stays, and nothing is to be done about it before that time unless it is [woken](FlowTable::wake).
    Keep(Timestamp),
    /// It goes.
    Remove,
}

#[inline(always)]
fn slot_is<T, K: Key>(slots: &[Option<Slot<K, T>>], place: u32, key: &K) -> bool {
    slots
        .get(place as usize)
        .and_then(Option::as_ref)
        .is_some_and(|slot| slot.key.is(key))
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
        table.sweep(16, at(16), false, |_, _, n| match *n % 2 {
            0 => Sweep::Remove,
            _ => Sweep::Keep(at(17)),
        });
        assert_eq!(table.len(), 8);
        for n in 20..28 {
            assert!(matches!(table.insert(key(n), at(20), n), Inserted::Fresh(_)));
        }
        assert_eq!(table.iter().count(), 16);
        assert!(table.contains(&key(21)) && table.contains(&key(1)) && !table.contains(&key(2)));
    }

    #[test]
    fn a_sweep_looks_at_flows_whose_turn_it_is() {
        let mut table = FlowTable::new(16, 1);
        for n in 0..4u16 {
            table.insert(key(n), at(0), n);
        }
        let looked_at = |table: &mut FlowTable<u16>, seconds, all| {
            let mut seen = Vec::new();
            table.sweep(4, at(seconds), all, |_, _, n| {
                seen.push(*n);
                // The last one would wait for longer than any flow may.
                Sweep::Keep(at(seconds + [0, 1, 1, 900][usize::from(*n)]))
            });
            seen
        };
        assert_eq!(looked_at(&mut table, 10, false), [0, 1, 2, 3], "they are new");
        assert_eq!(looked_at(&mut table, 10, false), [0]);
        assert_eq!(looked_at(&mut table, 10, true), [0, 1, 2, 3]);
        assert!(table.peek_mut(&key(2)).is_some());
        assert_eq!(looked_at(&mut table, 10, false), [0, 2], "who may change one wakes it");
        assert_eq!(looked_at(&mut table, 11, false), [0, 1, 2]);
        assert_eq!(looked_at(&mut table, 12, false), [0, 1, 2, 3]);
        assert_eq!(looked_at(&mut table, 5, false), [0, 1, 2, 3], "the clock was set back");
    }

    #[test]
    fn the_next_sweeps_are_asked_for_step_by_step() {
        let mut table = FlowTable::new(16, 1);
        for n in 0..16u16 {
            table.insert(key(n), at(0), n);
        }
        // The sixth is not due before the others come again.
        table.sweep(16, at(1), false, |_, _, n| Sweep::Keep(at(1 + u64::from(*n == 5))));
        table.sweep(4, at(1), false, |_, _, _| Sweep::Keep(at(2)));
        let asked = core::cell::RefCell::new(Vec::new());
        let step = |number: u8| {
            let asked = &asked;
            move |n: &u16| asked.borrow_mut().push((number, *n))
        };
        table.ask_ahead(3, at(1), [step(0), step(1)]);
        assert_eq!(asked.take(), [(1, 4), (1, 6), (0, 7), (0, 8), (0, 9)]);
        for budget in [6, usize::MAX] {
            table.ask_ahead(budget, at(1), [step(0), step(1)]);
            assert!(asked.take().is_empty(), "all of it is swept at once, or nearly");
        }
    }

    #[test]
    fn a_guess_is_never_taken_for_another_flow() {
        let mut table = FlowTable::new(2, 1);
        table.insert(key(0), at(0), 0);
        table.insert(key(1), at(1), 1);
        let hash = table.hash(&key(0));
        let guess = table.guess(hash);
        assert_ne!(guess, FlowIndex::NOWHERE);
        assert_eq!(table.guess(table.hash(&key(9))), FlowIndex::NOWHERE);
        assert!(matches!(table.insert(key(2), at(2), 2), Inserted::Evicting(index, 0) if index == guess));
        assert_eq!(table.find_hashed(&key(0), hash, guess, at(3)), None);
        let moved = table.find_hashed(&key(2), table.hash(&key(2)), FlowIndex::NOWHERE, at(3));
        assert_eq!(moved, Some(guess), "the place is another flow's now");
    }

    #[test]
    fn hashes_are_spread_and_depend_on_the_seed() {
        let (one, other) = (Hasher::new(1), Hasher::new(2));
        let mut buckets = [0u32; 1024];
        for n in 0..65_535 {
            let hash = key(n).hash(&one);
            assert_ne!(hash, key(n).hash(&other));
            buckets[hash as usize % 1024] += 1;
        }
        // 64 each, with a deviation of 8: six of them are beyond chance.
        assert!(buckets.iter().all(|count| (16..=112).contains(count)));
    }
}
