//! Sets of 16-bit sequence numbers within a window behind the highest one.

/// Numbers that are remembered: half a second at 400 Mb/s, 8 s at 25 Mb/s, and forty of the largest ordinary FEC matrices.
/// A power of two, so that a number's place is its lower bits.
pub(super) const WINDOW: u16 = 1 << 14;

const WORDS: usize = WINDOW as usize / 64;

/// A set of numbers, each in its place of the window. Who uses it keeps to the window.
#[derive(Debug)]
pub(super) struct Numbers(Box<[u64; WORDS]>);

impl Numbers {
    pub(super) fn new() -> Self {
        Numbers(Box::new([0; WORDS]))
    }

    fn place(number: u16) -> (usize, u64) {
        let place = usize::from(number % WINDOW);
        (place / 64, 1 << (place % 64))
    }

    pub(super) fn has(&self, number: u16) -> bool {
        let (word, bit) = Self::place(number);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Whether the number was not in the set before.
    pub(super) fn insert(&mut self, number: u16) -> bool {
        let (word, bit) = Self::place(number);
        self.0.get_mut(word).is_some_and(|word| {
            let fresh = *word & bit == 0;
            *word |= bit;
            fresh
        })
    }

    pub(super) fn remove(&mut self, number: u16) {
        let (word, bit) = Self::place(number);
        if let Some(word) = self.0.get_mut(word) {
            *word &= !bit;
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.fill(0);
    }

    /// Heap bytes held.
    pub(super) const MEMORY: usize = WORDS * 8;
}

/// The highest number of a sequence, and so where its window is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head(Option<u16>);

impl Head {
    /// Takes a number that came; `None` where it is behind the window. Else the numbers that are new in the window with it:
    /// how many, up to and including it.
    pub(super) fn take(&mut self, number: u16) -> Option<u16> {
        let Some(head) = self.0 else {
            self.0 = Some(number);
            return Some(WINDOW);
        };
        let ahead = number.wrapping_sub(head);
        if ahead != 0 && ahead < 1 << 15 {
            self.0 = Some(number);
            return Some(ahead.min(WINDOW));
        }
        self.holds(number).then_some(0)
    }

    /// Whether a number is in the window.
    pub(super) fn holds(self, number: u16) -> bool {
        self.0.is_some_and(|head| head.wrapping_sub(number) < WINDOW)
    }

    /// How far a number is ahead of the highest, negative behind it; `None` before the first number.
    pub(super) fn distance(self, number: u16) -> Option<i16> {
        self.0.map(|head| number.wrapping_sub(head) as i16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_follows_the_highest_number_past_the_wrap() {
        let mut head = Head::default();
        assert!(!head.holds(5));
        assert_eq!(head.take(65_530), Some(WINDOW));
        assert_eq!(head.take(2), Some(8));
        assert_eq!(head.take(65_534), Some(0), "behind, and in the window");
        assert_eq!(head.take(2u16.wrapping_sub(WINDOW)), None);
        assert!(head.holds(2u16.wrapping_sub(WINDOW - 1)));
        assert_eq!(head.distance(3), Some(1));
        assert_eq!(head.take(20_002), Some(WINDOW), "everything is new after a long jump");
    }

    #[test]
    fn a_set_holds_what_was_put_into_it() {
        let mut set = Numbers::new();
        assert!(set.insert(65_535) && !set.insert(65_535));
        assert!(set.has(65_535) && !set.has(0));
        set.remove(65_535);
        assert!(!set.has(65_535));
    }
}
