//! The load lab's conductor: runs the appliance beside what it is compared with, over and over, and says what came out.
#![forbid(unsafe_code)]

pub mod cpu;
pub mod probe;
pub mod statistics;
