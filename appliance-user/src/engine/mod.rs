//! The inspection engine: pure, single-threaded, given the time.

#![forbid(unsafe_code)]

pub mod counters;
pub mod event;
pub mod flow_table;
pub mod judge;
pub mod media;
pub mod report;
pub mod time;
