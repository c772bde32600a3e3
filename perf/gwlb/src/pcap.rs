//! A bounded capture of the frames sent, in the classic format with nanoseconds, for `tidegate inspect` and tshark.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Magic of the nanosecond variant, and link type Ethernet.
const MAGIC: u32 = 0xa1b2_3c4d;
const ETHERNET: u32 = 1;
const SNAPLEN: u32 = 0x0004_0000;

/// Writes frames until its limit; counts what came after.
#[derive(Debug)]
pub struct PcapWriter<W: Write> {
    output: W,
    left: u64,
}

impl PcapWriter<BufWriter<File>> {
    /// Makes the file and writes the header.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn create(path: &Path, limit: u64) -> io::Result<Self> {
        PcapWriter::new(BufWriter::new(File::create(path)?), limit)
    }
}

impl<W: Write> PcapWriter<W> {
    /// Writes the header; at most `limit` frames follow.
    ///
    /// # Errors
    /// Whatever the writer says.
    pub fn new(mut output: W, limit: u64) -> io::Result<Self> {
        output.write_all(&MAGIC.to_le_bytes())?;
        output.write_all(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
        output.write_all(&SNAPLEN.to_le_bytes())?;
        output.write_all(&ETHERNET.to_le_bytes())?;
        Ok(PcapWriter { output, left: limit })
    }

    /// Writes one frame with its time in nanoseconds since 1970; nothing once the limit is reached.
    ///
    /// # Errors
    /// Whatever the writer says.
    pub fn write(&mut self, nanos: u64, frame: &[u8]) -> io::Result<()> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(());
        };
        self.left = left;
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        let seconds = u32::try_from(nanos / 1_000_000_000).map_err(io::Error::other)?;
        let fraction = u32::try_from(nanos % 1_000_000_000).map_err(io::Error::other)?;
        for field in [seconds, fraction, length, length] {
            self.output.write_all(&field.to_le_bytes())?;
        }
        self.output.write_all(frame)
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// Whatever the writer says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_at_its_limit() {
        let mut bytes = Vec::new();
        let mut writer = PcapWriter::new(&mut bytes, 1).expect("header");
        writer.write(1_500_000_000_000_000_007, &[1, 2, 3]).expect("frame");
        writer.write(0, &[4]).expect("beyond the limit");
        assert_eq!(bytes.len(), 24 + 16 + 3);
        assert_eq!(
            bytes.get(24..32),
            Some([1_500_000_000u32.to_le_bytes(), 7u32.to_le_bytes()].concat().as_slice())
        );
    }
}
