//! A Gateway Load Balancer (GWLB) simulator, and the independent judge of what an appliance sends back.
//!
//! It takes real IP traffic between two networks from a pair of TUN devices, wraps it in GENEVE as GWLB does, sends it to
//! an appliance over an AF_PACKET socket, and compares what returns with what went out, byte for byte, before it unwraps and
//! delivers it. The appliance's own code is not used here on purpose: a mistake shared by both would be invisible.
//!
//! - [`wire`] builds and compares frames; [`inner`] reads the inner 5-tuple.
//! - [`impair`] is a lossy network before the load balancer, with exact counts.
//! - [`flow`] holds flows and stickiness, [`in_flight`] what is with an appliance; [`ledger`] accounts for every packet.
//! - [`health`] decides which targets are well.
//! - [`simulator`] joins them in one thread around `poll(2)`; [`report`] is what it says.
//! - [`sys`] and [`pcap`] touch the system and a file; the rest is pure.
#![deny(unsafe_code)]

pub mod config;
pub mod error;
pub mod flow;
pub mod health;
pub mod impair;
pub mod in_flight;
pub mod inner;
pub mod ledger;
pub mod pcap;
pub mod report;
pub mod simulator;
pub mod sys;
pub mod wire;

pub use config::{Config, Direction, HealthConfig, ImpairConfig, Stickiness, TargetConfig};
pub use error::{Error, Result};
pub use report::Report;
pub use simulator::{Simulator, Stop};
