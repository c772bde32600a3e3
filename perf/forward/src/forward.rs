//! The loop: receive a burst, swap addresses, send it, kick, give sent frames back to the kernel.
//!
//! This file has `unsafe`: descriptors of rings and frames are plain numbers to the library, and that each is in one
//! place only is this file's promise. A descriptor goes round: free list, fill ring, receive ring, `burst`, transmit ring,
//! completion ring, free list; nothing keeps a copy of one that it has handed on.
#![allow(unsafe_code)]

use std::fmt;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, sockopt};
use xsk_rs::config::{BindFlags, FrameSize, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

const FRAME_SIZE: u32 = 4096;
/// `XDP_PKT_CONTD` (linux/if_xdp.h): the packet goes on in the next descriptor.
const CONTINUED: u32 = 1;
/// `XDP_MAX_TX_SKB_BUDGET` (linux/if_xdp.h): packets that one kick sends in copy mode; 32 unless raised.
const XDP_MAX_TX_SKB_BUDGET: i32 = 9;
const TX_BUDGET: i32 = 256;
/// Kicks in a row that may move nothing before the rest is left to the next round.
const IDLE_KICKS: u32 = 4;
/// Sent frames taken back at once.
const STEP: usize = 512;
/// Rounds without a packet between two looks at the clock, when there is a time limit.
const ROUNDS: u32 = 1024;
/// Longest sleep, so that a stop is seen.
const NAP: Duration = Duration::from_millis(100);
/// How long the last frames may take.
const LAST_FRAMES: Duration = Duration::from_millis(100);

/// What is wanted.
pub(crate) struct Settings {
    pub(crate) interface: String,
    pub(crate) queue: u32,
    pub(crate) ring_size: u32,
    pub(crate) frames: u32,
    pub(crate) batch: usize,
    pub(crate) huge_pages: bool,
    /// Sleep when there is nothing to do, instead of looking again.
    pub(crate) sleep: bool,
}

/// What the socket is.
pub(crate) struct Opened {
    ring_size: u32,
    frames: usize,
    raised: bool,
    send_buffer: bool,
    huge_pages: bool,
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let budget = if self.raised { TX_BUDGET } else { 32 };
        write!(
            f,
            "bind=copy ring_size={} frames={} transmit_budget={budget} send_buffer_raised={} huge_pages={}",
            self.ring_size, self.frames, self.send_buffer, self.huge_pages
        )
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    /// Packets received.
    pub(crate) received: u64,
    /// Packets entered into the transmit ring.
    pub(crate) sent: u64,
    /// Buffers dropped because the transmit ring had no room for their burst.
    pub(crate) full: u64,
    /// System calls made to start transmission.
    pub(crate) kicks: u64,
    /// Those that the kernel answered with EAGAIN, EBUSY or ENOBUFS.
    pub(crate) refused: u64,
}

/// A socket and its frames.
pub(crate) struct Forwarder {
    // Rings before the memory they are in.
    rx: RxQueue,
    tx: TxQueue,
    fill: FillQueue,
    completion: CompQueue,
    umem: Umem,
    free: Vec<FrameDesc>,
    burst: Vec<FrameDesc>,
    scratch: Vec<FrameDesc>,
    /// Descriptors in the transmit ring or on their way back from it.
    in_flight: usize,
    /// The last descriptor's packet goes on in the next.
    continued: bool,
    ring_size: u32,
    sleep: bool,
    totals: Totals,
}

impl Forwarder {
    /// Opens a socket in copy mode, with the options that Tidegate sets.
    pub(crate) fn open(settings: &Settings) -> anyhow::Result<(Forwarder, Opened)> {
        let ring = QueueSize::new(settings.ring_size).context("the ring size must be a power of two")?;
        let umem_config = UmemConfig::builder()
            .frame_size(FrameSize::new(FRAME_SIZE)?)
            .fill_queue_size(ring)
            .comp_queue_size(ring)
            .build()?;
        let frames = NonZeroU32::new(settings.frames).context("no frames")?;
        let (umem, mut free) = Umem::new(umem_config, frames, settings.huge_pages).context("cannot make the UMEM")?;
        let config = SocketConfig::builder()
            .rx_queue_size(ring)
            .tx_queue_size(ring)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(BindFlags::XDP_USE_NEED_WAKEUP | BindFlags::XDP_COPY | BindFlags::XDP_USE_SG)
            .build();
        let interface = settings.interface.parse().context("not a name of an interface")?;
        // SAFETY: holds because this UMEM has this one socket.
        let made = unsafe { Socket::new(config, &umem, &interface, settings.queue) };
        let (tx, rx, others) = made.context("cannot bind the AF_XDP socket")?;
        let (fill, completion) = others.context("the UMEM is in use already")?;
        let raised = set_option(rx.fd().as_raw_fd(), libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, TX_BUDGET);
        // Copy mode charges every packet in flight to the send buffer.
        let buffer = (settings.ring_size as usize)
            .saturating_mul(FRAME_SIZE as usize + 1024)
            .min(1 << 30);
        let opened = Opened {
            ring_size: settings.ring_size,
            frames: free.len(),
            raised,
            send_buffer: sockopt::set_socket_send_buffer_size_force(descriptor(&rx), buffer).is_ok(),
            huge_pages: settings.huge_pages,
        };
        // The first ones on top: those that go round when the ring is smaller than the memory.
        free.reverse();
        let mut forwarder = Forwarder {
            rx,
            tx,
            fill,
            completion,
            umem,
            free,
            burst: vec![FrameDesc::default(); settings.batch],
            scratch: vec![FrameDesc::default(); STEP],
            in_flight: 0,
            continued: false,
            ring_size: settings.ring_size,
            sleep: settings.sleep,
            totals: Totals::default(),
        };
        forwarder.refill();
        Ok((forwarder, opened))
    }

    /// The socket, for the XSKMAP.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        descriptor(&self.rx)
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// Forwards until it is told to stop, or the time is over.
    pub(crate) fn run(&mut self, stop: &AtomicBool, limit: Option<Duration>) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut rounds = 0_u32;
        while !stop.load(Ordering::Relaxed) {
            if self.round()? == 0 {
                if self.sleep {
                    self.nap();
                } else {
                    std::hint::spin_loop();
                }
            }
            rounds = rounds.wrapping_add(1);
            if (self.sleep || rounds.is_multiple_of(ROUNDS)) && limit.is_some_and(|limit| started.elapsed() >= limit) {
                break;
            }
        }
        Ok(())
    }

    /// Forwards what is still in the rings, until every sent frame came back.
    pub(crate) fn drain(&mut self) {
        let started = Instant::now();
        while started.elapsed() < LAST_FRAMES {
            match self.round() {
                Ok(0) if self.in_flight == 0 => return,
                Ok(_) => std::thread::yield_now(),
                // The interface is gone, and with it what was in the rings.
                Err(_) => return,
            }
        }
    }

    /// One burst; how many descriptors it had.
    fn round(&mut self) -> anyhow::Result<usize> {
        // SAFETY: holds because ring and descriptors are of the one UMEM, and `burst` holds only copies that were handed on.
        let count = unsafe { self.rx.consume(&mut self.burst) };
        if count > 0 {
            let packets = self.turn(count);
            self.totals.received += packets;
            // SAFETY: holds because the descriptors were just received and go nowhere else if the ring takes them: it takes
            // all or none.
            let taken = unsafe { self.tx.produce(&self.burst[..count]) };
            if taken == count {
                self.in_flight += count;
                self.totals.sent += packets;
            } else {
                self.free.extend_from_slice(&self.burst[..count]);
                self.totals.full += count as u64;
            }
        }
        if self.in_flight > 0 {
            self.kick()?;
            self.reclaim();
        }
        if count > 0 {
            self.refill();
        }
        Ok(count)
    }

    /// Swaps the addresses of the burst's packets, and counts them.
    fn turn(&mut self, count: usize) -> u64 {
        let burst = &mut self.burst[..count];
        for frame in &*burst {
            // SAFETY: holds because the frame was just received, and nobody writes it.
            prefetch(unsafe { self.umem.data(frame) }.contents());
        }
        let mut packets = 0;
        for frame in burst {
            let first = !self.continued;
            self.continued = frame.options() & CONTINUED != 0;
            // The kernel takes the options of a packet to be sent for wishes: none but this one.
            frame.set_options(frame.options() & CONTINUED);
            packets += u64::from(!self.continued);
            // SAFETY: holds because the frame was just received and is in no ring.
            let mut data = unsafe { self.umem.data_mut(frame) };
            if first {
                turn_around(data.contents_mut());
            }
        }
        packets
    }

    /// Makes the kernel send until it has taken everything, or no longer gets on.
    fn kick(&mut self) -> anyhow::Result<()> {
        let mut unsent = self.ring_size - self.tx.nb_free_exact();
        let mut idle = 0;
        while unsent > 0 && idle < IDLE_KICKS && self.tx.needs_wakeup() {
            self.totals.kicks += 1;
            match rustix::net::send(self.fd(), &[], SendFlags::DONTWAIT) {
                Ok(_) => {}
                Err(Errno::AGAIN | Errno::BUSY | Errno::NOBUFS | Errno::INTR) => self.totals.refused += 1,
                Err(error) => return Err(error).context("cannot send"),
            }
            let left = self.ring_size - self.tx.nb_free_exact();
            if left > 0 {
                // The kernel sends only while the completion ring has room.
                self.reclaim();
            }
            idle = if left < unsent { 0 } else { idle + 1 };
            unsent = left;
        }
        Ok(())
    }

    /// Takes sent frames back.
    fn reclaim(&mut self) {
        loop {
            // SAFETY: holds because ring and descriptors are of the one UMEM, and `scratch` holds only copies.
            let count = unsafe { self.completion.consume(&mut self.scratch) };
            self.free.extend_from_slice(&self.scratch[..count]);
            self.in_flight -= count;
            if count < STEP {
                return;
            }
        }
    }

    /// Gives free frames to the kernel, those that were used last first.
    fn refill(&mut self) {
        let room = (self.fill.nb_free(self.ring_size) as usize).min(self.free.len());
        let top = self.free.len() - room;
        // SAFETY: holds because free frames are in no ring, and those the ring takes (all or none) are forgotten here.
        let taken = unsafe { self.fill.produce(&self.free[top..]) };
        self.free.truncate(self.free.len() - taken);
        if taken > 0 && self.fill.needs_wakeup() {
            let _ = rustix::net::recv(self.fd(), &mut [0u8; 0], RecvFlags::DONTWAIT);
        }
    }

    fn nap(&self) {
        let socket = self.fd();
        let mut set = [PollFd::new(&socket, PollFlags::IN)];
        let timeout = Timespec::try_from(NAP).ok();
        // A signal ends it early, and a failure of the socket is the next kick's to tell.
        let _ = rustix::event::poll(&mut set, timeout.as_ref());
    }
}

