//! One UMEM frame as an owned value.
//!
//! A frame is in exactly one place: the pool, the fill ring (or the kernel behind it), the worker's hands, or the transmit
//! ring. In the worker's hands it is a [`Frame`]: neither `Copy` nor `Clone`, consumed by sending and recycling. A frame that
//! is dropped instead still comes home: its UMEM keeps a lost-and-found that the socket empties and counts, so a slip costs a
//! number in a metric and never a buffer.
//!
//! The descriptors of xsk-rs are `Copy` and would let two owners write one buffer; they stay inside this file, `pool` and
//! `xsk`.

use std::fmt;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use xsk_rs::{FrameDesc, Umem};

/// `XDP_PKT_CONTD` (linux/if_xdp.h): the packet goes on in the next descriptor.
const CONTINUED: u32 = 1;

/// What the frames of one UMEM share, on the heap at an address that never changes.
struct Home {
    umem: Umem,
    /// Hint that `lost` has something, so that nobody takes the lock for nothing.
    lost_count: AtomicU32,
    lost: Mutex<Lost>,
}

/// The lost-and-found of a UMEM.
#[derive(Default)]
struct Lost {
    descriptors: Vec<FrameDesc>,
    /// Frames still alive after their socket went away; the last one frees the UMEM.
    orphans: Option<u32>,
}

impl Home {
    fn lock(&self) -> MutexGuard<'_, Lost> {
        // The data stays consistent whatever panicked: every change under the lock is one push, one take or one store.
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The owner of a UMEM: the socket's side of the agreement with its frames.
///
/// Dropped while frames are out, it leaves the UMEM to the last of them: memory stays mapped, and the queue stays bound,
/// until that frame is dropped.
pub(super) struct Region {
    home: NonNull<Home>,
    /// Frames that exist as [`Frame`] values.
    out: u32,
}

// SAFETY: holds because everything behind the pointer may be used from any thread (`Umem` is `Send + Sync`, the rest is an
// atomic and a mutex), and `Region` never hands out the pointer except inside `Frame`, for which the same is argued below.
unsafe impl Send for Region {}

impl Region {
    pub(super) fn new(umem: Umem) -> Self {
        let home = Box::new(Home {
            umem,
            lost_count: AtomicU32::new(0),
            lost: Mutex::new(Lost::default()),
        });
        Region {
            home: NonNull::from(Box::leak(home)),
            out: 0,
        }
    }

    fn home(&self) -> &Home {
        // SAFETY: holds because the allocation is freed only by `Region::drop` when no frame is out, or afterwards by the last
        // frame; in both cases this `Region` is gone.
        unsafe { self.home.as_ref() }
    }

    /// Turns a descriptor into an owned frame.
    ///
    /// # Safety
    ///
    /// The descriptor must lie inside this region, and its buffer must belong to the caller: taken from the receive ring or
    /// from the pool, and used for no other frame, ring or pool entry afterwards.
    #[inline]
    pub(super) unsafe fn adopt(&mut self, descriptor: FrameDesc) -> Frame {
        self.out += 1;
        Frame {
            descriptor,
            home: self.home,
        }
    }

    /// Takes a frame apart again. A frame of another UMEM is given back.
    #[inline]
    pub(super) fn surrender(&mut self, frame: Frame) -> Result<FrameDesc, Frame> {
        if !self.owns(&frame) {
            return Err(frame);
        }
        self.out -= 1;
        Ok(ManuallyDrop::new(frame).descriptor)
    }

    /// Whether this frame's buffer is part of this region.
    #[inline]
    pub(super) fn owns(&self, frame: &Frame) -> bool {
        frame.home == self.home
    }

    /// Whether frames were dropped instead of sent or recycled. Costs one relaxed load.
    #[inline]
    pub(super) fn has_lost(&self) -> bool {
        self.home().lost_count.load(Ordering::Relaxed) != 0
    }

