//! The walker's single steps: offsets that cannot overflow, and headers read within what is around them.

use super::Stop;
use crate::cursor::Cursor;
use crate::drop_reason::DropReason;

/// Offsets cannot overflow: no length is above 2^16, and no walk within its limits adds up more than some hundred of them.
#[inline(always)]
pub(super) const fn plus(offset: usize, length: usize) -> usize {
    offset + length
}

/// A header that the packet must hold.
#[inline(always)]
pub(super) fn whole<const N: usize, C: Cursor>(cursor: &C, at: usize) -> Result<[u8; N], Stop> {
    cursor.read(at).ok_or(Stop::Malformed(DropReason::Truncated))
}

/// A header that must end before `end`.
#[inline(always)]
pub(super) fn within<const N: usize, C: Cursor>(cursor: &C, at: usize, end: usize) -> Result<[u8; N], Stop> {
    if plus(at, N) > end {
        return Err(Stop::Malformed(DropReason::Truncated));
    }
    whole(cursor, at)
}

#[inline(always)]
pub(super) fn bounded<const N: usize, C: Cursor>(cursor: &C, at: usize, limit: Option<usize>) -> Result<[u8; N], Stop> {
    match limit {
        Some(end) => within(cursor, at, end),
        None => whole(cursor, at),
    }
}

#[inline(always)]
pub(super) fn inside<C: Cursor>(cursor: &C, end: usize, limit: Option<usize>) -> bool {
    match limit {
        Some(limit) => end <= limit,
        None => cursor.reaches(end),
    }
}
