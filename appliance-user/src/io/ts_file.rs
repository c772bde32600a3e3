//! MPEG transport stream files (ISO/IEC 13818-1): packets of 188 bytes, alone, behind a four-byte time stamp (192, M2TS) or
//! before sixteen bytes of Reed-Solomon parity (204).
//!
//! Synchronisation as in TR 101 290: five good sync bytes in a row acquire it, two bad ones in a row lose it. A packet with a
//! lone bad sync byte is handed out as it is: to judge it is not this file's business.
#![forbid(unsafe_code)]

use std::io::{self, Read};

use super::source::Source;

/// Bytes of a transport stream packet.
pub const PACKET_SIZE: usize = 188;
const SYNC: u8 = 0x47;
/// Sync bytes in a row that acquire synchronisation.
const ACQUIRE: usize = 5;
/// Packet sizes in files, the commonest first.
const STRIDES: [usize; 3] = [188, 192, 204];
const MAX_STRIDE: usize = 204;
/// How far into a file its first packet is looked for.
pub const SEARCH: usize = 64 << 10;
/// Bytes that one batch is made of at most.
const BATCH: usize = 256 << 10;

/// Why a transport stream file cannot be read, or not any further.
#[derive(Debug, thiserror::Error)]
pub enum TsFileError {
    /// There are no five sync bytes at the distance of a packet.
    #[error("not a transport stream: no five sync bytes in a row within the first {searched} bytes")]
    Foreign {
        /// Bytes looked through.
        searched: usize,
    },
    /// The last packet is not whole.
    #[error("file cut short in packet {packet} at byte {offset}: {available} bytes of a packet")]
    Truncated {
        /// Number of the packet, from 1.
        packet: u64,
        /// Where it begins.
        offset: u64,
        /// Bytes of it that are there.
        available: usize,
    },
    /// The operating system cannot read on.
    #[error("cannot read at byte {offset}")]
    Read {
        /// How far reading came.
        offset: u64,
        /// Its reason.
        source: io::Error,
    },
}

/// How packets lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Distance from one sync byte to the next: 188, 192 or 204.
    pub stride: usize,
    /// Position of the first sync byte.
    pub start: usize,
}

/// Finds out how packets lie in a file from its beginning, of which up to [`SEARCH`] bytes and five packets are looked at.
/// A file shorter than five packets must be whole packets from its first byte (`whole` says that this is all of it).
pub fn detect(beginning: &[u8], whole: bool) -> Option<Layout> {
    for start in 0..beginning.len().min(SEARCH) {
        for stride in STRIDES {
            if acquired(beginning, start, stride) {
                return Some(Layout { stride, start });
            }
        }
    }
    let few = |stride: &usize| {
        let start = if *stride == 192 { 4 } else { 0 };
        !beginning.is_empty() && beginning.len().is_multiple_of(*stride) && good_run(beginning, start, *stride)
    };
    if !whole || beginning.len() >= ACQUIRE * MAX_STRIDE {
        return None;
    }
    STRIDES.into_iter().find(few).map(|stride| Layout {
        stride,
        start: if stride == 192 { 4 } else { 0 },
    })
}

fn acquired(bytes: &[u8], start: usize, stride: usize) -> bool {
    (0..ACQUIRE).all(|n| bytes.get(start + n * stride) == Some(&SYNC))
}

fn good_run(bytes: &[u8], start: usize, stride: usize) -> bool {
    bytes
        .get(start..)
        .is_some_and(|rest| rest.iter().step_by(stride).all(|&b| b == SYNC))
}

/// What a reader has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TsCounts {
    /// Packets handed out.
    pub packets: u64,
    /// Bytes that belong to no packet: before the first one and while synchronisation was lost.
    pub skipped: u64,
    /// Times synchronisation was lost.
    pub sync_losses: u64,
}

/// Packets that follow each other without a gap.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    bytes: &'a [u8],
    stride: usize,
    offset: u64,
    skipped: u64,
}

