//! What a frame of the load lab holds, byte for byte: shared by the lab's XDP programs, which write and check frames in the
//! kernel, and by user space, which plans a load and can write the same frames itself.
//!
//! A frame is what a Gateway Load Balancer sends: Ethernet, IPv4, UDP to the GENEVE port, GENEVE with three options, and in it
//! IPv4, UDP and RTP or SRT with MPEG-TS packets. All of it follows from a [`Plan`], the number of the stream and the running
//! number of the datagram in its stream, so that neither side keeps anything per frame. `layout` says where things are,
//! `plan` what is fixed for a whole load, `stream` what follows from a stream's number, `mux` how the multiplex goes on, `pace` when a frame is
//! due and whose,
//! `head` builds the headers, `check` compares them, `sequence` follows a stream's running numbers, `maps` lays out the maps.
#![no_std]
#![forbid(unsafe_code)]

pub mod check;
pub mod head;
pub mod layout;
pub mod maps;
pub mod mux;
pub mod pace;
pub mod plan;
pub mod sequence;
pub mod stream;

pub use plan::Plan;
pub use stream::Stream;
