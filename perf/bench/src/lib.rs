//! The load lab's conductor: runs the appliance beside what it is compared with, over and over, and says what came out.
//!
//! What the figures mean:
//!
//! - **Maximum** (`mpps`): more is sent than can be carried, and what comes back in the window is counted; the median of the
//!   repeats. Packets are lost on the way in then, so it is a rate of work, not one that loses nothing.
//! - **Loss-free rate** (`loss_free_mpps`): the highest rate, as it was really sent, at which a search by halving lost no packet
//!   in its window; the median where there are several searches.
//! - **Own maximum** (`own_maximum_mpps`): the smaller of the two, as far as the second was searched. Loads of 10, 50 and 80 % are
//!   shares of it. The long runs at 95 % claim that nothing is lost, so they are a share of the loss-free rate, whichever of the
//!   two is smaller; `sustained.of` names it.
//! - **Beginning** (`start_lost`): traffic at a set rate begins at half of it and lasts until each stream has had some forty packets.
//!   Then nothing is sent until all is back, so that the books are exact, and the wanted rate follows. What is lost in the
//!   beginning is counted apart, everything after it to the last packet of the run.
//! - **Gbit/s**: Ethernet frames from their header to their last byte, without preamble, check sequence and gap.
//! - **Round trip**: from making a frame to checking it, on one clock, both in XDP programs on the load balancer's end. `raw`
//!   has all, `stall_free` those outside of times in which a core was away, see [`probe`] and [`latency`].
//! - **Cost** (`cpu_ns_per_packet`): flat out, see [`report::ScenarioReport`] and [`cpu`].
//! - **Pairs**: two scenarios measured one right after the other; each pair makes one ratio, the median ratio is judged. Round
//!   trips of a pair are measured at one and the same rate, half of the smaller own maximum.
//! - **Left out** (`left_out`): share of the packets due that the generator did not send. Held up, it makes up for a few at
//!   once and passes over the rest, since a long burst would measure the generator's delay. `offered_mpps` is what was sent.
//!
//! Repeats count by their median; what is to happen never (a packet altered, a budget exceeded, a loss in the long runs) by the worst
//! of them.
//!
//! Which ratio to the bare forward the gate judges: without loss for both pairs, and flat out for `inspect-50` too. Flat out
//! most packets are lost in the rings before the worker. Fifty streams still have most of their packets in order, and what is
//! measured is the work under overload, which has to be fast as well. Of ten thousand streams each has a gap at nearly every
//! packet that is left: that measures how losses are followed up, not how sound streams are inspected, and differs with the
//! generator's surplus rather than with the appliance. It is shown beside, and not judged.
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
mod pairs;
pub mod plan;
pub mod plot;
pub mod probe;
pub mod report;
pub mod run;
pub mod scenario;
mod search;
pub mod stage;
pub mod statistics;
pub mod table;
pub mod traffic;
