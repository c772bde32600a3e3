//! What a socket tells of its work: of a flush, of a backlog thrown away, of the kernel's own counts.

use std::io;

use rustix::io::Errno;

/// What a flush did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Frames entered into the transmit ring.
    pub submitted: u32,
    /// Frames that came back from the driver, sent.
    pub completed: u32,
    /// System calls made to start transmission.
    pub kicks: u32,
    /// Kicks after which the kernel asked for another one (`EAGAIN`, `EBUSY`, `ENOBUFS`).
    pub refused: u32,
    /// Frames the kernel has not taken from the transmit ring yet; the next flush goes on with them.
    pub unsent: u32,
}

/// Why transmission cannot go on. What was staged is in the ring and leaves with a later flush.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// `ENETDOWN`: the interface is down. The socket works on when it comes back.
    #[error("the interface is down")]
    LinkDown,
    /// `ENXIO`: the interface was removed. The socket is bound to nothing and has to be opened anew.
    #[error("the interface is gone")]
    Gone,
    /// Anything else the kernel says to a kick.
    #[error("cannot start transmission")]
    Kick(#[source] io::Error),
}

/// What [`super::Socket::discard_backlog`] threw away, and what it could not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discarded {
    /// Received packets that were waiting.
    pub received: u64,
    /// Packets' frames that were staged for sending and not yet in the ring.
    pub staged: u32,
    /// Frames in the transmit ring that the kernel has not taken yet. AF_XDP has no way to recall them but to close the
    /// socket: they leave with the next kick, in order. They are few if every burst ends with a flush.
    pub unrecallable: u32,
}

/// The kernel's counters of a socket (`struct xdp_statistics`), since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Received packets dropped for other reasons than a full ring: most of all, too large for the socket.
    pub rx_dropped: u64,
    /// Descriptors in the fill ring that the kernel refused.
    pub rx_invalid_descs: u64,
    /// Received packets dropped because the receive ring was full.
    pub rx_ring_full: u64,
    /// Times the kernel found the fill ring empty.
    pub rx_fill_ring_empty_descs: u64,
    /// Descriptors in the transmit ring that the kernel refused. Their frames never complete.
    pub tx_invalid_descs: u64,
    /// Times the kernel found the transmit ring empty.
    pub tx_ring_empty_descs: u64,
}

impl Statistics {
    /// Packets that XDP gave to the socket and that never reached its receive ring.
    pub const fn received_lost(&self) -> u64 {
        self.rx_dropped + self.rx_ring_full
    }
}

/// What the kernel's answer to a kick means.
pub(super) fn refusal(error: Errno) -> FlushError {
    match error {
        Errno::NETDOWN => FlushError::LinkDown,
        Errno::NXIO | Errno::NODEV => FlushError::Gone,
        error => FlushError::Kick(error.into()),
    }
}
