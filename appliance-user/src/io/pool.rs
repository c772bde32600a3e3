//! The books of a UMEM: which frames are free, and how many are where.
//!
//! Every movement between pool, fill ring, worker and transmit ring is entered here, so that
//! `total = pool + fill + receive + transmit` holds at any time. Debug builds also keep the place of every single frame and
//! panic on a movement that does not start where the frame is.
#![forbid(unsafe_code)]

use std::ops::Range;

use xsk_rs::FrameDesc;

/// Where the frames of a UMEM are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameAccount {
    /// Frames of the UMEM.
    pub total: u32,
    /// Free frames in user space.
    pub pool: u32,
    /// Frames given to the kernel to receive into: in the fill ring, in the kernel's hands or unread in the receive ring.
    pub fill: u32,
    /// Frames in the worker's hands, those of a packet that has not come whole among them.
    pub receive: u32,
    /// Frames to be sent: waiting for the next flush, in the transmit ring, or not yet completed by the driver.
    pub transmit: u32,
}

impl FrameAccount {
    /// Whether every frame is in exactly one place.
    pub fn is_balanced(&self) -> bool {
        let places = [self.pool, self.fill, self.receive, self.transmit];
        places.iter().try_fold(0u32, |sum, &n| sum.checked_add(n)) == Some(self.total)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Pool,
    Fill,
    Worker,
    Transmit,
}

/// The free frames of a UMEM and the account of all others.
pub(super) struct Pool {
    /// As many as the UMEM has frames; the first `account.pool` are the free ones, what follows is room for those that are
    /// out.
    slots: Box<[FrameDesc]>,
    frame_size: usize,
    /// Size of the UMEM.
    bytes: usize,
    account: FrameAccount,
    /// The place of every frame, by its number; empty in release builds.
    ledger: Vec<Place>,
}

impl Pool {
    /// A pool that owns every frame of a new UMEM.
    pub(super) fn new(descriptors: Vec<FrameDesc>, frame_size: u32) -> Self {
        let total = descriptors.len() as u32;
        let ledger = if cfg!(debug_assertions) {
            vec![Place::Pool; descriptors.len()]
        } else {
            Vec::new()
        };
        let account = FrameAccount {
            total,
            pool: total,
            ..FrameAccount::default()
        };
        Pool {
            bytes: descriptors.len() * frame_size as usize,
            slots: descriptors.into_boxed_slice(),
            frame_size: frame_size as usize,
            account,
            ledger,
        }
    }

    #[inline]
    pub(super) fn account(&self) -> FrameAccount {
        self.account
    }

    /// The `count` free frames that were used last (their bytes are most likely still cached), or all if there are fewer.
    #[inline]
    pub(super) fn top(&self, count: usize) -> &[FrameDesc] {
        let free = self.account.pool as usize;
        &self.slots[free.saturating_sub(count)..free]
    }

    /// Enters that `top(count)` went into the fill ring.
    #[inline]
    pub(super) fn filled(&mut self, count: usize) {
        let free = self.account.pool as usize;
        let count = count.min(free);
        self.trace(free - count..free, Place::Pool, Place::Fill);
        self.account.pool -= count as u32;
        self.account.fill += count as u32;
    }

    /// Enters that the kernel handed these frames over with packets in them, and tells whether any of those packets is in
    /// more than one frame, or goes on in the first of these.
    ///
    /// # Panics
    ///
    /// When a descriptor does not lie within one frame of this UMEM, which would be a kernel that breaks its contract:
    /// nothing that follows could be trusted.
    #[inline]
    pub(super) fn received(&mut self, descriptors: &[FrameDesc]) -> bool {
        let mut options = 0;
        for descriptor in descriptors {
            // A power of two, so the mask stands for the much slower remainder.
            let start = descriptor.addr() & (self.frame_size - 1);
            let within = start + descriptor.lengths().data() <= self.frame_size;
            let inside = descriptor.addr() < self.bytes;
            assert!(
                within && inside,
                "the kernel returned a descriptor outside the UMEM: {descriptor:?}"
            );
            options |= descriptor.options();
            self.mark(descriptor, Place::Fill, Place::Worker);
        }
        self.account.fill -= descriptors.len() as u32;
        self.account.receive += descriptors.len() as u32;
        options != 0
    }

    /// Takes a free frame into the worker's hands.
    pub(super) fn take(&mut self) -> Option<FrameDesc> {
        let descriptor = *self.top(1).first()?;
        self.mark(&descriptor, Place::Pool, Place::Worker);
        self.account.pool -= 1;
        self.account.receive += 1;
        Some(descriptor)
    }

    /// Takes a frame back from the worker.
    #[inline]
    pub(super) fn recycled(&mut self, descriptor: FrameDesc) {
        self.mark(&descriptor, Place::Worker, Place::Pool);
        self.account.receive -= 1;
        self.put_back(descriptor);
    }

    /// Enters that the worker gave a frame away to be sent.
    #[inline]
    pub(super) fn staged(&mut self, descriptor: &FrameDesc) {
        self.mark(descriptor, Place::Worker, Place::Transmit);
        self.account.receive -= 1;
        self.account.transmit += 1;
    }

    /// Takes back a frame whose sending was called off.
    pub(super) fn completed(&mut self, descriptor: FrameDesc) {
        self.mark(&descriptor, Place::Transmit, Place::Pool);
        self.account.transmit -= 1;
        self.put_back(descriptor);
    }

    /// Where to write the descriptors of sent frames, at most `count`; [`Pool::sent`] then takes them back.
    #[inline]
    pub(super) fn vacant(&mut self, count: usize) -> &mut [FrameDesc] {
        let free = self.account.pool as usize;
        let end = self.slots.len().min(free + count);
        &mut self.slots[free..end]
    }

    /// Takes back the sent frames that were written into the first `count` places of [`Pool::vacant`].
    #[inline]
    pub(super) fn sent(&mut self, count: usize) {
        let free = self.account.pool as usize;
        self.trace(free..free + count, Place::Transmit, Place::Pool);
        self.account.transmit -= count as u32;
        self.account.pool += count as u32;
    }

    #[inline]
    fn put_back(&mut self, descriptor: FrameDesc) {
        self.slots[self.account.pool as usize] = descriptor;
        self.account.pool += 1;
    }

    /// Enters the frames of some slots into the ledger.
    #[inline]
    fn trace(&mut self, slots: Range<usize>, from: Place, to: Place) {
        if cfg!(debug_assertions) {
            for slot in slots {
                let descriptor = self.slots[slot];
                self.mark(&descriptor, from, to);
            }
        }
    }

    /// Enters a frame into the ledger.
    #[inline]
    fn mark(&mut self, descriptor: &FrameDesc, from: Place, to: Place) {
        if cfg!(debug_assertions) {
            let number = descriptor.addr() / self.frame_size;
            let place = std::mem::replace(&mut self.ledger[number], to);
            assert_eq!(place, from, "frame {number} is not where it is taken from");
        }
    }
}
