//! Sets of rules as bitmaps, in blocks that equal sets share.
//!
//! Neighbouring points of an axis differ in a rule or two, so most blocks of their sets are the same and are kept once. That
//! bounds the memory by the number of borders between points, not by borders times rules.

use std::collections::HashMap;

/// Words of a block: a cache line.
const WORDS: usize = 8;
/// Rules of a block.
const BLOCK: usize = WORDS * 64;
/// The most rules that can be indexed: a summary has a bit for each block.
pub(super) const MAX_INDEXED: usize = 64 * BLOCK;

type Block = [u64; WORDS];

/// A set of rules, kept in the [`Bitmaps`] that gave it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RuleSet(u32);

/// All sets of an index.
#[derive(Clone, Debug)]
pub(super) struct Bitmaps {
    /// Different blocks; the first is empty.
    blocks: Vec<Block>,
    /// The blocks of each set, [`Self::stride`] of them.
    rows: Vec<u32>,
    /// For each set a bit for each of its blocks that is not empty.
    summaries: Vec<u64>,
    stride: usize,
}

impl Bitmaps {
    /// Whether no rule is in the set.
    pub(super) fn is_empty(&self, set: RuleSet) -> bool {
        self.summary(set) == 0
    }

    /// Whether a rule, one of those indexed, is in a set.
    pub(super) fn contains(&self, set: RuleSet, rule: u32) -> bool {
        let (number, bit) = place(rule);
        let word = self.block(set, number).get(bit / 64);
        word.is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    /// The first rule, from this one on, that is in every one of the sets. None is in no sets at all.
    ///
    /// Inlined, so that the number of sets is known where it is called and the loops over them are none.
    #[inline(always)]
    pub(super) fn first_common(&self, sets: &[RuleSet], from: u32) -> Option<u32> {
        let [first, others @ ..] = sets else { return None };
        let (first_block, first_bit) = place(from);
        let ahead = u64::MAX.checked_shl(first_block as u32).unwrap_or(0);
        let mut every = others
            .iter()
            .fold(self.summary(*first), |every, set| every & self.summary(*set))
            & ahead;
        while every != 0 {
            let number = every.trailing_zeros() as usize;
            every &= every - 1;
            let mut common = *self.block(*first, number);
            for set in others {
                common = intersection(&common, self.block(*set, number));
            }
            if number == first_block {
                mask_before(&mut common, first_bit);
            }
            if !is_clear(&common) {
                return lowest(&common).map(|bit| number as u32 * BLOCK as u32 + bit);
            }
        }
        None
    }

    #[inline(always)]
    fn block(&self, set: RuleSet, number: usize) -> &Block {
        let id = self
            .rows
            .get(set.0 as usize * self.stride + number)
            .copied()
            .unwrap_or(0);
        self.blocks.get(id as usize).unwrap_or(&[0; WORDS])
    }

    #[inline(always)]
    fn summary(&self, set: RuleSet) -> u64 {
        self.summaries.get(set.0 as usize).copied().unwrap_or(0)
    }
}

/// The block of a rule, and its bit in there.
const fn place(rule: u32) -> (usize, usize) {
    (rule as usize / BLOCK, rule as usize % BLOCK)
}

/// The places of the bits that are set, the lowest first.
fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(lowest)
    })
}

/// Spelled out, so that it surely becomes a few instructions on whole registers.
#[inline(always)]
const fn intersection(one: &Block, other: &Block) -> Block {
    let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) = (*one, *other);
    [a & i, b & j, c & k, d & l, e & m, f & n, g & o, h & p]
}

#[inline(always)]
const fn is_clear(block: &Block) -> bool {
    let [a, b, c, d, e, f, g, h] = *block;
    a | b | c | d | e | f | g | h == 0
}

/// The first bit that is set.
fn lowest(block: &Block) -> Option<u32> {
    let (at, word) = (0..).zip(block).find(|(_, word)| **word != 0)?;
    Some(at * 64 + word.trailing_zeros())
}

/// Clears the bits before this one.
fn mask_before(block: &mut Block, bit: usize) {
    for (at, word) in block.iter_mut().enumerate() {
        let before = bit.saturating_sub(at * 64).min(64) as u32;
        *word &= u64::MAX.checked_shl(before).unwrap_or(0);
    }
}

