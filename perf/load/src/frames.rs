//! A load's frames in user space: for tests, for benches without a network, and for whoever wants to look at one.

use crate::error::Result;
use crate::load::{Lane, Load};
use crate::planned::Planned;
use tidegate_frames::Stream;

/// Writes the frames of a load, byte for byte as the generators do but for noise in the media.
#[derive(Clone, Debug)]
pub struct Frames(Planned);

impl Frames {
    /// Works out a load.
    ///
    /// # Errors
    /// [`crate::Error::Load`].
    pub fn new(lane: &Lane, load: &Load) -> Result<Frames> {
        Planned::new(lane, load).map(Frames)
    }

    /// Bytes of every frame.
    pub fn frame_len(&self) -> usize {
        self.0.plan.frame_len()
    }

    /// A whole frame of the load, to be written over.
    pub fn template(&self) -> &[u8] {
        &self.0.template
    }

    /// The running number with which a stream begins: datagrams of streams are spread over the group of their tables.
    pub fn first_number(&self, stream: u32) -> u32 {
        self.0.plan.first.wrapping_add(Stream::listed(&self.0.plan, stream).phase)
    }

    /// Stream time from one datagram to the next, nanoseconds, rounded down.
    pub fn interval(&self) -> u64 {
        u64::from(self.0.plan.ticks) * u64::from(self.0.plan.packets) * 1000 / 27
    }

    /// Writes the datagram of that running number of a listed stream over `frame`, which is [`Frames::frame_len`] long; `time` goes
    /// into the marker.
    pub fn write(&self, frame: &mut [u8], stream: u32, number: u32, time: u64) {
        self.0.write(frame, true, stream, number, time);
    }

    /// Writes the flood's frame of that number.
    pub fn write_unlisted(&self, frame: &mut [u8], number: u32, time: u64) {
        self.0.write(frame, false, number, number, time);
    }
}
