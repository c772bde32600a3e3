//! The lab: network namespaces, veth links and child processes on which Tidegate's demo and tests run.
//!
//! Everything a lab makes lives in namespaces of its own and is owned by a value whose `Drop` removes it, so that a test
//! that panics leaves nothing behind. For Ctrl-C there is [`teardown_all`]; for a lab whose owner was killed outright
//! there is [`sweep`], which the next lab runs first. Beside them is what tests and yardsticks want of the kernel without a
//! compiler or a network: XDP programs of a few instructions ([`xdp`]) and the kernel's test run of any ([`test_run`]). The
//! crate knows nothing of Tidegate's own code: it is what the appliance is tested *on*.
#![deny(unsafe_code)]

mod bpf;
mod command;
mod counters;
mod error;
pub mod http;
mod interface;
mod namespace;
mod process;
mod registry;
mod sweep;
pub mod test_run;
mod topology;
mod veth;
mod wait;
pub mod xdp;
mod xdp_pass;

pub use command::{require_root, run};
pub use counters::DeviceCounters;
pub use error::{Error, Result};
pub use interface::interface_index;
pub use namespace::Namespace;
pub use process::Process;
pub use registry::teardown_all;
/// What [`Process::signal`] takes.
pub use rustix::process::Signal;
pub use sweep::sweep;
pub use topology::{Appliance, Topology, TopologyOptions};
pub use veth::{MacAddr, VethEnd, veth};
pub use wait::wait_until;
pub use xdp_pass::XdpPass;
