//! A packet: one frame, or several where a jumbo did not fit into one (descriptors chained by `XDP_PKT_CONTD`).
//!
//! The chain may be cut between two reads of the receive ring, so the assembler keeps what it has of a packet until the rest
//! comes.
#![forbid(unsafe_code)]

use super::frame::Frame;

/// Frames that one packet may have: the kernel's `MAX_SKB_FRAGS` (17) and the linear part.
pub const MAX_FRAMES: usize = 18;

/// Empty fragment lists kept for the next jumbo, so that none is allocated per packet.
const SPARE_LISTS: usize = 256;

/// What is to become of a packet when its burst is settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// Its frames go back to the pool.
    #[default]
    Recycle,
    /// It is sent.
    Send,
}

/// The frames that follow a packet's first one.
pub(super) type Rest = Option<Box<Chain>>;

/// A list of frames behind one pointer, so that nearly every packet, which has none, is small and quick to let go.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) frames: Vec<Frame>,
}

/// A whole packet in the worker's hands, from the first byte of its Ethernet header.
#[must_use = "a packet has to go home: send it or recycle it"]
#[derive(Debug)]
pub struct Packet {
    head: Frame,
    /// What follows the head; nothing for nearly every packet.
    rest: Rest,
    fate: Fate,
}

impl Packet {
    #[inline]
    pub(super) fn new(head: Frame, rest: Rest) -> Self {
        Packet {
            head,
            rest,
            fate: Fate::Recycle,
        }
    }

    /// Decides what becomes of the packet when its burst is settled.
    #[inline]
    pub fn decide(&mut self, fate: Fate) {
        self.fate = fate;
    }

    /// What was decided; to be recycled if nothing was.
    #[inline]
    pub fn fate(&self) -> Fate {
        self.fate
    }

    #[inline]
    fn rest(&self) -> &[Frame] {
        self.rest.as_deref().map_or(&[], |chain| &chain.frames)
    }

    /// The bytes in the first frame: all of them unless [`Packet::is_multi_buffer`].
    #[inline]
    pub fn head(&self) -> &[u8] {
        self.head.bytes()
    }

    /// The bytes in the first frame, to change in place.
    #[inline]
    pub fn head_mut(&mut self) -> &mut [u8] {
        self.head.bytes_mut()
    }

    /// Length of the whole packet in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.head.len() + self.rest().iter().map(Frame::len).sum::<usize>()
    }

    /// Whether the packet has no byte at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of frames the packet occupies.
    #[inline]
    pub fn frames(&self) -> usize {
        1 + self.rest().len()
    }

    /// Whether the packet goes on after [`Packet::head`].
    #[inline]
    pub fn is_multi_buffer(&self) -> bool {
        self.rest.is_some()
    }

    /// Whether a frame carries no byte: the kernel refuses such a descriptor and never gives it back.
    #[inline]
    pub(super) fn has_empty_frame(&self) -> bool {
        self.head.is_empty() || self.rest().iter().any(Frame::is_empty)
    }

    /// The packet's bytes, frame by frame.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.head).chain(self.rest()).map(Frame::bytes)
    }

    /// Replaces the contents of `into` by the whole packet: for looking into a packet that is in several pieces.
    pub fn copy_into(&self, into: &mut Vec<u8>) {
        into.clear();
        for segment in self.segments() {
            into.extend_from_slice(segment);
        }
    }

    #[inline]
    pub(super) fn first(&self) -> &Frame {
        &self.head
    }

    #[inline]
    pub(super) fn into_parts(self) -> (Frame, Rest) {
        (self.head, self.rest)
    }
}

/// A bounded batch of packets, reused from one read of the receive ring to the next.
#[derive(Debug)]
pub struct Burst {
    packets: Vec<Packet>,
    capacity: usize,
}

impl Burst {
    /// A batch of at most `capacity` packets.
    pub fn with_capacity(capacity: usize) -> Self {
        Burst {
            packets: Vec::with_capacity(capacity),
            capacity,
        }
    }

    /// Packets in the batch.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether the batch holds no packet.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Packets for which there is still room.
    #[inline]
    pub fn room(&self) -> usize {
        self.capacity - self.packets.len()
    }

    /// Takes the packets out, in the order in which they came.
    #[inline]
    pub fn drain(&mut self) -> impl Iterator<Item = Packet> + '_ {
        self.packets.drain(..)
    }

    /// The packets in runs, in the order in which they came: neighbours of which `joins` holds are in one run, every other
    /// packet is in one of its own.
    pub fn runs_mut(&mut self, joins: impl Fn(&Packet) -> bool) -> impl Iterator<Item = &mut [Packet]> {
        self.packets.chunk_by_mut(move |one, next| joins(one) && joins(next))
    }

    /// Looks at the packets, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &Packet> {
        self.packets.iter()
    }

    /// The packets, to decide about, in the order in which they came.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Packet> {
        self.packets.iter_mut()
    }

    /// Adds a packet; the caller has asked [`Burst::room`].
    #[inline]
    pub(super) fn push(&mut self, packet: Packet) {
        self.packets.push(packet);
    }
}

/// What one more frame made of the packet under way.
pub(super) enum Assembled {
    /// A packet is complete.
    Packet(Packet),
    /// The packet goes on in a frame that has not come yet.
    Incomplete,
    /// This frame belongs to a packet that is being thrown away.
    Skipped(Frame),
    /// The packet has more frames than any kernel makes: what came of it so far, to recycle. The rest will be skipped.
    TooLong(Packet, Frame),
}

/// Puts packets together from frames in the order of the receive ring.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    partial: Option<Packet>,
    skipping: bool,
    #[expect(
        clippy::vec_box,
        reason = "the boxes are kept too, so that a jumbo allocates nothing"
    )]
    spare: Vec<Box<Chain>>,
}

impl Assembler {
    /// Whether the next frame begins a packet.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        !self.skipping && self.partial.is_none()
    }

    pub(super) fn push(&mut self, frame: Frame) -> Assembled {
        let continued = frame.is_continued();
        if self.skipping {
            self.skipping = continued;
            return Assembled::Skipped(frame);
        }
        let packet = match self.partial.take() {
            None if !continued => return Assembled::Packet(Packet::new(frame, None)),
            None => Packet::new(frame, Some(self.spare.pop().unwrap_or_default())),
            Some(packet) if packet.frames() == MAX_FRAMES => {
                self.skipping = continued;
                return Assembled::TooLong(packet, frame);
            }
            Some(mut packet) => {
                packet.rest.get_or_insert_default().frames.push(frame);
                packet
            }
        };
        if continued {
            self.partial = Some(packet);
            return Assembled::Incomplete;
        }
        Assembled::Packet(packet)
    }

    /// Gives up the packet under way and everything of it that is still to come.
    pub(super) fn abandon(&mut self) -> Option<Packet> {
        let packet = self.partial.take();
        self.skipping |= packet.is_some();
        packet
    }

    /// Keeps an emptied fragment list for the next jumbo.
    pub(super) fn keep(&mut self, list: Box<Chain>) {
        if list.frames.is_empty() && self.spare.len() < SPARE_LISTS {
            self.spare.push(list);
        }
    }
}
