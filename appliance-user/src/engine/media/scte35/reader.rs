//! A cursor over a section's bytes: every read names its field and is checked.

use super::Error;

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader(bytes)
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Error> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Error::CutShort(field))?;
        self.0 = rest;
        Ok(*array)
    }

    /// The next `length` bytes.
    pub(super) fn slice(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], Error> {
        let (slice, rest) = self.0.split_at_checked(length).ok_or(Error::CutShort(field))?;
        self.0 = rest;
        Ok(slice)
    }

    /// Everything that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, Error> {
        self.array(field).map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, Error> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, Error> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// Seven bits and a time of 33.
    pub(super) fn time(&mut self, field: &'static str) -> Result<(u8, u64), Error> {
        let [b0, b1, b2, b3, b4] = self.array(field)?;
        Ok((b0 >> 1, u64::from_be_bytes([0, 0, 0, b0 & 1, b1, b2, b3, b4])))
    }
}
