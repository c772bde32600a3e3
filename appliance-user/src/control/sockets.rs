//! The AF_XDP sockets of an appliance: one per queue, and whether they can carry what the interface brings.

use super::figures::QueueFacts;
use super::options::Options;
use super::start::PATIENCE;
use super::start_error::StartError;
use crate::io::{Fallback, Feature, Opened, Socket, interface};

/// What the XDP program's headroom takes of every buffer.
const HEADROOM: u32 = 256;
/// Ethernet header and one 802.1Q tag, beyond the MTU.
const ETHERNET: u32 = 18;

/// One queue, opened.
pub(super) struct Bound {
    pub(super) queue: u32,
    pub(super) core: Option<usize>,
    pub(super) socket: Socket,
    pub(super) opened: Opened,
}

impl Bound {
    /// What the socket really is.
    pub(super) fn facts(&self) -> QueueFacts {
        QueueFacts {
            queue: self.queue,
            core: self.core,
            bind: if self.opened.zero_copy { "zero-copy" } else { "copy" },
            multi_buffer: self.opened.multi_buffer,
            huge_pages: self.opened.huge_pages,
            frames: self.opened.frames,
        }
    }
}

/// Opens a socket on each queue, with its worker's core. A queue that is taken is waited for.
pub(super) fn open(
    options: &Options,
    facts: &interface::Facts,
    queues: &[u32],
    cores: &[Option<usize>],
) -> Result<Vec<Bound>, StartError> {
    let open = |(queue, core): (&u32, &Option<usize>)| {
        let opened = Socket::open(&options.socket(*queue, facts), PATIENCE);
        let (socket, opened) = opened.map_err(|source| StartError::Socket { source })?;
        Ok(Bound {
            queue: *queue,
            core: *core,
            socket,
            opened,
        })
    };
    queues.iter().zip(cores).map(open).collect()
}

/// Whether the largest frame fits what the sockets carry.
pub(super) fn check_mtu(options: &Options, facts: &interface::Facts, bound: &[Bound]) -> Result<(), StartError> {
    let room = options.frame_size.saturating_sub(HEADROOM);
    let needed = facts.mtu.saturating_add(ETHERNET);
    let Some(single) = bound.iter().find(|queue| !queue.opened.multi_buffer) else {
        return Ok(());
    };
    if needed <= room {
        return Ok(());
    }
    let why = single
        .opened
        .fallbacks
        .iter()
        .find(|fallback| fallback.feature == Feature::MultiBuffer);
    Err(StartError::Mtu {
        interface: facts.name.clone(),
        mtu: facts.mtu,
        needed,
        room,
        why: why.map_or_else(|| "not asked for".to_owned(), ToString::to_string),
        most: room.saturating_sub(ETHERNET),
        hint: if options.frame_size < 4096 {
            ", or use --frame-size 4096"
        } else {
            ""
        },
    })
}

/// A socket's fallback as what, instead, why.
pub(super) fn told(fallback: &Fallback) -> (&'static str, String, String) {
    let instead = match fallback.feature {
        Feature::ZeroCopy => "copy mode",
        Feature::HugePages => "ordinary pages",
        Feature::MultiBuffer => "packets of one buffer",
        Feature::TransmitBudget => "the kernel's 32 packets per kick",
        Feature::SendBuffer => "the kernel's send buffer",
        Feature::BusyPoll => "interrupts",
    };
    (
        fallback.feature.name(),
        instead.to_owned(),
        std::io::Error::from_raw_os_error(fallback.errno).to_string(),
    )
}
