//! An AF_XDP socket on one queue, with its UMEM: packets come out of [`Socket::receive`] as owned values and go back through
//! [`Socket::send`] or [`Socket::recycle`]. [`Socket::flush`] does all ring work of a burst at once.
//!
//! A socket is opened on one thread and may be moved to the worker's; it is used by one thread at a time.

mod outcome;
mod rings;

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, sockopt};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, TxQueue};

use self::outcome::refusal;
pub use self::outcome::{Discarded, FlushError, Flushed, Statistics};
use self::rings::fill_target;
use super::config::{OpenError, Opened, SocketConfig};
use super::frame::Region;
use super::open::{self, Bound};
use super::packet::{Assembled, Assembler, Burst, Chain, Fate, MAX_FRAMES, Packet, Rest};
use super::pool::{FrameAccount, Pool};

/// Descriptors moved between ring and pool in one step.
const STEP: usize = 512;

/// A bound AF_XDP socket with its UMEM and every frame in it.
pub struct Socket {
    // Order matters: the rings and the assembler's frames go before the region, which frees the UMEM.
    rx: RxQueue,
    tx: TxQueue,
    fill: FillQueue,
    completion: CompQueue,
    assembler: Assembler,
    region: Region,
    pool: Pool,
    /// Descriptors to enter into the transmit ring with the next flush, in order.
    staged: Vec<FrameDesc>,
    scratch: Vec<FrameDesc>,
    /// Entries of the transmit ring that are free at least, those of staged descriptors taken off.
    transmit_room: u32,
    /// Frames that the kernel is to have to receive into.
    fill_target: u32,
    ring_size: u32,
    /// Packets that the kernel takes with one kick at most.
    transmit_budget: u32,
    kick_bound: u32,
    busy_poll: bool,
    lost: u64,
    too_long: u64,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace. A queue that is taken is tried again for up to `patience`
    /// (a killed process leaves its queue bound for some 20 ms).
    ///
    /// No XDP program is loaded: the caller enters [`Socket::fd`] into the XSKMAP of its own.
    ///
    /// # Errors
    ///
    /// [`OpenError`], one variant per thing an operator can put right.
    pub fn open(config: &SocketConfig, patience: Duration) -> Result<(Socket, Opened), OpenError> {
        let (bound, opened) = open::open(config, patience)?;
        let Bound {
            rx,
            tx,
            fill,
            completion,
            umem,
            descriptors,
        } = bound;
        let mut socket = Socket {
            rx,
            tx,
            fill,
            completion,
            assembler: Assembler::default(),
            pool: Pool::new(descriptors, config.frame_size),
            region: Region::new(umem),
            staged: Vec::with_capacity(config.ring_size as usize),
            scratch: vec![FrameDesc::default(); STEP],
            transmit_room: 0,
            fill_target: fill_target(config.ring_size, opened.zero_copy),
            ring_size: config.ring_size,
            transmit_budget: opened.transmit_budget,
            kick_bound: config.ring_size / opened.transmit_budget + 16,
            busy_poll: config.busy_poll.is_some(),
            lost: 0,
            too_long: 0,
        };
        socket.refill();
        Ok((socket, opened))
    }

