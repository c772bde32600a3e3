//! The load lab's conductor: runs the appliance beside what it is compared with, over and over, and says what came out.
//!
//! What the figures mean:
//!
//! - **Maximum** (`mpps`): more is sent than can be carried, and what comes back in the window is counted; the median of the
//!   repeats. Packets are lost on the way in then, so it is a rate of work, not one that loses nothing. All loads in per cent
//!   are shares of a scenario's own maximum.
//! - **Loss-free rate** (`loss_free_mpps`): the highest rate at which a search by halving lost no packet in its window.
//! - **Gbit/s**: Ethernet frames from their header to their last byte, without preamble, check sequence and gap.
//! - **Round trip**: from making a frame to checking it, on one clock, both in XDP programs on the load balancer's end. `raw`
//!   has all, `stall_free` those outside of times in which a core was away, see [`probe`] and [`latency`].
//! - **Cost** (`cpu_ns_per_packet`): flat out, see [`report::ScenarioReport`] and [`cpu`].
//! - **Pairs**: two scenarios measured one right after the other; each pair makes one ratio, the median ratio is judged.
//!
//! Every measurement has namespaces, programs and flow tables of its own, see [`stage`], and ends with an audit of the
//! appliance's books, see [`check`]. A measurement whose audit fails counts for nothing and fails its scenario.
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
