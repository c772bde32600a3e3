//! Tidegate as a library: the pure inspection engine and policy, and, with the feature `appliance`, everything that
//! touches the machine.
//!
//! Direction of knowledge: `cli -> control, worker -> io, engine -> policy -> common`. [`engine`] never does I/O and is
//! given the time, so the same code judges live packets, capture files and tests.

pub mod engine;
pub mod policy;
mod prefetch;

#[cfg(feature = "appliance")]
pub mod allocator;
#[cfg(feature = "appliance")]
pub mod cli;
#[cfg(feature = "appliance")]
pub mod control;
#[cfg(feature = "readers")]
pub mod io;
#[cfg(feature = "appliance")]
pub mod worker;
