//! The whole datapath on a veth link: frames as a load balancer sends them go in at one end, a real `tidegate run` serves the
//! other, and what comes back is compared byte for byte. After every test all packets and frames are accounted for.
//!
//! These tests need root and the XDP program; without either they fail and say so.
#![cfg(feature = "appliance")]

#[path = "../bench/mod.rs"]
mod bench;
#[path = "../../../common/tests/fixtures/mod.rs"]
mod fixtures;

mod companions;
mod forward;
mod host;
mod link;
mod queues;
mod refuse;
