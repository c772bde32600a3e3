//! What becomes of a live stream when the appliance is killed, stopped, stalled, taken over or taken away: a source, a load
//! balancer, a real `tidegate run` and a sink, each in a namespace of its own, and every packet followed by its number.
//!
//! These tests need root and the XDP program; without either they fail and say so.
#![cfg(feature = "appliance")]

#[path = "../bench/mod.rs"]
mod bench;
mod ends;
mod feed;
mod refusals;
mod stalls;
