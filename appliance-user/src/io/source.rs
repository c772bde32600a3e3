//! A file read in big pieces, of which any few consecutive bytes can be looked at in one slice.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read};

/// What one read asks for: it stays in the second-level cache until it is looked at.
const CHUNK: usize = 256 << 10;

/// A window that slides over a reader.
#[derive(Debug)]
pub(super) struct Source<R> {
    reader: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Position in the file of `start`.
    offset: u64,
    ended: bool,
}

impl<R: Read> Source<R> {
    pub(super) fn new(reader: R) -> Self {
        Source {
            reader,
            buffer: vec![0; CHUNK],
            start: 0,
            end: 0,
            offset: 0,
            ended: false,
        }
    }

    /// Position in the file of the window's first byte.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes read and not yet consumed.
    pub(super) fn window(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Reads until the window holds `wanted` bytes or the file ends; returns how many it holds. Callers bound `wanted`.
    pub(super) fn ensure(&mut self, wanted: usize) -> io::Result<usize> {
        if self.end - self.start < wanted && !self.ended {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted.next_multiple_of(CHUNK), 0);
            }
        }
        while self.end - self.start < wanted && !self.ended {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(count) => self.end += count,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(self.end - self.start)
    }

    /// Moves the window on by `count` bytes (at most all it holds) and returns those bytes.
    pub(super) fn consume(&mut self, count: usize) -> &[u8] {
        let start = self.start;
        self.start = self.end.min(start.saturating_add(count));
        self.offset += (self.start - start) as u64;
        &self.buffer[start..self.start]
    }
}
