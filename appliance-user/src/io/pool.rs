//! The books of a UMEM: which frames are free, and how many are where.
//!
//! Every movement between pool, fill ring, worker and transmit ring is entered here, so that
//! `total = pool + fill + receive + transmit` holds at any time. Debug builds also keep the place of every single frame and
//! panic on a movement that does not start where the frame is.
#![forbid(unsafe_code)]

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
    free: Vec<FrameDesc>,
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
            free: descriptors,
            frame_size: frame_size as usize,
            account,
            ledger,
        }
    }

    pub(super) fn account(&self) -> FrameAccount {
        self.account
    }

    /// The `count` free frames that were used last (their bytes are most likely still cached).
    pub(super) fn top(&self, count: usize) -> &[FrameDesc] {
        &self.free[self.free.len().saturating_sub(count)..]
    }

    /// Enters that `top(count)` went into the fill ring.
    pub(super) fn filled(&mut self, count: usize) {
        for _ in 0..count {
            let Some(descriptor) = self.free.pop() else { return };
            self.enter(&descriptor, Place::Pool, Place::Fill);
        }
    }

    /// Enters that the kernel handed a frame over with a packet in it.
    ///
    /// # Panics
    ///
    /// When the descriptor does not lie within one frame of this UMEM, which would be a kernel that breaks its contract:
    /// nothing that follows could be trusted.
    #[inline]
    pub(super) fn received(&mut self, descriptor: &FrameDesc) {
        // A power of two, so the mask stands for the much slower remainder.
        let start = descriptor.addr() & (self.frame_size - 1);
        let within = start + descriptor.lengths().data() <= self.frame_size;
        let inside = descriptor.addr() < self.bytes;
        assert!(
            within && inside,
            "the kernel returned a descriptor outside the UMEM: {descriptor:?}"
        );
        self.enter(descriptor, Place::Fill, Place::Worker);
    }

    /// Takes a free frame into the worker's hands.
    pub(super) fn take(&mut self) -> Option<FrameDesc> {
        let descriptor = self.free.pop()?;
        self.enter(&descriptor, Place::Pool, Place::Worker);
        Some(descriptor)
    }

    /// Takes a frame back from the worker.
    #[inline]
    pub(super) fn recycled(&mut self, descriptor: FrameDesc) {
        self.enter(&descriptor, Place::Worker, Place::Pool);
        self.free.push(descriptor);
    }

    /// Enters that the worker gave a frame away to be sent.
    #[inline]
    pub(super) fn staged(&mut self, descriptor: &FrameDesc) {
        self.enter(descriptor, Place::Worker, Place::Transmit);
    }

    /// Takes back a frame that was sent, or whose sending was called off.
    #[inline]
    pub(super) fn completed(&mut self, descriptor: FrameDesc) {
        self.enter(&descriptor, Place::Transmit, Place::Pool);
        self.free.push(descriptor);
    }

    #[inline]
    fn enter(&mut self, descriptor: &FrameDesc, from: Place, to: Place) {
        if cfg!(debug_assertions) {
            let number = descriptor.addr() / self.frame_size;
            let place = std::mem::replace(&mut self.ledger[number], to);
            assert_eq!(place, from, "frame {number} is not where it is taken from");
        }
        *self.column(from) -= 1;
        *self.column(to) += 1;
    }

    fn column(&mut self, place: Place) -> &mut u32 {
        match place {
            Place::Pool => &mut self.account.pool,
            Place::Fill => &mut self.account.fill,
            Place::Worker => &mut self.account.receive,
            Place::Transmit => &mut self.account.transmit,
        }
    }
}
