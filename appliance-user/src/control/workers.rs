//! The running workers, shared by those who look at them.

use std::sync::{PoisonError, RwLock};

use crate::worker::Worker;

/// Every running worker, behind a lock that lookers share; only stopping them takes it alone, and waits for them no longer
/// than a looker's own bound.
pub struct Workers(RwLock<Vec<Worker>>);

impl Workers {
    /// These.
    pub fn new(workers: Vec<Worker>) -> Self {
        Workers(RwLock::new(workers))
    }

    /// Looks at them.
    pub fn read<T>(&self, look: impl FnOnce(&[Worker]) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes them out, to be stopped.
    pub fn take(&self) -> Vec<Worker> {
        std::mem::take(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}