    /// The socket's descriptor, for the XSKMAP.
    pub fn fd(&self) -> BorrowedFd<'_> {
        open::descriptor(&self.rx)
    }

    /// Appends received packets to the burst until it is full or the ring is empty, and returns how many.
    pub fn receive(&mut self, burst: &mut Burst) -> usize {
        let want = burst.room().min(self.scratch.len());
        let mut count = self.consume(want);
        if count == 0 {
            if want == 0 || !self.busy_poll {
                return 0;
            }
            self.kick_receive();
            count = self.consume(want);
        }
        let before = burst.len();
        let chained = self.pool.received(&self.scratch[..count]);
        // Nearly every burst, kept apart because moving the result of the assembler costs more than all else here.
        if !chained && self.assembler.is_idle() {
            for descriptor in &self.scratch[..count] {
                // SAFETY: holds for the reasons given in `accept`.
                let frame = unsafe { self.region.adopt(*descriptor) };
                burst.push(Packet::new(frame, None));
            }
            return count;
        }
        for index in 0..count {
            let descriptor = self.scratch[index];
            if let Some(packet) = self.accept(descriptor) {
                burst.push(packet);
            }
        }
        burst.len() - before
    }

    /// Empties a burst: stages what was decided to be sent, in order, and recycles the rest. A packet that
    /// [`Socket::send`] would give back is shown to `refused` and recycled.
    pub fn settle(&mut self, burst: &mut Burst, mut refused: impl FnMut(&Packet)) {
        for packet in burst.drain() {
            if packet.fate() == Fate::Recycle {
                self.recycle(packet);
            } else if let Err(packet) = self.send(packet) {
                refused(&packet);
                self.recycle(packet);
            }
        }
    }

    /// Stages a packet for sending with the next flush.
    ///
    /// # Errors
    ///
    /// Gives the packet back when the transmit ring has no room for all of it, when it is empty, or when its frames belong
    /// to another socket.
    #[inline]
    pub fn send(&mut self, packet: Packet) -> Result<(), Packet> {
        let frames = packet.frames() as u32;
        if !self.has_room(frames) || !self.owns(&packet) || packet.has_empty_frame() {
            return Err(packet);
        }
        self.transmit_room -= frames;
        let (head, rest) = packet.into_parts();
        self.stage(head, rest.is_some());
        if let Some(rest) = rest {
            self.stage_rest(rest);
        }
        Ok(())
    }

    /// Returns a packet's frames to the pool; the next flush gives them to the kernel again. Frames of another socket
    /// find home by themselves.
    #[inline]
    pub fn recycle(&mut self, packet: Packet) {
        let (head, rest) = packet.into_parts();
        self.recycle_frame(head);
        if let Some(rest) = rest {
            self.recycle_rest(rest);
        }
    }

    /// Makes a packet of free frames with these bytes in it: for traffic that does not begin with a received packet.
    /// `None` when the pool has too few free frames, or when the bytes are none or more than a packet can hold.
    pub fn allocate(&mut self, bytes: &[u8]) -> Option<Packet> {
        let mut packet: Option<(super::frame::Frame, Rest)> = None;
        let mut left = bytes;
        let mut frames = 0;
        while !left.is_empty() {
            let descriptor = if frames < MAX_FRAMES { self.pool.take() } else { None };
            frames += 1;
            let Some(descriptor) = descriptor else {
                packet
                    .into_iter()
                    .for_each(|(head, rest)| self.recycle(Packet::new(head, rest)));
                return None;
            };
            // SAFETY: holds because the pool gave the frame away: it is in no ring and in no other place.
            let mut frame = unsafe { self.region.adopt(descriptor) };
            left = left.get(frame.fill(left)..).unwrap_or_default();
            match &mut packet {
                None => packet = Some((frame, None)),
                Some((_, rest)) => rest.get_or_insert_default().frames.push(frame),
            }
        }
        packet.map(|(head, rest)| Packet::new(head, rest))
    }

    /// Does the ring work of a burst: enters what is staged into the transmit ring, kicks the kernel until it has taken
    /// everything (a bounded number of times), takes sent frames back and gives free ones to the fill ring.
    ///
    /// To be called after every burst, and while [`FrameAccount::transmit`] is not zero also when nothing was received.
    ///
    /// # Errors
    ///
    /// [`FlushError`] when the kernel refuses for good. Frames are taken back and given out all the same.
    pub fn flush(&mut self) -> Result<Flushed, FlushError> {
        let mut done = Flushed::default();
        let mut result = Ok(());
        // A worker that spins comes by millions of times a second with nothing to do: no system call, and no look at memory
        // that the kernel writes on other cores.
        if self.pool.account().transmit > 0 {
            done.submitted = self.submit();
            result = self.kick_until_drained(&mut done);
            done.completed += self.reclaim();
        }
        if self.region.has_lost() {
            self.find_lost();
        }
        self.refill();
        result.map(|()| done)
    }

    /// Sleeps until packets are there, or `timeout` is over; tells whether there are any. Wakes the kernel where it asked
    /// for that.
    ///
    /// # Errors
    ///
    /// Those of `poll(2)`; a signal counts as a time-out.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        let timeout = Timespec::try_from(timeout).map_err(|_| Errno::INVAL)?;
        let socket = self.fd();
        let mut set = [PollFd::new(&socket, PollFlags::IN)];
        match rustix::event::poll(&mut set, Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Asks the kernel whether the socket is still bound to an interface that is up. `wait` does not tell: a socket without
    /// interface is merely never ready.
    ///
    /// # Errors
    ///
    /// [`FlushError`], as from [`Socket::flush`].
    pub fn check(&self) -> Result<(), FlushError> {
        match rustix::net::recv(self.fd(), &mut [0u8; 0], RecvFlags::DONTWAIT) {
            Ok(_) | Err(Errno::AGAIN | Errno::BUSY | Errno::NOBUFS | Errno::INTR) => Ok(()),
            Err(e) => Err(refusal(e)),
        }
    }

    /// Throws away what piled up while the worker stood still: every packet in the receive ring at this moment, the packet
    /// that has not come whole, and what was staged for sending. Packets that arrive meanwhile stay.
    pub fn discard_backlog(&mut self) -> Discarded {
        let mut discarded = Discarded::default();
        if let Some(packet) = self.assembler.abandon() {
            self.recycle(packet);
            discarded.received += 1;
        }
        let mut left = self.rx.nb_avail_exact() as usize;
        while left > 0 {
            let count = self.consume(left.min(STEP));
            if count == 0 {
                break;
            }
            left -= count.min(left);
            self.pool.received(&self.scratch[..count]);
            for index in 0..count {
                let descriptor = self.scratch[index];
                if let Some(packet) = self.accept(descriptor) {
                    self.recycle(packet);
                    discarded.received += 1;
                }
            }
        }
        if let Some(packet) = self.assembler.abandon() {
            self.recycle(packet);
            discarded.received += 1;
        }
        discarded.staged = self.staged.len() as u32;
        for descriptor in self.staged.drain(..) {
            self.pool.completed(descriptor);
        }
        // What was staged had taken it.
        self.transmit_room = 0;
        discarded.unrecallable = self.unsent();
        self.find_lost();
        self.refill();
        discarded
    }

    /// The kernel's counters of this socket (`XDP_STATISTICS`): what it dropped and why.
    ///
    /// # Errors
    ///
    /// Those of `getsockopt(2)`.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let kernel = sockopt::xdp_statistics(self.fd())?;
        Ok(Statistics {
            rx_dropped: kernel.rx_dropped,
            rx_invalid_descs: kernel.rx_invalid_descs,
            // Counted since Linux 5.9.
            rx_ring_full: kernel.rx_ring_full.unwrap_or(0),
            rx_fill_ring_empty_descs: kernel.rx_fill_ring_empty_descs.unwrap_or(0),
            tx_invalid_descs: kernel.tx_invalid_descs,
            tx_ring_empty_descs: kernel.tx_ring_empty_descs.unwrap_or(0),
        })
    }

    /// Where the frames are.
    pub fn frames(&self) -> FrameAccount {
        self.pool.account()
    }

    /// Frames that were dropped instead of sent or recycled and found their way home: zero in a program without faults.
    pub fn lost_and_found(&self) -> u64 {
        self.lost
    }

    /// Received packets of more frames than a packet may have, thrown away.
    pub fn too_long(&self) -> u64 {
        self.too_long
    }

    /// Whether the transmit ring has room for so many more frames.
    #[inline]
    fn has_room(&mut self, frames: u32) -> bool {
        if self.transmit_room < frames {
            // Nobody but us takes room, so what is seen here is there for good.
            let staged = self.staged.len() as u32;
            self.transmit_room = self.tx.nb_free_exact().saturating_sub(staged);
        }
        self.transmit_room >= frames
    }

    fn stage_rest(&mut self, mut rest: Box<Chain>) {
        let mut left = rest.frames.len();
        for frame in rest.frames.drain(..) {
            left -= 1;
            self.stage(frame, left > 0);
        }
        self.assembler.keep(rest);
    }

    fn recycle_rest(&mut self, mut rest: Box<Chain>) {
        for frame in rest.frames.drain(..) {
            self.recycle_frame(frame);
        }
        self.assembler.keep(rest);
    }

    #[inline]
    fn stage(&mut self, mut frame: super::frame::Frame, continued: bool) {
        frame.set_continued(continued);
        // `send` has refused frames of another socket; should one slip through, dropping it sends it home.
        if let Ok(descriptor) = self.region.surrender(frame) {
            self.pool.staged(&descriptor);
            self.staged.push(descriptor);
        }
    }

    fn owns(&self, packet: &Packet) -> bool {
        self.region.owns(packet.first())
    }

    /// Takes over one received frame, which the pool knows of, and hands out the packet if it was the last one of it.
    fn accept(&mut self, descriptor: FrameDesc) -> Option<Packet> {
        // SAFETY: holds because the descriptor was just consumed from the receive ring, which hands over a buffer that was in
        // the fill ring to us alone; `Pool::received` has checked that it lies inside the region.
        let frame = unsafe { self.region.adopt(descriptor) };
        match self.assembler.push(frame) {
            Assembled::Packet(packet) => return Some(packet),
            Assembled::Incomplete => {}
            Assembled::Skipped(frame) => self.recycle_frame(frame),
            Assembled::TooLong(packet, frame) => {
                self.too_long += 1;
                self.recycle(packet);
                self.recycle_frame(frame);
            }
        }
        None
    }

    fn recycle_frame(&mut self, frame: super::frame::Frame) {
        // A frame of another UMEM comes back as an error, whose drop sends it to its own home.
        if let Ok(descriptor) = self.region.surrender(frame) {
            self.pool.recycled(descriptor);
        }
    }

    fn find_lost(&mut self) {
        for descriptor in self.region.take_lost() {
            self.lost += 1;
            self.pool.recycled(descriptor);
        }
    }
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Socket>();
    is_send::<Packet>();
};