/// Swaps the MAC addresses and the outer IPv4 addresses; the XDP program has seen that both are there.
fn turn_around(packet: &mut [u8]) {
    let Some(header) = packet.first_chunk_mut::<34>() else {
        return;
    };
    let (macs, ip) = header.split_at_mut(14);
    let (to, from) = macs[..12].split_at_mut(6);
    to.swap_with_slice(from);
    let (source, destination) = ip[12..].split_at_mut(4);
    source.swap_with_slice(destination);
}

/// Asks for the cache line with the addresses, so that the burst's lines travel at the same time.
fn prefetch(packet: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: holds because every x86-64 processor has the instruction, which reads nothing that a program could see.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(packet.as_ptr().cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = packet;
}

fn descriptor(rx: &RxQueue) -> BorrowedFd<'_> {
    // SAFETY: holds because the queue keeps the socket open for as long as it is borrowed.
    unsafe { BorrowedFd::borrow_raw(rx.fd().as_raw_fd()) }
}

/// Sets an integer socket option; whether the kernel knows it.
fn set_option(socket: libc::c_int, level: i32, name: i32, value: i32) -> bool {
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: holds because the kernel reads four bytes at `value`, which lives across the call.
    unsafe { libc::setsockopt(socket, level, name, (&raw const value).cast(), length) == 0 }
}
