//! The first bytes of a TCP stream, put in order.
//!
//! The first copy of a byte counts. What a later copy says must be the same: a sender repeats itself, and whoever does not
//! wants the receiver to read something else than was looked at here.

use core::fmt;
use core::ops::Range;

use zeroize::Zeroizing;

/// Bytes of a stream that are looked at: handshake (3,073) and commands of the usual encoders take under 5,000.
pub(super) const BUDGET: usize = 16 * 1024;
/// Pieces with holes between them that are kept at a time; TCP's initial window is ten segments.
pub(super) const MAX_PIECES: usize = 16;

/// Why a segment's bytes are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Another copy of some of its bytes said something else.
    Conflict,
    /// There are [`MAX_PIECES`] already.
    TooManyPieces,
}

/// Bytes of a stream by their place in it.
#[derive(Default)]
pub(super) struct Reassembly {
    bytes: Zeroizing<Vec<u8>>,
    /// The places that are filled: in order, with holes between them.
    pieces: Vec<Range<usize>>,
}

impl fmt::Debug for Reassembly {
    /// Without the bytes, among which may be a stream key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reassembly")
            .field("pieces", &self.pieces)
            .finish_non_exhaustive()
    }
}

impl Reassembly {
    /// Takes a segment's bytes for the place `at`; what goes beyond [`BUDGET`] is left out.
    ///
    /// # Errors
    /// Nothing of the segment was taken.
    pub(super) fn insert(&mut self, at: usize, data: &[u8]) -> Result<(), Refused> {
        let data = data
            .get(..BUDGET.saturating_sub(at).min(data.len()))
            .unwrap_or_default();
        if data.is_empty() {
            return Ok(());
        }
        let end = at + data.len();
        if self.pieces.iter().any(|piece| self.contradicts(piece, at, data)) {
            return Err(Refused::Conflict);
        }
        let touches = |piece: &Range<usize>| piece.start <= end && at <= piece.end;
        if self.pieces.len() >= MAX_PIECES && !self.pieces.iter().any(touches) {
            return Err(Refused::TooManyPieces);
        }
        if self.bytes.len() < end {
            self.grow(end);
        }
        if let Some(room) = self.bytes.get_mut(at..end) {
            // Where there was a copy, this one is the same.
            room.copy_from_slice(data);
        }
        let mut filled = at..end;
        self.pieces.retain(|piece| {
            let apart = !touches(piece);
            if !apart {
                filled = filled.start.min(piece.start)..filled.end.max(piece.end);
            }
            apart
        });
        let place = self.pieces.partition_point(|piece| piece.start < filled.start);
        self.pieces.insert(place, filled);
        Ok(())
    }

    /// The bytes from the stream's beginning to the first hole.
    pub(super) fn in_order(&self) -> &[u8] {
        let first = self.pieces.first().filter(|piece| piece.start == 0);
        first
            .and_then(|piece| self.bytes.get(piece.clone()))
            .unwrap_or_default()
    }

    /// One past the place of the last byte that is here.
    pub(super) fn reach(&self) -> usize {
        self.bytes.len()
    }

    /// Heap bytes held.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + self.pieces.capacity() * size_of::<Range<usize>>()
    }

    fn contradicts(&self, piece: &Range<usize>, at: usize, data: &[u8]) -> bool {
        let both = piece.start.max(at)..piece.end.min(at + data.len());
        if both.is_empty() {
            return false;
        }
        self.bytes.get(both.clone()) != data.get(both.start - at..both.end - at)
    }

    /// Moves to a larger buffer and leaves no copy behind, which `Vec`'s own growth would.
    fn grow(&mut self, end: usize) {
        let mut larger = Zeroizing::new(Vec::with_capacity(end.next_power_of_two().min(BUDGET)));
        larger.extend_from_slice(&self.bytes);
        larger.resize(end, 0);
        self.bytes = larger;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn holes_are_filled_and_copies_compared() {
        let mut stream = Reassembly::default();
        stream.insert(4, b"efgh").unwrap();
        assert_eq!(stream.in_order(), b"");
        stream.insert(0, b"ab").unwrap();
        assert_eq!(stream.in_order(), b"ab");
        assert_eq!(stream.insert(1, b"bcXe"), Ok(()), "the hole's bytes are new");
        assert_eq!(stream.in_order(), b"abcXefgh");
        assert_eq!(stream.insert(3, b"d"), Err(Refused::Conflict));
        assert_eq!(stream.insert(7, b"hi"), Ok(()));
        assert_eq!(stream.in_order(), b"abcXefghi");
    }

    #[test]
    fn pieces_and_bytes_are_bounded() {
        let mut stream = Reassembly::default();
        for n in 0..MAX_PIECES {
            stream.insert(n * 10 + 1, b"x").unwrap();
        }
        assert_eq!(stream.insert(1000, b"x"), Err(Refused::TooManyPieces));
        assert_eq!(stream.insert(2, b"y"), Ok(()), "what touches a piece is taken");
        stream.insert(BUDGET - 1, b"z").unwrap_err();
        let mut stream = Reassembly::default();
        stream.insert(BUDGET - 1, b"zz").unwrap();
        stream.insert(BUDGET, b"zz").unwrap();
        stream.insert(usize::MAX, b"zz").unwrap();
        assert!(stream.memory() <= 2 * BUDGET);
    }

    proptest! {
        /// A naive map from place to byte is the judge.
        #[test]
        fn agrees_with_a_map(segments in prop::collection::vec((0usize..60, prop::collection::vec(0u8..2, 0..12)), 0..=MAX_PIECES)) {
            let mut stream = Reassembly::default();
            let mut map = std::collections::BTreeMap::new();
            for (at, data) in &segments {
                let conflict = data.iter().enumerate().any(|(n, byte)| map.get(&(at + n)).is_some_and(|known| known != byte));
                prop_assert_eq!(stream.insert(*at, data).is_err(), conflict);
                if !conflict {
                    map.extend(data.iter().enumerate().map(|(n, byte)| (at + n, *byte)));
                }
                let in_order: Vec<u8> = (0..).map_while(|n| map.get(&n).copied()).collect();
                prop_assert_eq!(stream.in_order(), &in_order[..]);
            }
        }
    }
}
