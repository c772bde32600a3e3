//! One thing that packets are matched on, as a line cut where the set of fitting rules changes.

use super::bits::{Builder, RuleSet};

/// What of an axis a rule takes.
pub(super) enum Fit<K> {
    /// All of it, because the rule lists nothing.
    Anything,
    /// These inclusive ranges, in any order; none of it if there are none.
    Within(Vec<(K, K)>),
}

/// A point of an axis.
pub(super) trait Point: Copy + Ord {
    /// The next point; `None` at the end of the axis.
    fn next(self) -> Option<Self>;
}

macro_rules! points {
    ($($number:ty),*) => {$(
        impl Point for $number {
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
        }
    )*};
}

points!(u8, u16, u32, u64, u128);

/// The rules that fit, by point.
#[derive(Clone, Debug)]
pub(super) struct Axis<K> {
    /// Where the set changes, ascending.
    borders: Vec<K>,
    /// The set before the first border, and from each border on.
    sets: Vec<RuleSet>,
    /// The rules that take all of the axis.
    anything: RuleSet,
}

impl<K: Point> Axis<K> {
    /// The axis of rules with what of it they take, each rule once.
    pub(super) fn build(builder: &mut Builder, rules: impl Iterator<Item = (u32, Fit<K>)>) -> Self {
        builder.clear();
        let mut flips = Vec::new();
        for (rule, fit) in rules {
            match fit {
                Fit::Anything => builder.flip(rule),
                Fit::Within(ranges) => {
                    for (low, high) in apart(ranges) {
                        flips.push((low, rule));
                        flips.extend(high.next().map(|after| (after, rule)));
                    }
                }
            }
        }
        flips.sort_unstable();
        let anything = builder.keep();
        let (mut borders, mut sets) = (Vec::new(), vec![anything]);
        for border in flips.chunk_by(|(one, _), (other, _)| one == other) {
            border.iter().for_each(|(_, rule)| builder.flip(*rule));
            let set = builder.keep();
            if sets.last() != Some(&set) {
                borders.extend(border.first().map(|(point, _)| *point));
                sets.push(set);
            }
        }
        Axis {
            borders,
            sets,
            anything,
        }
    }

    /// The rules that take this point.
    pub(super) fn at(&self, point: K) -> RuleSet {
        let passed = self.borders.partition_point(|border| *border <= point);
        // There is one set more than there are borders.
        self.sets.get(passed).copied().unwrap_or(self.anything)
    }

    /// The rules that take all of the axis because they list nothing.
    pub(super) const fn anything(&self) -> RuleSet {
        self.anything
    }
}

/// The same points in ranges that do not overlap, so that each border flips a rule once.
pub(super) fn apart<K: Point>(mut ranges: Vec<(K, K)>) -> Vec<(K, K)> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let overlaps = next.0 <= kept.1;
        if overlaps {
            kept.1 = kept.1.max(next.1);
        }
        overlaps
    });
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_point_has_the_rules_whose_ranges_hold_it(
            rules in prop::collection::vec(prop::option::of(prop::collection::vec((any::<u8>(), any::<u8>()), 0..5)), 0..40),
        ) {
            let ranges = |listed: &Vec<(u8, u8)>| listed.iter().map(|(a, b)| (*a.min(b), *a.max(b))).collect();
            let mut builder = Builder::new(rules.len());
            let fits = rules.iter().map(|listed| listed.as_ref().map_or(Fit::Anything, |listed| Fit::Within(ranges(listed))));
            let axis = Axis::build(&mut builder, (0u32..).zip(fits));
            let bitmaps = builder.finish();
            let takes = |listed: &Option<Vec<(u8, u8)>>, point: u8| {
                listed.as_ref().is_none_or(|listed| listed.iter().any(|(a, b)| (*a.min(b)..=*a.max(b)).contains(&point)))
            };
            for point in 0..=u8::MAX {
                for (id, rule) in (0..).zip(&rules) {
                    prop_assert_eq!(bitmaps.contains(axis.at(point), id), takes(rule, point));
                    prop_assert_eq!(bitmaps.contains(axis.anything(), id), rule.is_none());
                }
            }
        }
    }
}