/// Makes [`Bitmaps`]: flips rules in and out of one set at hand and keeps it as it is at times.
pub(super) struct Builder {
    made: Bitmaps,
    known_blocks: HashMap<Block, u32>,
    known_rows: HashMap<Box<[u32]>, RuleSet>,
    /// The set at hand.
    hand: Vec<Block>,
    /// Its blocks as far as they are kept.
    row: Vec<u32>,
    /// Which blocks were changed since, a bit for each.
    changed: u64,
}

impl Builder {
    /// For so many rules; those beyond [`MAX_INDEXED`] are in no set.
    pub(super) fn new(rules: usize) -> Self {
        let stride = rules.min(MAX_INDEXED).div_ceil(BLOCK).max(1);
        Builder {
            made: Bitmaps {
                blocks: vec![[0; WORDS]],
                rows: Vec::new(),
                summaries: Vec::new(),
                stride,
            },
            known_blocks: HashMap::from([([0; WORDS], 0)]),
            known_rows: HashMap::new(),
            hand: vec![[0; WORDS]; stride],
            row: vec![0; stride],
            changed: 0,
        }
    }

    /// Puts a rule into the set at hand, or takes it out.
    pub(super) fn flip(&mut self, rule: u32) {
        let (number, bit) = place(rule);
        if let Some(word) = self.hand.get_mut(number).and_then(|block| block.get_mut(bit / 64)) {
            *word ^= 1 << (bit % 64);
            self.changed |= 1 << number;
        }
    }

    /// Keeps the set at hand.
    pub(super) fn keep(&mut self) -> RuleSet {
        for number in ones(std::mem::take(&mut self.changed)) {
            let (Some(block), Some(id)) = (self.hand.get(number), self.row.get_mut(number)) else {
                continue;
            };
            *id = *self.known_blocks.entry(*block).or_insert_with(|| {
                self.made.blocks.push(*block);
                self.made.blocks.len() as u32 - 1
            });
        }
        if let Some(known) = self.known_rows.get(&self.row[..]) {
            return *known;
        }
        let set = RuleSet(self.made.summaries.len() as u32);
        let full = (0u32..).zip(&self.row).filter(|(_, id)| **id != 0);
        self.made
            .summaries
            .push(full.fold(0, |bits, (number, _)| bits | 1 << number));
        self.made.rows.extend(&self.row);
        self.known_rows.insert(self.row.clone().into(), set);
        set
    }

    /// Empties the set at hand.
    pub(super) fn clear(&mut self) {
        self.hand.fill([0; WORDS]);
        self.row.fill(0);
        self.changed = 0;
    }

    pub(super) fn finish(mut self) -> Bitmaps {
        self.made.blocks.shrink_to_fit();
        self.made.rows.shrink_to_fit();
        self.made
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bitmaps_behave_as_plain_sets(
            plain in prop::collection::vec(prop::collection::btree_set(0u32..1500, 0..400), 1..5),
            from in 0u32..1600,
        ) {
            let mut builder = Builder::new(1500);
            let sets: Vec<RuleSet> = plain.iter().map(|rules| {
                builder.clear();
                rules.iter().for_each(|rule| builder.flip(*rule));
                builder.keep()
            }).collect();
            let bitmaps = builder.finish();
            let everywhere = |rule: &u32| plain.iter().all(|set| set.contains(rule));
            let common: BTreeSet<u32> = (from..1500).filter(everywhere).collect();
            prop_assert_eq!(bitmaps.first_common(&sets, from), common.first().copied());
            for (set, rules) in sets.iter().zip(&plain) {
                prop_assert_eq!(bitmaps.is_empty(*set), rules.is_empty());
                prop_assert_eq!((0..1500).filter(|rule| bitmaps.contains(*set, *rule)).collect::<BTreeSet<u32>>(), rules.clone());
            }
        }
    }

    #[test]
    fn equal_sets_and_blocks_are_kept_once() {
        let mut builder = Builder::new(2000);
        let empty = builder.keep();
        builder.flip(7);
        let seven = builder.keep();
        builder.flip(7);
        assert_eq!(builder.keep(), empty);
        builder.flip(7);
        assert_eq!(builder.keep(), seven);
        builder.flip(1999);
        assert_ne!(builder.keep(), seven);
        let bitmaps = builder.finish();
        assert_eq!((bitmaps.blocks.len(), bitmaps.summaries.len()), (3, 3));
        assert_eq!(bitmaps.first_common(&[], 0), None);
    }
}
