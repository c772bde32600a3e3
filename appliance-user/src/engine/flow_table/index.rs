//! From a hash to a place: open addressing with linear probing, so that a look-up reads one cache line.
//!
//! The table is never more than half full, so a probe ends soon, and removal closes the gap that it makes instead of leaving
//! a mark: however long flows come and go, look-ups stay as short as at first.

use crate::prefetch::prefetch_element;

/// One place under its hash; no place, where `after` is 0.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// The lower half of the hash, whose lowest bits say where the entry belongs.
    hash: u32,
    /// One more than the place.
    after: u32,
}

/// Places by hash.
#[derive(Debug)]
pub(super) struct Index {
    /// A power of two.
    entries: Vec<Entry>,
    mask: usize,
    used: usize,
}

impl Index {
    /// For at most `capacity` places.
    pub(super) fn new(capacity: usize) -> Self {
        let entries = (2 * capacity).next_power_of_two();
        Index {
            entries: vec![Entry::default(); entries],
            mask: entries - 1,
            used: 0,
        }
    }

    /// Places in it.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// Asks for the entry that a look-up begins with.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        prefetch_element(&self.entries, hash as u32 as usize & self.mask);
    }

    /// The first place under a hash that is the right one.
    #[inline]
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let hash = hash as u32;
        let mut at = hash as usize & self.mask;
        loop {
            let entry = self.entries.get(at)?;
            let place = entry.after.checked_sub(1)?;
            if entry.hash == hash && is_it(place) {
                return Some(place);
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Enters a place. There must be room for it.
    pub(super) fn insert(&mut self, hash: u64, place: u32) {
        let hash = hash as u32;
        let mut at = hash as usize & self.mask;
        while let Some(entry) = self.entries.get_mut(at) {
            if entry.after == 0 {
                *entry = Entry { hash, after: place + 1 };
                self.used += 1;
                return;
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Takes a place out, if it is there. Entries behind it that could not stand where they belong move up.
    pub(super) fn remove(&mut self, hash: u64, place: u32) {
        let mut gap = hash as usize & self.mask;
        loop {
            match self.entries.get(gap) {
                Some(entry) if entry.after == place + 1 => break,
                Some(entry) if entry.after != 0 => gap = (gap + 1) & self.mask,
                _ => return,
            }
        }
        self.used -= 1;
        let mut at = gap;
        loop {
            at = (at + 1) & self.mask;
            let entry = self.entries.get(at).copied().unwrap_or_default();
            if entry.after == 0 {
                break;
            }
            let behind_home = at.wrapping_sub(entry.hash as usize) & self.mask;
            if behind_home >= at.wrapping_sub(gap) & self.mask {
                self.put(gap, entry);
                gap = at;
            }
        }
        self.put(gap, Entry::default());
    }

    fn put(&mut self, at: usize, entry: Entry) {
        if let Some(place) = self.entries.get_mut(at) {
            *place = entry;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// With hashes so few that most of them collide, in a table small enough that probes go around its end.
        #[test]
        fn places_come_and_go_as_in_a_map(steps in proptest::collection::vec((0u64..12, 0u32..8, any::<bool>()), 0..200)) {
            let mut index = Index::new(8);
            let mut model = BTreeMap::new();
            for (hash, place, enters) in steps {
                if enters && !model.contains_key(&place) {
                    index.insert(hash, place);
                    model.insert(place, hash);
                } else if !enters && let Some(known) = model.remove(&place) {
                    index.remove(known, place);
                } else {
                    index.remove(hash + 16, place + 100);
                }
                prop_assert_eq!(index.len(), model.len());
                for place in 0..8 {
                    let found = |hash| index.find(hash, |at| at == place);
                    let known = model.get(&place).copied();
                    prop_assert_eq!(known.and_then(found), known.map(|_| place));
                    prop_assert!(known.is_some() || (0..12).all(|hash| found(hash).is_none()));
                }
            }
        }
    }
}
