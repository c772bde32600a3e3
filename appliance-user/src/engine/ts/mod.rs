//! What is known of one transport stream beyond its packets' headers: tables, splice information, timing.

pub(in crate::engine) mod cues;
pub(in crate::engine) mod tables;
