//! Tidegate: an inline guard for live video behind an AWS Gateway Load Balancer.
#![forbid(unsafe_code)]

pub mod policy;

#[cfg(feature = "appliance")]
pub mod cli;
