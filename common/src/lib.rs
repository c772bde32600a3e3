//! What the XDP program and user space of Tidegate share.
//!
//! Wire formats as borrowed or by-value views, the one walker from Ethernet to the inner transport payload, drop
//! reasons, flow keys, digests and the layouts of the BPF maps. No allocation, no `unsafe`, no standard library: the
//! same code is compiled for the kernel's BPF target and for user space.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod cursor;
pub mod digest;
pub mod drop_reason;
pub mod flow;
pub mod hairpin;
pub mod maps;
pub mod walk;
pub mod wire;