    /// Frames that were dropped instead of sent or recycled since the last call. Costs one relaxed load when there are none.
    pub(super) fn take_lost(&mut self) -> Vec<FrameDesc> {
        if !self.has_lost() {
            return Vec::new();
        }
        let home = self.home();
        let mut lost = home.lock();
        home.lost_count.store(0, Ordering::Relaxed);
        let found = std::mem::take(&mut lost.descriptors);
        drop(lost);
        self.out -= found.len() as u32;
        found
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let mut lost = self.home().lock();
        let out = self.out - lost.descriptors.len() as u32;
        if out > 0 {
            lost.orphans = Some(out);
            return;
        }
        drop(lost);
        // SAFETY: holds because `home` came from a leaked box, no frame is out that could still point to it (`out` counts every
        // adopted frame that was neither surrendered nor lost), and this is the only `Region` for it.
        drop(unsafe { Box::from_raw(self.home.as_ptr()) });
    }
}

/// One buffer of a UMEM in the worker's hands: the only value through which its bytes can be reached.
#[must_use = "a frame has to go home: send it or recycle it"]
pub struct Frame {
    descriptor: FrameDesc,
    home: NonNull<Home>,
}

// SAFETY: holds because a frame is the only way to its buffer (contract of `Region::adopt`), so moving it moves the buffer's
// only user, and because what it shares with other frames (`Home`) is `Sync`.
unsafe impl Send for Frame {}

impl Frame {
    /// The bytes of the packet that lie in this frame.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: holds because `home` lives as long as any frame does, the descriptor lies inside the region and is used by
        // no one else (contract of `Region::adopt`), and `&self` excludes writers.
        unsafe { self.home.as_ref().umem.data(&self.descriptor) }.contents()
    }

    /// The same bytes, to change in place. Their number stays.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: holds for the reasons given in `bytes`; `&mut self` excludes every other access.
        let mut data = unsafe { self.home.as_ref().umem.data_mut(&mut self.descriptor) };
        let bytes = data.contents_mut();
        let (start, length) = (bytes.as_mut_ptr(), bytes.len());
        // SAFETY: holds because this is the slice just made, whose memory lives as long as the UMEM and hence as `self`; the
        // copy only ties it to `self` instead of to the local view, which ends here.
        unsafe { std::slice::from_raw_parts_mut(start, length) }
    }

    /// Number of bytes of the packet in this frame.
    #[inline]
    pub fn len(&self) -> usize {
        self.descriptor.lengths().data()
    }

    /// Whether the frame carries no byte.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills the frame with as much of `bytes` as fits and returns how much that is.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> usize {
        // SAFETY: holds for the reasons given in `bytes`; `&mut self` excludes every other access.
        let mut data = unsafe { self.home.as_ref().umem.data_mut(&mut self.descriptor) };
        let mut cursor = data.cursor();
        cursor.set_pos(0);
        let room = cursor.buf_len();
        let part = bytes.get(..room).unwrap_or(bytes);
        // A cursor over memory fails only for want of room, which `part` has.
        cursor.write(part).unwrap_or(0)
    }

    /// Whether the packet goes on in another frame.
    #[inline]
    pub(super) fn is_continued(&self) -> bool {
        self.descriptor.options() & CONTINUED != 0
    }

    /// Says whether the packet goes on in another frame. Clears every other option a descriptor may have.
    #[inline]
    pub(super) fn set_continued(&mut self, continued: bool) {
        self.descriptor.set_options(if continued { CONTINUED } else { 0 });
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: holds because a frame counts as out until it is surrendered (which skips this function) or lost (below), and
        // `home` lives while one is out.
        let home = unsafe { self.home.as_ref() };
        let mut lost = home.lock();
        match &mut lost.orphans {
            None => {
                lost.descriptors.push(self.descriptor);
                home.lost_count.store(lost.descriptors.len() as u32, Ordering::Relaxed);
            }
            Some(orphans) => {
                *orphans -= 1;
                let last = *orphans == 0;
                drop(lost);
                if last {
                    // SAFETY: holds because the region is gone (it set `orphans`) and this was the last frame out, so no one
                    // else has the pointer; it came from a leaked box.
                    drop(unsafe { Box::from_raw(self.home.as_ptr()) });
                }
            }
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("address", &self.descriptor.addr())
            .field("len", &self.len())
            .finish()
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