impl<'a> Batch<'a> {
    /// The packets and where in the file each begins.
    pub fn packets(&self) -> impl Iterator<Item = (u64, &'a [u8; PACKET_SIZE])> + use<'a> {
        let (offset, stride) = (self.offset, self.stride as u64);
        let whole = self
            .bytes
            .chunks(self.stride)
            .filter_map(|chunk| chunk.first_chunk::<PACKET_SIZE>());
        (0..)
            .zip(whole)
            .map(move |(n, packet): (u64, _)| (offset + n * stride, packet))
    }

    /// Bytes skipped right before this batch, to find synchronisation.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

/// A batch of packets at a time out of a transport stream file.
#[derive(Debug)]
pub struct TsReader<R> {
    source: Source<R>,
    layout: Layout,
    counts: TsCounts,
    /// Bytes skipped since the last batch.
    gap: u64,
    synchronised: bool,
    finished: bool,
}

impl<R: Read> TsReader<R> {
    /// Looks for the first packets.
    ///
    /// # Errors
    ///
    /// [`TsFileError::Foreign`] when there are none, and those of a file that cannot be read.
    pub fn new(reader: R) -> Result<Self, TsFileError> {
        let mut source = Source::new(reader);
        let wanted = SEARCH + ACQUIRE * MAX_STRIDE;
        let available = source
            .ensure(wanted)
            .map_err(|e| TsFileError::Read { offset: 0, source: e })?;
        let searched = available.min(SEARCH);
        let layout = detect(source.window(), available < wanted).ok_or(TsFileError::Foreign { searched })?;
        source.consume(layout.start);
        // The four bytes before each packet of an M2TS file are part of it.
        let gap = layout.start as u64
            - if layout.stride == 192 && layout.start >= 4 {
                4
            } else {
                0
            };
        let counts = TsCounts {
            skipped: gap,
            ..TsCounts::default()
        };
        Ok(TsReader {
            source,
            layout,
            counts,
            gap,
            synchronised: true,
            finished: false,
        })
    }

    /// How packets lie in the file.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// What was seen so far.
    pub fn counts(&self) -> TsCounts {
        self.counts
    }

    /// The next packets; `None` at the end of the file, and after an error.
    pub fn next_batch(&mut self) -> Option<Result<Batch<'_>, TsFileError>> {
        loop {
            if self.finished {
                return None;
            }
            let offset = self.source.offset();
            let available = match self.source.ensure(BATCH) {
                Ok(available) => available,
                Err(source) => {
                    self.finished = true;
                    return Some(Err(TsFileError::Read { offset, source }));
                }
            };
            let ended = available < BATCH;
            if !self.synchronised {
                self.hunt(ended);
                continue;
            }
            let stride = self.layout.stride;
            let run = good_packets(self.source.window(), stride, ended);
            if run.packets > 0 {
                let skipped = std::mem::take(&mut self.gap);
                self.counts.packets += run.packets as u64;
                let bytes = self.source.consume(run.packets * stride);
                return Some(Ok(Batch {
                    bytes,
                    stride,
                    offset,
                    skipped,
                }));
            }
            if let Some(error) = self.stop(run.lost, available) {
                return Some(Err(error));
            }
        }
    }

    /// Nothing can be handed out: synchronisation is lost, or the file is over.
    fn stop(&mut self, lost: bool, available: usize) -> Option<TsFileError> {
        if lost {
            self.synchronised = false;
            self.counts.sync_losses += 1;
            self.skip(1);
            return None;
        }
        self.finished = true;
        // Of an M2TS file what is left after the last packet may be the time stamp of one that never came.
        (available > 0).then(|| TsFileError::Truncated {
            packet: self.counts.packets + 1,
            offset: self.source.offset(),
            available,
        })
    }

    /// Looks for synchronisation at the distance the file began with.
    fn hunt(&mut self, ended: bool) {
        let (window, stride) = (self.source.window(), self.layout.stride);
        let last = window.len().saturating_sub((ACQUIRE - 1) * stride);
        match (0..last).find(|&at| acquired(window, at, stride)) {
            Some(at) => {
                self.skip(at);
                self.synchronised = true;
            }
            None if ended => {
                self.skip(window.len());
                self.finished = true;
            }
            None => self.skip(last),
        }
    }

    fn skip(&mut self, count: usize) {
        let skipped = self.source.consume(count).len() as u64;
        self.gap += skipped;
        self.counts.skipped += skipped;
    }
}

/// Packets at the window's beginning before synchronisation is lost or the window ends.
struct Run {
    packets: usize,
    /// The window goes on with two bad sync bytes in a row, or with one and the end of the file.
    lost: bool,
}

fn good_packets(window: &[u8], stride: usize, ended: bool) -> Run {
    let good = |n: usize| window.get(n * stride).map(|&b| b == SYNC);
    // The file's last packet may come without its parity, any other must lie in the window with all that belongs to it.
    let whole = if ended { PACKET_SIZE } else { stride };
    let mut packets = 0;
    while window.len() >= packets * stride + whole {
        if good(packets) != Some(true) {
            match good(packets + 1) {
                Some(true) => {}
                // The next batch begins here and sees more.
                None if !ended => break,
                Some(false) | None => return Run { packets, lost: true },
            }
        }
        packets += 1;
    }
    Run { packets, lost: false }
}

#[cfg(test)]
#[path = "ts_file_tests.rs"]
mod tests;
