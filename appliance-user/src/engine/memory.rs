//! Memory that senders can make an engine grow by: one allowance for all of its streams.
//!
//! Every structure of a stream has a bound of its own, but ten thousand hostile streams at their bounds would still take
//! gigabytes. So what a stream holds beyond its first packets is granted out of a common allowance, and where that is used
//! up the stream is followed with what it has: a flood costs the newest streams their analysis, never the host its memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is left for all streams of one engine, in bytes.
#[derive(Clone, Debug)]
pub struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    /// So many bytes in all.
    pub fn new(bytes: usize) -> Self {
        Allowance(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Without a limit: for a judge outside of an engine.
    pub fn unlimited() -> Self {
        Allowance::new(usize::MAX)
    }

    /// A grant of nothing yet.
    pub fn grant(&self) -> Grant {
        Grant {
            allowance: self.clone(),
            bytes: 0,
        }
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A part of the allowance that one holder has; it goes back with the holder.
#[derive(Debug)]
pub struct Grant {
    allowance: Allowance,
    bytes: usize,
}

impl Grant {
    /// The holder holds so many bytes in all now. `false` where that is more than is left: the grant stays as it was, and
    /// the holder has to give something up.
    #[inline]
    pub fn hold(&mut self, bytes: usize) -> bool {
        bytes == self.bytes || self.resize(bytes)
    }

    /// The holder is about to hold so many bytes more. `false` where they are not left: then it must not.
    pub fn grow(&mut self, bytes: usize) -> bool {
        self.resize(self.bytes.saturating_add(bytes))
    }

    fn resize(&mut self, bytes: usize) -> bool {
        // An engine and its streams live on one thread, so nobody comes between the two accesses.
        let left = self.allowance.left().saturating_add(self.bytes);
        let Some(remains) = left.checked_sub(bytes) else {
            return false;
        };
        self.allowance.0.store(remains, Ordering::Relaxed);
        self.bytes = bytes;
        true
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_comes_back() {
        let allowance = Allowance::new(100);
        let (mut one, mut other) = (allowance.grant(), allowance.grant());
        assert!(one.hold(60) && other.hold(40));
        assert!(!other.hold(41) && other.hold(40), "what it has it keeps");
        assert!(one.hold(10) && other.hold(90));
        drop(other);
        assert_eq!(allowance.left(), 90);
        assert!(one.hold(100) && !allowance.grant().hold(1));
        drop(one);
        assert_eq!(allowance.left(), 100);
    }
}
