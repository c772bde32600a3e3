//! The ring work of a socket: descriptors from and to the kernel's four rings, and the system calls that make it look at them.
//!
//! This file has `unsafe`: xsk-rs leaves it to the caller that a descriptor is in one place at a time. Here the pool's account
//! sees to that.

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::outcome::{FlushError, Flushed, refusal};
use super::{STEP, Socket};

/// Frames given to the kernel in one step, unless it runs short: what is written for it is read on another core, and
/// costs both a cache miss.
const FILL_STEP: u32 = 64;

/// Kicks in a row that may move nothing before the rest is left to the next flush, beyond those that all of it needs.
const IDLE_KICKS: u32 = 4;

impl Socket {
    /// Reads up to `want` descriptors of the receive ring into `scratch`.
    pub(super) fn consume(&mut self, want: usize) -> usize {
        // SAFETY: holds because ring and descriptors belong to the one UMEM of this socket, and the descriptors written over
        // are scratch.
        unsafe { self.rx.consume(&mut self.scratch[..want]) }
    }

    /// Enters the staged descriptors into the transmit ring.
    pub(super) fn submit(&mut self) -> u32 {
        // SAFETY: holds because staged descriptors were surrendered by their frames and are in no other place, and come from
        // this socket's UMEM.
        let submitted = unsafe { self.tx.produce(&self.staged) };
        // All or nothing; `send` has made sure of the room, of which only we take any.
        if submitted > 0 {
            self.staged.clear();
        }
        submitted as u32
    }

    pub(super) fn kick_until_drained(&mut self, done: &mut Flushed) -> Result<(), FlushError> {
        let mut idle = 0;
        done.unsent = self.unsent();
        // Older kernels, 6.1 and 6.12 among them, show what they took from the ring only once they took all that they had seen.
        let patience = IDLE_KICKS + done.unsent / self.transmit_budget;
        while done.unsent > 0 && self.tx.needs_wakeup() && idle < patience && done.kicks < self.kick_bound {
            done.kicks += 1;
            match rustix::net::send(self.fd(), &[], SendFlags::DONTWAIT) {
                Ok(_) => {}
                Err(Errno::AGAIN | Errno::BUSY | Errno::NOBUFS | Errno::INTR) => done.refused += 1,
                Err(e) => return Err(refusal(e)),
            }
            let unsent = self.unsent();
            if unsent > 0 {
                // The kernel sends only while the completion ring has room.
                done.completed += self.reclaim();
            }
            idle = if unsent < done.unsent { 0 } else { idle + 1 };
            done.unsent = unsent;
        }
        Ok(())
    }

    pub(super) fn unsent(&mut self) -> u32 {
        self.ring_size - self.tx.nb_free_exact()
    }

    /// Takes sent frames back into the pool.
    pub(super) fn reclaim(&mut self) -> u32 {
        let mut total = 0;
        loop {
            let waiting = (self.pool.account().transmit as usize).min(STEP);
            // SAFETY: holds because ring and descriptors belong to the one UMEM of this socket, and the pool's vacant places
            // hold nothing but leftovers.
            let count = unsafe { self.completion.consume(self.pool.vacant(waiting)) };
            self.pool.sent(count);
            total += count as u32;
            if count < STEP {
                return total;
            }
        }
    }

    /// Gives free frames to the kernel to receive into, as many as it has handed out since.
    pub(super) fn refill(&mut self) {
        let account = self.pool.account();
        let wanted = self.fill_target.saturating_sub(account.fill).min(account.pool);
        if wanted == 0 || (wanted < FILL_STEP && account.fill > self.fill_target / 2) {
            return;
        }
        // Of the frames on the kernel's side some may be received and unread, so that there may be less room than this.
        let room = self.fill.nb_free(wanted).min(wanted);
        let top = self.pool.top(room as usize);
        // SAFETY: holds because these descriptors lie in the pool, hence in no ring and in no frame, and `filled` takes them
        // out of it before anyone else can.
        let count = unsafe { self.fill.produce(top) };
        self.pool.filled(count);
        if count > 0 && self.fill.needs_wakeup() {
            self.kick_receive();
        }
    }

    /// Lets the driver look for received packets and free frames. Its answer tells nothing that the rings do not.
    pub(super) fn kick_receive(&self) {
        let mut nothing = [0u8; 0];
        let _ = rustix::net::recv(self.fd(), &mut nothing, RecvFlags::DONTWAIT);
    }
}

/// How many frames the kernel is given to receive into. Copy mode fills the receive ring straight from the fill ring, so a
/// ring's worth always suffices; fewer frames go round, and more of them are still cached when their turn comes. A driver
/// without the copy keeps a ring of its own full besides.
pub(super) const fn fill_target(ring_size: u32, zero_copy: bool) -> u32 {
    if zero_copy { 2 * ring_size } else { ring_size }
}
