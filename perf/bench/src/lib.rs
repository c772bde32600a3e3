//! The load lab's conductor: runs the appliance beside what it is compared with, over and over, and says what came out.
#![forbid(unsafe_code)]

pub mod check;
pub mod cpu;
pub mod gate;
pub mod http;
pub mod latency;
pub mod machine;
pub mod plot;
pub mod probe;
pub mod report;
pub mod scenario;
pub mod stage;
pub mod statistics;
pub mod table;
pub mod traffic;
