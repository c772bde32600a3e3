//! How the walker reads a packet: by offset, in pieces of fixed size, each proven to be inside the packet.
//!
//! The walker is written once against [`Cursor`]; the kernel's direct packet pointers, the kernel's load helper and a
//! slice in user space are three ways to answer the same two questions. Nothing above a cursor ever indexes a packet.

/// Read access to one packet whose end is known.
pub trait Cursor {
    /// The `N` bytes at `offset`, or `None` if not all of them are there. An implementation may also refuse offsets beyond
    /// what any header within its limits can reach.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// Whether the packet has at least `end` bytes.
    fn reaches(&self, end: usize) -> bool;

    /// The same offset, where several ways through the headers meet. The kernel's cursors make its verifier forget which way
    /// it came, or it would follow each of them to the end of the program.
    #[inline(always)]
    fn settle(&self, offset: usize) -> usize {
        offset
    }
}

/// A packet that lies in one piece in memory: user space's cursor.
#[derive(Clone, Copy, Debug)]
pub struct SliceCursor<'a> {
    bytes: &'a [u8],
}

impl<'a> SliceCursor<'a> {
    /// A cursor over a whole packet.
    pub const fn new(bytes: &'a [u8]) -> Self {
        SliceCursor { bytes }
    }
}

impl Cursor for SliceCursor<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.bytes.get(offset..)?.first_chunk::<N>().copied()
    }

    #[inline(always)]
    fn reaches(&self, end: usize) -> bool {
        end <= self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_to_the_last_byte_and_not_beyond() {
        let cursor = SliceCursor::new(&[1, 2, 3, 4]);
        assert_eq!(cursor.read::<2>(2), Some([3, 4]));
        assert_eq!(cursor.read::<2>(3), None);
        assert_eq!(cursor.read::<0>(4), Some([]));
        assert_eq!(cursor.read::<0>(5), None);
        assert_eq!(cursor.read::<1>(usize::MAX), None);
        assert!(cursor.reaches(4) && !cursor.reaches(5));
    }
}
