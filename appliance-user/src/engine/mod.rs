//! The inspection engine: pure, single-threaded, given the time.

#![forbid(unsafe_code)]

pub mod counters;
pub mod event;
pub mod report;
pub mod time;
