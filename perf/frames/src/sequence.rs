//! Following the running numbers of one stream: what is missing, late or there twice.

/// What the collector knows of a stream; all zeroes before its first datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Sequence {
    /// Which of the last 64 numbers were seen; bit 0 is the newest.
    pub seen: u64,
    /// The number after the newest.
    pub next: u32,
    /// Keeps the size a multiple of 8.
    pub padding: u32,
}

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// In order, with so many numbers missing in front of it.
    Forward(u32),
    /// Counted as missing before, and here after all.
    Late,
    /// Seen already.
    Again,
    /// So late that nobody knows: taken for late.
    Ancient,
}

impl Sequence {
    /// Takes in a number; a stream's first one is measured against `first`, where its beginning is known.
    #[inline(always)]
    pub fn take(&mut self, number: u32, first: Option<u32>) -> Step {
        if self.seen == 0 {
            self.next = match first {
                Some(first) => first,
                None => number,
            };
            // A bit that is shifted out before it can be asked for stands for "begun".
            self.seen = 1 << 63;
        }
        let ahead = number.wrapping_sub(self.next);
        if ahead < 1 << 31 {
            self.seen = if ahead >= 63 { 1 } else { self.seen << (ahead + 1) | 1 };
            self.next = number.wrapping_add(1);
            return Step::Forward(ahead);
        }
        let behind = self.next.wrapping_sub(number).wrapping_sub(1);
        if behind >= 64 {
            return Step::Ancient;
        }
        let bit = 1u64 << behind;
        if self.seen & bit != 0 {
            return Step::Again;
        }
        self.seen |= bit;
        Step::Late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_late_and_doubled_numbers_are_told_apart() {
        let mut stream = Sequence::default();
        assert_eq!(stream.take(7, Some(5)), Step::Forward(2));
        assert_eq!(stream.take(8, Some(5)), Step::Forward(0));
        assert_eq!(stream.take(8, Some(5)), Step::Again);
        assert_eq!(stream.take(6, Some(5)), Step::Late);
        assert_eq!(stream.take(6, Some(5)), Step::Again);
        assert_eq!(stream.take(5, Some(5)), Step::Late);
        assert_eq!(stream.take(100, Some(5)), Step::Forward(91));
        assert_eq!(stream.take(36, Some(5)), Step::Ancient);
        assert_eq!(stream.take(37, Some(5)), Step::Late);
        assert_eq!(stream.take(99, Some(5)), Step::Late);
    }

    #[test]
    fn an_unknown_beginning_costs_nothing_and_numbers_wrap() {
        let mut stream = Sequence::default();
        assert_eq!(stream.take(u32::MAX, None), Step::Forward(0));
        assert_eq!(stream.take(0, None), Step::Forward(0));
        assert_eq!(stream.take(u32::MAX, None), Step::Again);
    }
}
