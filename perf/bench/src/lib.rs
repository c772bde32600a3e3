//! The load lab's conductor: runs the appliance beside what it is compared with, over and over, and says what came out.
#![forbid(unsafe_code)]

pub mod check;
pub mod cpu;
pub mod device;
mod flood;
pub mod gate;
pub mod gather;
pub mod http;
pub mod latency;
pub mod machine;
pub mod measure;
pub mod plan;
pub mod plot;
pub mod probe;
pub mod report;
pub mod run;
pub mod scenario;
pub mod stage;
pub mod statistics;
pub mod table;
pub mod traffic;
