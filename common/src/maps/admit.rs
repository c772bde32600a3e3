//! The kernel's whitelist: which sources are listed, and what happens to their packets while no worker is alive.
//!
//! The listed prefixes of a policy cut the addresses of a family into spans: neighbouring addresses with one answer, which
//! is that of the longest prefix that holds them. The spans are sorted and cover every address, so that the last one that
//! does not begin after an address holds it, and a binary search finds it in [`SEARCH_STEPS`](Screen::SEARCH_STEPS) steps at
//! most. A longest-prefix trie would visit a node for each bit in which the prefixes on the way differ; an array of spans is
//! filled without a look-up for each prefix, too.
//!
//! Before the search stands the screen: one bit for each value of an address' first 16 bits, set if any address that begins
//! so is listed. Where it is clear the source is not listed, for certain. A flood from anywhere ends here, in a table that
//! stays in the processor's first cache.

use super::{FailureAction, MAX_SPANS, SLOTS};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4 = 0,
    /// IPv6.
    V6 = 1,
}

/// Where the spans of a policy slot begin in their map.
#[inline(always)]
pub const fn spans_begin(slot: usize) -> u32 {
    if slot == 0 { 0 } else { MAX_SPANS }
}

/// A listed source, with its own failure action if a rule gave it one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Admit(u32);

impl Admit {
    /// A listed prefix; `None` leaves the failure action to [`Config::on_failure`](super::Config::on_failure).
    pub const fn new(on_failure: Option<FailureAction>) -> Self {
        match on_failure {
            None => Admit(0),
            Some(action) => Admit(action as u32 + 1),
        }
    }

    /// The prefix's own failure action.
    #[inline(always)]
    pub const fn on_failure(self) -> Option<FailureAction> {
        match self.0 {
            0 => None,
            1 => Some(FailureAction::Return),
            3 => Some(FailureAction::Pass),
            _ => Some(FailureAction::Drop),
        }
    }

    /// The value as one word.
    #[inline(always)]
    pub const fn word(self) -> u32 {
        self.0
    }

    /// From one word.
    #[inline(always)]
    pub const fn from_word(word: u32) -> Self {
        Admit(word)
    }

    /// What a span says: 0 for addresses that are not listed.
    pub const fn answer(listed: Option<Admit>) -> u32 {
        match listed {
            None => 0,
            Some(admit) => admit.0 + 1,
        }
    }

    /// What a span's answer means.
    #[inline(always)]
    pub const fn from_answer(answer: u32) -> Option<Admit> {
        match answer {
            0 => None,
            answer => Some(Admit(answer - 1)),
        }
    }
}

/// Which beginnings of addresses are worth a search, and how many spans there are to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Screen {
    /// Spans of this family and slot; 0 before any policy.
    pub spans: u32,
    /// Zero.
    pub reserved: u32,
    /// A bit for each value of the first 16 bits of an address, the lowest bit of a word first.
    pub bits: [u64; Self::WORDS],
}

impl Screen {
    /// Words of the bitmap: 65,536 bits.
    pub const WORDS: usize = 1024;
    /// Bytes in the map.
    pub const SIZE: usize = 8 + Self::WORDS * 8;
    /// Screens in the map.
    pub const ENTRIES: u32 = 2 * SLOTS as u32;
    /// Halvings that bring [`MAX_SPANS`] down to one.
    pub const SEARCH_STEPS: u32 = (MAX_SPANS - 1).ilog2() + 1;

    /// A screen that lets nothing through.
    pub const EMPTY: Screen = Screen {
        spans: 0,
        reserved: 0,
        bits: [0; Self::WORDS],
    };

    /// The entry of a slot and family.
    #[inline(always)]
    pub const fn index(slot: usize, family: Family) -> u32 {
        (slot as u32 & 1) * 2 + family as u32
    }

    /// Lets addresses that begin with `first` up to `last` through.
    pub fn open(&mut self, first: u16, last: u16) {
        for start in first..=last {
            if let Some(word) = self.bits.get_mut(usize::from(start >> 6)) {
                *word |= 1 << (start & 63);
            }
        }
    }

    /// As the map holds it.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let (head, bits) = bytes.split_at_mut(8);
        head[..4].copy_from_slice(&self.spans.to_ne_bytes());
        head[4..].copy_from_slice(&self.reserved.to_ne_bytes());
        for (place, word) in bits.chunks_exact_mut(8).zip(&self.bits) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

/// IPv4 sources from `start` up to the next span's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Span4 {
    /// The first address, as a number.
    pub start: u32,
    /// See [`Admit::answer`].
    pub answer: u32,
}

impl Span4 {
    /// Bytes in the map.
    pub const SIZE: usize = 8;

    /// As the map holds it.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..4].copy_from_slice(&self.start.to_ne_bytes());
        bytes[4..].copy_from_slice(&self.answer.to_ne_bytes());
        bytes
    }
}

/// IPv6 sources from a first address up to the next span's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Span6 {
    /// The upper half of the first address, as a number.
    pub high: u64,
    /// The lower half.
    pub low: u64,
    /// See [`Admit::answer`].
    pub answer: u32,
    /// Zero.
    pub reserved: u32,
}

impl Span6 {
    /// Bytes in the map.
    pub const SIZE: usize = 24;

    /// Addresses from `start` on, with one answer.
    pub const fn new(start: u128, answer: u32) -> Self {
        Span6 {
            high: (start >> 64) as u64,
            low: start as u64,
            answer,
            reserved: 0,
        }
    }

    /// As the map holds it.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..8].copy_from_slice(&self.high.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.low.to_ne_bytes());
        bytes[16..20].copy_from_slice(&self.answer.to_ne_bytes());
        bytes[20..].copy_from_slice(&self.reserved.to_ne_bytes());
        bytes
    }
}

const _: () = assert!(size_of::<Screen>() == Screen::SIZE);
const _: () = assert!(size_of::<Span4>() == Span4::SIZE);
const _: () = assert!(size_of::<Span6>() == Span6::SIZE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_keep_what_a_prefix_says() {
        assert_eq!(Admit::from_answer(Admit::answer(None)), None);
        for action in [
            None,
            Some(FailureAction::Return),
            Some(FailureAction::Drop),
            Some(FailureAction::Pass),
        ] {
            let admit = Admit::new(action);
            assert_eq!(admit.on_failure(), action);
            assert_eq!(Admit::from_word(admit.word()), admit);
            assert_eq!(Admit::from_answer(Admit::answer(Some(admit))), Some(admit));
        }
    }

    #[test]
    fn so_many_steps_are_enough_and_fewer_are_not() {
        let after = |steps| (0..steps).fold(MAX_SPANS, |left, _| left - left / 2);
        assert_eq!(after(Screen::SEARCH_STEPS), 1);
        assert!(after(Screen::SEARCH_STEPS - 1) > 1);
    }

    #[test]
    fn each_screen_has_a_place_of_its_own() {
        let mut places: [u32; 4] = core::array::from_fn(|n| {
            let family = if n & 1 == 0 { Family::V4 } else { Family::V6 };
            Screen::index(n / 2, family)
        });
        places.sort_unstable();
        assert_eq!(places, [0, 1, 2, 3]);
        assert_eq!(spans_begin(1) - spans_begin(0), MAX_SPANS);
    }

    #[test]
    fn a_screen_opens_what_it_is_told_and_no_more() {
        let mut screen = Screen::EMPTY;
        screen.open(63, 128);
        screen.open(u16::MAX, u16::MAX);
        for start in 0..=u16::MAX {
            let open = screen.bits[usize::from(start / 64)] >> (start % 64) & 1 == 1;
            assert_eq!(open, (63..=128).contains(&start) || start == u16::MAX, "{start}");
        }
        assert_eq!(screen.to_bytes()[8 + 7], 0x80);
    }
}
